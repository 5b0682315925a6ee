#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What was acknowledged before a snapshot is in it without any sync, and what came after is not:
# new files, appends, renames, removals; small and large; also when the daemon is killed right after.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount -o sync_window=0
for round in 1 2 3 4 5 6; do
    tree=$mnt/tree-$round snapshot=$mnt/.snapshots/at-$round
    mkdir "$tree"
    printf 'small' >"$tree/small"
    head -c 3000001 /dev/urandom >"$tree/large"
    printf 'renamed' >"$tree/from"
    mv "$tree/from" "$tree/to"
    printf 'removed' >"$tree/removed"
    rm "$tree/removed"
    printf 'appended' >>"$tree/small"
    ln "$tree/small" "$tree/link"
    sum=$(sha256sum <"$tree/large")
    mkdir "$snapshot"
    printf 'later' >"$tree/small"
    rm "$tree/large"
    : >"$tree/new"
    if [ $((round % 2)) = 0 ]; then
        store_kill
        store_mount -q -o sync_window=0
    fi
    expect_file "$snapshot/tree-$round/small" smallappended
    expect_file "$snapshot/tree-$round/to" renamed
    expect_equal 'hash of a large file' "$(sha256sum <"$snapshot/tree-$round/large")" "$sum"
    expect_equal 'names' "$(ls "$snapshot/tree-$round" | tr '\n' ' ')" 'large link small to '
done

# A writer who notes what it wrote: in each snapshot a prefix, nothing torn. Its records never cross
# a page: those that do, the kernel may send in two requests, and a snapshot may fall between them.
python3 - "$mnt" <<'PYTHON'
import os, sys, threading
mnt = sys.argv[1]
path, stop, done = mnt + "/log", threading.Event(), [0]
def write():
    with open(path, "ab", buffering=0) as log:
        while not stop.is_set():
            log.write(b"%015d\n" % done[0])
            done[0] += 1
open(path, "wb").close()
writer = threading.Thread(target=write, daemon=True)
writer.start()
for number in range(30):
    before = done[0]
    os.mkdir("%s/.snapshots/log-%d" % (mnt, number))
    after = done[0]
    data = open("%s/.snapshots/log-%d/log" % (mnt, number), "rb").read()
    lines = data.split(b"\n")[:-1]
    assert len(data) == 16 * len(lines), "a torn append"
    assert lines == [b"%015d" % n for n in range(len(lines))], "not a prefix"
    assert before <= len(lines) <= after + 1, (before, len(lines), after)
stop.set()
writer.join()
PYTHON
