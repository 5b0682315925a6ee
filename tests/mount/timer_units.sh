#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The units that make and prune snapshots by the clock: systemd accepts them, and the commands in them
# do what they should on a mount.
. "$(dirname "$0")/../lib/mount.sh"

require_command systemd-analyze systemd-escape
# A name that systemd has to escape.
mnt=$directory/with-dash_and.dot
store_make
store_mount
units=$directory/units
mkdir "$units"
# As meson fills them in, for this program.
mkdir "$directory/bin"
ln -s "$varve" "$directory/bin/varve"
for unit in "$test_root"/tools/systemd/*; do
    sed "s|@bindir@|$directory/bin|" "$unit" >"$units/$(basename "$unit" .in)"
done
instance=$(systemd-escape --path "$mnt")
for unit in varve-snapshot varve-prune; do
    for kind in service timer; do
        ln -s "$unit@.$kind" "$units/$unit@$instance.$kind"
        expect_status 0 env SYSTEMD_UNIT_PATH="$units:" systemd-analyze verify --man=no \
            "$units/$unit@$instance.$kind"
        [[ $complaint != *"$unit"* ]] || fail "systemd says: $complaint"
    done
done
expect_status 0 systemd-analyze calendar "$(sed -n 's/^OnCalendar=//p' "$units/varve-prune@.timer")"

# What systemd would run, with its own rules for words: "%f" is one, $KEEP is several.
run_service() { # NAME
    local command keep

    command=$(sed -n 's/^ExecStart=//p' "$units/$1@.service")
    keep=$(sed -n 's/^Environment="KEEP=\(.*\)"/\1/p' "$units/$1@.service")
    command=${command//%f/$mnt}
    eval "${command/\$KEEP/$keep}"
}
mkdir "$mnt/.snapshots/by-hand"
for number in 1 2 3 4 5; do
    printf '%s' "$number" >"$mnt/file"
    run_service varve-snapshot
done
expect_equal 'snapshots made' "$("$varve" snapshot list -q "$mnt" | wc -l)" 6
run_service varve-prune
# All in one hour: the three newest are kept, and what was made by hand.
expect_equal 'snapshots kept' "$("$varve" snapshot list -q "$mnt" | wc -l)" 4
expect_errno OK stat "$mnt/.snapshots/by-hand"
newest=$("$varve" snapshot list -q "$mnt" | tail -n 1)
expect_file "$mnt/.snapshots/$newest/file" 5
