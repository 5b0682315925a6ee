#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A clone of a checkpoint is a store of its own: writable, and what is done to it or to the store it
# came from does not show in the other. verify reads everything and names what is damaged.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
cp -a "$headers/linux" "$mnt/headers"
head -c 3000000 /dev/urandom >"$mnt/large"
mkdir "$directory/expected"
"$varve" snapshot create -q "$mnt" one
copy_tree "$mnt/" "$directory/expected/"
rm -r "$mnt/headers/netfilter"
"$varve" snapshot create -q "$mnt" two

checkpoint=$store/checkpoints/one
expect_status 0 "$varve" clone "$checkpoint" "$directory/linked"
expect_status 0 "$varve" clone --copy "$checkpoint" "$directory/copied"
expect_status 1 "$varve" clone "$checkpoint" "$directory/linked"
expect_status 10 "$varve" clone "$directory/missing" "$directory/new"
expect_status 2 "$varve" clone "$checkpoint"
expect_equal 'files of the copy that are linked' \
    "$(find "$directory/copied/chunks" -type f -links +1)" ''
[ -n "$(find "$directory/linked/chunks" -type f -links +1)" ] || fail 'nothing is linked'

for clone in linked copied; do
    (
        store=$directory/$clone mnt=$directory/mnt-$clone
        store_mount
        expect_same_tree "$directory/expected" "$mnt"
        printf 'changed' >"$mnt/large"
        rm -r "$mnt/headers/usb"
        "$varve" snapshot create -q "$mnt" own
        "$varve" compact "$mnt"
        store_remount
        expect_file "$mnt/large" changed
        store_unmount
        store_check --verify
        expect_status 0 "$varve" verify "$store"
    )
done
expect_same_tree "$directory/expected" "$mnt/.snapshots/one"
[ -d "$mnt/headers/usb" ] || fail 'a change of a clone shows in its source'
uuids=$(for one in "$store" "$directory/linked" "$directory/copied"; do
    od -A n -t x1 -j 16 -N 16 "$one/FORMAT"
done | sort -u | wc -l)
expect_equal 'different UUIDs' "$uuids" 3

# The store it came from goes; the clones stay.
rm -r "$mnt/headers" "$mnt/large"
"$varve" snapshot delete "$mnt" one two
"$varve" compact "$mnt"
expect_status 0 "$varve" verify "$mnt"
store_unmount
expect_status 0 "$varve" verify "$directory/linked"
expect_status 0 "$varve" verify "$directory/linked" own
expect_status 0 "$varve" verify "$directory/linked/checkpoints/own"
expect_status 1 "$varve" verify "$directory/linked" none

# One flipped bit in each kind of file.
for kind in blb tbl; do
    victim=$(find "$directory/copied/chunks" -name "*.$kind" | head -n 1)
    chmod u+w "$victim"
    python3 - "$victim" <<'PYTHON'
import os, sys
with open(sys.argv[1], "r+b") as file:
    at = os.path.getsize(sys.argv[1]) // 2
    file.seek(at)
    byte = file.read(1)[0]
    file.seek(at)
    file.write(bytes([byte ^ 1]))
PYTHON
    status=0
    "$varve" verify "$directory/copied" >"$directory/out" 2>&1 || status=$?
    expect_equal "status of verify with a damaged .$kind" $status 1
    name=${victim##*/}
    grep -q "${name%%-*}" "$directory/out" || fail "$name is not named: $(cat "$directory/out")"
    rm -rf "$directory/copied"
    expect_status 0 "$varve" clone --copy "$directory/linked/checkpoints/own" "$directory/copied"
done
