#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make one system call and print OK or the name of its errno.

system_call.py CALL ARGUMENT...; the shell's own commands say too little of how they failed.
"""
import ctypes
import errno
import os
import socket
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100


def rename_with_flags(source, target, flags):
    names = {"noreplace": 1, "exchange": 2, "whiteout": 4}
    if libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), names[flags]):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def write(path, data="x", flags=os.O_WRONLY):
    descriptor = os.open(path, flags)
    try:
        os.write(descriptor, data.encode())
    finally:
        os.close(descriptor)


def with_descriptor(path, flags, call):
    descriptor = os.open(path, flags)
    try:
        call(descriptor)
    finally:
        os.close(descriptor)


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path)


def handle_of(path):
    """What an NFS server would keep of what `path` names."""
    size = 128
    handle = ctypes.create_string_buffer(8 + size)
    ctypes.memmove(handle, size.to_bytes(4, sys.byteorder), 4)
    mount = ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), handle, ctypes.byref(mount), 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return handle


def open_handle(directory, handle):
    """Open it by that, on the filesystem of `directory`, and read or list it: what a file begins with."""
    mount = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    descriptor = libc.open_by_handle_at(mount, handle, os.O_RDONLY)
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.listdir(descriptor)
        return b""
    return os.read(descriptor, 4096)


def save_handle(path, file):
    with open(file, "wb") as stream:
        stream.write(handle_of(path).raw)


def open_saved_handle(directory, file, text=None):
    """A file that is not the line `text` is EBADMSG."""
    with open(file, "rb") as stream:
        content = open_handle(directory, stream.read())
    if text is not None and content != os.fsencode(text) + b"\n":
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))


CALLS = {
    "mkdir": lambda path: os.mkdir(path),
    "rmdir": lambda path: os.rmdir(path),
    "unlink": lambda path: os.unlink(path),
    "rename": lambda source, target: os.rename(source, target),
    "renameat2": rename_with_flags,
    "link": lambda source, target: os.link(source, target, follow_symlinks=False),
    "symlink": lambda target, path: os.symlink(target, path),
    "mkfifo": lambda path: os.mkfifo(path),
    "socket": unix_socket,
    "create": lambda path: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    "read": lambda path: with_descriptor(path, os.O_RDONLY, lambda fd: os.read(fd, 1)),
    "write": write,
    "append": lambda path: write(path, flags=os.O_WRONLY | os.O_APPEND),
    "open_write": lambda path: os.close(os.open(path, os.O_WRONLY)),
    "open_truncate": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
    "open_direct": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_DIRECT)),
    "tmpfile": lambda path: os.close(os.open(path, os.O_TMPFILE | os.O_WRONLY)),
    "truncate": lambda path, size: os.truncate(path, int(size)),
    "fallocate": lambda path, offset, size: with_descriptor(
        path, os.O_WRONLY, lambda fd: os.posix_fallocate(fd, int(offset), int(size))),
    "fsync": lambda path: with_descriptor(path, os.O_RDONLY, os.fsync),
    "chmod": lambda path, mode: os.chmod(path, int(mode, 8)),
    "chown": lambda path, uid, gid: os.lchown(path, int(uid), int(gid)),
    "utime": lambda path: os.utime(path, ns=(1, 1)),
    "stat": lambda path: os.lstat(path),
    "by_handle": lambda path: open_handle(os.path.dirname(path), handle_of(path)),
    "save_handle": save_handle,
    "open_handle": open_saved_handle,
    "readlink": lambda path: os.readlink(path),
    "list": lambda path: os.listdir(path),
    "getxattr": lambda path, name: os.getxattr(path, name),
    "setxattr": lambda path, name, value: os.setxattr(path, name, value.encode()),
    "removexattr": lambda path, name: os.removexattr(path, name),
}

try:
    CALLS[sys.argv[1]](*sys.argv[2:])
except OSError as error:
    # Two names of one number; the table knows it by the other.
    print("EOPNOTSUPP" if error.errno == errno.EOPNOTSUPP else errno.errorcode[error.errno])
else:
    print("OK")
