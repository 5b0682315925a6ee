#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# umount(8) returns before the daemon has closed the store: mounting again waits for that, and only
# for that, as fsck does - a store that is mounted elsewhere is refused at once.
. "$(dirname "$0")/../lib/mount.sh"
require_root

store_make
for round in {1..8}; do
    store_mount
    # Something to make durable, so that closing takes its time.
    head -c 3000000 /dev/urandom >"$mnt/data-$round"
    umount "$mnt" || fail "umount in round $round"
    [ $round != 4 ] || store_check
done
store_mount
expect_equal 'files' "$(find "$mnt" -name 'data-*' -size 3000000c | wc -l)" 8

mkdir "$directory/other"
started=$EPOCHREALTIME
expect_status 11 "$varve" mount "$store" "$directory/other"
expect_complaint 'in use'
awk "BEGIN { exit !($EPOCHREALTIME - $started < 5) }" || fail 'a mounted store was waited for'
store_remount -o fsname=another-name
started=$EPOCHREALTIME
expect_status 11 "$varve" mount "$store" "$directory/other" -o fsname=another-name
awk "BEGIN { exit !($EPOCHREALTIME - $started < 5) }" || fail 'a mounted store was waited for'
