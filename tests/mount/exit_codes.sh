#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each exit status that is promised; wrong words and options; names of holders when a mount is busy.
. "$(dirname "$0")/../lib/mount.sh"

expect_status 0 "$varve" --help
expect_status 0 "$varve" --version
expect_status 0 "$varve" mount --help
expect_status 0 "$varve" snapshot --help
expect_status 2 "$varve"
expect_status 2 "$varve" unknown
expect_status 2 "$varve" snapshot
expect_status 2 "$varve" snapshot unknown
expect_status 2 "$varve" snapshot create
expect_status 2 "$varve" mkfs
expect_status 2 "$varve" mkfs "$store" more
expect_status 2 "$varve" mkfs --compression=often "$store"
expect_status 2 "$varve" stats --unknown "$directory"
expect_status 16 "$varve" fsck

store_make
expect_status 2 "$varve" mount
expect_status 2 "$varve" mount "$store"
expect_status 2 "$varve" mount "$store" "$mnt" more
expect_status 2 "$varve" mount "$store" "$mnt" -o unknown
[[ $complaint == *unknown* ]] || fail "the option is not named: $complaint"
for option in sync_window=soon sync_window sync_window=-1 ro=1 snapdir=perhaps io=tape threads=0; do
    expect_status 2 "$varve" mount "$store" "$mnt" -o "$option"
    [[ $complaint == *${option%%=*}* ]] || fail "the option is not named: $complaint"
done
expect_status 1 "$varve" mount "$store" "$directory/nowhere"
expect_complaint "$directory/nowhere"
: >"$directory/file"
expect_status 1 "$varve" mount "$store" "$directory/file"
expect_complaint 'not a directory'
expect_status 1 "$varve" mount "$store" "$store"
expect_status 1 "$varve" mount "$store" "$store/tmp"
expect_complaint 'in the store'

# Where no mount is.
expect_status 1 "$varve" umount "$mnt"
expect_complaint "$mnt"
for verb in sync stats flush compact; do
    expect_status 10 "$varve" $verb "$mnt"
    expect_complaint "$mnt"
done
expect_status 10 "$varve" snapshot create "$mnt"
expect_complaint "$mnt"
expect_status 1 "$varve" umount "$directory/missing"
expect_complaint "$directory/missing"

store_mount
grep -qF " $mnt " /proc/self/mountinfo
expect_equal 'type and source' "$(findmnt -n -r -o FSTYPE,SOURCE "$mnt")" "fuse.varve $store"
expect_status 0 "$varve" sync "$mnt"
expect_status 0 "$varve" snapshot create "$mnt" one
expect_equal 'output' "$output" one
expect_status 1 "$varve" snapshot create "$mnt" one
expect_complaint 'one of that name'
expect_status 1 "$varve" snapshot delete "$mnt" none
expect_complaint none
expect_status 0 "$varve" snapshot create -q "$mnt" two
expect_equal 'output' "$output" ''
expect_status 0 "$varve" snapshot rename "$mnt" two three
expect_status 1 "$varve" snapshot rename "$mnt" three one
# A path inside the mount stands for the mount.
mkdir "$mnt/below"
expect_status 0 "$varve" snapshot list -q "$mnt/below"
expect_equal 'output' "$output" "$(printf 'one\nthree')"
expect_status 0 "$varve" snapshot delete -n "$mnt" one three
[[ $output == 'would free '* ]] || fail "dry run said $output"
expect_status 0 "$varve" snapshot delete "$mnt" one three
expect_equal 'snapshots left' "$("$varve" snapshot list "$mnt")" ''

# A name of its own: the time.
expect_status 0 "$varve" snapshot create "$mnt"
[[ $output =~ ^[0-9]{8}T[0-9]{6}Z(-[0-9]+)?$ ]] || fail "default name: $output"
first=$output
expect_status 0 "$varve" snapshot create "$mnt"
[ "$output" != "$first" ] || fail 'a name was given twice'
[[ $output > $first ]] || fail "$output does not sort after $first"

