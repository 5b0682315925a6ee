# SPDX-License-Identifier: Apache-2.0
"""What a daemon that is to fail finds (tests/sweep/mount): how it is mounted, on what store, beside whom."""
import ctypes
import fcntl
import os

import mount_steps

CLONE_NEWNS, MS_BIND, MS_SLAVE_ALL, MNT_DETACH = 0x20000, 0x1000, 0x84000, 2
# Whether the kernel takes requests by io_uring: the daemon reads and sets it, for the whole machine.
PARAMETER = "/sys/module/fuse/parameters/enable_uring"


class World:
    def __init__(self, name, transport="dev", steps=(), damaged=False, waits=False, shut=False):
        self.name, self.steps = name, steps
        self.damaged, self.waits, self.shut = damaged, waits, shut
        self.options = "transport=%s,sync_window=200,fsname=swept,noexec,dirsync,nodiratime" % transport
        if shut:
            self.options += ",shutdown_ioctl"


WORLDS = [
    World("device", steps=mount_steps.STEPS),
    World("io_uring", transport="io_uring", steps=mount_steps.STEPS),
    World("damaged", steps=[mount_steps.verb_names_of_damaged_files], damaged=True),
    World("waiting", waits=True),
    World("shut", shut=True),
]


def put(path, data):
    with open(path, "wb") as file:
        file.write(data)


def leave_other_mounts(libc):
    """A daemon whose mount has a copy here does not end when it is unmounted elsewhere, and a loop device
    stays with the image that another test means to remove."""
    with open("/proc/self/mountinfo") as file:
        mounts = [line.split() for line in file]
    for fields in reversed(mounts):
        point, kind = fields[4], fields[fields.index("-") + 1]
        if kind.split(".")[0] in ("fuse", "fuseblk") or "/varve-case." in point:
            libc.umount2(point.encode().decode("unicode_escape").encode("latin-1"), MNT_DETACH)


def hide_machine(parameter):
    """Mounts that nobody else sees. In them a file of ours stands for the kernel's parameter: what is
    written to it changes nothing."""
    libc = mount_steps.libc
    mount_steps.system(libc.unshare(CLONE_NEWNS))
    mount_steps.system(libc.mount(None, b"/", None, ctypes.c_ulong(MS_SLAVE_ALL), None))
    leave_other_mounts(libc)
    put(parameter, b"N\n")
    if os.path.exists(PARAMETER):
        mount_steps.system(libc.mount(parameter.encode(), PARAMETER.encode(), None, ctypes.c_ulong(MS_BIND), None))


def damage(store):
    """A byte in the middle of each chunk that has data of files."""
    for name in os.listdir(store + "/chunks"):
        if not name.endswith(".blb"):
            continue
        path = store + "/chunks/" + name
        data = bytearray(mount_steps.content(path))
        data[len(data) // 2] ^= 0xFF
        put(path, data)


class Holder:
    """Another process's lock on a store, as it is seen from outside."""

    def __init__(self, store):
        self.file = open(store + "/LOCK", "rb")
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def end(self):
        self.file.close()
