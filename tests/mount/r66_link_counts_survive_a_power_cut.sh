#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# A power cut right after a snapshot returned, on a file system that writes link counts when it likes:
# when the live names of the snapshot's files are then removed, the files are whole all the same.
. "$(dirname "$0")/../lib/mount.sh"
. "$(dirname "$0")/../lib/power_cut.sh"

disk_make 600M
store_make
store_mount
cp -a "$headers/linux" "$mnt/headers"
for number in 1 2 3; do
    head -c 5000000 /dev/urandom >"$mnt/large-$number"
    "$varve" flush "$mnt"
done
copy_tree "$mnt/" "$directory/expected/"
"$varve" snapshot create -q "$mnt" kept
disk_cut
# No e2fsck: it would count the links anew. Only names go here, so the rest of the disk can wait.
rm "$cut"/store/chunks/*
umount "$cut"
# From the disk, not from memory.
disk_cut_mount
checkpoint=$cut/store/checkpoints/kept
for file in $(find "$checkpoint" -type f); do
    [ "$(stat -c %h "$file")" -ge 1 ] || fail "$file has no link left"
    cmp "$file" "$store/${file#"$cut/store/"}" || fail "$file is not what it was"
done
cp -a "$checkpoint" "$directory/checkpoint"
(
    store=$directory/checkpoint mnt=$directory/after
    store_mount
    expect_same_tree "$directory/expected" "$mnt"
    expect_status 0 "$varve" verify "$mnt"
)
disk_cut_end
