#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is to be durable when the call returns survives a killed daemon whose sync window is an hour:
# O_SYNC and O_DSYNC, fsync, chattr +S and +D, mounts with sync and dirsync, also by a remount. And
# what is not to be does not: else this would show nothing.
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command chattr python3

window=sync_window=3600000
store_make
store_mount -o $window
mkdir "$mnt/plain" "$mnt/directories"
for name in sync attributes; do
    printf 'before' >"$mnt/$name"
    chattr +S "$mnt/$name"
done
chattr +D "$mnt/directories"
"$varve" sync "$mnt"
after_kill() {
    store_kill
    store_mount -o "$window${1:+,$1}"
}
gone() { # PATH
    [ ! -e "$1" ] || fail "$1 is there: the kill lost nothing"
}
: >"$mnt/plain/lost"
after_kill
gone "$mnt/plain/lost"

printf 'after' >"$mnt/sync"
after_kill
expect_file "$mnt/sync" after
chmod 700 "$mnt/attributes"
after_kill
expect_equal 'mode' "$(stat -c %a "$mnt/attributes")" 700
setfattr -n user.a -v b "$mnt/attributes"
after_kill
expect_equal 'attribute' "$(getfattr --only-values -n user.a "$mnt/attributes" 2>/dev/null)" b
fallocate -l 10000 "$mnt/attributes"
after_kill
expect_equal 'size' "$(stat -c %s "$mnt/attributes")" 10000
: >"$mnt/directories/made"
after_kill
[ -e "$mnt/directories/made" ] || fail 'a name was lost'
mv "$mnt/directories/made" "$mnt/directories/moved"
after_kill
[ -e "$mnt/directories/moved" ] || fail 'a rename was lost'
rm "$mnt/directories/moved"
after_kill
gone "$mnt/directories/moved"
for flag in dsync sync; do
    dd if=/dev/zero of="$mnt/plain/$flag" bs=5000 count=1 oflag=$flag status=none
    after_kill
    expect_equal "size after O_$flag" "$(stat -c %s "$mnt/plain/$flag")" 5000
done

# Mount options.
store_remount -o $window,dirsync
printf 'lost' >"$mnt/plain/name"
after_kill sync
expect_equal 'only the name' "$(stat -c %s "$mnt/plain/name")" 0
printf 'kept' >"$mnt/plain/name"
chmod 711 "$mnt/plain/name"
after_kill
expect_equal 'all' "$(cat "$mnt/plain/name") $(stat -c %a "$mnt/plain/name")" 'kept 711'
ln -s "$varve" "$directory/mount.varve"
"$directory/mount.varve" "$store" "$mnt" -o remount,sync
: >"$mnt/plain/by-remount"
after_kill
[ -e "$mnt/plain/by-remount" ] || fail 'a name was lost after remount,sync'
"$directory/mount.varve" "$store" "$mnt" -o remount,sync
"$directory/mount.varve" "$store" "$mnt" -o remount
: >"$mnt/plain/lost"
after_kill
gone "$mnt/plain/lost"
