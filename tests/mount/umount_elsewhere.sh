#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A mount that another namespace has copied, or that is bound elsewhere: umount does not wait for ever,
# names who has it and says that the store is in use; what was written is durable. One that goes soon
# is waited for.
. "$(dirname "$0")/../lib/mount.sh"

require_root
store_make
store_mount
printf 'text' >"$mnt/file"

# A process in a namespace of its own that keeps a copy of our mount, and of nobody else's.
other=
copy_for() { # SECONDS
    # shellcheck disable=SC2016
    unshare -m --propagation private sh -c '
        grep -e " - fuse" -e " /dev/loop" /proc/self/mountinfo | cut -d " " -f 5 | grep -vxF "$1" |
            sort -r | xargs -r umount -l
        exec sleep "$2"' sh "$mnt" "$1" </dev/null >/dev/null 2>&1 &
    other=$!
    while [ "$(cat /proc/$other/comm)" != sleep ]; do
        sleep 0.05
    done
}
at_end() {
    [ -z "$other" ] || kill $other 2>/dev/null || true
}

copy_for 300
expect_status 1 timeout 60 "$varve" umount "$mnt"
grep -q "sleep (process $other) has it mounted on $mnt" "$directory/complaint" ||
    fail "the holder is not named: $(cat "$directory/complaint")"
[ ! -e "$mnt/file" ] || fail 'it is still mounted here'
expect_equal 'the file in the other namespace' "$(cat "/proc/$other/root$mnt/file")" 'text'
expect_status 8 "$varve" fsck "$store"
kill $other
wait $other || true
store_mount # waits for the daemon that ends
expect_equal 'the file' "$(cat "$mnt/file")" 'text'

# A bind mount.
mkdir "$directory/bound"
mount --bind "$mnt" "$directory/bound"
expect_status 1 timeout 60 "$varve" umount "$mnt"
grep -q "has it mounted on $directory/bound" "$directory/complaint" ||
    fail "the bind mount is not named: $(cat "$directory/complaint")"
expect_status 0 "$varve" umount "$directory/bound"

# One that goes soon.
store_mount
copy_for 1
expect_status 0 "$varve" umount "$mnt"
expect_status 0 "$varve" fsck -q "$store"
wait $other
