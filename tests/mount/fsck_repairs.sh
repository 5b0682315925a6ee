#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What fsck puts right: a manifest that is lost or damaged, links that are gone, snapshots that the
# manifest has forgotten, directories that were never finished. And what it leaves alone.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
cp -a "$headers/linux" "$mnt/headers"
head -c 3000000 /dev/urandom >"$mnt/large"
ln "$mnt/large" "$mnt/second-name"
mkdir "$directory/one" "$directory/two" "$directory/live"
"$varve" snapshot create -q --tag why=test "$mnt" one
copy_tree "$mnt/" "$directory/one/"
"$varve" compact "$mnt"
rm -r "$mnt/headers/netfilter"
printf 'later' >>"$mnt/large"
"$varve" snapshot create -q "$mnt" two
copy_tree "$mnt/" "$directory/two/"
"$varve" snapshot rename "$mnt" two second
mkdir "$mnt/new"
printf 'in the log' >"$mnt/new/file"
rm "$mnt/second-name"
sync "$mnt/new/file"
"$varve" sync "$mnt"
copy_tree "$mnt/" "$directory/live/"

expect_everything() {
    store_mount
    expect_same_tree "$directory/live" "$mnt"
    expect_same_tree "$directory/one" "$mnt/.snapshots/one"
    expect_same_tree "$directory/two" "$mnt/.snapshots/second"
    expect_equal 'snapshots' "$(ls "$mnt/.snapshots" | sort | tr '\n' ' ')" 'one second '
    "$varve" snapshot list --json "$mnt" | grep -q '"why": "test"' || fail 'a tag is lost'
    store_unmount
    store_check --verify
}

# The power fails, and the manifest is gone with it: the log is still to be replayed.
store_kill
cp -a "$store" "$directory/crashed"
rm "$store/manifest/data.mdb"
expect_status 12 "$varve" fsck -n "$store"
[ ! -e "$store/manifest/data.mdb" ] || fail '-n made a manifest'
expect_status 12 "$varve" fsck -p "$store"
expect_status 1 "$varve" fsck -y "$store"
expect_status 0 "$varve" fsck -y "$store"
expect_everything

# After a clean unmount; the whole directory, then one page of zeros, then bytes of nothing.
for how in directory page garbage; do
    case $how in
    directory) rm -r "$store/manifest" ;;
    page) dd if=/dev/zero of="$store/manifest/data.mdb" bs=4096 count=2 conv=notrunc status=none ;;
    garbage) head -c 65536 /dev/urandom >"$store/manifest/data.mdb" ;;
    esac
    expect_status 12 "$varve" fsck "$store"
    expect_status 1 "$varve" fsck -y "$store"
    expect_everything
done

# A store that goes on: numbers are not used again.
store_mount
printf 'more' >"$mnt/new/more"
"$varve" snapshot create -q "$mnt" third
store_remount
expect_file "$mnt/new/more" more
expect_file "$mnt/.snapshots/third/new/more" more
"$varve" snapshot delete "$mnt" third
rm "$mnt/new/more"
touch -r "$directory/live/new" "$mnt/new"
store_unmount

# A damaged table must not become a wrong answer: then there is no new manifest.
table=$(find "$store/chunks" -name '*.tbl' -size +12k | head -n 1)
cp "$table" "$directory/table"
mv "$store/manifest/data.mdb" "$directory/data.mdb"
chmod u+w "$table"
printf '\377' | dd of="$table" bs=1 seek=6000 conv=notrunc status=none
expect_status 12 "$varve" fsck -y "$store"
[ ! -e "$store/manifest/data.mdb" ] || fail 'a manifest was made without the damaged table'
cat "$directory/table" >"$table"
chmod 444 "$table"
mv "$directory/data.mdb" "$store/manifest/data.mdb"
store_check --verify

# A chunk that a snapshot still has.
chunk=$(find "$store/chunks" -name '*.blb' -links +1 | head -n 1)
rm "$chunk"
expect_status 12 "$varve" fsck "$store"
[ ! -e "$chunk" ] || fail 'fsck without -p or -y made a link'
expect_status 1 "$varve" fsck -p "$store"
[ -e "$chunk" ] || fail 'the link was not made'
chunk=$(find "$store/checkpoints/one/chunks" -name '*.blb' -links +2 | head -n 1)
rm "$chunk"
expect_status 1 "$varve" fsck -y "$store"
[ -e "$chunk" ] || fail 'the link of a snapshot was not made'
expect_everything

# Directories that nobody knows.
mkdir -p "$store/checkpoints/unfinished/chunks"
cp -a "$directory/crashed/checkpoints/one" "$store/checkpoints/copy"
expect_status 4 "$varve" fsck -n "$store"
expect_status 5 "$varve" fsck -p "$store"
[ ! -e "$store/checkpoints/unfinished" ] || fail 'what was never finished is still there'
[ -e "$store/checkpoints/copy/CURRENT" ] || fail 'a copy of a snapshot was removed'
rm -r "$store/checkpoints/copy"
store_check

# A snapshot that the manifest has forgotten: deleted, and then the directory put back.
cp -al "$store/checkpoints/one" "$directory/kept"
store_mount
"$varve" snapshot delete "$mnt" one
store_unmount
cp -a "$directory/kept" "$store/checkpoints/one"
expect_status 4 "$varve" fsck -p "$store"
expect_status 1 "$varve" fsck -y "$store"
expect_everything
expect_status 16 "$varve" fsck -n -y "$store"
finish
