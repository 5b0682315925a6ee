#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each exit status that is promised, and names of holders when a mount is busy.
. "$(dirname "$0")/lib.sh"

status 2 "$VARVE"
status 2 "$VARVE" nosuchverb
status 2 "$VARVE" mkfs
status 0 "$VARVE" --version
status 0 "$VARVE" mount --help
status 10 "$VARVE" mount "$work/missing" "$mnt"
status 10 "$VARVE" mount "$mnt" "$work"
status 8 "$VARVE" fsck "$work/missing"
status 0 "$VARVE" mkfs "$store"
status 1 "$VARVE" mkfs "$store"
status 2 "$VARVE" mount -o bogus "$store" "$mnt"
status 1 "$VARVE" mount "$store" "$store"
status 1 "$VARVE" mount "$store" "$work/no-mount-point"
status 0 "$VARVE" mount "$store" "$mnt"
[ "$(findmnt -n -o FSTYPE,SOURCE "$mnt" | tr -s ' ')" = "fuse.varve $store" ] || fail "findmnt"
mkdir "$work/other"
status 11 "$VARVE" mount "$store" "$work/other"
status 8 "$VARVE" fsck "$store"
status 1 "$VARVE" sync "$work"
status 0 "$VARVE" sync "$mnt"
status 1 "$VARVE" snapshot delete "$mnt" none
status 0 "$VARVE" snapshot create "$mnt" one
status 1 "$VARVE" snapshot create "$mnt" one

(cd "$mnt" && exec sleep 60) &
holder=$!
while [ "$(readlink "/proc/$holder/cwd")" != "$mnt" ]; do sleep 0.01; done
status 1 "$VARVE" umount "$mnt"
grep -q "process $holder" "$work/err" || fail "the holder is not named: $(cat "$work/err")"
kill "$holder"
wait "$holder" 2>/dev/null || true
status 0 "$VARVE" umount "$mnt"
# Everything is durable and the store is free at once.
status 0 "$VARVE" fsck "$store"

ln -s "$(command -v "$VARVE")" "$work/mount.varve"
ln -s "$(command -v "$VARVE")" "$work/fsck.varve"
status 32 "$work/mount.varve" "$work/missing" "$mnt" -o rw
status 1 "$work/mount.varve" "$store" "$mnt" -o bogus
status 0 "$work/mount.varve" "$store" "$mnt" -s -o rw,bogus,noatime,x-anything
status 0 "$VARVE" umount "$mnt"
status 0 "$work/fsck.varve" -a "$store"
status 16 "$work/fsck.varve"

# A checkpoint's directory mounts read-only.
status 0 "$VARVE" mount "$store/checkpoints/one" "$mnt"
status 1 touch "$mnt/file"
status 0 "$VARVE" umount "$mnt"
