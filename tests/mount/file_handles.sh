#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# File handles, as an NFS server keeps them: of live files and directories they outlive renames and
# remounts and lead to the same file, and to no other when it is gone; of files in snapshots too, for as
# long as a snapshot has what they lead to, and of directories there where .snapshots is listed: the
# kernel looks for the names on the way to a directory.
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

# Files of snapshots: what several have in common, what one has alone, and what no snapshot has any more.
store_remount
mkdir "$mnt/kept"
for i in {1..30}; do
    echo "same $i" >"$mnt/kept/$i"
done
mkdir "$mnt/.snapshots/one"
for i in {11..30}; do
    echo "second $i" >"$mnt/kept/$i"
done
ln -s nowhere "$mnt/kept/symlink"
mkdir "$mnt/.snapshots/two"
rm -r "$mnt/kept"
mkdir "$mnt/.snapshots/three"
some="1 10 11 30"
save_all() {
    for i in $some; do
        expect_errno OK save_handle "$mnt/.snapshots/$1/kept/$i" "$directory/handles/$1-$i"
    done
}
expect_handle() {
    expect_errno OK open_handle "$mnt" "$directory/handles/$1" "$2"
}
expect_snapshots() {
    for i in $some; do
        if [ "$i" -le 10 ]; then
            expect_handle "one-$i" "same $i"
            expect_handle "two-$i" "same $i"
        else
            expect_handle "two-$i" "second $i"
        fi
    done
}
save_all one
save_all two
expect_snapshots
store_remount
expect_snapshots
expect_handle one-11 "same 11"
store_kill
store_mount
expect_snapshots
# With one gone, what the other has too is there still.
rmdir "$mnt/.snapshots/one"
store_remount
expect_snapshots
expect_errno ESTALE open_handle "$mnt" "$directory/handles/one-11"
rmdir "$mnt/.snapshots/two"
store_remount
for name in one-1 one-11 two-1 two-11; do
    expect_errno ESTALE open_handle "$mnt" "$directory/handles/$name"
done

# The same when each snapshot's files are its own.
store_remount -o snaplinks=off
: >"$mnt/again"
mkdir "$mnt/.snapshots/other"
expect_errno OK save_handle "$mnt/.snapshots/other/again" "$directory/handles/again"
store_remount -o snaplinks=off
expect_errno OK open_handle "$mnt" "$directory/handles/again"
