#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A checkpoint directory, rsynced or copied anywhere, mounts read-only with the same content; also
# beside the store it came from, while that goes on.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
cp -a "$headers/linux" "$mnt/headers"
tree_make_special "$mnt/special"
mkdir "$directory/expected"
"$varve" snapshot create "$mnt" kept >"$directory/name"
expect_equal 'name' "$(cat "$directory/name")" kept
copy_tree "$mnt/" "$directory/expected/"
rsync -a "$store/checkpoints/kept/" "$directory/replica/"
cp -al "$store/checkpoints/kept" "$directory/linked" 2>/dev/null ||
    cp -a "$store/checkpoints/kept" "$directory/linked"
rm -rf "$mnt/headers"
"$varve" compact "$mnt"

# Nothing of it is linked with the store's own mutable files.
expect_equal 'files only the replica has' "$(find "$directory/replica" -type f -links +1)" ''

for place in "$directory/replica" "$directory/linked" "$store/checkpoints/kept"; do
    (
        store=$place mnt=$directory/mnt2
        store_mount
        expect_same_tree "$directory/expected" "$mnt"
        expect_errno EROFS create "$mnt/new"
        expect_errno EROFS unlink "$mnt/special/page"
        expect_errno EROFS mkdir "$mnt/.snapshots/new"
        store_unmount
        store_check --verify
    )
done
[ ! -e "$mnt/headers" ] || fail 'the live tree came back'

# A second replica from a later snapshot takes only what is new.
printf 'new' >"$mnt/new"
"$varve" snapshot create "$mnt" later >"$directory/name"
rsync -a --link-dest="$directory/replica" "$store/checkpoints/later/" "$directory/replica2/"
[ "$(find "$directory/replica2" -type f -links 2 | wc -l)" -gt 0 ] || fail 'nothing was shared'
(
    store=$directory/replica2 mnt=$directory/mnt2
    store_mount
    expect_file "$mnt/new" new
)
# What is missing is never taken for an empty tree.
victim=$(find "$directory/replica" -name '*.blb' | head -n 1)
rm -f "$victim"
mkdir "$directory/mnt3"
expect_status 1 "$varve" mount "$directory/replica" "$directory/mnt3"
expect_complaint "$directory/replica"
