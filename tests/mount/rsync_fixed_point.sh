#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rsync -aHAX into the mount and out of it: a second pass finds nothing to do.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
tree_make_special "$directory/special"
cp -a "$headers/linux" "$directory/special/headers"

pass() { # FROM TO
    # Without the window, times within one second are the same to rsync.
    rsync -aHAX --modify-window=-1 --delete --itemize-changes "$1/" "$2/"
}

pass "$directory/special" "$mnt/in" >"$directory/log"
expect_equal 'second pass in' "$(pass "$directory/special" "$mnt/in")" ''
expect_same_tree "$directory/special" "$mnt/in"
pass "$mnt/in" "$directory/out" >"$directory/log"
expect_equal 'second pass out' "$(pass "$mnt/in" "$directory/out")" ''
expect_same_tree "$directory/special" "$directory/out"

# It does find what is changed.
printf more >>"$mnt/in/page"
rm "$mnt/in/link-1"
touch -d '2011-11-11 UTC' "$mnt/in/hole"
expect_equal 'changes found' "$(pass "$mnt/in" "$directory/out" | wc -l)" 4
expect_equal 'pass after changes' "$(pass "$mnt/in" "$directory/out")" ''
store_remount
expect_equal 'pass after a remount' "$(pass "$mnt/in" "$directory/out")" ''
