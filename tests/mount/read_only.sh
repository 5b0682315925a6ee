#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A mount made with ro replays what a crash left, shows it, and writes nothing else: no snapshot is
# made, deleted, renamed or held by any way, no time of access moves, nothing is compacted. It becomes
# writable by a remount, also by one that the helper does not see, and read-only again. A snapshot's
# directory never does.
. "$(dirname "$0")/../lib/mount.sh"
require_root

ln -s "$varve" "$directory/mount.varve"

remount() { # OPTION
    "$directory/mount.varve" "$store" "$mnt" -o "remount,$1"
}

state() {
    "$varve" stats --json "$mnt" | json_get state
}

# What compaction, flushes and snapshots would change.
files_of_store() {
    (cd "$store" && find chunks checkpoints tmp | sort && find chunks checkpoints -type f -print0 |
        sort -z | xargs -0 sha256sum)
}

expect_refused_everywhere() {
    expect_equal 'state' "$(state)" read-only
    expect_errno EROFS mkdir "$mnt/.snapshots/new"
    expect_errno EROFS rmdir "$mnt/.snapshots/kept"
    expect_errno EROFS mkdir "$mnt/directory"
    expect_errno EROFS unlink "$mnt/file"
    (printf 'x' >>"$mnt/file") 2>/dev/null && fail 'a file could be written'
    for words in 'snapshot create MNT new' 'snapshot delete MNT kept' 'snapshot hold MNT kept' \
        'snapshot rename MNT kept lost' 'rollback MNT kept' 'compact MNT'; do
        # shellcheck disable=SC2086
        "$varve" ${words/MNT/$mnt} >"$directory/said" 2>&1 && fail "$words: $(<"$directory/said")"
        grep -qi 'read-only' "$directory/said" || fail "$words: $(<"$directory/said")"
    done
    expect_equal 'snapshots' "$("$varve" snapshot list -q "$mnt")" kept
}

# A crash: what was not synced by anybody is in the log only.
store_make
store_mount -o memtable_mb=1,strictatime
mkdir "$mnt/.snapshots/kept"
for number in {1..6}; do
    head -c 3000000 /dev/urandom >"$mnt/large-$number"
    "$varve" flush "$mnt" 2>/dev/null || "$varve" sync "$mnt"
done
printf 'unflushed' >"$mnt/file"
sync "$mnt/file"
store_kill
umount -l "$mnt"

# Opened for reading: replayed, and then left alone.
store_mount -o ro,strictatime
expect_file "$mnt/file" unflushed
before=$(files_of_store)
accessed=$(stat -c %x "$mnt/file" "$mnt")
expect_refused_everywhere
cat "$mnt"/large-* >/dev/null
ls "$mnt" "$mnt/.snapshots/kept" >/dev/null
expect_equal 'times of access' "$(stat -c %x "$mnt/file" "$mnt")" "$accessed"
expect_status 0 "$varve" sync "$mnt"
sleep 2
expect_equal 'files of the store' "$(files_of_store)" "$before"
store_remount -o ro,strictatime
expect_equal 'times of access afterwards' "$(stat -c %x "$mnt/file" "$mnt")" "$accessed"
expect_equal 'files of the store after unmounting' "$(files_of_store)" "$before"

# Writable at once, and back, with what was written on disk.
remount rw || fail 'remount,rw'
expect_equal 'state' "$(state)" ok
printf ' changed' >>"$mnt/file"
mkdir "$mnt/.snapshots/second"
rmdir "$mnt/.snapshots/second"
expect_status 0 "$varve" snapshot create "$mnt" third
expect_status 0 "$varve" snapshot delete "$mnt" third
remount ro || fail 'remount,ro'
expect_refused_everywhere
store_kill
umount -l "$mnt"
store_mount -o ro
expect_file "$mnt/file" 'unflushed changed'

# The kernel alone is asked: the first change, and the first command, find out.
mount -i -o remount,rw "$mnt"
printf ' again' >>"$mnt/file" || fail 'a change after a remount that nobody told of'
store_remount -o ro
mount -i -o remount,rw "$mnt"
expect_status 0 "$varve" snapshot create "$mnt" fourth
expect_status 0 "$varve" snapshot delete "$mnt" fourth
mount -i -o remount,ro "$mnt"
expect_status 1 "$varve" snapshot create "$mnt" fifth
store_unmount

# What cannot change stays as it is.
(
    store=$store/checkpoints/kept
    store_mount
    expect_status 32 remount rw
    expect_complaint 'for writing'
    mount -i -o remount,rw "$mnt"
    expect_equal 'state' "$(state)" read-only
    expect_errno EROFS mkdir "$mnt/directory"
    remount ro || fail 'remount,ro of a snapshot'
    store_unmount
)
