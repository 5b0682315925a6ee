#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# mount(8) with both type names, a line of fstab, its options as seen by the kernel, and remounting.
# In a mount namespace of its own, where /sbin also holds the helpers: the machine's is not touched.
if [ "$(id -u)" = 0 ] && [ -z "${IN_NAMESPACE:-}" ]; then
    IN_NAMESPACE=1 exec unshare --mount --propagation slave "$0" "$@"
fi
. "$(dirname "$0")/../lib/mount.sh"
require_root
leave_other_mounts
require_command unshare findmnt mount

mkdir "$directory/sbin" "$directory/other"
for name in mount.varve mount.fuse.varve mkfs.varve fsck.varve; do
    ln -s "$varve" "$directory/sbin/$name"
done
mount -t overlay overlay -o "lowerdir=$directory/sbin:/sbin" /sbin 2>"$directory/complaint" ||
    skip "cannot lay an overlay on /sbin: $(<"$directory/complaint")"

shown() { # FIELD
    findmnt -n -r -o "$1" --mountpoint "$mnt"
}

expect_option() { # OPTION
    [[ ",$(shown OPTIONS)," == *,$1,* ]] || fail "no option $1 in $(shown OPTIONS)"
}

# Both type names, and mkfs(8).
mkfs -t varve "$store" >/dev/null || fail 'mkfs -t varve'
mkdir -p "$mnt"
for type in varve fuse.varve; do
    mount -t "$type" "$store" "$mnt" || fail "mount -t $type"
    stores+=("$store")
    expect_equal 'type and source' "$(shown FSTYPE,SOURCE)" "fuse.varve $store"
    expect_equal 'source in df' "$(df --output=source,fstype "$mnt" | tail -n 1 | tr -s ' ')" \
        "$store fuse.varve"
    touch "$mnt/$type"
    umount "$mnt"
done
fsck -t varve "$store" >/dev/null || fail 'fsck -t varve'

# Options that the kernel keeps.
cp "$(type -P true)" "$directory/program"
mount -t varve "$store" "$mnt" -o noexec,nodev,nosuid,noatime,fsname=a-name,memtable_mb=8
for option in rw noexec nodev nosuid noatime; do
    expect_option $option
done
expect_equal 'source' "$(shown SOURCE)" a-name
cp "$directory/program" "$mnt/program"
mknod "$mnt/null" c 1 3
expect_status 126 "$mnt/program"
(: >"$mnt/null") 2>/dev/null && fail 'a device could be opened with nodev'
umount "$mnt"
mount -t varve "$store" "$mnt"
expect_status 0 "$mnt/program"
: >"$mnt/null"

# Remount: read-only at once and durable; writable again; other flags.
printf 'before' >"$mnt/file"
exec 9>>"$mnt/file"
(mount -o remount,ro "$mnt") 2>/dev/null && fail 'remounted read-only under a file open for writing'
exec 9>&-
mount -o remount,ro "$mnt" || fail 'remount,ro'
expect_option ro
expect_errno EROFS mkdir "$mnt/refused"
expect_file "$mnt/file" before
expect_status 0 "$varve" sync "$mnt"
mount -o remount,rw,noexec "$mnt" || fail 'remount,rw'
expect_option rw
expect_option noexec
printf ' after' >>"$mnt/file"
expect_status 126 "$mnt/program"
mount -o remount,exec "$mnt"
expect_status 0 "$mnt/program"
umount "$mnt"

# What was mounted read-only becomes writable, but for a snapshot's directory.
mount -t varve "$store" "$mnt" -o ro
expect_option ro
expect_file "$mnt/file" 'before after'
mount -o remount,rw "$mnt" || fail 'remount,rw of what was mounted read-only'
expect_option rw
printf ' again' >>"$mnt/file"
mkdir "$mnt/.snapshots/one"
"$varve" umount "$mnt"
mount -t varve "$store/checkpoints/one" "$mnt"
expect_option ro
expect_file "$mnt/file" 'before after again'
expect_status 32 mount -o remount,rw "$mnt"
[[ $complaint == *'for writing'* ]] || fail "no reason in: $complaint"
expect_option ro
umount "$mnt"
expect_status 32 mount -t varve "$store" "$mnt" -o remount,ro

# fstab: by mount point alone; options with commas in values; what only fstab knows.
printf '%s %s varve %s 0 2\n' "$store" "$mnt" \
    'noauto,nofail,_netdev,x-systemd.requires=/tmp,noatime,sync_window=500,snapdir=visible' \
    >"$directory/fstab"
mount -T "$directory/fstab" "$mnt" || fail 'mount by a line of fstab'
expect_option noatime
[ -d "$mnt/.snapshots" ] && ls "$mnt/" -a | grep -qx .snapshots || fail 'snapdir=visible has no effect'
mount -T "$directory/fstab" -o remount,ro "$mnt" || fail 'remount by a line of fstab'
expect_option ro
umount "$mnt"

# A store that is in use elsewhere.
mount -t varve "$store" "$mnt"
expect_status 32 mount -t varve "$store" "$directory/other"
[[ $complaint == *'in use'* ]] || fail "no reason in: $complaint"
umount "$mnt"
umount /sbin
