#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# Without a journal the disk may still know a file that was removed when its blocks are another's. What
# e2fsck makes of that destroys files that were synced. So of whatever was removed the disk has to know
# before its blocks are free: no inode there may have a name that nothing in the store has.
. "$(dirname "$0")/../lib/mount.sh"
. "$(dirname "$0")/../lib/power_cut.sh"

store_inodes() {
    find "$store" -type f -printf '%i\n' | sort -u
}

# Inodes that the disk takes for files and that were removed before now.
removed_but_known() {
    store_inodes >"$directory/present"
    sleep 0.5 # what is just being removed has gone
    disk_copy
    comm -23 <(sort -u "$directory/seen") "$directory/present" |
        sed 's/.*/stat <&>/' >"$directory/questions"
    debugfs -f "$directory/questions" "$directory/cut-image" 2>"$directory/debugfs" |
        awk '/^Inode:/ { inode = $2 } /^Links: [1-9]/ { print inode }'
}

disk_make 300M
store_make
: >"$directory/seen"
removed=0
for round in 1 2 3; do
    store_mount -o memtable_mb=1
    for number in 1 2 3 4 5 6 7 8; do
        head -c 1500000 /dev/urandom >"$mnt/$number"
        "$varve" snapshot create -q "$mnt" "$number"
    done
    store_inodes >>"$directory/seen"
    for number in 1 2 3 4 5 6 7 8; do
        "$varve" snapshot delete -q "$mnt" "$number"
        rm "$mnt/$number"
    done
    "$varve" compact "$mnt"
    "$varve" sync "$mnt"
    # The number of one that is gone may by now be that of a file made since they were listed.
    for _ in 1 2 3 4 5 6 7 8; do
        known=$(removed_but_known)
        [ -n "$known" ] || break
    done
    [ -z "$known" ] || fail "round $round: removed, but the disk still knows: $known"
    removed=$((removed + $(wc -l <"$directory/questions")))
    store_kill
done
# Of nothing that was looked at nothing is said.
[ "$removed" -ge 20 ] || fail "only $removed files had been removed"
