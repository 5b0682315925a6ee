#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Names that look alike are different names, of files and of snapshots, and any byte may be in one.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
names=(my-db my_db $'caf\xc3\xa9' $'cafe\xcc\x81' $'caf\xe9' My-DB ' ' $'new\nline' $'tab\t' '*' -n
    $'\x01\xff' 'back\slash' '"' "'" .hidden ... 'a b')

for name in "${names[@]}"; do
    printf '%s' "$name" >"$mnt/$name"
    mkdir -- "$mnt/.snapshots/$name"
done
check() {
    local name

    expect_equal 'number of files' "$(find "$mnt" -mindepth 1 -printf x | wc -c)" "${#names[@]}"
    expect_equal 'number of snapshots' \
        "$(find "$mnt/.snapshots" -mindepth 1 -maxdepth 1 -printf x | wc -c)" "${#names[@]}"
    for name in "${names[@]}"; do
        expect_equal 'content by its name' "$(cat "$mnt/$name"; printf .)" "$name."
        [ -d "$mnt/.snapshots/$name" ] || fail "no snapshot '$name'"
    done
}
check
expect_errno ENOENT stat "$mnt/MY-DB"
expect_errno ENOENT stat "$mnt/.snapshots/MY-DB"
store_remount
check
# The command line prints and takes them as they are.
"$varve" snapshot list -q "$mnt" >"$directory/list"
printf '%s\n' "${names[@]}" | cmp - "$directory/list" || fail 'a listed name is another'
"$varve" snapshot delete "$mnt" -- "${names[@]}"
expect_equal 'snapshots left' "$(ls -A "$mnt/.snapshots")" ''
