#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a program stored to a mapping stays in its memory when the store has no room for it: a
# snapshot asks the kernel for such pages, and that this fails must not take them away.
. "$(dirname "$0")/../lib/mount.sh"

at_end() {
    disk_end
}
disk_make 200M
store_make
store_mount
python3 - "$mnt" "$varve" <<'PYTHON'
import errno, mmap, os, subprocess, sys, time
mnt, varve = sys.argv[1:]
mapped = os.open(mnt + "/mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(mapped, 1 << 20)
memory = mmap.mmap(mapped, 1 << 20)
memory[0] = 1
subprocess.check_call([varve, "sync", mnt])
full = os.open(mnt + "/full", os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(full, os.urandom(100000))
except OSError as error:
    assert error.errno == errno.ENOSPC, error
text = os.urandom(1 << 20)
memory[:] = text
for attempt in range(2):
    subprocess.run([varve, "snapshot", "create", "-q", mnt, "snapshot-%d" % attempt])
    assert memory[:] == text, "what was stored is gone from memory"
try:
    os.fsync(mapped)
    raise SystemExit("an fsync of what does not fit succeeded")
except OSError as error:
    assert error.errno == errno.ENOSPC, error
# With room again, which the snapshots must not keep, it can be written after all.
os.close(full)
for name in os.listdir(mnt + "/.snapshots"):
    os.rmdir(mnt + "/.snapshots/" + name)
os.unlink(mnt + "/full")
for attempt in range(300):
    memory[:] = text
    try:
        memory.flush()
        break
    except OSError as error:
        assert error.errno == errno.ENOSPC and attempt < 299, error
        time.sleep(0.1)
PYTHON
store_remount
expect_equal 'the size of the file' "$(stat -c %s "$mnt/mapped")" 1048576
