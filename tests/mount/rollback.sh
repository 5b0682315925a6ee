#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# rollback: the live tree becomes the snapshot's, at once also for who has it in the kernel's caches;
# the tree before is kept; a daemon killed in the middle leaves one tree or the other.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
tree_make_special "$mnt/special"
cp -a "$headers/linux" "$mnt/headers"
printf 'then' >"$mnt/file"
printf 'then' >"$mnt/open"
mkdir "$directory/then" "$directory/now"
"$varve" snapshot create -q "$mnt" then
copy_tree "$mnt/" "$directory/then/"

# Much changes, and the kernel knows it all.
printf 'now, and longer than before' >"$mnt/file"
rm -r "$mnt/headers/netfilter" "$mnt/special/nested"
mv "$mnt/headers/usb" "$mnt/moved"
mkdir "$mnt/new"
printf 'new' >"$mnt/new/file"
chmod 600 "$mnt/headers/fs.h"
copy_tree "$mnt/" "$directory/now/"
! cat "$mnt/headers/netfilter/x_tables.h" 2>/dev/null || fail 'it was removed'
cat "$mnt/file" "$mnt/new/file" >/dev/null
ls -lR "$mnt" >/dev/null
exec 3>>"$mnt/new/file" 4<>"$mnt/open"

expect_status 1 "$varve" rollback "$mnt" none
expect_complaint 'no such snapshot'
expect_status 2 "$varve" rollback "$mnt"
expect_status 0 "$varve" rollback -n "$mnt" then
expect_same_tree "$directory/now" "$mnt"
expect_status 0 "$varve" rollback "$mnt" then
before=$output
[[ $before == before-rollback-* ]] || fail "the name is '$before'"
expect_file "$mnt/file" then
expect_same_tree "$directory/then" "$mnt"
expect_same_tree "$directory/then" "$mnt/.snapshots/then"
expect_same_tree "$directory/now" "$mnt/.snapshots/$before"
expect_equal 'the tag' "$("$varve" snapshot list --json "$mnt" | json_get snapshots.1.tags.rollback)" then
# A file that is gone cannot be written, one that is there can.
! printf 'x' 2>/dev/null >&3 || fail 'a file that is gone was written'
printf 'more' >&4
expect_file "$mnt/open" more
exec 3>&- 4>&-

# Who appends does so at the end that the file has now, also when he has not asked for its size.
python3 - "$mnt" "$varve" <<'PYTHON'
import os, subprocess, sys

mnt, varve = sys.argv[1:]


def append_after_a_rollback(before):
    log = os.open(mnt + '/log', os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.write(log, b'then')
    subprocess.check_call([varve, 'snapshot', 'create', '-q', mnt, 'log'])
    before(log)
    kept = subprocess.check_output([varve, 'rollback', mnt, 'log']).strip()
    os.write(log, b'more')
    assert os.pread(log, 100, 0) == b'thenmore', os.pread(log, 100, 0)
    assert open(mnt + '/log', 'rb').read() == b'thenmore'
    os.close(log)
    os.unlink(mnt + '/log')
    subprocess.check_call([varve, 'snapshot', 'delete', mnt, 'log', kept])


append_after_a_rollback(lambda log: os.write(log, b' and now'))
append_after_a_rollback(lambda log: os.truncate(mnt + '/log', 2))
PYTHON

# Unchanged files are one file in snapshots from before and after.
"$varve" snapshot create -q "$mnt" after
for file in headers/fs.h headers/usb/ch9.h special/page; do
    expect_equal "inode of $file" "$(stat -c %i "$mnt/.snapshots/after/$file")" \
        "$(stat -c %i "$mnt/.snapshots/then/$file")"
done
expect_equal 'links of what never changed' "$(stat -c %h "$mnt/.snapshots/then/special/page")" 3
expect_equal 'links of what changed between' "$(stat -c %h "$mnt/.snapshots/then/headers/fs.h")" 2
store_remount
expect_equal 'links' "$(stat -c %h "$mnt/.snapshots/after/headers/fs.h")" 2
expect_status 0 "$varve" snapshot diff "$mnt" then --path headers

# Forward again.
expect_status 0 "$varve" rollback --json "$mnt" "$before"
expect_same_tree "$directory/now" "$mnt"
store_remount
expect_same_tree "$directory/now" "$mnt"

# While others work.
stop=$directory/stop
(
    set +e # what it works on may be gone at any moment
    number=0
    while [ ! -e "$stop" ]; do
        number=$((number + 1))
        mkdir -p "$mnt/work/$((number % 7))"
        printf '%s' "$number" >"$mnt/work/$((number % 7))/$number"
        mv "$mnt/work/$((number % 7))/$number" "$mnt/work/moved"
        ln -f "$mnt/work/moved" "$mnt/work/linked"
        rm -f "$mnt/work/moved"
    done
) 2>/dev/null &
worker=$!
for _ in {1..8}; do
    expect_status 0 "$varve" rollback -q "$mnt" then
    expect_status 0 "$varve" rollback -q "$mnt" "$before"
done
touch "$stop"
wait "$worker"
for name in $("$varve" snapshot list -q "$mnt"); do
    [ "$name" = then ] || [ "$name" = "$before" ] || "$varve" snapshot delete "$mnt" "$name"
done
rm -rf "$mnt/work"
store_remount
store_unmount
store_check
store_mount

# A kill at any moment: one tree or the other.
expect_status 0 "$varve" rollback -q "$mnt" then
for delay in 0 0.002 0.004 0.008 0.012 0.02 0.04 0.08; do
    "$varve" rollback -q "$mnt" "$before" 2>/dev/null &
    caller=$!
    sleep "$delay"
    store_kill
    wait "$caller" || true
    store_mount
    if [ -e "$mnt/new" ]; then
        expect_same_tree "$directory/now" "$mnt"
    else
        expect_same_tree "$directory/then" "$mnt"
    fi
    expect_status 0 "$varve" rollback -q "$mnt" then
    expect_same_tree "$directory/then" "$mnt"
done
