#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
# A sample of what tests/cuts/run does at length: the power goes under a loaded mount, or its daemon
# dies, and a witness on another disk knows what must be there afterwards.
. "$(dirname "$0")/../lib/mount.sh"

require_root
require_command xfs_io mkfs.ext4 mkfs.xfs unshare cc
rounds=3
[ -z "${VARVE_TEST_FULL:-}" ] || rounds=50

cuts() { # DISK OPTION...
    local disk=$1

    shift
    "$test_root/tests/cuts/run" --varve "$varve" --directory "$directory/$disk" --disk "$disk" \
        --fsck-every 3 "$@" >"$directory/log" 2>&1 || fail "$disk: $(cat "$directory/log")"
    tail -n 1 "$directory/log"
}

truncate -s 64M "$directory/probe"
mkfs.ext4 -qF "$directory/probe"
mkdir "$directory/probe-mount"
mount -o loop "$directory/probe" "$directory/probe-mount" || skip 'no loop device'
umount "$directory/probe-mount"

for disk in ext4 ext4-nojournal xfs; do
    cuts $disk --rounds $rounds
done
if grep -q __asan_init "$varve"; then
    # Its runtime will not have a library loaded before it.
    cuts none --rounds $((2 * rounds))
else
    cc -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -O1 -shared -fPIC \
        -o "$directory/kill_at.so" "$test_root/tests/lib/kill_at.c" -ldl
    cuts none --rounds $((4 * rounds)) --points --kill-at "$directory/kill_at.so"
fi
