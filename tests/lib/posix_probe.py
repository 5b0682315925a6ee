#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ask a filesystem what system calls do on it: one line of answer each, to be compared with another's.

posix_probe.py DIRECTORY; as root, in an empty directory. Prints no times, sizes of the filesystem or
numbers that two of them may have different without anybody's noticing.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import time

libc = ctypes.CDLL(None, use_errno=True)
USER = 12345
PAGE = 4096
os.chdir(sys.argv[1])
os.umask(0o022)


def answer(call):
    """What the call returns, or the name of its errno."""
    try:
        result = call()
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return "EOPNOTSUPP"
        return errno.errorcode.get(error.errno, str(error.errno))
    return "ok" if result is None else repr(result)


def show(name, call):
    print(f"{name}: {answer(call)}", flush=True)


def check(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def in_child(call, uid=None, groups=()):
    """The answer of a process of its own, perhaps of a user without rights."""
    end, other = os.pipe()
    child = os.fork()
    if child == 0:
        if uid is not None:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
        os.write(other, answer(call).encode())
        os._exit(0)
    os.close(other)
    with os.fdopen(end) as stream:
        text = stream.read()
    return text or "signal %d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def show_user(name, call, groups=()):
    print(f"{name}, a user: {in_child(call, USER, groups)}", flush=True)


def make(path, content=b"", mode=0o644, uid=0, gid=0):
    with open(path, "wb") as file:
        file.write(content)
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path


def with_fd(path, flags, call, mode=0o644):
    fd = os.open(path, flags, mode)
    try:
        return call(fd)
    finally:
        os.close(fd)


# ---- which times move ----

OLD = 1_000_000_000


def moved(paths, call):
    """Which of atime, mtime, ctime of each path the call moves, with its answer."""
    for path in paths:
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    before = [os.lstat(path) for path in paths]
    time.sleep(0.012)
    result = answer(call)
    moves = []
    for path, old in zip(paths, before):
        new = os.lstat(path)
        moves.append("".join(letter if getattr(new, f"st_{letter}time_ns") !=
                             getattr(old, f"st_{letter}time_ns") else "-" for letter in "amc"))
    return " ".join(moves + [result])


def show_moved(name, paths, call):
    print(f"times, {name}: {moved(paths, call)}", flush=True)


def map_and_write(path):
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[0:1] = b"m"
        pages.flush()


def times():
    os.mkdir("td")
    make("td/f", b"x" * 10000)
    os.symlink("f", "td/l")
    f, d = "td/f", "td"
    both = [f, d]
    show_moved("read", [f], lambda: with_fd(f, os.O_RDONLY, lambda fd: len(os.read(fd, 10))))
    show_moved("read of nothing", [f], lambda: with_fd(f, os.O_RDWR, lambda fd: len(os.read(fd, 0))))
    show_moved("O_NOATIME", [f],
               lambda: with_fd(f, os.O_RDONLY | os.O_NOATIME, lambda fd: len(os.read(fd, 10))))
    show_moved("write", both, lambda: with_fd(f, os.O_WRONLY, lambda fd: os.write(fd, b"y")))
    show_moved("write of nothing", [f], lambda: with_fd(f, os.O_WRONLY, lambda fd: os.write(fd, b"")))
    show_moved("truncate", [f], lambda: os.truncate(f, 9000))
    show_moved("truncate to the same", [f], lambda: os.truncate(f, 9000))
    show_moved("ftruncate to the same", [f],
               lambda: with_fd(f, os.O_WRONLY, lambda fd: os.ftruncate(fd, 9000)))
    show_moved("O_TRUNC", [f], lambda: with_fd(f, os.O_WRONLY | os.O_TRUNC, lambda fd: None))
    show_moved("O_TRUNC of nothing", [f], lambda: with_fd(f, os.O_WRONLY | os.O_TRUNC, lambda fd: None))
    os.truncate(f, 9000)
    show_moved("fallocate", [f], lambda: with_fd(f, os.O_WRONLY, lambda fd: fallocate(fd, 0, 0, 20000)))
    show_moved("punch", [f], lambda: with_fd(f, os.O_WRONLY, lambda fd: fallocate(fd, 3, 0, 4096)))
    show_moved("zero", [f], lambda: with_fd(f, os.O_WRONLY, lambda fd: fallocate(fd, 16, 0, 4096)))
    show_moved("mapping", [f], lambda: map_and_write(f))
    show_moved("chmod", [f], lambda: os.chmod(f, 0o600))
    show_moved("chmod to the same", [f], lambda: os.chmod(f, 0o600))
    show_moved("chown", [f], lambda: os.chown(f, 1, 1))
    show_moved("chown to the same", [f], lambda: os.chown(f, 1, 1))
    show_moved("chown of nothing", [f], lambda: os.chown(f, -1, -1))
    show_moved("setxattr", [f], lambda: os.setxattr(f, "user.a", b"b"))
    show_moved("removexattr", [f], lambda: os.removexattr(f, "user.a"))
    show_moved("utime", [f], lambda: os.utime(f, (OLD + 1, OLD)))
    show_moved("utime now", [f], lambda: os.utime(f))
    show_moved("utime, both omitted", [f], lambda: check(utimensat(f, OMIT, OMIT)))
    show_moved("utime, atime omitted", [f], lambda: check(utimensat(f, OMIT, NOW)))
    show_moved("utime, mtime omitted", [f], lambda: check(utimensat(f, NOW, OMIT)))
    show_moved("link", both, lambda: os.link(f, "td/h"))
    show_moved("unlink", both, lambda: os.unlink("td/h"))
    show_moved("create", [d], lambda: os.close(os.open("td/n", os.O_CREAT | os.O_WRONLY)))
    show_moved("open with O_CREAT of what is there", both,
               lambda: os.close(os.open(f, os.O_CREAT | os.O_WRONLY)))
    show_moved("rename", ["td/n", d], lambda: (os.rename("td/n", "td/m"), os.link("td/m", "td/n"))[0])
    show_moved("rename onto itself", ["td/n", d], lambda: os.rename("td/n", "td/m"))
    show_moved("rename onto another", ["td/m", f, d], lambda: (os.link(f, "td/k"), os.rename("td/m", "td/k"),
                                                               os.link("td/k", "td/m"))[0])
    show_moved("mkdir", [d], lambda: os.mkdir("td/s"))
    show_moved("rmdir", [d], lambda: os.rmdir("td/s"))
    show_moved("listing", [d], lambda: len(os.listdir(d)))
    show_moved("stat", both, lambda: (os.stat(f), os.stat(d))[0].st_nlink)
    show_moved("readlink", ["td/l"], lambda: os.readlink("td/l"))
    show_moved("through a link", ["td/l", f], lambda: with_fd("td/l", os.O_RDONLY, lambda fd: len(os.read(fd, 1))))
    show_moved("fsync", [f], lambda: with_fd(f, os.O_WRONLY, os.fsync))
    make("td/source", b"z" * 8192)
    show_moved("copy_file_range", [f], lambda: with_fd(
        "td/source", os.O_RDONLY, lambda a: with_fd(f, os.O_WRONLY, lambda b: os.copy_file_range(a, b, 8192))))
    show_moved("failed chmod", [f], lambda: os.chmod(f, 0o600, dir_fd=-5))
    show("times kept", lambda: [utime_kept(f, seconds) for seconds in
                                (-2147483648, -1, 0, 2147483648, 4294967296, 15032385535)])


OMIT, NOW = (1 << 30) - 2, (1 << 30) - 1


def utimensat(path, atime, mtime):
    return libc.utimensat(-100, os.fsencode(path), struct.pack("qqqq", 0, atime, 0, mtime), 0)


def utime_kept(path, seconds):
    os.utime(path, ns=(seconds * 10**9 + 987654321, seconds * 10**9 + 123456789))
    status = os.stat(path)
    return (status.st_atime_ns, status.st_mtime_ns) == (
        seconds * 10**9 + 987654321, seconds * 10**9 + 123456789)


# ---- errors ----


def fallocate(fd, mode, offset, size):
    check(libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)))


