#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Somebody who is not root: own store, own mount through fusermount3, own snapshots; others, root
# included, stay out. Then umount, and a killed daemon.
. "$(dirname "$0")/../lib/mount.sh"
. "$(dirname "$0")/../lib/user.sh"

as_user "$varve" mkfs "$store"
as_user mkdir "$mnt"
as_user "$varve" mount "$store" "$mnt" || fail 'mounting as a user'
is_mounted "$mnt" || fail 'not mounted'
as_user cp -r "$headers/linux" "$mnt/headers"
as_user mkdir "$mnt/.snapshots/mine"
expect_status 0 as_user "$varve" snapshot create "$mnt" second
as_user diff -r --no-dereference "$headers/linux" "$mnt/.snapshots/mine/headers" || fail 'differs'
expect_equal 'owner' "$(as_user stat -c %U "$mnt/headers")" "$(as_user id -un)"
as_user rmdir "$mnt/.snapshots/mine"
expect_status 1 as_user mknod "$mnt/device" c 1 3
as_user grep -qE " $mnt .*nosuid,nodev.* - fuse.varve " /proc/self/mountinfo ||
    fail 'not nosuid and nodev'
if [ -n "$user" ]; then
    expect_errno EACCES list "$mnt"
fi

expect_status 0 as_user "$varve" umount "$mnt"
! is_mounted "$mnt" || fail 'still mounted'
expect_status 0 as_user "$varve" fsck "$store"

# A dead mount is cleared by who made it.
as_user "$varve" mount "$store" "$mnt"
pid=$(as_user "$varve" stats --json "$mnt" | json_get daemon.pid)
as_user kill -9 "$pid"
expect_status 0 as_user "$varve" mount "$store" "$mnt"
as_user diff -r --no-dereference "$headers/linux" "$mnt/headers" || fail 'differs after a kill'
expect_status 0 as_user "$varve" umount "$mnt"

# allow_other needs the administrator's word in fuse.conf.
if ! grep -qs '^user_allow_other' /etc/fuse.conf; then
    expect_status 1 as_user "$varve" mount "$store" "$mnt" -o allow_other
    ! is_mounted "$mnt" || fail 'mounted all the same'
fi

# A store of somebody else.
if [ -n "$user" ]; then
    store=$directory/roots mnt=$directory/mnt
    store_make
    expect_status 1 as_user "$varve" mount "$store" "$home/mnt"
    expect_complaint "$store"
fi
