#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# A snapshot equals an independent copy, byte for byte and attribute for attribute, and still does
# when everything live is gone and its space collected, when other snapshots went, and after a
# remount.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
mkdir "$mnt/tree"
cp -a "$headers/linux" "$mnt/tree/headers"
tree_make_special "$mnt/tree/special"
mkdir "$mnt/.snapshots/first"
copy_tree "$mnt/tree/" "$directory/first/"

# Every kind of change.
printf 'changed' | dd of="$mnt/tree/special/large" bs=1 seek=1000000 conv=notrunc status=none
truncate -s 100 "$mnt/tree/special/compressible"
chmod 600 "$mnt/tree/special/program"
setfattr -n user.short -v other "$mnt/tree/special/page"
rm -r "$mnt/tree/headers/netfilter"
mv "$mnt/tree/special/nested" "$mnt/tree/moved"
cp -a "$headers/asm-generic" "$mnt/tree/added"
mkdir "$mnt/.snapshots/second"
copy_tree "$mnt/tree/" "$directory/second/"

check() {
    expect_same_tree "$directory/first" "$mnt/.snapshots/first/tree"
    expect_same_tree "$directory/second" "$mnt/.snapshots/second/tree"
}
check
mkdir "$mnt/.snapshots/third"
rm -rf "$mnt/tree"
expect_equal 'what is left' "$(ls -A "$mnt")" ''
"$varve" flush "$mnt"
"$varve" compact "$mnt"
check
rmdir "$mnt/.snapshots/third"
head -c 20000000 /dev/urandom >"$mnt/new"
"$varve" compact "$mnt"
check
store_remount
check
"$varve" snapshot delete "$mnt" first
"$varve" compact "$mnt"
expect_same_tree "$directory/second" "$mnt/.snapshots/second/tree"
# A file comes back by copying.
cp -a "$mnt/.snapshots/second/tree" "$mnt/tree"
expect_same_tree "$directory/second" "$mnt/tree"
store_unmount
store_check --verify
