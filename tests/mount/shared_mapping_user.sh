#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The same as shared_mapping.sh of the mount of somebody who is not root: his daemon cannot have pages
# written and kept, so it has them written and dropped.
. "$(dirname "$0")/../lib/mount.sh"
. "$(dirname "$0")/../lib/user.sh"

as_user "$varve" mkfs "$store"
as_user mkdir "$mnt"
as_user "$varve" mount "$store" "$mnt" || fail 'mounting as a user'
cp "$test_root/tests/lib/shared_mapping.py" "$directory"
as_user python3 "$directory/shared_mapping.py" "$mnt" "$varve" 6 || fail 'the snapshots are not exact'
expect_status 0 as_user "$varve" umount "$mnt"
expect_status 0 as_user "$varve" fsck --verify "$store"
