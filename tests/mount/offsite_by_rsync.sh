#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# The checkpoints of a mounted store are brought elsewhere by rsync: after every run each of them
# mounts and shows what the snapshot shows, and the next run brings what is new. Cut at any byte, or
# killed, a run leaves the earlier ones as they were, nothing half that opens, and can be repeated.
. "$(dirname "$0")/../lib/mount.sh"

require_command rsync
offsite=$test_root/tools/varve-offsite
away=$directory/away
store_make
store_mount -o memtable_mb=1
cp -r "$headers/linux/netfilter" "$mnt/headers"
head -c 3000000 /dev/urandom >"$mnt/large"
mkdir -p "$away" "$directory/there"

# Does the copy mount, and is it the snapshot?
check_one() { # COPY NAME
    "$varve" mount "$1" "$directory/there" 2>"$directory/complaint" ||
        fail "the copy of $2 does not mount: $(cat "$directory/complaint")"
    expect_same_tree "$directory/there" "$mnt/.snapshots/$2"
    "$varve" umount "$directory/there"
}
# All of these are right; whatever else opens is right too, or, when the snapshot is gone, whole.
check_all() { # NAME...
    local name copy

    for name; do
        check_one "$away/$name" "$name"
    done
    for copy in "$away"/*/; do
        name=$(basename "$copy")
        [[ " $* " != *" $name "* ]] || continue
        "$varve" mount "$copy" "$directory/there" 2>"$directory/complaint" || continue
        find "$directory/there" -type f -exec cat {} + >"$directory/out" ||
            fail "$name opens and cannot be read"
        [ -e "$directory/there/new-$name" ] || fail "half of $name opens"
        "$varve" umount "$directory/there"
        [ ! -e "$mnt/.snapshots/$name" ] || check_one "$copy" "$name"
    done
}
change() { # NAME
    local file

    for file in "$mnt"/headers/*.h; do
        [ $((RANDOM % 5)) != 0 ] || printf '/* %s */\n' "$1" >>"$file"
    done
    head -c 300000 /dev/urandom >"$mnt/new-$1"
    "$varve" snapshot create -q "$mnt" "$1"
}

# Completed runs.
change 'a'
expect_status 0 "$offsite" "$store" "$away"
check_all a
change 'b *[x]'
change c
expect_status 0 "$offsite" "$store" "$away" --stats
check_one "$away/b *[x]" 'b *[x]'
check_all a c
one=$(stat -c %i "$away/c/chunks"/*.blb | sort | head -n 1)
find "$away" -name '*.blb' -links +1 | grep -q . || fail 'the copies share no chunk'
[ -n "$one" ] || fail 'no blob chunk was brought'
again=$(rsync -aHn --itemize-changes "$store/checkpoints/" "$away/")
expect_equal 'what another run would bring' "$again" ''
"$varve" clone -q --copy "$away/c" "$directory/fork"
"$varve" fsck -q "$directory/fork"

# Those that are gone go, unless they are kept.
rmdir "$mnt/.snapshots/b *[x]"
while [ -e "$store/checkpoints/b *[x]" ]; do
    sleep 0.05
done
expect_status 0 "$offsite" -k "$store" "$away"
[ -e "$away/b *[x]/CURRENT" ] || fail 'not kept with -k'
expect_status 0 "$offsite" "$store" "$away"
[ ! -e "$away/b *[x]" ] || fail 'not removed'
check_all a c

# What does not exist, and wrong usage.
expect_status 10 "$offsite" "$directory/none" "$away"
expect_status 2 "$offsite" "$store"

# Cut at a byte: the other side is a process that gets so many bytes, and then the connection ends.
cat >"$directory/cut" <<'SCRIPT'
#!/bin/bash
# All connections of a run share the allowance. When it is used up, the other side goes as well; when
# that has ended, so has the connection, as with ssh.
set -m # a process group for each job
shift  # the host
left=$(cat "$ALLOWANCE")
pipe=$ALLOWANCE.$$
mkfifo "$pipe"
"$@" <"$pipe" &
server=$!
{
    # dd passes on at once what it gets, as a connection does.
    dd bs=4096 iflag=count_bytes count="$left" status=none | tee "$ALLOWANCE.used" >"$pipe"
    [ "$left" -gt "$(stat -c %s "$ALLOWANCE.used")" ] || kill -9 -- "-$server"
} <&0 &
feeder=$!
wait $server
status=$?
kill -- "-$feeder" 2>/dev/null
wait $feeder
echo $((left - $(stat -c %s "$ALLOWANCE.used"))) >"$ALLOWANCE"
rm "$pipe"
exit $status
SCRIPT
chmod +x "$directory/cut"
export ALLOWANCE=$directory/allowance
change d
full=$(rsync -aHn --stats "$store/checkpoints/" "$away/" |
    sed -n 's/,//g; s/^Total transferred file size: \([0-9]*\).*/\1/p')
full=$((full + full / 20)) # and what rsync says besides, so that some runs end well
cuts=6
[ -z "${VARVE_TEST_FULL:-}" ] || cuts=300
for ((i = 0; i < cuts; i++)); do
    at=$((full * i / cuts + RANDOM % (full / cuts + 1)))
    echo $at >"$ALLOWANCE"
    "$offsite" "$store" "here:$away" -e "$directory/cut" >"$directory/out" 2>&1 || true
    check_all a c
    [ ! -e "$away/d/CURRENT" ] || rm -r "$away/d"
done

# Killed at random moments, also while others come and go.
kills=4
[ -z "${VARVE_TEST_FULL:-}" ] || kills=200
for ((i = 0; i < kills; i++)); do
    change "k$i"
    rmdir "$mnt/.snapshots/k$((i - 1))" 2>/dev/null || true
    setsid "$offsite" "$store" "$away" --bwlimit=20000 >"$directory/out" 2>&1 &
    pid=$!
    sleep "0.$((RANDOM % 40 + 10))"
    kill -9 -- "-$pid" 2>/dev/null || true
    wait $pid || true
    check_all a c
done
expect_status 0 "$offsite" "$store" "$away"
check_all a c d "k$((kills - 1))"
expect_equal 'what is there' "$(ls "$away")" "$(ls "$mnt/.snapshots")"
