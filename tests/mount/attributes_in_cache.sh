#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Attributes that the kernel keeps are right after every call that changes them, as stat(2) tells; the
# flags of chattr(1) are kept, obeyed by open(2) and survive a remount.
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command chattr lsattr

store_make
store_mount

# ctime moves, seen at once and after a remount.
expect_ctime_moves() { # COMMAND...
    local before after

    before=$(stat -c %z "$mnt/file")
    sleep 0.02
    "$@" || fail "$*"
    after=$(stat -c %z "$mnt/file")
    [[ $after > $before ]] || fail "ctime has not moved after $*"
}
: >"$mnt/file"
expect_ctime_moves chattr +A "$mnt/file"
expect_ctime_moves chattr -A "$mnt/file"
expect_ctime_moves chattr +d "$mnt/file"
expect_ctime_moves chmod 600 "$mnt/file"
expect_ctime_moves touch "$mnt/file"
expect_ctime_moves ln "$mnt/file" "$mnt/link"
expect_ctime_moves mv "$mnt/link" "$mnt/moved"
expect_ctime_moves rm "$mnt/moved"
expect_ctime_moves truncate -s 100 "$mnt/file"
expect_ctime_moves fallocate -l 200 "$mnt/file"
expect_ctime_moves setfattr -n user.a -v b "$mnt/file"
expect_ctime_moves setfattr -x user.a "$mnt/file"
expect_ctime_moves dd if=/dev/zero of="$mnt/file" bs=10 count=1 conv=notrunc status=none
before=$(stat -c %z "$mnt/file")
store_remount
expect_equal 'ctime after a remount' "$(stat -c %z "$mnt/file")" "$before"
# Numbers of files are never used again, so there is one generation.
expect_equal 'the generation' "$(lsattr -v "$mnt/file" | awk '{ print $1 }')" 1
expect_equal 'flags after a remount' "$(lsattr "$mnt/file" | cut -d ' ' -f 1 | tr -d -)" d

# Immutable and append-only.
printf 'one' >"$mnt/fixed"
printf 'one' >"$mnt/log"
chattr +i "$mnt/fixed"
chattr +a "$mnt/log"
for path in "$mnt/fixed" "$mnt/log"; do
    (: >"$path") 2>/dev/null && fail "$path could be truncated"
    (: 1<>"$path") 2>/dev/null && fail "$path could be opened for writing"
    rm -f "$path" 2>/dev/null && fail "$path could be removed"
    chmod 600 "$path" 2>/dev/null && fail "$path could be given a mode"
    touch -d yesterday "$path" 2>/dev/null && fail "$path could be dated"
done
(: >>"$mnt/fixed") 2>/dev/null && fail 'an immutable file could be opened for appending'
touch "$mnt/fixed" 2>/dev/null && fail 'an immutable file could be touched'
printf ' two' >>"$mnt/log"
touch "$mnt/log"
store_remount
expect_file "$mnt/fixed" one
expect_file "$mnt/log" 'one two'
(: >>"$mnt/fixed") 2>/dev/null && fail 'an immutable file could be opened after a remount'
chattr -i "$mnt/fixed"
chattr -a "$mnt/log"
rm "$mnt/fixed" "$mnt/log"
