#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Nobody has to ask for it: what is removed or overwritten gives its space back by itself, though a
# few records say so and nothing else is written; what a snapshot holds stays until that goes.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount

chunks_mib() {
    du -sm "$store/chunks" | cut -f 1
}
expect_at_most() { # MIB WHAT
    for _ in {1..600}; do
        [ "$(chunks_mib)" -gt "$1" ] || return 0
        sleep 0.1
    done
    fail "$2: $(chunks_mib) MiB of chunks are still there"
}

head -c 80M /dev/urandom >"$mnt/kept"
head -c 100M /dev/urandom >"$mnt/removed"
"$varve" sync "$mnt"
[ "$(chunks_mib)" -ge 180 ] || fail 'less was written than expected'
rm "$mnt/removed"
expect_at_most 100 'after rm'

for _ in 1 2 3; do
    head -c 80M /dev/urandom >"$directory/new"
    dd if="$directory/new" of="$mnt/kept" bs=1M conv=notrunc status=none
done
"$varve" sync "$mnt"
expect_at_most 100 'after overwriting'
cmp "$directory/new" "$mnt/kept" || fail 'other bytes than were written'

mkdir "$mnt/.snapshots/one"
rm "$mnt/kept"
"$varve" sync "$mnt"
sleep 5
cmp "$directory/new" "$mnt/.snapshots/one/kept" || fail 'the snapshot lost data'
rmdir "$mnt/.snapshots/one"
expect_at_most 10 'after the snapshot'
