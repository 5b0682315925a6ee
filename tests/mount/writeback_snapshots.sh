#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# With -o writeback the kernel may hold write(2) back. What the promise then is: what was written and
# synced, or closed, before mkdir is in the snapshot; what is being written meanwhile may be in it or not,
# but each write lies there whole or not at all up to some point of the file, and the live file is
# right. Without it (the default) every write that returned is in the snapshot.
. "$(dirname "$0")/../lib/mount.sh"

store_make
cat >"$directory/write.py" <<'PYTHON'
import os, sys, threading

mnt, mode = sys.argv[1:3]
RECORD = 512


def record(number):
    return b'%0511d\n' % number


def check(path, wanted_least, wanted_most):
    data = open(path, 'rb').read()
    count = len(data) // RECORD
    # Without delayed writes this cannot be: a record that was begun is there, or not.
    assert len(data) % RECORD == 0, (path, len(data))
    for number in range(count):
        assert data[number * RECORD:(number + 1) * RECORD] == record(number), (path, number)
    assert wanted_least <= count <= wanted_most, (path, wanted_least, count, wanted_most)


# Synced and closed files.
for name in range(20):
    fd = os.open('%s/synced-%d' % (mnt, name), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b'first')
    os.fsync(fd)
    with open('%s/closed-%d' % (mnt, name), 'wb') as file:
        file.write(b'second')
os.mkdir(mnt + '/.snapshots/still')
for name in range(20):
    assert open('%s/.snapshots/still/synced-%d' % (mnt, name)).read() == 'first'
    assert open('%s/.snapshots/still/closed-%d' % (mnt, name)).read() == 'second'

# A writer at work: it notes how far it is before and after each write, and each sync.
begun = done = synced = 0
stop = False


def write():
    global begun, done, synced
    fd = os.open(mnt + '/log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while not stop:
        begun += 1
        os.write(fd, record(begun - 1))
        done = begun
        if done % 50 == 0:
            os.fsync(fd)
            synced = done
    os.close(fd)


thread = threading.Thread(target=write)
thread.start()
for number in range(25):
    before_done, before_synced = done, synced
    os.mkdir('%s/.snapshots/%d' % (mnt, number))
    after = begun
    path = '%s/.snapshots/%d/log' % (mnt, number)
    if not os.path.exists(path):
        assert before_done == 0
    elif mode == 'exact':
        check(path, before_done, after)
    else:
        check(path, before_synced, after)
stop = True
thread.join()
check(mnt + '/log', done, done)
print('%d records' % done)
PYTHON
store_mount
python3 "$directory/write.py" "$mnt" exact
rm "$mnt/log"
"$varve" snapshot list -q "$mnt" | xargs "$varve" snapshot delete "$mnt"
store_remount -o writeback
python3 "$directory/write.py" "$mnt" weaker
store_remount
expect_equal 'records after a remount' "$(($(stat -c %s "$mnt/log") % 512))" 0
