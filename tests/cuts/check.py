# SPDX-License-Identifier: Apache-2.0
"""check.py - which states are allowed after a cut, and which one is there

A tree is a dictionary of path to node: ("d",) or ("f", identity), and contents by identity; two
names of one file have one identity. The state of a worker's directory after a cut must be the one
after some number of its steps: not fewer than promised, not more than begun.
"""
import hashlib
import json
import os
import sqlite3

import load


class Violation(Exception):
    pass


class Tree:
    """The model of one worker's directory."""

    def __init__(self):
        self.nodes = {}
        self.contents = {}
        self.digests = {}
        self.next_identity = 1

    def copy(self):
        other = Tree()
        other.nodes, other.contents = dict(self.nodes), dict(self.contents)
        other.digests, other.next_identity = dict(self.digests), self.next_identity
        return other

    def set_content(self, identity, data):
        self.contents[identity] = data
        self.digests[identity] = hashlib.blake2b(data, digest_size=12).hexdigest()

    def apply(self, step):
        kind, path = step[0], step[1]
        if kind == "create":
            self.nodes[path] = ("f", self.next_identity)
            self.set_content(self.next_identity, b"")
            self.next_identity += 1
        elif kind == "write":
            first, last = step[5:]
            identity, data = self.nodes[path][1], load.content(step[3], step[4])[first:last]
            old, offset = self.contents[identity], step[2] + first
            old += bytes(max(0, offset - len(old)))
            self.set_content(identity, old[:offset] + data + old[offset + len(data):])
        elif kind == "truncate":
            identity, size = self.nodes[path][1], step[2]
            old = self.contents[identity]
            self.set_content(identity, old[:size] + bytes(max(0, size - len(old))))
        elif kind == "rename":
            # Two names of one file: nothing happens.
            if self.nodes.get(step[2]) != self.nodes[path]:
                self.nodes[step[2]] = self.nodes.pop(path)
        elif kind == "link":
            self.nodes[step[2]] = self.nodes[path]
        elif kind == "unlink":
            del self.nodes[path]
        elif kind == "mkdir":
            self.nodes[path] = ("d",)

    def summary(self):
        """What can be seen: types, contents, and which names are one file."""
        names = {}
        for path, node in self.nodes.items():
            if node[0] == "f":
                names.setdefault(node[1], []).append(path)
        seen = {}
        for path, node in self.nodes.items():
            if node[0] == "d":
                seen[path] = "directory"
            else:
                seen[path] = (self.digests[node[1]], tuple(sorted(names[node[1]])))
        return seen


def observe(base):
    """The tree that is there."""
    tree, identities = Tree(), {}
    for directory, directories, files in os.walk(base, onerror=fail_walk):
        at = os.path.relpath(directory, base)
        prefix = "" if at == "." else at + "/"
        for name in directories:
            tree.nodes[prefix + name] = ("d",)
        for name in files:
            path = "%s/%s" % (directory, name)
            status = os.stat(path)
            if status.st_ino not in identities:
                identities[status.st_ino] = tree.next_identity
                tree.next_identity += 1
                with open(path, "rb") as file:
                    data = file.read()
                if len(data) != status.st_size:
                    raise Violation("%s: %d bytes, its size says %d"
                                    % (path, len(data), status.st_size))
                tree.set_content(identities[status.st_ino], data)
            tree.nodes[prefix + name] = ("f", identities[status.st_ino])
    return tree


def fail_walk(error):
    raise error


def requests(step):
    """What the kernel makes of a step: a write that begins inside of a page which is not in its cache
    comes in two pieces, that page's and the rest."""
    if step[0] != "write":
        return [step]
    head = -step[2] % 4096
    if 0 < head < step[4]:
        return [step + [0, head], step + [head, step[4]]]
    return [step + [0, step[4]]]


