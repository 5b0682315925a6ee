#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 2700
# fsstress on a mount with snapshots beside it, and a witness: every fourth is made while all
# processes stand still, and has to be what the live tree is then; the others are made under way,
# and have to be what was read of them soon after. Each is compared after a remount, and fsck finds
# every byte in its place. VARVE_TEST_FROM is where fsstress lies, or a tree that has it in ltp/;
# VARVE_TEST_FULL=1 runs it for 20 minutes, with a snapshot every 10 seconds.
from=${VARVE_TEST_FROM:?where fsstress lies}
if [ "${1:-list}" = list ]; then
    printf '2-processes\n8-processes\n'
    exit
fi
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command python3
fsstress=$from/ltp/fsstress
[ -x "$fsstress" ] || fsstress=$from/fsstress
[ -x "$fsstress" ] || fail "there is no fsstress in $from"
seed=${VARVE_TEST_SEED:-$RANDOM}
seconds=20 interval=2
[ -z "${VARVE_TEST_FULL:-}" ] || seconds=1200 interval=10
printf 'VARVE_TEST_SEED=%s\n' "$seed"

tree() { # DIRECTORY FILE
    python3 "$test_root/tests/lib/tree_print.py" "$1" >"$2" || fail "reading $1"
}

all_stand_still() {
    local pid

    for pid in $(pgrep -g "$group"); do
        grep -q '^State:.[TZ]' "/proc/$pid/status" 2>/dev/null || return 1
    done
}

# Whoever belongs to it, the children of its children too. One that waits for its vfork(2) to end does
# not stop as long as the child stands still: they go on for a moment then.
stop_all() {
    while :; do
        kill -STOP -- "-$group"
        for _ in {1..100}; do
            ! all_stand_still || return 0
            sleep 0.01
        done
        kill -CONT -- "-$group"
        sleep 0.05
    done
}

store_make
store_mount -o memtable_mb=4
mkdir "$mnt/work" "$directory/trees"
# A few operations, then all is removed, and again: a tree that a witness can read in time.
setsid "$fsstress" -d "$mnt/work" -c -l 0 -n 700 -p "${1%%-*}" -s "$seed" \
    >"$directory/fsstress.out" 2>&1 &
group=$!
at_end() {
    kill -KILL -- "-$group" 2>/dev/null || true
}
number=0 began=$SECONDS
while [ $((SECONDS - began)) -lt $seconds ]; do
    wait_s=$(((number + 1) * interval - SECONDS + began))
    [ $wait_s -le 0 ] || sleep $wait_s
    kill -0 "$group" 2>/dev/null || { tail "$directory/fsstress.out"; fail 'fsstress has ended'; }
    if [ $((number % 4)) = 0 ]; then
        stop_all
        mkdir "$mnt/.snapshots/$number"
        tree "$mnt/work" "$directory/trees/$number"
        kill -CONT -- "-$group"
    else
        mkdir "$mnt/.snapshots/$number"
        tree "$mnt/.snapshots/$number/work" "$directory/trees/$number"
    fi
    number=$((number + 1))
done
kill -0 "$group" 2>/dev/null || { tail "$directory/fsstress.out"; fail 'fsstress has ended'; }
kill -TERM -- "-$group"
wait "$group" || true
while pgrep -g "$group" >/dev/null; do
    sleep 0.1
done
printf '%s snapshots\n' "$number"
tree "$mnt/work" "$directory/live"
store_remount
tree "$mnt/work" "$directory/now"
cmp "$directory/now" "$directory/live" || fail 'the live tree after a remount'
for file in "$directory"/trees/*; do
    tree "$mnt/.snapshots/${file##*/}/work" "$directory/now"
    cmp "$directory/now" "$file" || fail "snapshot ${file##*/}"
done
store_unmount
store_check --verify
