#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is unchanged is one file in all snapshots: its number, its link count, what du and cp -a make
# of it, and rsync -aH of all snapshots, which carries it once. Any change is another file.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
mkdir "$mnt/tree"
cp -a "$headers/linux" "$mnt/tree/headers"
printf 'same' >"$mnt/tree/same"
printf 'content' >"$mnt/tree/content"
printf 'mode' >"$mnt/tree/mode"
printf 'owner' >"$mnt/tree/owner"
printf 'time' >"$mnt/tree/time"
printf 'xattr' >"$mnt/tree/xattr"
printf 'two' >"$mnt/tree/two"
ln "$mnt/tree/two" "$mnt/tree/names"
ln -s same "$mnt/tree/symbolic"
snapshots=$mnt/.snapshots
mkdir "$snapshots/a"
printf 'CONTENT' >"$mnt/tree/content"
chmod 600 "$mnt/tree/mode"
touch -d '2001-01-01 UTC' "$mnt/tree/time"
setfattr -n user.key -v value "$mnt/tree/xattr"
mkdir "$snapshots/b"
printf 'late' >"$mnt/tree/late"
mkdir "$snapshots/c"

number() { # PATH
    stat -c %i "$1"
}
links() { # PATH
    stat -c %h "$1"
}
same() { # NAME SNAPSHOT SNAPSHOT
    expect_equal "number of $1 in $2 and $3" "$(number "$snapshots/$2/tree/$1")" \
        "$(number "$snapshots/$3/tree/$1")"
}
other() { # NAME SNAPSHOT SNAPSHOT
    [ "$(number "$snapshots/$2/tree/$1")" != "$(number "$snapshots/$3/tree/$1")" ] ||
        fail "$1 has one number in $2 and $3"
}
check() {
    same same a b
    same same b c
    same symbolic a c
    same headers/fs.h a c
    same two a c
    expect_equal 'number of another name' "$(number "$snapshots/a/tree/two")" \
        "$(number "$snapshots/b/tree/names")"
    for name in content mode time xattr; do
        other $name a b
        same $name b c
    done
    other headers a b
    expect_equal 'links of an unchanged file' "$(links "$snapshots/a/tree/same")" 3
    expect_equal 'links of one with two names' "$(links "$snapshots/a/tree/two")" 6
    expect_equal 'links of a changed one, before' "$(links "$snapshots/a/tree/content")" 1
    expect_equal 'links of a changed one, after' "$(links "$snapshots/b/tree/content")" 2
    expect_equal 'links of a new one' "$(links "$snapshots/c/tree/late")" 1
    expect_equal 'links of the live one' "$(links "$mnt/tree/same")" 1
    [ "$(number "$mnt/tree/same")" != "$(number "$snapshots/c/tree/same")" ] ||
        fail 'a live file shares its number with a snapshot'
}
check
store_remount
check

# rsync: what is the same in all is carried once, and the copy has the links.
rsync -aHAX "$snapshots/" "$directory/copy/"
for snapshot in a b c; do
    diff -r --no-dereference "$snapshots/$snapshot" "$directory/copy/$snapshot" ||
        fail "the copy of $snapshot differs"
done
expect_equal 'links in the copy' "$(links "$directory/copy/b/tree/same")" 3
expect_equal 'links in the copy' "$(links "$directory/copy/b/tree/headers/fs.h")" 3
expect_equal 'links in the copy' "$(links "$directory/copy/a/tree/content")" 1
expect_equal 'a second pass' "$(rsync -aHAX --itemize-changes "$snapshots/" "$directory/copy/")" ''
one=$(du -s --apparent-size --block-size=1 "$snapshots/a" | cut -f1)
all=$(du -s --apparent-size --block-size=1 "$snapshots" | cut -f1)
[ "$all" -lt $((one + one / 2)) ] || fail "du counts $all bytes for all and $one for one"

# A link count follows what comes and goes, also with an open file and a cached answer.
exec 5<"$snapshots/a/tree/same"
mkdir "$snapshots/d"
expect_equal 'links with one more' "$(links "$snapshots/a/tree/same")" 4
expect_equal 'links of the open file with one more' "$(stat -L -c %h /proc/self/fd/5)" 4
rmdir "$snapshots/d"
rmdir "$snapshots/b"
expect_equal 'links with one less' "$(links "$snapshots/a/tree/same")" 2
expect_equal 'links of the open file with one less' "$(stat -L -c %h /proc/self/fd/5)" 2
exec 5<&-
rsync -aHAX --delete "$snapshots/" "$directory/copy/"
expect_equal 'links in the copy' "$(links "$directory/copy/a/tree/same")" 2

# All of it can be turned off.
store_remount -o snaplinks=off
expect_equal 'links with snaplinks=off' "$(links "$snapshots/a/tree/same")" 1
other same a c
expect_file "$snapshots/a/tree/content" content
expect_equal 'links of two names with snaplinks=off' "$(links "$snapshots/a/tree/two")" 2