def errors():
    os.mkdir("ed")
    os.mkdir("ed/full")
    make("ed/f", b"content")
    make("ed/full/x")
    os.symlink("loop", "ed/loop")
    os.symlink("f", "ed/l")
    os.mkfifo("ed/fifo")
    f, d = "ed/f", "ed/full"
    long, toolong = "n" * 255, "n" * 256
    opening = {
        "directory for writing": (d, os.O_WRONLY), "directory, O_CREAT": (d, os.O_CREAT | os.O_RDONLY),
        "file, O_DIRECTORY": (f, os.O_DIRECTORY), "file/": (f + "/", os.O_RDONLY),
        "file/x": (f + "/x", os.O_RDONLY), "loop": ("ed/loop", os.O_RDONLY),
        "link, O_NOFOLLOW": ("ed/l", os.O_NOFOLLOW), "file, O_EXCL": (f, os.O_CREAT | os.O_EXCL),
        "link, O_EXCL": ("ed/l", os.O_CREAT | os.O_EXCL), "nothing": ("ed/none", os.O_RDONLY),
        "nothing/": ("ed/none/", os.O_CREAT | os.O_RDWR), "name of 256": ("ed/" + toolong, os.O_CREAT),
        "name of 255": ("ed/" + long, os.O_CREAT), "path of 5000": ("ed/" + "x/" * 2500, os.O_RDONLY),
        "fifo for writing": ("ed/fifo", os.O_WRONLY | os.O_NONBLOCK),
        "O_TMPFILE": ("ed", os.O_TMPFILE | os.O_RDWR), "O_TMPFILE for reading": ("ed", os.O_TMPFILE),
        "O_TMPFILE of a file": (f, os.O_TMPFILE | os.O_RDWR), "O_DIRECT": (f, os.O_RDWR | os.O_DIRECT),
        "O_PATH": (f, os.O_PATH), "O_SYNC": (f, os.O_RDWR | os.O_SYNC),
    }
    for name, (path, flags) in opening.items():
        show(f"open, {name}", lambda: os.close(os.open(path, flags, 0o644)))
    calls = {
        "unlink a directory": lambda: os.unlink(d), "rmdir a file": lambda: os.rmdir(f),
        "rmdir a full directory": lambda: os.rmdir(d), "rmdir .": lambda: os.rmdir("ed/full/."),
        "rmdir ..": lambda: os.rmdir("ed/full/.."), "link a directory": lambda: os.link(d, "ed/dl"),
        "link onto what is there": lambda: os.link(f, d), "symlink to nothing": lambda: os.symlink("", "ed/e"),
        "symlink to 4095": lambda: os.symlink("t" * 4095, "ed/t"),
        "symlink to 4096": lambda: os.symlink("t" * 4096, "ed/tt"), "readlink a file": lambda: os.readlink(f),
        "mkdir what is there": lambda: os.mkdir(d), "mkdir over a link": lambda: os.mkdir("ed/l"),
        "rename into itself": lambda: os.rename(d, "ed/full/in"),
        "rename a directory onto a file": lambda: os.rename(d, f),
        "rename a file onto a directory": lambda: os.rename(f, d),
        "rename onto a full directory": lambda: (os.mkdir("ed/e1"), os.rename("ed/e1", d)),
        "rename .": lambda: os.rename("ed/full/.", "ed/q"), "truncate a directory": lambda: os.truncate(d, 0),
        "truncate below 0": lambda: os.truncate(f, -1), "truncate a fifo": lambda: os.truncate("ed/fifo", 0),
        "read a directory": lambda: with_fd(d, os.O_RDONLY, lambda fd: os.read(fd, 1)),
        "write where only reading": lambda: with_fd(f, os.O_RDONLY, lambda fd: os.write(fd, b"x")),
        "mknod a device": lambda: os.mknod("ed/dev", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        "mknod a directory": lambda: os.mknod("ed/md", stat.S_IFDIR | 0o600),
        "a device is one": lambda: with_fd("ed/dev", os.O_RDWR, lambda fd: os.write(fd, b"x")),
        "map a directory": lambda: with_fd(d, os.O_RDONLY, lambda fd: mmap.mmap(fd, 1, prot=1)),
        "write at 2^63-1": lambda: with_fd(f, os.O_WRONLY, lambda fd: os.pwrite(fd, b"x", 2**63 - 1)),
        "seek below 0": lambda: with_fd(f, os.O_RDONLY, lambda fd: os.lseek(fd, -1, 0)),
        "ETXTBSY": text_busy, "exec without x": lambda: os.execv(make("ed/noexec", b"#!/bin/sh\n"), ["x"]),
        "O_DIRECT, odd": lambda: with_fd(f, os.O_WRONLY | os.O_DIRECT, lambda fd: os.write(fd, b"odd")),
        "socket": lambda: socket.socket(socket.AF_UNIX).bind("ed/socket"),
        "socket opened": lambda: os.open("ed/socket", os.O_RDONLY),
        "statvfs": lambda: (os.statvfs("ed").f_namemax, os.statvfs("ed").f_bsize, os.stat(f).st_blksize),
        "chmod of a link": lambda: check(libc.fchmodat(-100, b"ed/l", 0o600, 0x100)),
    }
    for name, call in calls.items():
        show(name, call)
    # COLLAPSE_RANGE and INSERT_RANGE (8, 32) do not pass FUSE.
    for mode in (0, 1, 2, 3, 4, 16, 17, 64, 9):
        for offset, size in ((0, 4096), (0, 0), (-1, 10), (8192, 4096)):
            show(f"fallocate {mode:#x} {offset} {size}",
                 lambda: with_fd(f, os.O_RDWR, lambda fd: fallocate(fd, mode, offset, size)))
        print("size", os.stat(f).st_size)


def text_busy():
    subprocess.run(["cp", "/bin/sleep", "ed/sleep"], check=True)
    running = subprocess.Popen(["ed/sleep", "5"])
    try:
        time.sleep(0.1)
        return answer(lambda: os.close(os.open("ed/sleep", os.O_WRONLY)))
    finally:
        running.kill()
        running.wait()


# ---- rights ----


def rights():
    os.mkdir("rd")
    os.mkdir("rd/sticky")
    os.chmod("rd/sticky", 0o1777)
    os.mkdir("rd/group")
    os.chown("rd/group", 0, 777)
    os.chmod("rd/group", 0o2777)
    own, other = make("rd/own", b"12", 0o644, USER, USER), make("rd/other", b"12", 0o644)
    make("rd/sticky/f")
    writable = make("rd/writable", b"", 0o666)
    show_user("chmod of another's", lambda: os.chmod(other, 0o666))
    show_user("chown to another", lambda: os.chown(own, 1, -1))
    show_user("chown to himself", lambda: os.chown(own, USER, USER))
    show_user("chgrp to a foreign group", lambda: os.chown(own, -1, 888))
    show_user("chgrp to one of his", lambda: os.chown(own, -1, 888), (888,))
    show_user("utime of another's", lambda: os.utime(other))
    show_user("utime now of what he may write", lambda: os.utime(writable))
    show_user("utime by hand of what he may write",
              lambda: os.utime(writable, (1, 1)))
    show_user("O_NOATIME of another's", lambda: os.close(os.open(other, os.O_RDONLY | os.O_NOATIME)))
    show_user("unlink where it is sticky", lambda: os.unlink("rd/sticky/f"))
    show_user("rename where it is sticky", lambda: os.rename("rd/sticky/f", "rd/sticky/g"))
    show_user("mknod a device", lambda: os.mknod("rd/group/dev", stat.S_IFCHR, 1))
    show_user("link to another's", lambda: os.link(other, "rd/group/link"))
    show_user("trusted xattr", lambda: os.setxattr(own, "trusted.a", b"b"))
    show_user("xattr of another's", lambda: os.setxattr(other, "user.a", b"b"))
    show_user("xattr in a sticky directory", lambda: os.setxattr("rd/sticky", "user.a", b"b"))
    show_user("sgid outside the group", lambda: (os.chown(own, -1, USER), os.chmod(own, 0o2755), oct(os.stat(own).st_mode))[2])
    for groups in ((), (777,)):
        name = "rd/group/f%d" % len(groups)
        show_user(f"new file in a setgid directory, groups {groups}", lambda: (
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o2775)), oct(os.stat(name).st_mode), os.stat(name).st_gid)[1:],
            groups)
        show_user(f"new directory there, groups {groups}", lambda: (
            os.mkdir(name + "d", 0o775), oct(os.stat(name + "d").st_mode), os.stat(name + "d").st_gid)[1:], groups)
    for mode in (0o6777, 0o6666, 0o2666, 0o4755):
        for name, call in {"write": lambda fd: os.write(fd, b"x"), "ftruncate": lambda fd: os.ftruncate(fd, 1)}.items():
            make("rd/suid", b"123", mode)
            os.chmod("rd/suid", mode | 0o002)
            fd = os.open("rd/suid", os.O_WRONLY)
            in_child(lambda: call(fd), USER)
            os.close(fd)
            print(f"{mode:o} after {name}: {os.stat('rd/suid').st_mode:o}")
        make("rd/suid", b"123", mode)
        os.chown("rd/suid", 5, 5)
        print(f"{mode:o} after chown by root: {os.stat('rd/suid').st_mode:o}")
        make("rd/suid", b"123", mode, USER, USER)
        in_child(lambda: os.chown("rd/suid", -1, 888), USER, (888,))
        print(f"{mode:o} after chown by its owner: {os.stat('rd/suid').st_mode:o}")


