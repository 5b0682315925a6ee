#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# overlayfs, as container engines use it, with its lower and its upper directory on the mount: whiteouts,
# opaque and moved directories, hard links and open files without a name are kept by the upper one, the
# lower one stays as it was, and a snapshot of both can be put together again.
if [ "$(id -u)" = 0 ] && [ -z "${IN_NAMESPACE:-}" ]; then
    IN_NAMESPACE=1 exec unshare --mount --propagation slave "$0" "$@"
fi
. "$(dirname "$0")/../lib/mount.sh"
require_root
leave_other_mounts

mkdir "$directory/memory" "$directory/overlay"
mount -t tmpfs tmpfs "$directory/memory"
mkdir "$directory/memory/lower" "$directory/memory/upper" "$directory/memory/work"
lay() { # DIRECTORY
    mount -t overlay overlay -o "redirect_dir=on,index=on,metacopy=on" \
        -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$directory/overlay"
}
lay "$directory/memory" 2>"$directory/complaint" || skip "no overlayfs: $(<"$directory/complaint")"
umount "$directory/overlay"
umount "$directory/memory"

store_make
store_mount
mkdir "$mnt/lower" "$mnt/upper" "$mnt/work"
cp -a "$headers/linux" "$mnt/lower/headers"
echo below >"$mnt/lower/file"
ln "$mnt/lower/file" "$mnt/lower/link"
setfattr -n user.name -v value "$mnt/lower/file"
cp -a "$mnt/lower" "$directory/before"

lay "$mnt" || fail 'overlayfs does not take the mount'
cd "$directory/overlay"
cp -a headers copy
rm -r headers/netfilter
mkdir headers/netfilter
mv headers moved
echo above >>link
chmod 600 file
python3 -c 'import os; os.close(os.open(".", os.O_TMPFILE | os.O_RDWR))'
cp -a . "$directory/seen"
cd "$directory"
expect_equal 'both links' "$(stat -c '%h %a' "$directory/overlay/file")" '2 600'
expect_equal 'the attribute' "$(getfattr --absolute-names --only-values -n user.name "$directory/overlay/link")" value
expect_equal 'an opaque directory' "$(ls -A "$directory/overlay/moved/netfilter")" ''
umount "$directory/overlay"

expect_equal 'a whiteout' "$(stat -c '%F %t:%T' "$mnt/upper/headers")" 'character special file 0:0'
expect_same_tree "$directory/before" "$mnt/lower"
mkdir "$mnt/.snapshots/both"
lay "$mnt"
expect_same_tree "$directory/seen" "$directory/overlay"
rm -r "$directory/overlay/copy"
umount "$directory/overlay"
# What was there then, read-only.
mount -t overlay overlay -o redirect_dir=follow,metacopy=on \
    -o "lowerdir=$mnt/.snapshots/both/upper:$mnt/.snapshots/both/lower" "$directory/overlay"
diff -r "$directory/seen" "$directory/overlay" || fail 'the snapshot differs'
umount "$directory/overlay"
