#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# File handles, as an NFS server keeps them: of live files and directories they outlive renames and
# remounts and lead to the same file, and to no other when it is gone; of directories in snapshots too
# where .snapshots is listed: the kernel looks for the names on the way to a directory.
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command python3

store_make
store_mount -o snapdir=visible
mkdir -p "$mnt/directory/below" "$directory/handles"
printf 'content' >"$mnt/directory/file"
printf 'gone' >"$mnt/directory/gone"
ln "$mnt/directory/file" "$mnt/directory/below/link"
mkdir "$mnt/.snapshots/past"
declare -A paths=(
    [root]=$mnt [directory]=$mnt/directory [below]=$mnt/directory/below
    [file]=$mnt/directory/file [gone]=$mnt/directory/gone
    [past]=$mnt/.snapshots/past [past-directory]=$mnt/.snapshots/past/directory
)
for name in "${!paths[@]}"; do
    expect_errno OK save_handle "${paths[$name]}" "$directory/handles/$name"
done
mv "$mnt/directory" "$mnt/moved"
rm "$mnt/moved/file" "$mnt/moved/gone"
# New files take no number of an old one.
for i in {1..50}; do
    : >"$mnt/new-$i"
done
expect_all() {
    local name

    for name in "${!paths[@]}"; do
        if [ "$name" = gone ]; then
            expect_errno ESTALE open_handle "$mnt" "$directory/handles/gone"
        else
            expect_errno OK open_handle "$mnt" "$directory/handles/$name"
        fi
    done
}
expect_all
store_remount -o snapdir=visible
expect_all
store_kill
store_mount -o snapdir=visible
expect_all
rm -r "$mnt/moved"
for name in directory below file; do
    expect_errno ESTALE open_handle "$mnt" "$directory/handles/$name"
done
rmdir "$mnt/.snapshots/past"
expect_errno ESTALE open_handle "$mnt" "$directory/handles/past-directory"

# Files of snapshots keep theirs across a remount when each snapshot's are its own.
store_remount -o snaplinks=off
: >"$mnt/again"
mkdir "$mnt/.snapshots/other"
expect_errno OK save_handle "$mnt/.snapshots/other/again" "$directory/handles/again"
store_remount -o snaplinks=off
expect_errno OK open_handle "$mnt" "$directory/handles/again"
