# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# power_cut.sh - a disk of one's own, and what would be on it if the power went now
#
# Sourced after mount.sh. disk_make puts an ext4 without a journal on a loop device; $store lies on it.
# disk_cut copies the device while the daemon stands still and mounts the copy: what was synced is
# there, what was not may be there in part and in any order. Without a journal that is all that ext4
# promises, and a copy that takes time is as good as one in no time.

require_root
disk=$directory/disk cut=$directory/cut

disk_make() { # SIZE
    truncate -s "$1" "$directory/image"
    mkfs.ext4 -qF -O ^has_journal "$directory/image"
    mkdir "$disk" "$cut"
    mount -o loop "$directory/image" "$disk" || skip 'no loop device'
    store=$disk/store
}

# The device as it is now, in $directory/cut-image.
disk_copy() {
    local pid

    pid=$(daemon_pid)
    kill -STOP "$pid"
    cp --sparse=always "$directory/image" "$directory/cut-image"
    kill -CONT "$pid"
}

# The store is then $cut/store. With "repaired" e2fsck runs in between, as it does when a machine
# starts: such an ext4 needs it before it can take new files.
disk_cut() { # [repaired]
    local status=0

    disk_copy
    if [ "${1:-}" = repaired ]; then
        e2fsck -fy "$directory/cut-image" >"$directory/e2fsck" 2>&1 || status=$?
        [ "$status" -le 1 ] || fail "e2fsck: status $status: $(cat "$directory/e2fsck")"
    fi
    disk_cut_mount
}

disk_cut_mount() {
    mount -o loop "$directory/cut-image" "$cut" || fail 'the disk does not mount after a cut'
}

disk_cut_end() {
    umount "$cut"
    rm "$directory/cut-image"
}

at_end() {
    local point

    for point in "$cut" "$disk"; do
        ! mountpoint -q "$point" || umount "$point" || umount -l "$point"
    done
}
