#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# FS_IOC_SHUTDOWN, where -o shutdown_ioctl allows it: from then on nothing is written to the store,
# requests get EIO, and the next mount finds what a power cut would have left.
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command python3

end_mount() { # KIND [USER]: 0 writes everything first, 1 syncs first, 2 does neither
    python3 - "$mnt" "$@" <<'PYTHON'
import errno, fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
if len(sys.argv) > 3:
    os.setuid(int(sys.argv[3]))
try:
    fcntl.ioctl(fd, 0x8004587D, struct.pack("I", int(sys.argv[2])))
    print("OK")
except OSError as error:
    print(errno.errorcode[error.errno])
PYTHON
}
store_sum() { # the lock files of the store and of its database are no content
    find "$store" -type f ! -name LOCK ! -name lock.mdb -print0 | sort -z | xargs -0 md5sum
}

store_make
store_mount
expect_equal 'the call without the option' "$(end_mount 2)" ENOTTY

options=(-o shutdown_ioctl,sync_window=3600000)
store_remount "${options[@]}"
chmod 755 "$mnt"
expect_equal 'the call of another user' "$(end_mount 2 65534)" EPERM
expect_equal 'an unknown kind' "$(end_mount 3)" EINVAL

: At once: what was not synced is lost, what was stays.
printf 'synced' >"$mnt/synced"
sync "$mnt/synced"
printf 'lost' >"$mnt/lost"
# Opened before, to be used after.
exec 3>>"$mnt/synced" 4<"$mnt"
expect_equal 'the end at once' "$(end_mount 2)" OK
store_sum >"$directory/sum"
(printf 'more' >&3) 2>/dev/null && fail 'a file could be written after the end'
python3 -c 'import os; os.fsync(3)' 2>/dev/null && fail 'a sync succeeded after the end'
exec 3>&- 4<&-
for call in "mkdir $mnt/new" "rename $mnt/synced $mnt/other" "unlink $mnt/synced"; do
    # shellcheck disable=SC2086
    expect_errno EIO $call
done
stat -f "$mnt" >"$directory/statfs"
sleep 1
umount "$mnt"
for _ in {1..100}; do
    [ "$(pgrep -fc "mount $store $mnt" || true)" = 0 ] && break
    sleep 0.1
done
store_sum | cmp - "$directory/sum" || fail 'the store changed after the end'
store_mount "${options[@]}"
expect_file "$mnt/synced" synced
[ ! -e "$mnt/lost" ] || fail 'what was not synced is there'

: After a sync: everything that was written is there.
printf 'kept' >"$mnt/kept"
expect_equal 'the end after a sync' "$(end_mount 1)" OK
umount "$mnt"
store_mount "${options[@]}"
expect_file "$mnt/kept" kept

: After everything: what was written through a mapping too.
truncate -s 4096 "$mnt/mapped"
python3 - "$mnt" <<'PYTHON'
import fcntl, mmap, os, struct, sys
fd = os.open(sys.argv[1] + "/mapped", os.O_RDWR)
memory = mmap.mmap(fd, 4096)
memory[:6] = b"mapped"
root = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(root, 0x8004587D, struct.pack("I", 0))
os._exit(0)
PYTHON
umount "$mnt"
store_mount
expect_equal 'the mapped page' "$(head -c 6 "$mnt/mapped")" mapped
