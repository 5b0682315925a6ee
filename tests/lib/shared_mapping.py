#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Store to shared mappings, flush nothing, take a snapshot, and look that it has each store before it.

shared_mapping.py MOUNT VARVE ROUNDS: the descriptors of half of the files are closed, and those of the
others are open; a child process goes on storing to a file of its own all the time. Odd snapshots are
made by mkdir, even ones by the command.
"""
import mmap
import os
import subprocess
import sys

SIZE = 1 << 20
FILES = 8

mount, varve, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])


def mapped(name, size, keep):
    descriptor = os.open(f"{mount}/{name}", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(descriptor, size)
    # mmap.mmap() keeps a descriptor of its own open, unless it is closed behind its back.
    before = set(os.listdir("/proc/self/fd"))
    pages = mmap.mmap(descriptor, size)
    if not keep:
        for number in set(os.listdir("/proc/self/fd")) - before:
            if os.path.exists(f"/proc/self/fd/{number}"):
                os.close(int(number))
        os.close(descriptor)
    return pages


def count_for_ever(reader):
    """Store rising numbers to two pages, the first first, until the pipe is closed."""
    pages = mapped("counters", 2 * mmap.PAGESIZE, True)
    os.set_blocking(reader, False)
    value = 0
    while True:
        try:
            if os.read(reader, 1) == b"":
                os._exit(0)
        except BlockingIOError:
            pass
        for _ in range(100):
            value += 1
            pages[0:8] = value.to_bytes(8, "little")
            pages[mmap.PAGESIZE : mmap.PAGESIZE + 8] = value.to_bytes(8, "little")


def take(number):
    if number % 2:
        os.mkdir(f"{mount}/.snapshots/s{number}")
    else:
        subprocess.check_call([varve, "snapshot", "create", "-q", mount, f"s{number}"])


def check(number):
    for i in range(FILES):
        with open(f"{mount}/.snapshots/s{number}/map-{i}", "rb") as file:
            data = file.read()
        expected = bytes([(number * FILES + i) % 256]) * (SIZE // mmap.PAGESIZE)
        assert data[:: mmap.PAGESIZE] == expected, f"snapshot {number}: file {i} differs"


reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.close(writer)
    count_for_ever(reader)
os.close(reader)

maps = [mapped(f"map-{i}", SIZE, i % 2 == 0) for i in range(FILES)]
for number in range(rounds):
    for i, pages in enumerate(maps):
        for at in range(0, SIZE, mmap.PAGESIZE):
            pages[at] = (number * FILES + i) % 256
    take(number)
    check(number)
os.close(writer)
assert os.waitpid(child, 0)[1] == 0
# What was stored later is in none of them.
for number in range(rounds):
    check(number)
seen = 0
for number in range(rounds):
    path = f"{mount}/.snapshots/s{number}/counters"
    with open(path, "rb") as file:
        value = int.from_bytes(file.read(8), "little")
    assert value >= seen, f"snapshot {number}: {value} after {seen}"
    seen = value
assert seen > 0
