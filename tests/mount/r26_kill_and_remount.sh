#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# The daemon is killed under load, again and again: what was synced is there whole, what came later
# is there in its order or not at all, and the store says that it was not closed. A clean unmount
# has nothing to replay.
. "$(dirname "$0")/../lib/mount.sh"

rounds=6
[ -z "${VARVE_TEST_FULL:-}" ] || rounds=60
store_make
store_mount

# Files 1, 2, 3 ...: every tenth with fsync, after which its number goes into "synced".
write_files() { # ROUND
    exec python3 - "$mnt/round-$1" "$directory/synced-$1" <<'PYTHON'
import os, sys
directory, synced = sys.argv[1:]
os.mkdir(directory)
number = 0
with open(synced, "w") as record:
    while True:
        number += 1
        path = "%s/%d" % (directory, number)
        descriptor = os.open(path + ".new", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"%d\n" % number * (number % 7000))
        if number % 10 == 0:
            os.fsync(descriptor)
        os.close(descriptor)
        os.rename(path + ".new", path)
        if number % 10 == 0:
            parent = os.open(directory, os.O_RDONLY)
            os.fsync(parent)
            os.close(parent)
            record.seek(0)
            record.write(str(number))
            record.flush()
PYTHON
}

check_files() { # ROUND
    python3 - "$mnt/round-$1" "$directory/synced-$1" <<'PYTHON'
import os, sys
directory, synced = sys.argv[1:]
last_synced = int(open(synced).read() or 0)
names = os.listdir(directory) if os.path.isdir(directory) else []
numbers = sorted(int(name) for name in names if not name.endswith(".new"))
assert numbers == list(range(1, len(numbers) + 1)), "an order with gaps"
assert len(numbers) >= last_synced, (len(numbers), last_synced)
for number in numbers:
    assert open("%s/%d" % (directory, number), "rb").read() == b"%d\n" % number * (number % 7000), number
print(len(numbers), last_synced)
PYTHON
}

for round in $(seq $rounds); do
    write_files "$round" 2>"$directory/writer" &
    writer=$!
    until [ -e "$directory/synced-$round" ]; do # on a busy machine python needs its time
        kill -0 $writer || fail "the writer ended: $(cat "$directory/writer")"
        sleep 0.01
    done
    sleep "0.$((RANDOM % 9 + 1))"
    [ $((round % 2)) = 0 ] || mkdir "$mnt/.snapshots/at-$round"
    kill -0 $writer || fail "the writer ended: $(cat "$directory/writer")"
    store_kill
    wait $writer || true
    store_mount -q
    expect_equal 'unclean starts' "$("$varve" stats --json "$mnt" | json_get engine.unclean_starts)" \
        "$round"
    check_files "$round" >"$directory/numbers"
    [ $((round % 2)) = 0 ] || [ -d "$mnt/.snapshots/at-$round" ] ||
        fail 'a snapshot that had returned is gone'
done

store_remount
expect_equal 'replayed batches' "$("$varve" stats --json "$mnt" |
    json_get engine.wal_replayed_batches)" 0
expect_equal 'unclean starts' "$("$varve" stats --json "$mnt" | json_get engine.unclean_starts)" \
    "$rounds"
for round in $(seq $rounds); do
    check_files "$round" >"$directory/numbers"
done
store_unmount
store_check --verify
