#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
# tools/quickstart does what it says, twice in the same directory, and spoils nobody else's.
. "$(dirname "$0")/../lib/mount.sh"

export VARVE=$varve
mnt=$directory/try/mnt store=$directory/try/store
run() {
    "$test_root/tools/quickstart" "$directory/try" >"$directory/out" 2>&1 ||
        fail "quickstart: $(tail -n 30 "$directory/out")"
    is_mounted "$mnt" || fail 'the mount is not there afterwards'
    [[ $(tail -n 1 "$directory/out") == "When done: "*" umount $mnt" ]] || fail 'no last word'
    expect_equal 'snapshots' "$(find "$mnt/.snapshots" -mindepth 1 -maxdepth 1 | wc -l)" 3
    cmp "$test_root/LICENSE" "$mnt/project/LICENSE" || fail 'the file was not brought back'
    diff -r --no-dereference "$headers" "$directory/try/copy/before/include" >"$directory/diff" ||
        fail "the copy differs: $(head "$directory/diff")"
    expect_equal 'links in the copy' "$(stat -c %h "$directory/try/copy/before/include/stdio.h")" 3
}
run
run
command=$(tail -n 1 "$directory/out")
${command#When done: } || fail 'what it says to unmount does not unmount'
! is_mounted "$mnt" || fail 'still mounted'
store_check

mkdir "$directory/others"
printf 'precious' >"$directory/others/file"
expect_status 1 "$test_root/tools/quickstart" "$directory/others"
expect_complaint 'not empty'
expect_file "$directory/others/file" precious
expect_status 1 "$test_root/tools/quickstart" --unknown
expect_status 0 "$test_root/tools/quickstart" --help