# ---- xattrs ----


def xattrs():
    make("xf")
    os.symlink("xf", "xl")
    os.mkfifo("xp")
    for name in ("user.a", "trusted.a", "security.a", "system.a", "a", "user.", "unknown.a", "user." + "n" * 250,
                 "user." + "n" * 251, ""):
        show(f"setxattr {name[:12]} {len(name)}", lambda: os.setxattr("xf", name, b"value"))
        show(f"getxattr {name[:12]} {len(name)}", lambda: os.getxattr("xf", name))
    show("create what is there", lambda: os.setxattr("xf", "user.a", b"", os.XATTR_CREATE))
    show("replace what is not", lambda: os.setxattr("xf", "user.none", b"", os.XATTR_REPLACE))
    show("remove what is not", lambda: os.removexattr("xf", "user.none"))
    show("get what is not", lambda: os.getxattr("xf", "user.none"))
    show("too small", lambda: check(libc.getxattr(b"xf", b"user.a", ctypes.create_string_buffer(2), 2)))
    show("list too small", lambda: check(libc.listxattr(b"xf", ctypes.create_string_buffer(2), 2)))
    show("65537 bytes", lambda: os.setxattr("xf", "user.big", b"v" * 65537))
    show("empty value", lambda: (os.setxattr("xf", "user.e", b""), os.getxattr("xf", "user.e"))[1])
    for path in ("xl", "xp"):
        show(f"user xattr of {path}", lambda: os.setxattr(path, "user.a", b"b", follow_symlinks=False))
        show(f"trusted xattr of {path}", lambda: os.setxattr(path, "trusted.a", b"b", follow_symlinks=False))
    show("list", lambda: sorted(n[:14] for n in os.listxattr("xf")))
    show_user("list", lambda: sorted(n[:14] for n in os.listxattr("xf")))
    entries = ((1, 7, -1), (2, 6, USER), (4, 5, -1), (16, 7, -1), (32, 4, -1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", t, p, i & 0xffffffff) for t, p, i in entries)
    os.mkdir("xd")
    for path, name in (("xf", "access"), ("xf", "default"), ("xd", "default"), ("xl", "access")):
        show(f"ACL {name} of {path}", lambda: (os.setxattr(path, "system.posix_acl_" + name, acl), oct(os.stat(path).st_mode))[1])
    show("a broken ACL", lambda: os.setxattr("xf", "system.posix_acl_access", acl[:-3]))
    show("an ACL without a mask", lambda: os.setxattr("xf", "system.posix_acl_access", acl[:4 + 8 * 3]))
    os.close(os.open("xd/f", os.O_CREAT, 0o640))
    os.mkdir("xd/d", 0o750)
    for path in ("xf", "xd", "xd/f", "xd/d"):
        show(f"{path} with ACLs", lambda: (oct(os.stat(path).st_mode), sorted(os.listxattr(path)),
                                         [os.getxattr(path, n).hex() for n in sorted(os.listxattr(path)) if "acl" in n]))
    show_user("read by the ACL", lambda: with_fd("xf", os.O_RDONLY, lambda fd: os.read(fd, 1)))
    show("chmod with an ACL", lambda: (os.chmod("xf", 0o700), os.getxattr("xf", "system.posix_acl_access").hex())[1])
    show("ACL taken away", lambda: (os.removexattr("xf", "system.posix_acl_access"), oct(os.stat("xf").st_mode))[1])
    os.mkdir("xn")
    for path in ("xf", "xn"):
        for name in ("access", "default"):
            show(f"no ACL {name} taken from {path}", lambda: os.removexattr(path, "system.posix_acl_" + name))
            show(f"no ACL {name} of {path}", lambda: os.getxattr(path, "system.posix_acl_" + name))


# ---- data ----


def bus_error():
    fd = os.open("bus", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 2 * PAGE)
    pages = mmap.mmap(fd, 2 * PAGE)
    os.ftruncate(fd, 10)
    first = pages[100]
    return (first, pages[PAGE])


def data():
    fd = os.open("df", os.O_RDWR | os.O_CREAT)
    show("RWF_APPEND", lambda: os.pwritev(fd, [b"end"], 0, 0x10))
    show("RWF_DSYNC", lambda: os.pwritev(fd, [b"x"], 0, os.RWF_DSYNC))
    show("RWF_SYNC", lambda: os.pwritev(fd, [b"x"], 0, os.RWF_SYNC))
    show("RWF_HIPRI", lambda: os.preadv(fd, [bytearray(1)], 0, os.RWF_HIPRI))
    show("unknown RWF", lambda: os.preadv(fd, [bytearray(1)], 0, 0x40000000))
    with open("df", "ab") as appender:
        os.ftruncate(fd, 100)
        appender.write(b"after")
    show("append after truncate", lambda: os.stat("df").st_size)
    with open("df", "ab") as appender:
        show("RWF_NOAPPEND", lambda: os.pwritev(appender.fileno(), [b"mid"], 50, 0x20))
    show("after RWF_NOAPPEND", lambda: (os.stat("df").st_size, os.pread(fd, 3, 50)))
    fd2 = os.open("df", os.O_RDWR | os.O_APPEND)
    show("pwrite with O_APPEND", lambda: (os.pwrite(fd2, b"zz", 0), os.stat("df").st_size))
    show("read past the end", lambda: os.pread(fd, 10, 1000))
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"d" * PAGE, 3 * PAGE)
    os.ftruncate(fd, 10 * PAGE)
    show("data and holes", lambda: [answer(lambda: os.lseek(fd, at, how)) for at in (0, PAGE, 3 * PAGE, 3 * PAGE + 1, 4 * PAGE, 10 * PAGE)
                                    for how in (os.SEEK_DATA, os.SEEK_HOLE)])
    show("blocks", lambda: os.fstat(fd).st_blocks)
    pages = mmap.mmap(fd, 4 * PAGE)
    os.pwrite(fd, b"written", 0)
    show("a mapping sees a write", lambda: pages[0:7])
    pages[PAGE:PAGE + 6] = b"mapped"
    show("a read sees a mapping", lambda: os.pread(fd, 6, PAGE))
    direct = os.open("df", os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, PAGE)
    show("O_DIRECT sees a mapping", lambda: (os.preadv(direct, [buffer], PAGE), buffer[0:6]))
    print(f"SIGBUS: {in_child(bus_error)}")
    show("sendfile", lambda: with_fd("sf", os.O_RDWR | os.O_CREAT, lambda to: os.sendfile(to, fd, 0, 8192)))
    end, other = os.pipe()
    show("splice out", lambda: os.splice(fd, other, 100, offset_src=0))
    show("splice in", lambda: with_fd("sp", os.O_RDWR | os.O_CREAT, lambda to: os.splice(end, to, 100)))
    show("what was spliced", lambda: with_fd("sp", os.O_RDONLY, lambda to: os.read(to, 7)))
    show("copy onto itself", lambda: os.copy_file_range(fd, fd, 100, 0, 50))
    show("copy within", lambda: os.copy_file_range(fd, fd, 100, 0, 5 * PAGE))
    show("syncs", lambda: (os.fsync(fd), os.fdatasync(fd), check(libc.syncfs(fd)), check(libc.sync_file_range(fd, 0, 0, 0, 0, 7))))
    show("fadvise", lambda: [os.posix_fadvise(fd, 0, 0, how) for how in range(6)])
    show("readahead", lambda: check(libc.readahead(fd, ctypes.c_long(0), 4096)))
    show("madvise REMOVE", lambda: (pages.madvise(mmap.MADV_REMOVE, 0, PAGE), os.pread(fd, 7, 0)))
    temporary = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    show("O_TMPFILE's links", lambda: os.fstat(temporary).st_nlink)
    os.write(temporary, b"named later")
    show("O_TMPFILE named", lambda: os.link(f"/proc/self/fd/{temporary}", "named", follow_symlinks=True))
    show("its content", lambda: (open("named").read(), os.stat("named").st_nlink))
    exclusive = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL)
    show("O_TMPFILE with O_EXCL named", lambda: os.link(f"/proc/self/fd/{exclusive}", "named2", follow_symlinks=True))
    gone = os.open("gone", os.O_RDWR | os.O_CREAT)
    os.write(gone, b"still")
    os.unlink("gone")
    show("unlinked and open", lambda: (os.pread(gone, 5, 0), os.fstat(gone).st_nlink, os.readlink(f"/proc/self/fd/{gone}").split("/")[-1]))
    show("unlinked and linked again", lambda: os.link(f"/proc/self/fd/{gone}", "back", follow_symlinks=True))
    here = os.open("here", os.O_CREAT | os.O_RDWR)
    os.unlink("here")
    show("chmod of what is unlinked", lambda: (os.fchmod(here, 0o600), oct(os.fstat(here).st_mode)))
    os.mkdir("rmd")
    directory = os.open("rmd", os.O_RDONLY)
    os.rmdir("rmd")
    show("create in a removed directory", lambda: os.open("x", os.O_CREAT, dir_fd=directory))
    show("list a removed directory", lambda: os.listdir(directory))


