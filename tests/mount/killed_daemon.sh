#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A killed daemon: what was synced is there after the next mount, which clears the dead one by
# itself.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
cp -r "$headers/linux" "$mnt/tree"
"$varve" snapshot create -q "$mnt" before
rm -r "$mnt/tree/netfilter"
"$varve" sync "$mnt"
store_kill
expect_status 1 "$varve" stats "$mnt"

expect_status 0 "$varve" mount "$store" "$mnt"
[[ $complaint == *'stale mount'* ]] || fail 'the stale mount is not mentioned'
expect_equal 'mounts there' "$(grep -cF " $mnt " /proc/self/mountinfo)" 1
diff -r --no-dereference "$headers/linux" "$mnt/.snapshots/before/tree" || fail 'the snapshot differs'
[ ! -e "$mnt/tree/netfilter" ] || fail 'what was removed and synced is back'
diff -r -x netfilter "$headers/linux" "$mnt/tree" || fail 'the tree differs'

# A dead mount can also be taken away.
store_kill
expect_status 0 "$varve" umount "$mnt"
! is_mounted "$mnt" || fail 'the dead mount is still there'
store_mount
diff -r -x netfilter "$headers/linux" "$mnt/tree" || fail 'the tree differs'
store_unmount
store_check --verify
