#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Snapshots one after the other while a file grows by small synced appends, which makes many chunks that
# die young: each snapshot is complete, exact, and can be read and deleted.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
cat >"$directory/append.py" <<'PYTHON'
import os, subprocess, sys, threading

mnt, varve = sys.argv[1:3]
RECORD = 512
SNAPSHOTS = 40
begun = done = 0
stop = False


def record(number):
    return b'%0511d\n' % number


def append():
    global begun, done
    fd = os.open(mnt + '/log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while not stop:
        begun += 1
        os.write(fd, record(begun - 1))
        done = begun
        if done % 50 == 0:
            os.fsync(fd)
    os.close(fd)


thread = threading.Thread(target=append)
thread.start()
bounds = []
for number in range(SNAPSHOTS):
    before = done
    os.mkdir('%s/.snapshots/%d' % (mnt, number))
    bounds.append((before, begun))
stop = True
thread.join()
for number, (least, most) in enumerate(bounds):
    path = '%s/.snapshots/%d/log' % (mnt, number)
    data = open(path, 'rb').read() if os.path.exists(path) else b''
    count = len(data) // RECORD
    assert least <= count <= most, (number, least, count, most)
    assert data == b''.join(map(record, range(count))), number
os.unlink(mnt + '/log')
PYTHON
rounds=3
[ -z "${VARVE_TEST_FULL:-}" ] || rounds=50
for ((round = 0; round < rounds; round++)); do
    python3 "$directory/append.py" "$mnt" "$varve"
    "$varve" verify -q "$mnt" || fail 'verify finds damage where there is none'
    # The last one's directory is made after all others.
    "$varve" snapshot create -q "$mnt" last
    "$varve" snapshot list --json "$mnt" >"$directory/list"
    ! grep -q '"materialised": false' "$directory/list" || fail 'a snapshot has no directory'
    store_remount
    cat "$mnt"/.snapshots/*/log >/dev/null || fail 'a snapshot cannot be read after a remount'
    "$varve" snapshot list -q "$mnt" | xargs "$varve" snapshot delete "$mnt"
done
