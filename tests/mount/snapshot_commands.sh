#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# hold, release, prune and diff on a mount: what they do, say and return.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
snapshots=$mnt/.snapshots
mkdir "$mnt/directory"
printf 'one' >"$mnt/same"
printf 'one' >"$mnt/changed"
printf 'one' >"$mnt/removed"
printf 'one' >"$mnt/renamed"
"$varve" snapshot create -q "$mnt" a --tag by=test
printf 'other' >"$mnt/changed"
rm "$mnt/removed"
mv "$mnt/renamed" "$mnt/directory/elsewhere"
printf 'new' >"$mnt/added"
"$varve" snapshot create -q "$mnt" b --tag by=test
"$varve" snapshot create -q "$mnt" c

# diff: statuses as diff(1), and what changed is named.
expect_status 0 "$varve" snapshot diff "$mnt" b c
expect_equal 'output' "$output" ''
expect_status 0 "$varve" snapshot diff "$mnt" c
expect_status 1 "$varve" snapshot diff "$mnt" a b
for line in 'added .*added' 'removed .*removed' 'modified .*changed' \
    'renamed .*renamed -> .*directory/elsewhere'; do
    grep -qE "^$line" <<<"$output" || fail "no '$line' in: $output"
done
! grep -q same <<<"$output" || fail "what did not change is shown: $output"
expect_status 1 "$varve" snapshot diff -q "$mnt" a
expect_equal 'output' "$output" ''
expect_status 0 "$varve" snapshot diff "$mnt" a b --path /same
expect_status 1 "$varve" snapshot diff "$mnt" a b --path /added
expect_status 2 "$varve" snapshot diff "$mnt" none
expect_status 2 "$varve" snapshot diff "$mnt"
expect_status 2 "$varve" snapshot diff "$directory" a
expect_status 1 "$varve" snapshot diff --json "$mnt" a b
json_get schema_version <<<"$output" >"$directory/out"

# hold: nobody deletes it, in no way.
expect_status 0 "$varve" snapshot hold "$mnt" a --owner backup
expect_status 0 "$varve" snapshot hold "$mnt" a
expect_errno EBUSY rmdir "$snapshots/a"
expect_status 1 "$varve" snapshot delete "$mnt" a
expect_complaint held
expect_status 1 "$varve" snapshot hold "$mnt" none
expect_status 0 "$varve" snapshot prune "$mnt" --keep-last 1
expect_equal 'left by prune' "$("$varve" snapshot list -q "$mnt" | tr '\n' ' ')" 'a c '
store_remount
expect_errno EBUSY rmdir "$snapshots/a"
expect_status 0 "$varve" snapshot release "$mnt" a
expect_errno EBUSY rmdir "$snapshots/a"
expect_status 0 "$varve" snapshot release "$mnt" a --owner backup
expect_errno OK rmdir "$snapshots/a"

# prune: only what it is told, and only shown with -n.
for number in 1 2 3 4 5; do
    "$varve" snapshot create -q "$mnt" "p$number" --tag by=timer
done
expect_status 2 "$varve" snapshot prune "$mnt"
expect_status 2 "$varve" snapshot prune "$mnt" --keep-last many
expect_status 0 "$varve" snapshot prune -n "$mnt" --keep-last 2 --tag by=timer
expect_equal 'after -n' "$("$varve" snapshot list -q "$mnt" | wc -l)" 6
expect_status 0 "$varve" snapshot prune "$mnt" --keep-last 2 --tag by=timer
expect_equal 'left by prune' "$("$varve" snapshot list -q "$mnt" | tr '\n' ' ')" 'c p4 p5 '
# All in one day, of which the newest stays.
expect_status 0 "$varve" snapshot prune "$mnt" --keep-yearly 1
expect_equal 'left by prune' "$("$varve" snapshot list -q "$mnt")" p5

# What deleting is said to free, it frees.
head -c 30000000 /dev/urandom >"$mnt/large"
"$varve" snapshot create -q "$mnt" full
rm "$mnt/large"
"$varve" compact "$mnt"
freed=$("$varve" snapshot delete -n --json "$mnt" full | json_get freed_bytes)
[ "$freed" -gt 29000000 ] || fail "deleting is said to free $freed bytes"
before=$(du -s -B1 "$store" | cut -f1)
"$varve" snapshot delete "$mnt" full
for _ in {1..100}; do
    "$varve" compact "$mnt"
    after=$(du -s -B1 "$store" | cut -f1)
    [ $((before - after)) -lt 28000000 ] || break
    sleep 0.1
done
[ $((before - after)) -ge 28000000 ] || fail "$freed bytes were promised, $((before - after)) freed"
