#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Requests through io_uring: what waits does not hold up what does not, nothing is lost when the
# daemon is killed or told to end, and the device serves where the kernel has it switched off.
# shellcheck source=tests/lib/mount.sh
. "$(dirname "$0")/../lib/mount.sh"

require_root
parameter=/sys/module/fuse/parameters/enable_uring
[ -w "$parameter" ] || skip 'the kernel has no FUSE through io_uring'

before=$(<"$parameter")
restore() { # STATUS, which finish() is to see
    echo "$before" >"$parameter"
    return "$1"
}
trap 'restore $? || finish; finish' EXIT

transport() {
    "$varve" stats --json "$mnt" | json_get daemon.transport
}

store_make

# Switched off, auto takes the device, and io_uring switches it on.
echo N >"$parameter"
store_mount -o transport=auto
expect_equal 'transport with auto, switched off' "$(transport)" dev
store_remount -o transport=io_uring
expect_equal 'transport with io_uring' "$(transport)" io_uring
expect_equal 'the parameter' "$(<"$parameter")" Y
store_remount -o transport=auto
expect_equal 'transport with auto, switched on' "$(transport)" io_uring

# Names and attributes go on while others wait for the disk, from all CPUs at once.
workers=()
for worker in 1 2 3 4 5 6 7 8; do
    (
        mkdir "$mnt/$worker"
        for i in {1..40}; do
            printf '%s %s\n' "$worker" "$i" >"$mnt/$worker/$i"
            dd if=/dev/urandom of="$mnt/$worker/data" bs=300000 count=2 conv=fsync status=none
            sync "$mnt/$worker/$i"
            rm "$mnt/$worker/data"
        done
    ) &
    workers+=($!)
done
while jobs -r | grep -q .; do
    stat "$mnt" >/dev/null
    ls -l "$mnt" >/dev/null
done
for worker in "${workers[@]}"; do
    wait "$worker" || fail 'a writer failed'
done
for worker in 1 2 3 4 5 6 7 8; do
    for i in {1..40}; do
        expect_file "$mnt/$worker/$i" "$worker $i"
    done
done

# Requests that come one after another make the threads of the rings yield to their callers, and when
# none come any more, all have their ordinary priority (policy 0; 5 is SCHED_IDLE).
mkdir "$mnt/many"
for _ in {1..20}; do
    (cd "$mnt/many" && seq 3000 | xargs touch && rm -r ../many && mkdir ../many)
    [ "$("$varve" stats --json "$mnt" | json_get daemon.yields)" -eq 0 ] || break
done
[ "$("$varve" stats --json "$mnt" | json_get daemon.yields)" -gt 0 ] ||
    ! chrt -i 0 chrt -o 0 true 2>/dev/null || fail 'no thread of a ring ever yields'
sleep 0.5
for thread in /proc/"$(daemon_pid)"/task/*/stat; do
    expect_equal "policy of $thread" "$(sed 's/.*) //' "$thread" | cut -d' ' -f39)" 0
done

# Large requests of both directions, a mapping, a snapshot, a file without a name.
head -c 40000000 /dev/urandom >"$directory/large"
cp "$directory/large" "$mnt/large"
mkdir "$mnt/.snapshots/one"
echo 3 >/proc/sys/vm/drop_caches
cmp "$directory/large" "$mnt/large"
cmp "$directory/large" "$mnt/.snapshots/one/large"
expect_equal 'a file without a name' "$(errno_of tmpfile "$mnt")" OK

# Killed in the middle of work: callers get an error, what was synced is there afterwards.
for round in 1 2 3; do
    sync "$mnt/1/1"
    (while echo more >>"$mnt/growing"; do :; done) 2>/dev/null &
    sleep 0.3
    store_kill
    wait || true
    store_mount -o transport=io_uring
    expect_file "$mnt/8/40" '8 40'
    echo "$round" >"$mnt/round"
    sync "$mnt/round"
done

# Told to end while somebody has a file open.
exec 3<"$mnt/round"
pid=$(daemon_pid)
kill -TERM "$pid"
for _ in {1..200}; do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
kill -0 "$pid" 2>/dev/null && fail 'the daemon does not end'
exec 3<&-
is_mounted "$mnt" && umount -l "$mnt"
store_mount -o transport=io_uring
expect_file "$mnt/round" 3
store_unmount
