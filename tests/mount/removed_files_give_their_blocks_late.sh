#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# Without a journal the disk may still know a file that was removed when its blocks are another's. What
# e2fsck makes of that destroys files that were synced, so no block may have two owners after a cut.
. "$(dirname "$0")/../lib/mount.sh"
. "$(dirname "$0")/../lib/power_cut.sh"

disk_make 100M
store_make
store_mount -o memtable_mb=1
# Many inodes, then the log's segments behind them ...
for number in 1 2 3 4 5 6 7 8 9 10; do
    head -c 100000 /dev/urandom >"$mnt/$number"
    "$varve" snapshot create -q "$mnt" "$number"
done
store_kill
store_mount -o memtable_mb=1
# ... and those before them are free again, so that new files are not made in their place.
for number in 1 2 3 4 5 6 7 8 9 10; do
    "$varve" snapshot delete -q "$mnt" "$number"
done
"$varve" compact "$mnt"
sync -f "$disk"
store_kill
# The old segments go, and new ones are made of their blocks.
store_mount -o memtable_mb=1
for number in 1 2 3; do
    head -c 9000000 /dev/urandom >"$mnt/$number"
    "$varve" sync "$mnt"
done
disk_copy
# What it says of the rest is of no interest: nothing was asked to be in order.
e2fsck -fn "$directory/cut-image" >"$directory/e2fsck" 2>&1 || true
grep -q 'Pass 5' "$directory/e2fsck" || fail "e2fsck: $(cat "$directory/e2fsck")"
! grep -q 'Multiply-claimed' "$directory/e2fsck" ||
    fail "a block has two owners: $(grep -A20 'Multiply-claimed' "$directory/e2fsck")"
