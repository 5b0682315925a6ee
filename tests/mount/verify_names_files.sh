#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# verify names the files that suffer from a damaged chunk, and the trees in which they do: of a
# mount, of a store, of one snapshot, and of a snapshot's own directory.
. "$(dirname "$0")/../lib/mount.sh"

flip() { # FILE: the middle bit, or back again
    python3 - "$1" <<'PYTHON'
import os, sys
with open(sys.argv[1], "r+b") as file:
    at = os.path.getsize(sys.argv[1]) // 2
    file.seek(at)
    byte = file.read(1)[0]
    file.seek(at)
    file.write(bytes([byte ^ 1]))
PYTHON
}

expect_named() { # TREE... of `out`, which must name "victim" in each and nothing else at all
    local tree

    for tree; do
        grep -q "^$tree: .*cannot be read: .*: directory/victim\$" "$directory/out" ||
            fail "$tree: the file is not named: $(cat "$directory/out")"
    done
    expect_equal 'trees that are named' "$(grep -c 'directory/victim$' "$directory/out")" $#
    ! grep -q 'bystander\|later' "$directory/out" ||
        fail "a file is named that does not suffer: $(cat "$directory/out")"
}

store_make
store_mount
head -c 50000 /dev/urandom >"$mnt/bystander"
mkdir "$mnt/directory"
head -c 3000000 /dev/urandom >"$mnt/directory/victim"
"$varve" snapshot create -q "$mnt" one
"$varve" flush "$mnt"
"$varve" snapshot create -q "$mnt" two
rm "$mnt/bystander"
head -c 700000 /dev/urandom >"$mnt/later"
store_remount
expect_status 0 "$varve" verify "$mnt"

chunk=$(find "$store/checkpoints/one/chunks" -name '*.blb' -size +1000k)
[ -f "$chunk" ] || fail 'there is no chunk with the file'
chmod u+w "$chunk"
flip "$chunk"

verify() { # ARGUMENT...
    local status=0

    "$varve" verify "$@" >"$directory/out" 2>"$directory/err" || status=$?
    expect_equal 'status of verify' $status 1
}

verify "$mnt"
expect_named 'live tree' 'snapshot one' 'snapshot two'
verify "$mnt" one
expect_named 'snapshot one'
verify --json "$mnt"
python3 - "$directory/out" <<'PYTHON'
import json, sys
reply = json.load(open(sys.argv[1]))
views = sorted(file["view"] for file in reply["suffering"])
assert views == ["live tree", "snapshot one", "snapshot two"], views
assert len(reply["damaged"]) == 1, reply["damaged"]
PYTHON
store_unmount
verify "$store"
expect_named 'live tree' 'snapshot one' 'snapshot two'
verify "$store" two
expect_named 'snapshot two'
verify "$store/checkpoints/two"
expect_named 'live tree'

flip "$chunk"
chmod u-w "$chunk"
expect_status 0 "$varve" verify "$store"
