#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A store where nothing can be written mounts for reading, with its snapshots, and stays as it is to the
# byte; so does one that may be written to, with norecovery. What a crash left in the log is then not
# shown, and is there at the next mount of the usual kind.
if [ "$(id -u)" = 0 ] && [ -z "${IN_NAMESPACE:-}" ]; then
    IN_NAMESPACE=1 exec unshare --mount --propagation slave "$0" "$@"
fi
. "$(dirname "$0")/../lib/mount.sh"
require_root
leave_other_mounts

# LMDB's lock file has nothing that outlives the processes that use it.
content() {
    (cd "$1" && find . -type f ! -name lock.mdb -print0 | sort -z | xargs -0 sha256sum &&
        find . ! -path ./manifest/lock.mdb -printf '%p %m %s %T@\n' | sort)
}

store_make
store_mount
cp -a "$headers/linux" "$mnt/headers"
tree_make_special "$mnt/special"
mkdir "$mnt/.snapshots/past"
rm -r "$mnt/headers/netfilter"
printf 'now' >"$mnt/file"
mkdir "$directory/expected"
copy_tree "$mnt/" "$directory/expected/"
store_unmount
before=$(content "$store")

mkdir "$directory/place"
mount --bind "$store" "$directory/place"
mount -o remount,bind,ro "$directory/place"
(
    store=$directory/place
    expect_status 1 "$varve" mount "$store" "$mnt"
    expect_complaint 'Read-only'
    store_mount -o ro
    expect_same_tree "$directory/expected" "$mnt"
    diff -r --no-dereference "$headers/linux" "$mnt/.snapshots/past/headers" || fail 'the snapshot'
    expect_equal 'snapshots' "$("$varve" snapshot list -q "$mnt")" past
    expect_errno EROFS mkdir "$mnt/directory"
    expect_errno EROFS mkdir "$mnt/.snapshots/new"
    expect_status 1 "$varve" snapshot create "$mnt" new
    ln -s "$varve" "$directory/mount.varve"
    expect_status 32 "$directory/mount.varve" "$store" "$mnt" -o remount,rw
    expect_complaint 'for writing'
    expect_status 0 "$varve" verify "$mnt"
    store_unmount
    store_check --verify
)
expect_equal 'the store' "$(content "$store")" "$before"

# The same store, where it can be written.
expect_status 2 "$varve" mount "$store" "$mnt" -o norecovery
store_mount -o ro,norecovery
expect_same_tree "$directory/expected" "$mnt"
expect_status 11 "$varve" mount "$store" "$directory/expected" -o ro
expect_complaint 'in use'
store_unmount
expect_equal 'the store' "$(content "$store")" "$before"

# After a crash: what was flushed, and nothing in between.
store_mount -o sync_window=100
printf 'flushed' >"$mnt/file"
"$varve" compact "$mnt"
printf 'logged' >"$mnt/file"
mkdir "$mnt/logged"
sync "$mnt/file"
store_kill
umount -l "$mnt"
before=$(content "$store")
store_mount -o ro,norecovery
expect_file "$mnt/file" flushed
[ ! -e "$mnt/logged" ] || fail 'the log was replayed'
store_unmount
expect_equal 'the store after a crash' "$(content "$store")" "$before"
store_mount -o ro
expect_file "$mnt/file" logged
[ -d "$mnt/logged" ] || fail 'the log was not replayed'
store_unmount
umount "$directory/place"
