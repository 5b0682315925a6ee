#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Stores that are missing, none, newer, older or damaged in any part: one line that names the matter,
# and the exit status; never an empty tree.
. "$(dirname "$0")/../lib/mount.sh"

mkdir "$mnt" "$directory/empty" "$directory/other"
printf 'not a store' >"$directory/other/file"

refused() { # STATUS PATTERN STORE [OPTION...]
    local status=$1 pattern=$2 path=$3

    shift 3
    expect_status "$status" "$varve" mount "$path" "$mnt" "$@"
    expect_complaint "$pattern"
    ! is_mounted "$mnt" || fail "$path was mounted"
}

refused 10 "$directory/missing" "$directory/missing"
refused 10 'not a Varve store' "$directory/empty"
refused 10 'not a Varve store' "$directory/other"
refused 10 '' "$directory/other/file"
expect_equal 'an empty directory' "$(ls -A "$directory/empty")" ''

# mkfs takes nothing that is not empty.
expect_status 1 "$varve" mkfs "$directory/other"
expect_complaint 'not empty'
expect_file "$directory/other/file" 'not a store'
store_make
expect_status 1 "$varve" mkfs "$store"
expect_complaint 'not empty'

# A store with something in it.
store_mount
cp -a "$headers/linux" "$mnt/headers"
"$varve" snapshot create "$mnt" kept >"$directory/name"
"$varve" compact "$mnt"
store_unmount

damaged() { # STATUS PATTERN; "$copy" is a damaged copy of the store
    local status=0

    refused "$1" "$2" "$copy"
    "$varve" fsck "$copy" >"$directory/out" 2>&1 || status=$?
    # 8: it cannot be checked; 4 as well where a part could and was wrong.
    [[ $status =~ ^(8|12)$ ]] || fail "fsck: status $status: $(cat "$directory/out")"
    chmod -R u+w "$copy"
    rm -rf "$copy"
}

copy=$directory/copy
new_copy() {
    cp -a "$store" "$copy"
}

# FORMAT with another version under a right checksum.
write_format() { # VERSION
    chmod u+w "$copy/FORMAT"
    python3 - "$copy/FORMAT" "$1" <<'PYTHON'
import ctypes, struct, sys
xxhash = ctypes.CDLL("libxxhash.so.0")
xxhash.XXH3_64bits.restype = ctypes.c_uint64
data = bytearray(open(sys.argv[1], "rb").read())
struct.pack_into("<I", data, 8, int(sys.argv[2]))
struct.pack_into("<Q", data, len(data) - 8, xxhash.XXH3_64bits(bytes(data[:-8]), len(data) - 8))
open(sys.argv[1], "wb").write(data)
PYTHON
}
flip() { # FILE OFFSET
    chmod u+w "$1"
    python3 - "$1" "$2" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(int(sys.argv[2]))
    byte = file.read(1)[0]
    file.seek(int(sys.argv[2]))
    file.write(bytes([byte ^ 0x10]))
PYTHON
}

new_copy; write_format 1
# The checksum that is written here is right: with the present version it is a store.
expect_status 0 "$varve" fsck "$copy"
write_format 999
damaged 1 'newer than this program'
new_copy; write_format 0
damaged 1 'too old'
new_copy; flip "$copy/FORMAT" 40
damaged 1 'checksum'
new_copy; rm -f "$copy/FORMAT"
damaged 10 'not a Varve store'
new_copy; chmod u+w "$copy/FORMAT"; : >"$copy/FORMAT"
damaged 1 "$copy"
new_copy; rm -rf "$copy/manifest"
damaged 1 "$copy"
new_copy; rm -f "$copy"/manifest/data.mdb
damaged 1 "$copy"
new_copy; rm -rf "$copy/chunks"
damaged 1 "$copy"
for kind in blb tbl; do
    new_copy; find "$copy/chunks" -name "*.$kind" | head -n 1 | xargs rm -f
    damaged 1 'missing'
done
new_copy
for table in "$copy"/chunks/*.tbl; do flip "$table" 20; done
damaged 1 "$copy"

# A flipped byte of file data: found by fsck --verify, EIO to who reads it, and to nobody else.
new_copy
for blob in "$copy"/chunks/*.blb; do flip "$blob" $(($(stat -c %s "$blob") / 2)); done
(
    store=$copy
    store_mount
    bad=0
    while read -r file; do
        if ! cmp -s "$file" "$headers/linux/${file#"$mnt/headers/"}"; then
            expect_errno EIO read "$file"
            bad=$((bad + 1))
        fi
    done < <(find "$mnt/headers" -type f)
    [ "$bad" -ge 1 ] || fail 'no file noticed the flipped byte'
    store_unmount
)
expect_status 4 "$varve" fsck --verify "$copy"
rm -rf "$copy"

# The parts of a checkpoint, each removed or damaged.
for part in $(cd "$store/checkpoints/kept" && find . -type f); do
    for how in remove truncate flip; do
        # Nobody has looked at file data at a mount; reading it says EIO, as above.
        [[ $how$part != flip*.blb ]] || continue
        rm -rf "$copy"
        cp -a "$store/checkpoints/kept" "$copy"
        chmod -R u+w "$copy"
        case $how in
        remove) rm "$copy/$part" ;;
        truncate) : >"$copy/$part" ;;
        flip) flip "$copy/$part" 3 ;;
        esac
        status=0
        "$varve" mount "$copy" "$mnt" >"$directory/out" 2>&1 || status=$?
        [[ $status =~ ^(1|10)$ ]] || fail "checkpoint with $part: $how: status $status"
        ! is_mounted "$mnt" || fail "checkpoint with $part: $how: mounted"
    done
done

# The store is as it was.
store_mount
diff -r --no-dereference "$headers/linux" "$mnt/headers" || fail 'the store itself was changed'