# ---- locks, leases, events ----


def events():
    make("lf", b"x")
    fd = os.open("lf", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    print("POSIX lock:", in_child(lambda: fcntl.lockf(os.open("lf", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)))
    fcntl.lockf(fd, fcntl.LOCK_UN)
    fcntl.flock(fd, fcntl.LOCK_EX)
    print("flock:", in_child(lambda: fcntl.flock(os.open("lf", os.O_RDWR), fcntl.LOCK_SH | fcntl.LOCK_NB)))
    fcntl.flock(fd, fcntl.LOCK_UN)
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    show("open file description lock", lambda: fcntl.fcntl(fd, 37, lock) and None)
    print("against it:", in_child(lambda: fcntl.fcntl(os.open("lf", os.O_RDWR), 37, lock) and None))
    os.close(fd)
    reader = os.open("lf", os.O_RDONLY)
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    show("lease", lambda: fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK))
    show("lease given back", lambda: fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_UNLCK))
    watch = libc.inotify_init1(os.O_NONBLOCK)
    os.mkdir("watched")
    libc.inotify_add_watch(watch, b"watched", 0xfff)
    make("watched/a", b"1")
    os.rename("watched/a", "watched/b")
    os.chmod("watched/b", 0o600)
    open("watched/b").read()
    os.unlink("watched/b")
    os.listdir("watched")
    select.select([watch], [], [], 1)
    raw, found = os.read(watch, 65536), []
    while raw:
        mask, length = struct.unpack_from("4xI4xI", raw)
        found.append(f"{mask:x}")
        raw = raw[16 + length:]
    print("inotify:", " ".join(found))


