#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The time of access as relatime has it: the first reading after a change moves it, also one from the
# kernel's memory, the next does not; a remount keeps it; noatime, strictatime, nodiratime, O_NOATIME
# and chattr +A are honoured, also when a remount changes them; reading makes no new version of a file
# in snapshots.
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command chattr python3

store_make
store_mount

moves() { # PATH COMMAND...
    local path=$1 before after

    shift
    before=$(stat -c '%x %y %z' "$path")
    sleep 0.02
    "$@" >/dev/null || fail "$*"
    after=$(stat -c '%x %y %z' "$path")
    [ "$before" != "$after" ]
}
expect_moves() { # PATH COMMAND...
    moves "$@" || fail "the time of ${*:2} is not noted"
}
expect_stays() { # PATH COMMAND...
    ! moves "$@" || fail "${*:2} moved a time"
}
read_map() { # PATH
    python3 -c 'import mmap, sys
with open(sys.argv[1], "rb") as file:
    print(sum(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[::4096]))' "$1"
}
read_without() { # PATH
    python3 -c 'import os, sys
os.read(os.open(sys.argv[1], os.O_RDONLY | os.O_NOATIME), 10)' "$1"
}

mkdir "$mnt/directory"
head -c 100000 /dev/urandom >"$mnt/directory/file"
ln -s directory/file "$mnt/link"
printf '#!/bin/sh\n' >"$mnt/program"
chmod +x "$mnt/program"
expect_moves "$mnt/directory/file" cat "$mnt/directory/file"
expect_stays "$mnt/directory/file" cat "$mnt/directory/file"
printf x >>"$mnt/directory/file"
expect_moves "$mnt/directory/file" read_map "$mnt/directory/file"
expect_stays "$mnt/directory/file" read_map "$mnt/directory/file"
expect_moves "$mnt/directory" ls "$mnt/directory"
expect_stays "$mnt/directory" ls "$mnt/directory"
expect_moves "$mnt/link" readlink "$mnt/link"
expect_moves "$mnt/program" "$mnt/program"
# What the kernel has forgotten it asks for again, and drops the time it knew by itself.
printf x >>"$mnt/directory/file"
echo 2 >/proc/sys/vm/drop_caches
expect_moves "$mnt/directory/file" cat "$mnt/directory/file"
expect_stays "$mnt/directory/file" cat "$mnt/directory/file"
echo 2 >/proc/sys/vm/drop_caches
chmod 600 "$mnt/directory/file"
expect_moves "$mnt/directory/file" read_map "$mnt/directory/file"
: >"$mnt/empty"
echo 2 >/proc/sys/vm/drop_caches
expect_moves "$mnt/empty" cat "$mnt/empty"
chmod 600 "$mnt/directory/file"
expect_stays "$mnt/directory/file" read_without "$mnt/directory/file"
expect_moves "$mnt/directory/file" cat "$mnt/directory/file"
touch -a -d '2001-02-03' "$mnt/directory/file"
expect_equal 'a time set by hand' "$(stat -c %X "$mnt/directory/file")" "$(date -d 2001-02-03 +%s)"
expect_moves "$mnt/directory/file" cat "$mnt/directory/file"
printf x >>"$mnt/directory/file"
chattr +A "$mnt/directory/file"
expect_stays "$mnt/directory/file" cat "$mnt/directory/file"
chattr -A "$mnt/directory/file"

# Kept, and read again from the store.
expect_moves "$mnt/directory/file" cat "$mnt/directory/file"
before=$(stat -c %x "$mnt/directory/file" "$mnt/directory" "$mnt/link")
store_remount
expect_equal 'after a remount' "$(stat -c %x "$mnt/directory/file" "$mnt/directory" "$mnt/link")" \
    "$before"
expect_stays "$mnt/directory/file" cat "$mnt/directory/file"

# Snapshots: a file that was only read is the same file.
mkdir "$mnt/.snapshots/one"
printf x >>"$mnt/program"
mkdir "$mnt/.snapshots/two"
sleep 0.02
cat "$mnt/program" >/dev/null
store_remount
mkdir "$mnt/.snapshots/three"
expect_equal 'inode in snapshots' "$(stat -c %i "$mnt/.snapshots/two/program")" \
    "$(stat -c %i "$mnt/.snapshots/three/program")"
expect_equal 'its links' "$(stat -c %h "$mnt/.snapshots/two/program")" 2
expect_stays "$mnt/.snapshots/one/program" cat "$mnt/.snapshots/one/program"

# The mount's options.
store_remount -o noatime
printf x >>"$mnt/program"
expect_stays "$mnt/program" cat "$mnt/program"
expect_stays "$mnt/directory" ls "$mnt/directory"
store_remount -o strictatime,nodiratime
expect_moves "$mnt/program" cat "$mnt/program"
expect_moves "$mnt/program" cat "$mnt/program"
: >"$mnt/directory/new"
expect_stays "$mnt/directory" ls "$mnt/directory"
ln -s "$varve" "$directory/mount.varve"
"$directory/mount.varve" "$store" "$mnt" -o remount,noatime
expect_stays "$mnt/program" cat "$mnt/program"
"$directory/mount.varve" "$store" "$mnt" -o remount,relatime
printf x >>"$mnt/program"
expect_moves "$mnt/program" cat "$mnt/program"
expect_moves "$mnt/directory" ls "$mnt/directory"
printf x >>"$mnt/program"
"$directory/mount.varve" "$store" "$mnt" -o remount,ro
expect_stays "$mnt/program" cat "$mnt/program"
store_remount -o ro,strictatime
expect_stays "$mnt/program" cat "$mnt/program"
expect_stays "$mnt/directory" ls "$mnt/directory"