class History:
    """The witness of one round."""

    def __init__(self, path, workers):
        self.steps = {worker: [] for worker in workers}   # (begun at, done at or None, step)
        self.open = {}
        if not os.path.exists(path):
            return
        with open(path) as file:
            for line_number, line in enumerate(file):
                if not line.endswith("\n"):
                    break
                kind, worker, number, step = json.loads(line)
                if kind == "b":
                    for part in requests(step):
                        self.steps[worker].append([line_number, None, part, number])
                else:
                    for entry in self.steps[worker][-2:]:
                        if entry[3] == number:
                            entry[1] = line_number

    def done_before(self, worker, line_number):
        return sum(1 for step in self.steps[worker]
                   if step[1] is not None and step[1] < line_number)

    def begun_before(self, worker, line_number):
        return sum(1 for step in self.steps[worker] if step[0] < line_number)

    def durable(self, worker):
        """So many steps of the worker must be there: what a sync of anybody covers, and everything
        that was acknowledged before that began, for the state is a prefix (P1, P2)."""
        least = 0
        for other, steps in self.steps.items():
            for at, (_, done, step, _) in enumerate(steps):
                change = self.covered(steps, at) if done is not None else None
                if change is None:
                    continue
                if other == worker:
                    least = max(least, change + 1)
                least = max(least, self.done_before(worker, steps[change][0]))
        return least

    @staticmethod
    def covered(steps, at):
        """The step that `at` surely makes durable: a snapshot itself; for an fsync the last change of
        what it names, in this round; None where nothing is sure."""
        kind, path = steps[at][2][0], steps[at][2][1] if len(steps[at][2]) > 1 else None
        if kind == "snapshot":
            return at
        if kind != "fsync":
            return None
        for before in range(at - 1, -1, -1):
            other = steps[before][2]
            if other[0] in ("create", "write", "truncate") and other[1] == path:
                return before
            if other[0] in ("rename", "link") and other[2] == path:
                return before
            if other[0] in ("create", "mkdir", "unlink", "rename", "link"):
                names = other[1:] if other[0] in ("rename", "link") else other[1:2]
                if path in [os.path.dirname(name) for name in names]:
                    return before
        return None


def key(summary):
    return hash(frozenset(summary.items()))


def states(base, steps):
    """What can be seen after each number of steps."""
    model = base.copy()
    keys = [key(model.summary())]
    for step in steps:
        model.apply(step[2])
        keys.append(key(model.summary()))
    return keys


def is_allowed(keys, low, high, observed):
    return key(observed.summary()) in keys[low:high + 1]


def explain(base, steps, low, high, observed):
    model = base.copy()
    for count in range(low):
        model.apply(steps[count][2])
    at_low, seen = model.summary(), observed.summary()
    lines = ["promised are %d steps, begun %d" % (low, high)]
    for path in sorted(set(at_low) | set(seen)):
        if at_low.get(path) != seen.get(path):
            lines.append("%s: %s promised, %s there" % (path, at_low.get(path), seen.get(path)))
    for number in range(max(0, low - 3), min(high, low + 12)):
        lines.append("step %d: %s" % (number + 1, steps[number]))
    return "\n  ".join(lines[:60])


def check_worker(mount, worker, base, history, keys):
    """The state of a worker's directory; the tree that is there."""
    steps = history.steps[worker]
    low, high = history.durable(worker), len(steps)
    observed = observe("%s/%s" % (mount, worker))
    if not is_allowed(keys, low, high, observed):
        raise Violation("%s is no allowed state: %s"
                        % (worker, explain(base, steps, low, high, observed)))
    return observed


def check_snapshot(mount, name, bases, history, entry, keys):
    """A snapshot of this round is exact: it has what was acknowledged before its creation began and
    nothing that began after it returned (P5)."""
    begun, done, _, _ = entry
    for worker, base in bases.items():
        steps = history.steps[worker]
        low = history.done_before(worker, begun)
        high = history.begun_before(worker, done) if done is not None else len(steps)
        observed = observe("%s/.snapshots/%s/%s" % (mount, name, worker))
        if not is_allowed(keys[worker], low, high, observed):
            raise Violation("snapshot %s: %s is no allowed state: %s"
                            % (name, worker, explain(base, steps, low, high, observed)))


def digest(path):
    """Of everything below, names included."""
    total = hashlib.blake2b(digest_size=16)
    for worker in sorted(os.listdir(path)):
        if os.path.isdir("%s/%s" % (path, worker)) and worker != "rows":
            for name, seen in sorted(observe("%s/%s" % (path, worker)).summary().items()):
                total.update(repr((worker, name, seen)).encode())
    return total.hexdigest()


def check_database(mount, worker, history, before):
    """Committed rows are there, in order, and SQLite finds nothing; the number of rows."""
    steps = history.steps[worker]
    acknowledged = before
    begun = before
    for _, done, _, number in steps:
        begun = number
        if done is not None:
            acknowledged = number
    path = "%s/%s/rows.db" % (mount, worker)
    if not os.path.exists(path):
        if acknowledged > 0:
            raise Violation("the database with %d rows is gone" % acknowledged)
        return 0
    connection = sqlite3.connect(path)
    answer = connection.execute("pragma integrity_check").fetchall()
    if answer != [("ok",)]:
        raise Violation("SQLite finds: %s" % answer[:5])
    try:
        rows = connection.execute("select number, text from rows order by number").fetchall()
    except sqlite3.OperationalError:
        rows = []
    connection.close()
    if [row[0] for row in rows] != list(range(1, len(rows) + 1)):
        raise Violation("rows are missing in the middle")
    if not acknowledged <= len(rows) <= begun:
        raise Violation("%d rows, %d were committed, %d begun" % (len(rows), acknowledged, begun))
    for number, text in rows[-200:]:
        if text != load.database_row(number):
            raise Violation("row %d has another text" % number)
    return len(rows)