# ---- directories ----


def names_of(stream):
    class Entry(ctypes.Structure):
        _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("size", ctypes.c_uint16),
                    ("type", ctypes.c_uint8), ("name", ctypes.c_char * 256)]

    libc.readdir.restype = ctypes.POINTER(Entry)
    entry = libc.readdir(stream)
    return entry.contents.name.decode() if entry else None


def directories():
    libc.opendir.restype = ctypes.c_void_p
    for call in ("readdir", "telldir", "seekdir", "rewinddir", "closedir"):
        getattr(libc, call).argtypes = [ctypes.c_void_p] + ([ctypes.c_long] if call == "seekdir" else [])
    libc.telldir.restype = ctypes.c_long
    os.mkdir("dd")
    for i in range(3000):
        os.close(os.open(f"dd/{i:05}", os.O_CREAT))
    stream = libc.opendir(b"dd")
    seen, places = [], []
    while True:
        places.append(libc.telldir(stream))
        name = names_of(stream)
        if name is None:
            break
        seen.append(name)
        if len(seen) == 1000:
            for i in range(3000, 3100):
                os.close(os.open(f"dd/{i:05}", os.O_CREAT))
    stays = [name for name in seen if name not in (".", "..") and int(name) < 3000]
    print("entries seen once while others come:", len(stays), len(set(stays)))
    right = 0
    for at in range(0, 3000, 97):
        libc.seekdir(stream, places[at])
        right += names_of(stream) == seen[at]
    print("places found again:", right)
    libc.rewinddir(stream)
    removed = 0
    while True:
        name = names_of(stream)
        if name is None:
            break
        if name not in (".", ".."):
            os.unlink("dd/" + name)
            removed += 1
    libc.closedir(stream)
    print("removed while reading:", removed, os.listdir("dd"))
    os.rmdir("dd")
    os.mkdir("many")
    make("many/f")
    show("links", lambda: link_until("many/f", 65010))
    show("links of a directory", lambda: (os.mkdir("ld"), os.mkdir("ld/a"), os.mkdir("ld/b"), os.stat("ld").st_nlink)[3])


