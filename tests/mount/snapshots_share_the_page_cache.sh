#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One file read through thirty snapshots is read from the store once, and is in memory once: what was
# read through the first is resident in all others before anybody reads it there.
. "$(dirname "$0")/../lib/mount.sh"

require_command fincore
size=$((16 << 20))
store_make
store_mount
head -c $size /dev/urandom >"$mnt/file"
printf 'changes' >"$mnt/other"
for number in {01..30}; do
    printf '%s' "$number" >"$mnt/other"
    mkdir "$mnt/.snapshots/$number"
done
store_remount

read_bytes() {
    "$varve" stats --json "$mnt" | json_get io.read_bytes
}
resident() { # PATH
    fincore --bytes --noheadings --output RES "$1" | tr -d ' '
}

# The kernel may take some of it back at any time.
expect_resident() { # PATH
    local now

    now=$(resident "$1")
    [ "$now" -gt $((size - size / 8)) ] || fail "$now bytes of $1 are resident"
}

expect_equal 'resident at first' "$(resident "$mnt/.snapshots/15/file")" 0
before=$(read_bytes)
sum=$(sha256sum <"$mnt/.snapshots/15/file")
once=$(($(read_bytes) - before))
[ $once -ge $size ] || fail "the first reader read $once bytes from the store"
[ $once -lt $((size + size / 4)) ] || fail "one reading of $size bytes read $once from the store"

before=$(read_bytes)
for number in {01..30}; do
    expect_resident "$mnt/.snapshots/$number/file"
    expect_equal "content in $number" "$(sha256sum <"$mnt/.snapshots/$number/file")" "$sum"
    expect_equal "content of the other in $number" "$(cat "$mnt/.snapshots/$number/other")" "$number"
    expect_equal "number in $number" \
        "$(stat -c %i "$mnt/.snapshots/$number/file")" "$(stat -c %i "$mnt/.snapshots/15/file")"
done
again=$(($(read_bytes) - before))
[ $again -lt $((size / 4)) ] || fail "29 other readers read $again bytes from the store"
printf '%d bytes for the first, %d for all others\n' $once $again

# The live file is another one: changing it touches nobody's copy.
printf 'X' | dd of="$mnt/file" conv=notrunc status=none
expect_equal 'content' "$(sha256sum <"$mnt/.snapshots/30/file")" "$sum"
expect_resident "$mnt/.snapshots/01/file"
