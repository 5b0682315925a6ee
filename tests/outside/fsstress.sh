#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# fsstress on a mount with snapshots beside it: each snapshot shows the same tree whenever it is
# read, also after a remount, and fsck finds every byte in its place. VARVE_TEST_FROM is where
# fsstress lies, or a tree that has it in ltp/.
from=${VARVE_TEST_FROM:?where fsstress lies}
if [ "${1:-list}" = list ]; then
    printf '2-processes\n6-processes\n'
    exit
fi
. "$(dirname "$0")/../lib/mount.sh"
require_root
fsstress=$from/ltp/fsstress
[ -x "$fsstress" ] || fsstress=$from/fsstress
[ -x "$fsstress" ] || fail "there is no fsstress in $from"
seed=${VARVE_TEST_SEED:-$RANDOM}
seconds=15
[ -z "${VARVE_TEST_FULL:-}" ] || seconds=300
printf 'VARVE_TEST_SEED=%s\n' "$seed"

tree() { # DIRECTORY
    (cd "$1" && find . -printf '%P %y %m %U %G %s %b %T@ %C@ %l\n' | sort)
}

store_make
store_mount -o memtable_mb=4
mkdir "$mnt/work" "$directory/trees"
# A number of operations that it does not come to: it is ended by the time.
timeout --signal=TERM $seconds "$fsstress" -d "$mnt/work" -n 100000000 -p "${1%%-*}" -s "$seed" \
    >"$directory/fsstress.out" 2>&1 &
pid=$!
number=0
while kill -0 $pid 2>/dev/null; do
    sleep 3
    number=$((number + 1))
    mkdir "$mnt/.snapshots/$number"
    tree "$mnt/.snapshots/$number/work" >"$directory/trees/$number"
done
wait $pid || [ $? = 124 ] || { tail "$directory/fsstress.out"; fail 'fsstress'; }
tree "$mnt/work" >"$directory/live"
store_remount
tree "$mnt/work" | cmp - "$directory/live" || fail 'the live tree after a remount'
for file in "$directory"/trees/*; do
    tree "$mnt/.snapshots/${file##*/}/work" | cmp - "$file" || fail "snapshot ${file##*/}"
done
store_unmount
store_check --verify
