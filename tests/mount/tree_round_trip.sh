#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real tree and one of everything special come back as they went in, also after a remount.
. "$(dirname "$0")/../lib/mount.sh"

tree_make_special "$directory/special"
tar -C "$directory" --xattrs --acls -cf "$directory/special.tar" special
tar -C "$(dirname "$headers")" -cf "$directory/headers.tar" "$(basename "$headers")"

store_make
store_mount
tar -C "$mnt" --xattrs --xattrs-include='*' --acls -xpf "$directory/special.tar"
tar -C "$mnt" -xpf "$directory/headers.tar"

check() {
    tar -C "$mnt" --compare -f "$directory/special.tar" || fail 'tar sees a difference'
    tar -C "$mnt" --compare -f "$directory/headers.tar" || fail 'tar sees a difference in headers'
    diff -r --no-dereference "$headers" "$mnt/${headers##*/}" || fail 'diff sees a difference'
    expect_same_tree "$directory/special" "$mnt/special"
}

check
store_remount
check
store_remount -o io=sync,threads=2,cache_mb=1
check
store_unmount
store_check --verify
