#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A killed daemon: what was synced is there after the next mount, which clears the dead one by itself.
. "$(dirname "$0")/lib.sh"

"$VARVE" mkfs "$store"
"$VARVE" mount "$store" "$mnt"
cp -r /usr/include/linux "$mnt/tree"
"$VARVE" snapshot create -q "$mnt" before
rm -r "$mnt/tree/netfilter"
"$VARVE" sync "$mnt"
kill -9 "$(daemon_pid)"
status 1 "$VARVE" stats "$mnt"

"$VARVE" mount "$store" "$mnt" 2>"$work/err"
grep -q "stale mount" "$work/err" || fail "the stale mount is not mentioned"
[ "$(grep -c " $mnt " /proc/self/mountinfo)" = 1 ] || fail "the dead mount is still there"
diff -r /usr/include/linux "$mnt/.snapshots/before/tree" || fail "the snapshot differs"
[ ! -e "$mnt/tree/netfilter" ] || fail "what was removed and synced is back"
rm -r "$mnt/.snapshots/before/tree" 2>/dev/null && fail "a snapshot was changed"
diff -r -x netfilter /usr/include/linux "$mnt/tree" || fail "the tree differs"
"$VARVE" umount "$mnt"
"$VARVE" fsck -q --verify "$store"
