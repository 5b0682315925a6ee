#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Stores to a shared mapping that was not flushed are in the snapshot made next, by mkdir and by
# the command.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount -o threads=2
python3 - "$mnt" "$varve" <<'PYTHON'
import mmap, os, subprocess, sys, threading
mnt, varve = sys.argv[1:]
fd = os.open(mnt + '/map', os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4 << 20)
pages = mmap.mmap(fd, 4 << 20)
for round in range(10):
    for at in range(0, 4 << 20, 4096):
        pages[at] = round
    name = 's%d' % round
    if round % 2:
        os.mkdir(mnt + '/.snapshots/' + name)
    else:
        subprocess.check_call([varve, 'snapshot', 'create', '-q', mnt, name])
for round in range(10):
    data = open(mnt + '/.snapshots/s%d/map' % round, 'rb').read()
    assert data[::4096] == bytes([round]) * 1024, round

# Sixteen at a time with two serving threads: none waits for itself. One wins (R55).
results = []
def create():
    try:
        os.mkdir(mnt + '/.snapshots/race'); results.append('made')
    except FileExistsError:
        results.append('exists')
threads = [threading.Thread(target=create) for _ in range(16)]
[t.start() for t in threads]
[t.join() for t in threads]
assert sorted(results) == ['exists'] * 15 + ['made'], results
PYTHON
