#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# fsx on a mount, in several ways of reading and writing. Every second it is stopped, a snapshot is
# made and the file is copied: the snapshot has to hold what the copy holds, at once and after a
# remount. VARVE_TEST_FROM is where fsx lies, or a tree that has it in ltp/.
from=${VARVE_TEST_FROM:?where fsx lies}
declare -A ways=(
    [default]=''
    [large]='-l 4000000 -o 400000'
    [small]='-l 30000 -o 3000'
    [direct]='-Z -R -W -r 4096 -w 4096 -t 4096'
    [direct-512]='-Z -R -W -r 512 -w 512 -t 512 -l 1000000'
    [sync]='-y -c 100 -l 500000'
    [reopen]='-c 20 -f'
    [uring]='-U -l 1000000'
)
if [ "${1:-list}" = list ]; then
    printf '%s\n' "${!ways[@]}" | sort
    exit
fi
. "$(dirname "$0")/../lib/mount.sh"
require_root
fsx=$from/ltp/fsx
[ -x "$fsx" ] || fsx=$from/fsx
[ -x "$fsx" ] || fail "there is no fsx in $from"
seed=${VARVE_TEST_SEED:-$RANDOM}
operations=20000
[ -z "${VARVE_TEST_FULL:-}" ] || operations=500000
printf 'VARVE_TEST_SEED=%s\n' "$seed"

# Short windows and a small memtable: flushes and merges go on beside the operations.
store_make
store_mount -o memtable_mb=1,sync_window=100
mkdir "$directory/copies"
# shellcheck disable=SC2086
"$fsx" -q -N "$operations" -S "$seed" ${ways[$1]} -P "$directory" "$mnt/file" \
    >"$directory/fsx.out" 2>&1 &
pid=$!
state() {
    sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null || true
}
for number in {1..8}; do
    sleep 1
    kill -STOP $pid 2>/dev/null || break
    for _ in {1..100}; do
        [[ $(state) == [TZ] || -z $(state) ]] && break
        sleep 0.02
    done
    [ "$(state)" = T ] || break
    mkdir "$mnt/.snapshots/$number"
    cp "$mnt/file" "$directory/copies/$number"
    kill -CONT $pid
    cmp "$directory/copies/$number" "$mnt/.snapshots/$number/file" || fail "snapshot $number"
done
wait $pid || { tail -n 30 "$directory/fsx.out"; fail "fsx: status $?"; }
cp "$mnt/file" "$directory/copies/live"
store_remount
cmp "$directory/copies/live" "$mnt/file" || fail 'the file after a remount'
for copy in "$directory"/copies/[0-9]*; do
    [ -e "$copy" ] || continue
    cmp "$copy" "$mnt/.snapshots/${copy##*/}/file" || fail "snapshot ${copy##*/} after a remount"
done
