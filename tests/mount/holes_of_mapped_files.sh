#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What was written through a shared mapping is data to SEEK_DATA and SEEK_HOLE before the kernel has
# sent it, so that a copy from hole to hole (cp, tar -S) is the file. With -o writeback so is what was
# written at all. Many who ask at once, beside snapshots, wait for nobody but those who write.
. "$(dirname "$0")/../lib/mount.sh"
require_command python3

cat >"$directory/holes.py" <<'PYTHON'
import errno, mmap, os, subprocess, sys, threading, time

mnt, mode = sys.argv[1:3]
MIB, PAGE = 1 << 20, 4096


def regions(path, flags=os.O_RDONLY):
    """Where the file has data, in bytes, by its holes."""
    fd, at, found = os.open(path, flags), 0, []
    while True:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as problem:
            assert problem.errno == errno.ENXIO, problem
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at - start))
    os.close(fd)
    return found


fd = os.open(mnt + '/map', os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 16 * MIB)
os.pwrite(fd, b'x' * PAGE, 4 * MIB)
pages = mmap.mmap(fd, 16 * MIB)
assert regions(mnt + '/map') == [(4 * MIB, PAGE)]

# A page in a hole before data, some that follow one another and data, one in the last hole.
pages[MIB + 5] = 1
assert regions(mnt + '/map') == [(MIB, PAGE), (4 * MIB, PAGE)]
pages[4 * MIB + PAGE] = 2
pages[4 * MIB + 2 * PAGE] = 2
pages[4 * MIB + 4 * PAGE] = 2
pages[16 * MIB - 1] = 3
assert regions(mnt + '/map', os.O_RDWR) == [
    (MIB, PAGE), (4 * MIB, 3 * PAGE), (4 * MIB + 4 * PAGE, PAGE), (16 * MIB - PAGE, PAGE)]
pages[8 * MIB] = 4
assert os.lseek(fd, 5 * MIB, os.SEEK_DATA) == 8 * MIB
pages[9 * MIB] = 4
assert os.lseek(fd, 8 * MIB, os.SEEK_HOLE) == 8 * MIB + PAGE
assert os.lseek(fd, 9 * MIB + 1, os.SEEK_HOLE) == 9 * MIB + PAGE

# Whoever runs another program unmaps what he has of the mapping, which sends it: so it is run by one
# who has none.
if mode == 'mapped':
    helper = subprocess.Popen(['sh'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pages[12 * MIB] = 5
    helper.stdin.write(b'cp "%s/map" "%s/copy" && echo done\n' % ((mnt.encode(),) * 2))
    helper.stdin.flush()
    assert helper.stdout.readline() == b'done\n'
    helper.stdin.close()
    helper.wait()
    assert open(mnt + '/copy', 'rb').read() == pages[:]
else:
    written = os.open(mnt + '/written', os.O_WRONLY | os.O_CREAT)
    os.pwrite(written, b'y' * PAGE, 2 * MIB)
    assert regions(mnt + '/written') == [(2 * MIB, PAGE)], regions(mnt + '/written')
    os.pwrite(written, b'y' * PAGE, 3 * MIB)
    assert os.lseek(written, 2 * MIB + 5, os.SEEK_HOLE) == 2 * MIB + PAGE
    assert os.lseek(written, 3 * MIB, os.SEEK_DATA) == 3 * MIB
    os.close(written)

# Many at once on several files, beside writers and snapshots.
stop = time.monotonic() + 3
problems = []


def work(number):
    path = '%s/busy%d' % (mnt, number % 3)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 4 * MIB)
    mine = mmap.mmap(fd, 4 * MIB)
    at = number * 8 * PAGE
    try:
        while time.monotonic() < stop:
            at = at + 64 * PAGE if at + 72 * PAGE < 4 * MIB else number * 8 * PAGE
            mine[at] = 7
            if os.lseek(fd, at, os.SEEK_DATA) != at:
                problems.append('%d: no data at %d' % (number, at))
            if os.lseek(fd, at, os.SEEK_HOLE) < at + PAGE:
                problems.append('%d: a hole at %d' % (number, at))
    except OSError as problem:
        problems.append(problem)


threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
snapshots = 0
while time.monotonic() < stop:
    os.mkdir('%s/.snapshots/%s%d' % (mnt, mode, snapshots))
    snapshots += 1
[thread.join() for thread in threads]
assert not problems, problems[:5]
assert snapshots > 0
PYTHON
store_make
store_mount -o threads=2
python3 "$directory/holes.py" "$mnt" mapped || fail 'of mapped files'
rm "$mnt"/*
store_remount -o threads=2,writeback
python3 "$directory/holes.py" "$mnt" writeback || fail 'with writeback'
