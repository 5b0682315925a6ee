# SPDX-License-Identifier: Apache-2.0
"""load.py - what is done to a mount until it is cut, and the witness of what was acknowledged

Every system call is a step of a worker that has a directory of its own. A line is appended to the
witness before a step ("b") and after it was acknowledged ("d"); the witness lies on another file
system. All workers share it, so that its order says what was acknowledged before what began.
A step is a list: worker, number within the worker, what it does, arguments.
"""
import errno
import json
import os
import random
import sqlite3
import sys

SIZES = (0, 17, 900, 4096, 5000, 40000, 131072, 200000, 700000)
NAMES_MAX = 24


def content(seed, size):
    """Bytes that nothing else has; half of them compress."""
    rng = random.Random(seed)
    if seed % 2:
        return (b"%d line %d\n" % (seed, rng.getrandbits(60)) * (size // 8 + 1))[:size]
    return rng.randbytes(size)


class Witness:
    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def line(self, kind, worker, number, step=None):
        os.write(self.file, (json.dumps([kind, worker, number, step]) + "\n").encode())


class Stopped(Exception):
    """The mount answers no more."""


class Worker:
    def __init__(self, mount, name, seed, witness, first, tree):
        self.mount, self.name, self.witness = mount, name, witness
        self.base = "%s/%s" % (mount, name)
        self.rng = random.Random(seed)
        self.number = first
        self.files = {path for path, node in tree.items() if node[0] == "f"}
        self.directories = {path for path, node in tree.items() if node[0] == "d"}
        self.snapshots = []

    def step(self, *what):
        self.number += 1
        self.witness.line("b", self.name, self.number, what)
        try:
            self.perform(what)
        except OSError as error:
            # What a cut disk and a killed daemon answer; anything else is a finding.
            if error.errno in (errno.EIO, errno.EROFS, errno.ENOTCONN, errno.ECONNABORTED,
                               errno.ENODEV, errno.ECANCELED):
                raise Stopped from error
            raise
        self.witness.line("d", self.name, self.number)

    def perform(self, what):
        kind, path = what[0], "%s/%s" % (self.base, what[1])
        if kind == "create":
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        elif kind == "write":
            descriptor = os.open(path, os.O_WRONLY)
            try:
                data = content(what[3], what[4])
                if os.pwrite(descriptor, data, what[2]) != len(data):
                    raise Stopped  # the rest met the cut
            finally:
                os.close(descriptor)
        elif kind == "truncate":
            os.truncate(path, what[2])
        elif kind == "fsync":
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        elif kind == "rename":
            os.rename(path, "%s/%s" % (self.base, what[2]))
        elif kind == "link":
            os.link(path, "%s/%s" % (self.base, what[2]))
        elif kind == "unlink":
            os.unlink(path)
        elif kind == "mkdir":
            os.mkdir(path)
        elif kind == "snapshot":
            os.mkdir("%s/.snapshots/%s" % (self.mount, what[1]))
        elif kind == "forget":
            os.rmdir("%s/.snapshots/%s" % (self.mount, what[1]))
        else:
            raise ValueError(kind)

    def new_name(self):
        place = self.rng.choice([""] + [path + "/" for path in sorted(self.directories)])
        return "%sf%d" % (place, self.number)

    def any_file(self):
        return self.rng.choice(sorted(self.files))

    def write_new(self, path):
        self.step("create", path)
        self.files.add(path)
        size = self.rng.choice(SIZES)
        if size:
            self.step("write", path, 0, self.number, size)

    def one(self):
        chance = self.rng.random()
        if len(self.files) >= NAMES_MAX:
            path = self.any_file()
            self.step("unlink", path)
            self.files.discard(path)
        elif len(self.files) < 4 or chance < 0.25:
            path = self.new_name()
            self.write_new(path)
            if self.rng.random() < 0.4:
                self.step("fsync", path)
        elif chance < 0.4:
            path = self.any_file()
            size = self.rng.choice(SIZES[1:])
            self.step("write", path, self.rng.choice((0, 0, 1000, 4096, 150000)), self.number, size)
            if self.rng.random() < 0.4:
                self.step("fsync", path)
        elif chance < 0.55:
            # The way in which programs replace a file.
            path, new = self.any_file(), self.new_name() + ".new"
            self.write_new(new)
            if self.rng.random() < 0.7:
                self.step("fsync", new)
            self.step("rename", new, path)
            self.files.discard(new)
        elif chance < 0.65:
            old, new = self.any_file(), self.new_name()
            self.step("rename", old, new)
            self.files.discard(old)
            self.files.add(new)
        elif chance < 0.72:
            new = self.new_name()
            self.step("link", self.any_file(), new)
            self.files.add(new)
        elif chance < 0.8:
            self.step("truncate", self.any_file(), self.rng.choice((0, 1, 4096, 5000, 300000)))
        elif chance < 0.86:
            path = self.any_file()
            self.step("unlink", path)
            self.files.discard(path)
        elif chance < 0.9 and len(self.directories) < 3:
            path = "d%d" % self.number
            self.step("mkdir", path)
            self.directories.add(path)
        elif chance < 0.94:
            # A directory: its entries, and what they name.
            self.step("fsync", self.rng.choice([""] + sorted(self.directories)))

    def run(self):
        while True:
            self.one()


class Keeper(Worker):
    """Snapshots: takes them and deletes old ones, beside files of its own."""

    def __init__(self, *arguments, kept):
        super().__init__(*arguments)
        self.snapshots = list(kept)

    def run(self):
        while True:
            for _ in range(self.rng.randrange(1, 6)):
                self.one()
            name = "%s-%d" % (self.name, self.number)
            self.step("snapshot", name)
            self.snapshots.append(name)
            while len(self.snapshots) > 6:
                victim = self.snapshots.pop(self.rng.randrange(len(self.snapshots)))
                self.step("forget", victim)


def database_row(number):
    return "row %d " % number + "x" * (number * 7919 % 3000)


def database(mount, name, witness, first):
    """Commits rows one by one, with a journal or a log by turns; each is durable when it returns."""
    path = "%s/%s/rows.db" % (mount, name)
    number = first
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        mode = "wal" if first % 2 else "delete"
        connection.execute("pragma journal_mode=" + mode)
        # Less does not sync the directory after a journal's removal, which is the commit.
        connection.execute("pragma synchronous=extra")
        connection.execute("create table if not exists rows (number integer primary key, text text)")
        while True:
            number += 1
            witness.line("b", name, number, ("commit",))
            connection.execute("insert into rows values (?, ?)", (number, database_row(number)))
            # SQLite takes a directory that cannot be opened for one that needs no sync: only a mount
            # that still answers has synced the removal of the journal.
            os.statvfs(mount)
            witness.line("d", name, number)
    except sqlite3.Error as error:
        raise Stopped from error
    except OSError as error:
        raise Stopped from error


def start(function):
    """Run in a process of its own: its id. Status 0: the mount went away, 1: a finding."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        function()
    except Stopped:
        status = 0
    except BaseException as error:  # noqa: the process ends here whatever it was
        print("a worker ended: %r" % error, file=sys.stderr, flush=True)
    os._exit(status)
