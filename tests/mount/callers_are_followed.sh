#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The thread that reads the device follows a caller that asks one thing after another; when nobody
# asks any more, or something else computes, it is a thread like others again.
# timeout: 300
. "$(dirname "${BASH_SOURCE[0]}")/../lib/mount.sh"

chrt -i 0 chrt -o 0 true 2>/dev/null || skip 'needs the right to return from SCHED_IDLE'
[ "$(nproc)" -gt 1 ] || skip 'with one CPU nobody is followed'

hogs=()
# No one is left behind, however this ends.
trap 'status=$?; [ ${#hogs[@]} -eq 0 ] || kill "${hogs[@]}" 2>/dev/null; (exit $status); finish' EXIT

yields() {
    "$varve" stats --json "$mnt" | json_get daemon.yields
}

# Of each thread: the policy (0 ordinary, 5 SCHED_IDLE), and the CPUs that it may use.
expect_ordinary_threads() {
    local task

    for task in /proc/"$(daemon_pid)"/task/*; do
        expect_equal "policy of $task" "$(sed 's/.*) //' "$task/stat" | cut -d' ' -f39)" 0
        expect_equal "CPUs of $task" "$(awk '/^Cpus_allowed:/ { print $2 }' "$task/status")" "$cpus"
    done
}

store_make
store_mount -o transport=dev
cpus=$(awk '/^Cpus_allowed:/ { print $2 }' /proc/"$(daemon_pid)"/status)
expect_ordinary_threads

# Without request after request nothing changes.
for _ in {1..5}; do
    stat "$mnt" >/dev/null
    sleep 0.1
done
expect_equal 'yields of a few requests' "$(yields)" 0

for _ in {1..20}; do
    mkdir "$mnt/many"
    (cd "$mnt/many" && seq 3000 | xargs touch)
    rm -r "$mnt/many"
    [ "$(yields)" -eq 0 ] || break
done
[ "$(yields)" -gt 0 ] || fail 'nobody is ever followed'
sleep 0.5
expect_ordinary_threads

# Pinned by its user while it runs, the daemon stays where it was put.
taskset -acp 0 "$(daemon_pid)" >/dev/null
before=$(yields)
for _ in {1..20}; do
    mkdir "$mnt/many"
    (cd "$mnt/many" && seq 3000 | xargs touch)
    rm -r "$mnt/many"
    [ "$(yields)" -eq "$before" ] || break
done
sleep 0.5
for task in /proc/"$(daemon_pid)"/task/*/status; do
    expect_equal "CPUs of $task" "$(awk '/^Cpus_allowed_list:/ { print $2 }' "$task")" 0
done
taskset -acp "0-$(($(nproc --all) - 1))" "$(daemon_pid)" >/dev/null

# Every CPU computes: the work gets done all the same. (With the reader left as SCHED_IDLE this takes
# minutes; the time allowed to the case is what fails it.)
for _ in $(seq $(($(nproc) * 2))); do
    (while :; do :; done) &
    hogs+=($!)
done
mkdir "$mnt/beside"
(cd "$mnt/beside" && seq 4000 | xargs touch)
expect_equal 'files made' "$(find "$mnt/beside" -type f | wc -l)" 4000
kill "${hogs[@]}"
wait "${hogs[@]}" 2>/dev/null || true
hogs=()
sleep 0.5
expect_ordinary_threads
