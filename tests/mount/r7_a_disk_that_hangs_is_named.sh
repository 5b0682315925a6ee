#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
# A disk that stops answering (a frozen file system): the log and varve stats say so, what is in memory
# can still be read, SIGTERM waits for the disk and ends cleanly when it answers again.
. "$(dirname "$0")/../lib/mount.sh"

require_command fsfreeze
frozen=false
at_end() {
    ! $frozen || fsfreeze -u "$disk"
    disk_end
}
disk_make 600M
store_make
store_mount -o io_deadline=300

# A daemon that waits for the disk where it should not is to fail the test, not to hold it up.
stats() { # OPTION...
    timeout -k 1 20 "$varve" stats "$@" "$mnt"
}

alert() { # NAME: true or false
    stats --json | python3 -c '
import json, sys
print([a["active"] for a in json.load(sys.stdin)["alerts"] if a["name"] == sys.argv[1]][0])' "$1"
}

wait_for_alert() { # NAME True|False
    for _ in $(seq 300); do
        [ "$(alert "$1")" != "$2" ] || return 0
        sleep 0.1
    done
    fail "alert $1 did not become $2"
}

echo before >"$mnt/before"
"$varve" sync "$mnt"
expect_equal 'alert before' "$(alert disk_hung)" False

fsfreeze -f "$disk"
frozen=true
echo during >"$mnt/during"
wait_for_alert disk_hung True
stats >"$directory/stats"
grep -q "^critical: the disk does not answer (disk_hung): .*$store/wal/" "$directory/stats" ||
    fail "stats: $(cat "$directory/stats")"
stats --prometheus >"$directory/metrics"
grep -qx 'varve_alert{name="disk_hung",severity="critical"} 1' "$directory/metrics" ||
    fail "metrics: $(grep varve_alert "$directory/metrics")"
grep -qx 'varve_alert{name="space_low",severity="warning"} 0' "$directory/metrics" ||
    fail "metrics: $(grep varve_alert "$directory/metrics")"
for name in before during; do
    expect_equal "$name" "$(timeout -k 1 20 cat "$mnt/$name")" "$name"
done

# It cannot end before the disk answers, and does then.
pid=$(daemon_pid)
kill -TERM "$pid"
sleep 1
kill -0 "$pid" || fail 'the daemon ended without having written what was acknowledged'
fsfreeze -u "$disk"
frozen=false
for _ in $(seq 300); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
! kill -0 "$pid" 2>/dev/null || fail 'the daemon did not end'
store_mount
expect_file "$mnt/during" during
expect_equal 'unclean starts' "$(stats --json | json_get engine.unclean_starts)" 0
expect_equal 'replayed batches' "$(stats --json | json_get engine.wal_replayed_batches)" 0
wait_for_alert disk_hung False
store_unmount