def link_until(path, count):
    for i in range(count):
        try:
            os.link(path, f"many/{i}")
        except OSError as error:
            return (os.stat(path).st_nlink, errno.errorcode[error.errno])
    return os.stat(path).st_nlink


# ---- ioctls ----


def ioctls():
    make("io", b"123")
    os.mkdir("iod")
    word = struct.pack("l", 0)
    for path in ("io", "iod"):
        fd = os.open(path, os.O_RDONLY)
        show(f"FIONREAD {path}", lambda: struct.unpack("i", fcntl.ioctl(fd, 0x541B, b"\0" * 4))[0])
        show(f"TCGETS {path}", lambda: fcntl.ioctl(fd, 0x5401, b"\0" * 64))
        show(f"unknown {path}", lambda: fcntl.ioctl(fd, 0x12345678, word))
        for flag in (0x10, 0x20, 0x40, 0x80, 0x8):
            show(f"flag {flag:#x} {path}", lambda: (
                fcntl.ioctl(fd, 0x40086602, struct.pack("l", flag)),
                struct.unpack("i4x", fcntl.ioctl(fd, 0x80086601, word))[0] & 0xf8)[1])
            show(f"chmod under flag {flag:#x} {path}", lambda: os.chmod(path, 0o700))
            show(f"utime under flag {flag:#x} {path}", lambda: os.utime(path))
            show(f"write under flag {flag:#x} {path}", lambda: os.close(os.open(
                path + "/x" if path == "iod" else path, os.O_WRONLY | (os.O_CREAT if path == "iod" else 0), 0o600)))
            show(f"link under flag {flag:#x} {path}", lambda: os.link(path, "iolink") or os.unlink("iolink"))
            show(f"rename under flag {flag:#x} {path}", lambda: os.rename(path, "ioren") or os.rename("ioren", path))
            show(f"setxattr under flag {flag:#x} {path}", lambda: os.setxattr(path, "user.a", b"b"))
        fcntl.ioctl(fd, 0x40086602, word)
        show_user(f"flags {path}", lambda: fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0x40)))
        os.chown(path, USER, USER)
        show_user(f"flags of his own {path}", lambda: fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0x40)) and None)
        show_user(f"immutable of his own {path}", lambda: fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0x10)))
        os.close(fd)


for part in (times, errors, rights, xattrs, data, events, directories, ioctls):
    print(f"---- {part.__name__}")
    try:
        part()
    except Exception as error:  # the rest is worth knowing too
        print(f"{part.__name__} ended: {error!r}")
