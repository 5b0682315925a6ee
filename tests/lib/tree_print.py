#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tree_print - a line for everything below a directory: names, attributes, xattrs, content

Of files only what is not a hole is read, so that sparse ones cost little; zeros and holes print alike.
"""
import errno
import hashlib
import os
import stat
import sys

BLOCK = 4096
PART = 1 << 20
NOTHING = bytes(BLOCK)


def data_parts(descriptor, size):
    """(offset, length) of the data, in whole blocks."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        start -= start % BLOCK
        yield start, end - start


def content(path, size):
    digest = hashlib.blake2b(digest_size=16)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOATIME)
    try:
        for start, length in data_parts(descriptor, size):
            for offset in range(start, start + length, PART):
                data = os.pread(descriptor, min(PART, start + length - offset), offset)
                for at in range(0, len(data), BLOCK):
                    block = data[at:at + BLOCK]
                    if block != NOTHING[:len(block)]:
                        digest.update(b"%d " % (offset + at) + block)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def xattrs(path):
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]


def describe(path):
    status = os.lstat(path)
    words = [f"{status.st_mode:o}", status.st_uid, status.st_gid, status.st_mtime_ns,
             status.st_ctime_ns, status.st_rdev, xattrs(path)]
    if stat.S_ISREG(status.st_mode):
        words += [status.st_size, status.st_blocks, content(path, status.st_size)]
    elif stat.S_ISLNK(status.st_mode):
        words.append(os.readlink(path))
    return " ".join(map(str, words))


def walk(directory, name):
    for entry in sorted(os.listdir(directory)):
        path, below = os.path.join(directory, entry), os.path.join(name, entry)
        print(os.fsencode(below).decode("latin-1"), describe(path))
        if stat.S_ISDIR(os.lstat(path).st_mode):
            walk(path, below)


walk(sys.argv[1], "")
