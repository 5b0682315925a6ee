#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Of damaged file data fsck says which file of the live tree and of which snapshots it is, by its path,
# and names no file that is whole.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
mkdir -p "$mnt/deep/er"
head -c 300000 /dev/urandom >"$mnt/deep/er/hurt"
head -c 300000 /dev/urandom >"$mnt/deep/whole"
cp "$mnt/deep/er/hurt" "$directory/hurt"
"$varve" snapshot create "$mnt" both
rm "$mnt/deep/whole"
head -c 300000 /dev/urandom >"$mnt/later"
"$varve" snapshot create "$mnt" second
store_unmount

# One byte in the middle of it, wherever that lies.
python3 - "$store/chunks" "$directory/hurt" <<'PYTHON'
import os, sys
piece = open(sys.argv[2], "rb").read()[150000:150064]
for name in os.listdir(sys.argv[1]):
    path = os.path.join(sys.argv[1], name)
    at = open(path, "rb").read().find(piece)
    if at >= 0:
        os.chmod(path, 0o644)
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(bytes([piece[0] ^ 1]))
        os.chmod(path, 0o444)
        sys.exit(0)
sys.exit("the data is in no chunk")
PYTHON

expect_status 4 "$varve" fsck --verify "$store"
printf "%s\n" "$output" >"$directory/found"
for view in 'live tree' 'snapshot both' 'snapshot second'; do
    grep -Eq "^$view: inode [0-9]+: .* in chunk [0-9a-f]{16} cannot be read: .*: deep/er/hurt$" "$directory/found" ||
        fail "$view: $(cat "$directory/found")"
done
if grep -E 'whole|later' "$directory/found"; then
    fail 'a file that is whole is named'
fi
expect_equal 'named places' "$(grep -c 'cannot be read' "$directory/found")" 3
stores=() # it stays damaged
