# SPDX-License-Identifier: Apache-2.0
"""disk.py - where the store lies, and how the power goes

A loop device with ext4, ext4 without a journal or xfs, whose image survives the cut; or a plain
directory, where only the daemon can die.
"""
import os
import shutil
import subprocess
import time

MAKE = {
    "ext4": ["mkfs.ext4", "-qF", "-E", "lazy_itable_init=1,lazy_journal_init=1"],
    "ext4-nojournal": ["mkfs.ext4", "-qF", "-O", "^has_journal", "-E", "lazy_itable_init=1"],
    "xfs": ["mkfs.xfs", "-qf"],
}


def run(*command, check=True):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and result.returncode != 0:
        raise RuntimeError("%s: status %d: %s" % (" ".join(command), result.returncode,
                                                  result.stdout[-2000:]))
    return result


def unmount(point):
    """Nothing may keep the image busy, or the next mount would meet the old file system."""
    for _ in range(500):
        # Of a file system that was shut down stat(2) knows nothing any more.
        with open("/proc/self/mountinfo") as mounts:
            if not any(line.split()[4] == point for line in mounts):
                return
        if run("umount", point, check=False).returncode != 0:
            time.sleep(0.02)
    raise RuntimeError("%s cannot be unmounted" % point)


class Directory:
    """No disk of its own: for kills."""
    ways = ("none",)

    def __init__(self, where):
        self.point = where + "/disk"
        os.makedirs(self.point, exist_ok=True)

    def cut(self, way):
        pass

    def restore(self, way):
        pass

    def end(self):
        pass


class Disk:
    def __init__(self, where, kind):
        self.kind, self.image, self.point = kind, where + "/image", where + "/disk"
        # A copy of the image without what the kernel still holds is the truest cut, and the only
        # one in which a file system without a journal loses metadata: the ioctl still lets go of it.
        self.ways = ("shutdown", "flush") if kind != "ext4-nojournal" else \
            ("shutdown", "flush", "copy")
        with open(self.image, "wb") as file:
            file.truncate(400 << 20)
        run(*MAKE[kind], self.image)
        os.makedirs(self.point, exist_ok=True)
        self.mount()

    def mount(self):
        run("mount", "-o", "loop", self.image, self.point)

    def cut(self, way):
        if way == "copy":
            run("cp", "--sparse=always", self.image, self.image + ".cut")
        elif way == "flush":
            run("xfs_io", "-x", "-c", "shutdown -f", self.point)
        else:
            run("xfs_io", "-x", "-c", "shutdown", self.point)

    def restore(self, way):
        """The machine starts again."""
        unmount(self.point)
        if way == "copy":
            os.rename(self.image + ".cut", self.image)
        if self.kind == "ext4-nojournal":
            # As when such a machine starts: without a journal only e2fsck makes the file system
            # whole.
            result = run("e2fsck", "-fy", self.image, check=False)
            with open(self.image + ".e2fsck", "w") as file:  # for somebody who looks at a violation
                file.write(result.stdout)
            if result.returncode > 1:
                raise RuntimeError("e2fsck: status %d: %s" % (result.returncode, result.stdout))
        self.mount()
        if self.kind == "ext4-nojournal":
            # What is found there is of no use to anybody, and fills the disk in the end.
            run("find", self.point + "/lost+found", "-mindepth", "1", "-delete")
            # For good: the next check is not to find its blocks with two owners because of us.
            run("sync", "-f", self.point)

    def end(self):
        unmount(self.point)
        for name in (self.image, self.image + ".cut", self.image + ".e2fsck"):
            if os.path.exists(name):
                os.unlink(name)


def make(where, kind):
    for point in ("mnt", "disk"):  # what a run that failed left
        run("umount", "-l", "%s/%s" % (where, point), check=False)
    if os.path.exists(where):
        shutil.rmtree(where)
    os.makedirs(where)
    return Directory(where) if kind == "none" else Disk(where, kind)
