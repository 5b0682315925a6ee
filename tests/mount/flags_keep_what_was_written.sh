#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What was written through a shared mapping, or with -o writeback by write(2), before a file became
# immutable or append-only is in it, though the kernel had not sent it yet.
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command python3

cat >"$directory/flags.py" <<'PYTHON'
import fcntl, mmap, os, struct, sys

mnt, mode = sys.argv[1:]
SETFLAGS, SETXATTR = 0x40086602, 0x401c5820
IMMUTABLE, APPEND = 0x10, 0x20


def set_flags(fd, flags):
    fcntl.ioctl(fd, SETFLAGS, struct.pack('=i', flags) + b'\0' * 4)


def set_extended(fd, flags):
    xflags = (0x8 if flags & IMMUTABLE else 0) | (0x10 if flags & APPEND else 0)
    fcntl.ioctl(fd, SETXATTR, struct.pack('=IIIII8s', xflags, 0, 0, 0, 0, b''))


def check(path, expected):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.read(fd, len(expected)) == expected, path
    os.close(fd)


for number, change in enumerate((set_flags, set_extended)):
    for flag in (IMMUTABLE, APPEND):
        path = '%s/%s-%d-%d' % (mnt, mode, number, flag)
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        reader = os.open(path, os.O_RDONLY)
        os.pwrite(fd, b'a' * 8192, 0)
        pages = mmap.mmap(fd, 8192)
        pages[:6] = b'mapped'
        change(reader, flag)
        pages.flush()
        pages.close()
        os.close(fd)
        check(path, b'mappedaa')
        change(reader, 0)
        fd = os.open(path, os.O_WRONLY)
        os.pwrite(fd, b'written', 0)
        change(reader, flag)
        os.close(fd)
        check(path, b'writtena')
        change(reader, 0)
        os.close(reader)
PYTHON
store_make
store_mount -o threads=2
python3 "$directory/flags.py" "$mnt" plain || fail 'of a mapped file'
store_remount -o threads=2,writeback
python3 "$directory/flags.py" "$mnt" writeback || fail 'with writeback'
