#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# clone and fsck -y are killed at their calls. No half clone opens as a store, and what it is made of
# is not touched; a store whose manifest was being made anew, or whose links were, is put right by
# the next fsck -y. VARVE_TEST_FULL=1 takes every call, else a few of each kind.
. "$(dirname "$0")/../lib/mount.sh"
require_command cc

cc -shared -fPIC -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -o "$directory/libkill_at.so" \
    "$test_root/tests/lib/kill_at.c"

store_make
store_mount
mkdir "$mnt/files" "$directory/one" "$directory/live"
for number in {1..40}; do
    head -c $((number * 3000)) /dev/urandom >"$mnt/files/$number"
done
ln "$mnt/files/7" "$mnt/link"
"$varve" snapshot create -q "$mnt" one
copy_tree "$mnt/" "$directory/one/"
"$varve" compact "$mnt"
rm "$mnt/files/"{1..9}
"$varve" snapshot create -q "$mnt" two
printf 'in the log' >"$mnt/last"
"$varve" sync "$mnt"
copy_tree "$mnt/" "$directory/live/"
store_kill
umount -l "$mnt"
mv "$store" "$directory/kept"

# Kill COMMAND at call after call of KIND below PATH, each time from what PREPARE makes, and then
# look with JUDGE; until a call is not reached.
kills=0
kill_at_each() { # KIND PATH PREPARE JUDGE COMMAND...
    local kind=$1 path=$2 prepare=$3 judge=$4 when number=1 step=0 status

    shift 4
    for when in b a; do
        number=1
        while :; do
            $prepare
            status=0
            # (The shell says of the command that it was killed.)
            {
                env LD_PRELOAD="$directory/libkill_at.so" \
                    VARVE_KILL_AT="$kind:any:$when:$number" VARVE_KILL_STORE="$path" \
                    "$@" >"$directory/out" 2>&1 || status=$?
            } 2>/dev/null
            $judge $status "$kind $when $number"
            [ $status = 137 ] || break
            kills=$((kills + 1))
            [ -n "${VARVE_TEST_FULL:-}" ] || step=$number
            number=$((number + 1 + step))
        done
    done
}

sums() { # DIRECTORY: what is in it, but for locks
    (cd "$1" && find . -type f ! -name LOCK ! -name lock.mdb -print0 | sort -z | xargs -0 md5sum)
}

: A clone.
clone=$directory/clone checkpoint=$directory/kept/checkpoints/one
sums "$directory/kept" >"$directory/kept.sums"
prepare_clone() {
    rm -rf "$clone"
}
judge_clone() { # STATUS WHERE
    if [ "$1" = 0 ]; then
        expect_status 0 "$varve" verify "$clone"
        return
    fi
    [ "$1" = 137 ] || fail "clone, $2: status $1: $(cat "$directory/out")"
    # Nothing was left to do, or it is no store.
    if [ -e "$clone/FORMAT" ]; then
        expect_status 0 "$varve" verify "$clone"
        expect_equal "chunks after $2" "$(ls "$clone/chunks")" "$(ls "$checkpoint/chunks")"
    fi
    rm -rf "$clone"
    expect_status 0 "$varve" clone $copy "$checkpoint" "$clone"
}
for copy in '' --copy; do
    for kind in open write sync syncfs rename link unlink chmod; do
        # shellcheck disable=SC2086
        kill_at_each $kind "$clone" prepare_clone judge_clone \
            "$varve" clone $copy "$checkpoint" "$clone"
    done
done
sums "$directory/kept" | cmp - "$directory/kept.sums" || fail 'what was cloned has changed'
expect_status 0 "$varve" verify "$clone"
[ $kills -ge 30 ] || fail "only $kills kills of clone"

: A manifest made anew, and links.
chunk=$(cd "$directory/kept" && find chunks -name '*.blb' -links +1 | head -n 1)
prepare_repair() {
    rm -rf "$store"
    cp -a "$directory/kept" "$store"
    rm "$store/$lost"
}
judge_repair() { # STATUS WHERE
    local status=0

    "$varve" fsck -y "$store" >"$directory/out" 2>&1 || status=$?
    [ $status -le 1 ] || fail "fsck -y after $2: status $status: $(cat "$directory/out")"
    expect_status 0 "$varve" fsck "$store"
}
before=$kills
for lost in manifest/data.mdb "$chunk"; do
    for kind in open write sync syncfs rename link unlink; do
        kill_at_each $kind "$store" prepare_repair judge_repair "$varve" fsck -y "$store"
    done
    store_mount
    expect_same_tree "$directory/live" "$mnt"
    expect_same_tree "$directory/one" "$mnt/.snapshots/one"
    store_unmount
done
[ $((kills - before)) -ge 40 ] || fail "only $((kills - before)) kills of fsck"
echo "$kills kills"
