#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# statx(2) tells when a file was made: whatever changes later, under every name, after a remount, and
# in a snapshot; and what it tells beside that agrees with stat(2).
. "$(dirname "$0")/../lib/mount.sh"
require_root

store_make
store_mount

# With the birth time the kernel asks by another request than without it.
fields='%n %f %h %u %g %s %b %X %y %z %t %T'
expect_agreement() { # PATH...
    local path both alone

    for path; do
        both=$(stat -c "%W $fields" "$path")
        alone=$(stat -c "$fields" "$path")
        expect_equal "statx of $path" "${both#* }" "$alone"
        [ "${both%% *}" -gt 1700000000 ] || fail "$path was born at ${both%% *}"
    done
}

: >"$mnt/file"
mkdir "$mnt/directory"
mknod "$mnt/device" c 5 77
ln -s file "$mnt/symlink"
mkfifo "$mnt/fifo"
expect_agreement "$mnt" "$mnt"/*

birth=$(stat -c %w "$mnt/file")
sleep 0.05
head -c 300000 /dev/urandom >"$mnt/file"
chown 12345:23456 "$mnt/file"
chmod 6750 "$mnt/file"
touch -d '2001-01-01' "$mnt/file"
ln "$mnt/file" "$mnt/link"
mv "$mnt/file" "$mnt/directory/moved"
expect_agreement "$mnt/link" "$mnt/directory/moved"
expect_equal 'birth after changes' "$(stat -c %w "$mnt/link")" "$birth"
[[ $(stat -c %z "$mnt/link") > $birth ]] || fail 'the times of birth and change are one'
mkdir "$mnt/.snapshots/one"
rm "$mnt/link"
store_remount
expect_agreement "$mnt" "$mnt"/* "$mnt/.snapshots/one" "$mnt/.snapshots/one"/*
expect_equal 'birth after a remount' "$(stat -c %w "$mnt/directory/moved")" "$birth"
expect_equal 'birth in a snapshot' "$(stat -c %w "$mnt/.snapshots/one/link")" "$birth"