# JSON: one schema, whole numbers, times in UTC.
expect_status 0 "$varve" snapshot create "$mnt" tagged --tag a=1 --tag b=2 --json
for key in schema_version sequence files bytes linked_files copied_files; do
    [[ $(json_get $key <<<"$output") =~ ^[0-9]+$ ]] || fail "$key: $output"
done
expect_equal 'tags' "$(json_get tags <<<"$output")" '{"a": "1", "b": "2"}'
[[ $(json_get created <<<"$output") =~ ^[0-9-]+T[0-9:.]+Z$ ]] || fail "created: $output"
expect_status 0 "$varve" snapshot list --json "$mnt"
expect_equal 'names in JSON' "$(json_get snapshots.2.name <<<"$output")" tagged
expect_status 0 "$varve" stats --json "$mnt"
expect_equal 'snapshots counted' "$(json_get snapshots.count <<<"$output")" 3
expect_status 0 "$varve" stats --prometheus "$mnt"
[ -z "$(grep -Ev '^(#.*|varve_[a-z0-9_]+(\{[^}]*\})? -?[0-9.e+]+)$' <<<"$output")" ] ||
    fail 'a line is not a metric'

# A busy mount names who holds it.
(cd "$mnt" && exec sleep 60) &
holder=$!
while [ "$(readlink /proc/$holder/cwd)" != "$mnt" ]; do sleep 0.01; done
expect_status 1 "$varve" umount "$mnt"
[[ $complaint == *"process $holder"* ]] || fail "the holder is not named: $complaint"
kill $holder
wait $holder 2>/dev/null || true
expect_status 0 "$varve" umount "$mnt"
# Everything is durable and the store is free at once.
expect_status 0 "$varve" fsck "$store"
expect_status 0 "$varve" snapshot list -q "$store"
expect_equal 'names in the store' "$(wc -l <<<"$output")" 3

# As mount(8), mkfs(8) and fsck(8) call it.
for name in mount mkfs fsck; do
    ln -s "$varve" "$directory/$name.varve"
done
expect_status 0 "$directory/mkfs.varve" "$directory/store2"
expect_status 1 "$directory/mkfs.varve" "$directory/store2"
expect_status 32 "$directory/mount.varve" "$directory/missing" "$mnt" -o rw
expect_complaint "$directory/missing"
expect_status 1 "$directory/mount.varve" "$store" "$mnt" -o unknown
expect_status 0 "$directory/mount.varve" "$store" "$mnt" -f -o rw
! is_mounted "$mnt" || fail 'a fake mount was made'
expect_status 0 "$directory/mount.varve" "$store" "$mnt" \
    -s -o unknown,rw,noatime,noauto,nofail,_netdev,x-systemd.automount
is_mounted "$mnt" || fail 'mount.varve did not mount'

# Locked.
mkdir "$directory/other"
expect_status 11 "$varve" mount "$store" "$directory/other"
expect_complaint 'in use'
expect_status 32 "$directory/mount.varve" "$store" "$directory/other" -o rw
expect_status 8 "$varve" fsck "$store"
expect_status 8 "$directory/fsck.varve" -a "$store"
expect_status 0 "$varve" umount "$mnt"
expect_status 0 "$directory/fsck.varve" -a "$store"

# SIGTERM unmounts in order.
store_mount -o sync_window=0
printf 'written' >"$mnt/written"
kill "$(daemon_pid)"
for _ in {1..200}; do
    is_mounted "$mnt" || break
    sleep 0.05
done
! is_mounted "$mnt" || fail 'SIGTERM did not unmount'
for _ in {1..200}; do
    status=0
    "$varve" fsck "$store" >"$directory/out" 2>&1 || status=$?
    [ $status != 8 ] || { sleep 0.05; continue; }
    break
done
expect_equal 'fsck after SIGTERM' $status 0
store_mount
expect_file "$mnt/written" written
expect_equal 'replayed after SIGTERM' "$("$varve" stats --json "$mnt" |
    json_get engine.wal_replayed_batches)" 0
