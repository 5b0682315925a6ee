#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What every verb about snapshots has in common: -n changes nothing and says what would be done,
# --json is JSON with a schema_version, exit statuses, complaints of one line that name the matter.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
mkdir "$mnt/directory"
printf one >"$mnt/directory/file"
"$varve" snapshot create -q "$mnt" a --tag by=hand
printf other >"$mnt/directory/file"

# MNT may be any path in the mount.
expect_status 0 "$varve" snapshot create "$mnt/directory/file" b
expect_equal 'output' "$output" b
expect_status 0 "$varve" snapshot create "$mnt/directory/.snapshots/a" c
expect_status 0 "$varve" snapshot create "$mnt"
[[ $output =~ ^[0-9]{8}T[0-9]{6}Z$ ]] || fail "the default name is $output"
# Two in one second: the clock decides whether these are, three in a row cannot all miss.
for _ in 1 2 3; do
    "$varve" snapshot create "$mnt"
done >"$directory/names"
grep -qE '^[0-9]{8}T[0-9]{6}Z-[23]$' "$directory/names" || fail "names: $(cat "$directory/names")"
xargs "$varve" snapshot delete "$mnt" "$output" <"$directory/names"

# Names.
for bad in '' . .. a/b /; do
    expect_status 1 "$varve" snapshot create "$mnt" "$bad"
    expect_complaint "a name is 1 to 255 bytes"
    expect_status 1 "$varve" snapshot rename "$mnt" a "$bad"
    expect_complaint "a name is 1 to 255 bytes"
done
expect_status 1 "$varve" snapshot create "$mnt" "$(printf 'n%.0s' {1..256})"
expect_complaint 'too long'
expect_status 1 "$varve" snapshot create "$mnt" a
expect_complaint 'cannot create snapshot a: there is one of that name'
strange=$(printf 'tab\t and \xff and \xe2\x82\xac')
expect_status 0 "$varve" snapshot create "$mnt" "$strange"
expect_errno OK stat "$mnt/.snapshots/$strange"
"$varve" snapshot list --json "$mnt" | python3 -c '
import json, sys
names = [one["name"].encode() if "name" in one else bytes.fromhex(one["name_hex"])
         for one in json.load(sys.stdin)["snapshots"]]
assert b"tab\t and \xff and \xe2\x82\xac" in names, names'
expect_status 0 "$varve" snapshot delete "$mnt" "$strange"

# -n: nothing happens, and it is said what would.
before=$("$varve" snapshot list "$mnt")
dry() { # PATTERN VERB...
    local pattern=$1

    shift
    expect_status 0 "$varve" "$@"
    [[ $output == *$pattern* ]] || fail "$*: said '$output'"
}
dry 'would create x' snapshot create -n "$mnt" x
dry 'would create a snapshot' snapshot create -n "$mnt"
dry 'would rename a to x' snapshot rename -n "$mnt" a x
dry 'would free ' snapshot delete -n "$mnt" a b
dry 'would hold a' snapshot hold -n "$mnt" a
dry 'would release a' snapshot release -n "$mnt" a
dry 'remove  a ' snapshot prune -n "$mnt" --keep-last 1
dry 'would undo 1 difference' rollback -n "$mnt" a
dry 'would sync' sync -n "$mnt"
dry 'would unmount' umount -n "$mnt"
dry 'would make a store' mkfs -n "$directory/none"
expect_equal 'the list' "$("$varve" snapshot list "$mnt")" "$before"
expect_file "$mnt/directory/file" other
[ ! -e "$directory/none" ] || fail 'mkfs -n made something'
expect_status 1 "$varve" snapshot create -n "$mnt" a
expect_status 1 "$varve" snapshot rename -n "$mnt" x y
expect_status 1 "$varve" snapshot hold -n "$mnt" a x
expect_complaint 'no such snapshot: x'
expect_status 1 "$varve" snapshot delete -n "$mnt" a x
expect_complaint 'no such snapshot: x'

# Held ones are in no set that would go.
"$varve" snapshot hold "$mnt" b
expect_status 1 "$varve" snapshot delete -n "$mnt" a b
expect_complaint 'b is held'
"$varve" snapshot release "$mnt" b

# --json.
expect_status 0 "$varve" clone -q "$store/checkpoints/a" "$directory/fork"
json() { # STATUS VERB...
    local status=$1

    shift
    expect_status "$status" "$varve" "$@"
    expect_equal "schema_version of $*" "$(json_get schema_version <<<"$output")" 1
}
json 0 snapshot create --json "$mnt" d --tag by=json
for key in name sequence files bytes linked_files copied_files created; do
    json_get $key <<<"$output" >"$directory/out" || fail "create --json has no $key"
done
json 0 snapshot list --json "$mnt"
json 0 snapshot list --json "$directory/fork"
json 0 snapshot rename --json "$mnt" d e
json 0 snapshot hold --json "$mnt" e
json 0 snapshot release --json "$mnt" e
json 1 snapshot diff --json "$mnt" a
json 0 snapshot diff --json "$mnt" b e
json 0 snapshot delete --json -n "$mnt" e
json 0 snapshot delete --json "$mnt" e
json 0 snapshot prune --json -n "$mnt" --keep-last 1
json 0 snapshot create --json -n "$mnt" f
json 0 rollback --json -n "$mnt" a
json 0 rollback --json "$mnt" a
json 0 verify --json "$mnt" a
json 0 sync --json "$mnt"
json 0 stats --json "$mnt"
json 0 fsck --json "$directory/fork"
json 0 clone --json "$store/checkpoints/b" "$directory/fork2"
json 0 mkfs --json "$directory/made"

# Exit statuses.
for verb in 'snapshot create' 'snapshot list' 'snapshot prune --keep-last 1' sync stats; do
    # shellcheck disable=SC2086
    expect_status 10 "$varve" $verb "$directory"
    expect_complaint "not inside a Varve mount"
    # shellcheck disable=SC2086
    expect_status 10 "$varve" $verb "$directory/missing"
    expect_complaint 'No such file or directory'
done
for verb in 'snapshot delete' 'snapshot hold' 'snapshot release' rollback; do
    # shellcheck disable=SC2086
    expect_status 10 "$varve" $verb "$directory" a
    # shellcheck disable=SC2086
    expect_status 1 "$varve" $verb "$mnt" missing
    expect_complaint 'no such snapshot'
done
expect_status 11 "$varve" snapshot list "$store"
expect_status 2 "$varve" snapshot delete "$mnt"
expect_status 2 "$varve" snapshot create
expect_status 2 "$varve" snapshot nonsense
expect_status 2 "$varve" snapshot create "$mnt" x y
expect_status 2 "$varve" snapshot create "$mnt" x --tag novalue
for verb in create list delete rename hold release diff prune; do
    expect_status 0 "$varve" snapshot $verb --help
    [[ $output == Usage:* ]] || fail "$verb --help says: $output"
    expect_status 0 "$varve" snapshot $verb --version
done

# Several at once: what cannot be does not keep the others.
for name in 1 2 3; do
    mkdir "$mnt/.snapshots/$name"
done
expect_status 1 "$varve" snapshot delete "$mnt" 1 missing 3
expect_complaint 'missing: no such snapshot'
expect_errno ENOENT stat "$mnt/.snapshots/1"
expect_errno OK stat "$mnt/.snapshots/2"
expect_errno ENOENT stat "$mnt/.snapshots/3"
