# SPDX-License-Identifier: Apache-2.0
"""What is asked of a mount while calls fail in its daemon, and what must be there of it afterwards.

A step is a generator: it prepares, while nothing fails; yields what is to be done while something
may, and gets the error of that or None; then it looks, while nothing fails, that what failed has
changed nothing and what succeeded is there. Each works on names of its own.
"""
import ctypes
import errno
import fcntl
import json
import mmap
import os
import select
import stat
import struct
import threading

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
FILLING = bytes(range(256)) * 4096  # 1 MiB

CONTROL_MAGIC, CONTROL_MAGIC_PART = 0x76727663, 0x76727670
CONTROL_SIZE = 12288
CONTROL_IOCTL = 3 << 30 | CONTROL_SIZE << 16 | 0x76 << 8 | 0x56
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
NODUMP = 0x40


class Refused(OSError):
    """A verb was answered with an error."""


def control(path, **request):
    """A verb through the control channel: what it answers. Long texts go in parts, both ways."""
    text = json.dumps(request).encode()
    room = CONTROL_SIZE - 16
    parts = [text[at:at + room] for at in range(0, len(text), room)]
    token, answer = 0, b""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for number, part in enumerate(parts):
            magic = CONTROL_MAGIC if number + 1 == len(parts) else CONTROL_MAGIC_PART
            message = bytearray(struct.pack("=IIQ", magic, len(part), token) + part.ljust(room, b"\0"))
            fcntl.ioctl(descriptor, CONTROL_IOCTL, message, True)
            _, size, token = struct.unpack_from("=IIQ", message)
        answer += message[16:16 + size]
        while token != 0:
            message = bytearray(struct.pack("=IIQ", CONTROL_MAGIC, 0, token).ljust(CONTROL_SIZE, b"\0"))
            fcntl.ioctl(descriptor, CONTROL_IOCTL, message, True)
            _, size, token = struct.unpack_from("=IIQ", message)
            answer += message[16:16 + size]
    finally:
        os.close(descriptor)
    reply = json.loads(answer)
    if not reply["ok"]:
        raise Refused(reply["error"]["errno"], reply["error"]["text"])
    return reply


def system(result):
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def content(path):
    with open(path, "rb") as file:
        return file.read()


def put(path, data=b"content"):
    with open(path, "wb") as file:
        file.write(data)


def exists(path):
    return os.path.lexists(path)


class Mount:
    """One pass: a directory of its own in the mount."""

    def __init__(self, root, number):
        self.root, self.number = root, number
        self.directory = "%s/pass-%d" % (root, number)
        self.snapshots = root + "/.snapshots"
        self.old = root + "/.snapshots/old"

    def path(self, name):
        return self.directory + "/" + name

    def snapshot(self, name):
        return "%s-%d" % (name, self.number)


# ---- names ----

def create(mount):
    path = mount.path("create")
    error = yield lambda: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
    assert exists(path) == (error is None), "a failed creation left a file, or none is there"


def make(name, call):
    def step(mount):
        path = mount.path(name)
        error = yield lambda: call(path)
        assert exists(path) == (error is None), name
    step.__name__ = name
    return step


def link(mount):
    one, two = mount.path("link-1"), mount.path("link-2")
    put(one)
    error = yield lambda: os.link(one, two)
    assert exists(two) == (error is None)
    assert os.stat(one).st_nlink == (2 if error is None else 1)


def temporary(mount):
    path, inode = mount.path("temporary"), []

    def act():
        descriptor = os.open(mount.directory, os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            os.write(descriptor, b"temporary")
            name = "/proc/self/fd/%d" % descriptor
            system(libc.linkat(AT_FDCWD, name.encode(), AT_FDCWD, path.encode(), AT_SYMLINK_FOLLOW))
        finally:
            os.close(descriptor)
        inode.append(True)

    error = yield act
    assert exists(path) == (error is None)
    assert error is not None or content(path) == b"temporary"


def unlink(mount):
    path = mount.path("unlink")
    put(path)
    error = yield lambda: os.unlink(path)
    assert exists(path) == (error is not None)


def remove_directory(mount):
    path = mount.path("rmdir")
    os.mkdir(path)
    error = yield lambda: os.rmdir(path)
    assert exists(path) == (error is not None)


def rename(mount):
    one, two = mount.path("rename-1"), mount.path("rename-2")
    put(one, b"one")
    put(two, b"two")
    error = yield lambda: os.rename(one, two)
    assert exists(one) == (error is not None)
    assert content(two) == (b"one" if error is None else b"two")


def exchange(mount):
    one, two = mount.path("exchange-1"), mount.path("exchange-2")
    put(one, b"one")
    put(two, b"two")
    error = yield lambda: system(libc.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, two.encode(), 2))
    assert content(one) == (b"two" if error is None else b"one")
    assert content(two) == (b"one" if error is None else b"two")


def unlinked_and_open(mount):
    path = mount.path("gone")
    put(path, b"still there")
    descriptor = os.open(path, os.O_RDWR)
    os.unlink(path)
    yield lambda: os.pwrite(descriptor, b"S", 0)
    assert os.pread(descriptor, 100, 0) in (b"still there", b"Still there")
    os.close(descriptor)


def look_up_nothing(mount):
    error = yield lambda: None if exists_or_error(mount.path("nothing-here")) else None
    assert error is None or not exists(mount.path("nothing-here"))


def exists_or_error(path):
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    return True


# ---- data ----

def write(mount):
    path = mount.path("write")
    put(path, b"0123456789")
    error = yield lambda: write_at(path, b"abc", 3)
    assert content(path) == (b"012abc6789" if error is None else b"0123456789")


def write_at(path, data, offset):
    descriptor = os.open(path, os.O_WRONLY)
    try:
        written = os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)
    return written


def write_much(mount):
    path, written = mount.path("much"), []
    put(path, b"\0" * len(FILLING))
    error = yield lambda: written.append(write_at(path, FILLING, 0))
    data = content(path)
    assert len(data) == len(FILLING)
    # A write of more than one request may succeed in part: whole requests, from the front.
    count = written[0] if error is None else 0
    assert data[:count] == FILLING[:count], "what was acknowledged is not there"
    at = count
    while at < len(data) and data[at] == FILLING[at]:
        at += 1
    assert not data[at:].strip(b"\0"), "other bytes than any that were written"


def append(mount):
    path = mount.path("append")
    put(path, b"before")

    def act():
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, b" after")
        finally:
            os.close(descriptor)

    error = yield act
    assert content(path) == (b"before after" if error is None else b"before")


def read(mount):
    path, got = mount.path("read"), []
    put(path, FILLING)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    error = yield lambda: got.append(os.pread(descriptor, len(FILLING), 0))
    os.close(descriptor)
    assert error is not None or FILLING.startswith(got[0]) and got[0], "other bytes are read"
    assert content(path) == FILLING


def mapping(mount):
    path = mount.path("mapping")
    put(path, b"-" * 8192)
    descriptor = os.open(path, os.O_RDWR)
    pages = mmap.mmap(descriptor, 8192)
    pages[0:1] = pages[4096:4097] = b"-"  # they are there before anything fails

    def act():
        pages[10:14] = b"mmap"
        pages.flush()

    error = yield act
    if error is not None:
        # The kernel takes a page that was refused for clean, whatever it holds: it is written anew.
        pages[10:14] = b"mmap"
        pages.flush()
    pages.close()
    os.close(descriptor)
    assert content(path)[10:14] == b"mmap"


def truncate(mount):
    path = mount.path("truncate")
    put(path, FILLING[:5000])
    error = yield lambda: os.truncate(path, 100)
    assert content(path) == FILLING[:100 if error is None else 5000]


def allocate(mount):
    path = mount.path("allocate")
    put(path, FILLING[:300000])
    descriptor = os.open(path, os.O_RDWR)
    # A hole in the middle, the size as it is.
    error = yield lambda: system(libc.fallocate(descriptor, 3, ctypes.c_long(100000), ctypes.c_long(100000)))
    os.close(descriptor)
    hole = b"\0" * 100000 if error is None else FILLING[100000:200000]
    assert content(path) == FILLING[:100000] + hole + FILLING[200000:300000]


def seek(mount):
    path, got = mount.path("seek"), []
    put(path, b"x")
    os.truncate(path, 1 << 20)
    descriptor = os.open(path, os.O_RDONLY)
    error = yield lambda: got.append(os.lseek(descriptor, 0, os.SEEK_HOLE))
    os.close(descriptor)
    assert error is not None or 0 < got[0] <= 1 << 20


def copy(mount):
    one, two, count = mount.path("copy-1"), mount.path("copy-2"), []
    put(one, FILLING[:300000])
    put(two, b"")
    source, target = os.open(one, os.O_RDONLY), os.open(two, os.O_WRONLY)
    error = yield lambda: count.append(os.copy_file_range(source, target, 300000))
    os.close(source)
    os.close(target)
    size = count[0] if error is None else 0
    assert content(two) == FILLING[:size]


def synchronise(mount):
    path = mount.path("sync")
    put(path, b"synced")
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, b"SYNCED")
    yield lambda: (os.fsync(descriptor), os.fdatasync(descriptor))
    os.close(descriptor)
    assert content(path) == b"SYNCED"


def synchronise_directory(mount):
    descriptor = os.open(mount.directory, os.O_RDONLY)
    yield lambda: os.fsync(descriptor)
    os.close(descriptor)


def many_open(mount):
    path, descriptors = mount.path("open"), []
    os.mkdir(path)
    for number in range(150):
        put("%s/%d" % (path, number))

    def act():
        for number in range(150):
            descriptors.append(os.open("%s/%d" % (path, number), os.O_RDWR))

    yield act
    for number, descriptor in enumerate(descriptors):
        os.pwrite(descriptor, b"CONTENT", 0)
        os.close(descriptor)
        assert content("%s/%d" % (path, number)) == b"CONTENT"


def several_at_once(mount):
    """More requests than there are threads that wait: more are started, or not."""
    paths, errors = [mount.path("at-once-%d" % i) for i in range(8)], {}
    for path in paths:
        put(path, b"\0" * 100)

    def work(path):
        try:
            descriptor = os.open(path, os.O_WRONLY)
            try:
                for round in range(3):
                    os.pwrite(descriptor, b"at once", 10)
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            errors[path] = error

    def act():
        threads = [threading.Thread(target=work, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in errors.values():
            raise error

    yield act
    for path in paths:
        assert path in errors or content(path)[10:17] == b"at once"
        assert content(path)[10:17] in (b"at once", b"\0" * 7)


# ---- attributes ----

def change_mode(mount):
    path = mount.path("chmod")
    put(path)
    error = yield lambda: os.chmod(path, 0o4711)
    assert stat.S_IMODE(os.stat(path).st_mode) == (0o4711 if error is None else 0o644)


def change_owner(mount):
    path = mount.path("chown")
    put(path)
    error = yield lambda: os.chown(path, 7, 8)
    status = os.stat(path)
    assert (status.st_uid, status.st_gid) == ((7, 8) if error is None else (0, 0))


def change_times(mount):
    path = mount.path("utimes")
    put(path)
    before = os.stat(path).st_mtime_ns
    error = yield lambda: os.utime(path, ns=(10**18, 10**18 + 1))
    assert os.stat(path).st_mtime_ns == (10**18 + 1 if error is None else before)


def group_of_another_user(mount):
    """His second group stands in /proc: the bit stays, or that cannot be found out."""
    path = mount.path("setgid")
    put(path)
    os.chown(path, 1234, 1234)
    os.chmod(path, 0o2644)
    os.chown(path, 1234, 4321)
    os.chmod(path, 0o2644)

    def act():
        ends = os.pipe()
        child = os.fork()
        if child == 0:
            code = 0
            try:
                os.setgroups([4321])
                os.setgid(1234)
                os.setuid(1234)
                os.chown(path, -1, 4321)
            except OSError as error:
                code = error.errno
            os.write(ends[1], bytes([code]))
            os._exit(0)
        os.close(ends[1])
        code = os.read(ends[0], 1)[0]
        os.close(ends[0])
        os.waitpid(child, 0)
        if code:
            raise OSError(code, os.strerror(code))

    error = yield act
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o2644, "a bit of the mode is gone"


def extended_attributes(mount):
    path, names = mount.path("xattr"), []
    put(path)
    os.setxattr(path, "user.old", b"old value")

    def act():
        names.extend(os.listxattr(path))
        assert os.getxattr(path, "user.old") == b"old value"

    yield act
    assert names in ([], ["user.old"]), names


def set_attribute(mount):
    path = mount.path("setxattr")
    put(path)
    error = yield lambda: os.setxattr(path, "user.new", b"v" * 3000)
    assert os.listxattr(path) == (["user.new"] if error is None else [])


def remove_attribute(mount):
    path = mount.path("removexattr")
    put(path)
    os.setxattr(path, "user.old", b"v")
    error = yield lambda: os.removexattr(path, "user.old")
    assert os.listxattr(path) == ([] if error is None else ["user.old"])


def inode_flags(mount):
    path, got = mount.path("flags"), []
    put(path)
    descriptor = os.open(path, os.O_RDONLY)

    def act():
        fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytearray(8), True)
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("=q", NODUMP))

    def flags():
        number = bytearray(8)
        fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, number, True)
        return struct.unpack_from("=I", number)[0]

    error = yield act
    got = flags()
    os.close(descriptor)
    assert got & NODUMP == (NODUMP if error is None else 0)


def extended_flags(mount):
    path = mount.path("xflags")
    put(path)
    descriptor = os.open(path, os.O_RDONLY)

    def act():
        attributes = bytearray(28)
        fcntl.ioctl(descriptor, FS_IOC_FSGETXATTR, attributes, True)
        struct.pack_into("=I", attributes, 12, 77)
        fcntl.ioctl(descriptor, FS_IOC_FSSETXATTR, bytes(attributes))

    error = yield act
    attributes = bytearray(28)
    fcntl.ioctl(descriptor, FS_IOC_FSGETXATTR, attributes, True)
    os.close(descriptor)
    assert struct.unpack_from("=I", attributes, 12)[0] == (77 if error is None else 0)


def space(mount):
    got = []
    error = yield lambda: got.append(os.statvfs(mount.root))
    assert error is not None or got[0].f_blocks > 0


def ask_in_a_row(mount):
    """Nobody else asks for anything: who watches the threads that read requests wakes up for that."""
    yield lambda: [os.statvfs(mount.root) for _ in range(4000)]


def poll(mount):
    path = mount.path("poll")
    put(path)
    descriptor = os.open(path, os.O_RDONLY)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    yield lambda: poller.poll(1000)
    os.close(descriptor)


# ---- directories ----

def list_many(mount):
    path, got = mount.path("many"), []
    os.mkdir(path)
    names = ["a name that takes some room %d" % i for i in range(300)]
    for name in names:
        os.mknod(path + "/" + name)
    error = yield lambda: got.append(sorted(os.listdir(path)))
    assert error is not None or got[0] == sorted(names), "a listing is not whole"
    assert sorted(os.listdir(path)) == sorted(names)


# ---- snapshots ----

def look_at_the_past(mount):
    """What the kernel does not keep."""
    got = []

    def act():
        got.append(sorted(os.listdir(mount.old)))
        got.append(content(mount.old + "/kept/large"))
        got.append(os.readlink(mount.old + "/kept/link"))
        got.append(os.stat(mount.old + "/kept/small").st_size)

    yield act
    wanted = [["kept"], FILLING, "small", 5]
    assert got == wanted[:len(got)], "a snapshot shows something else"


def make_snapshot(mount):
    name = mount.snapshot("mkdir")
    path = mount.snapshots + "/" + name
    put(mount.path("in-it"), b"in it")
    error = yield lambda: os.mkdir(path)
    assert exists(path) == (error is None)
    assert error is not None or content("%s/pass-%d/in-it" % (path, mount.number)) == b"in it"


def snapshot_of_a_mapping(mount):
    """Pages that nobody has synced belong to it."""
    name, path = mount.snapshot("mapped"), mount.path("mapped")
    put(path, b"-" * 4096)
    descriptor = os.open(path, os.O_RDWR)
    pages = mmap.mmap(descriptor, 4096)
    pages[0:6] = b"MAPPED"
    error = yield lambda: os.mkdir(mount.snapshots + "/" + name)
    shown = "%s/%s/pass-%d/mapped" % (mount.snapshots, name, mount.number)
    assert error is not None or content(shown)[:6] == b"MAPPED", "a mapped page is not in the snapshot"
    pages[0:6] = b"MAPPED"  # see mapping(); it may have been refused as well
    pages.flush()
    pages.close()
    os.close(descriptor)


def remove_snapshot(mount):
    path = mount.snapshots + "/" + mount.snapshot("rmdir")
    os.mkdir(path)
    error = yield lambda: os.rmdir(path)
    assert exists(path) == (error is not None)


def rename_snapshot(mount):
    one, two = (mount.snapshots + "/" + mount.snapshot(name) for name in ("from", "to"))
    os.mkdir(one)
    error = yield lambda: os.rename(one, two)
    assert exists(one) == (error is not None) and exists(two) == (error is None)


def verb(name, **arguments):
    def step(mount):
        yield lambda: control(mount.root, verb=name, **arguments)
    step.__name__ = "verb_" + name
    return step


def named(name):
    return [{"name": name}]


def named_path(path):
    return [{"path": path}]


def compare(root, name):
    """With the live tree, page by page: how many differ."""
    page = control(root, verb="snapshot_diff", **{"from": name})
    count = len(page["entries"])
    while "token" in page:
        page = control(root, verb="snapshot_diff", token=page["token"], from_entry=page["next"])
        count += len(page["entries"])
    return count


def verb_snapshot_create(mount):
    name = mount.snapshot("verb")
    path = mount.snapshots + "/" + name
    assert not exists(path)  # which the kernel may remember

    def act():
        created = control(mount.root, verb="snapshot_create", name=name, tags={"a": "b", "c": "d"})
        control(mount.root, verb="snapshot_wait", id=created["id"])

    error = yield act
    # Whoever was not told may have one, as who is told that there is no reply by an interrupted call.
    shown = exists(path)
    assert shown or error is not None
    assert shown == any(name == one["name"] for one in control(mount.root, verb="snapshot_list")["snapshots"])


def verb_snapshot_looks(mount):
    name = mount.snapshot("looked-at")
    control(mount.root, verb="snapshot_create", name=name)
    put(mount.path("changed-since"))

    def act():
        control(mount.root, verb="snapshot_list", usage=True)
        control(mount.root, verb="snapshot_usage", names=named(name))
        compare(mount.root, "old")
        control(mount.root, verb="snapshot_diff", **{"from": "old", "to": name, "paths": named_path("kept")})

    yield act
    compare(mount.root, "old")


def verb_holds(mount):
    name = mount.snapshot("held")
    control(mount.root, verb="snapshot_create", name=name)

    def act():
        control(mount.root, verb="snapshot_hold", names=named(name), owner="somebody")
        control(mount.root, verb="snapshot_list", usage=True)
        control(mount.root, verb="snapshot_usage", names=named(name))
        control(mount.root, verb="snapshot_release", names=named(name), owner="somebody")

    error = yield act
    if error is not None:
        control(mount.root, verb="snapshot_release", names=named(name), owner="somebody")
    os.rmdir(mount.snapshots + "/" + name)


def verb_damaged_files(mount):
    got = []

    def act():
        chunks = [int(chunk["name"][:16], 16) for chunk in control(mount.root, verb="chunks")["chunks"]]
        reply = control(mount.root, verb="damaged_files", chunks=chunks)
        got.append([finding["finding"] for finding in reply["findings"]])

    yield act
    # All are sound: what could not be read now is said to want something, not to be damaged.
    assert all("Too many open files" in line for lines in got for line in lines), got


def verb_names_of_damaged_files(mount):
    """Of a store that has such."""
    chunks = [int(chunk["name"][:16], 16) for chunk in control(mount.root, verb="chunks")["chunks"]]

    def damaged():
        return [finding["finding"] for finding in control(mount.root, verb="damaged_files", chunks=chunks)["findings"]]

    before, got = damaged(), []
    assert any(line.endswith(": damaged") for line in before), "the damage is not found: %s" % before
    error = yield lambda: got.extend(damaged())
    assert error is not None or got == before, "names are missing: %s" % got
    assert damaged() == before


def name_of_bytes(mount):
    """Which JSON has no string for."""
    path = ("%s/%s" % (mount.snapshots, mount.snapshot("bytes"))).encode() + b"\xff"
    os.mkdir(path)
    yield lambda: control(mount.root, verb="snapshot_list")
    os.rmdir(path)


def verb_delete(mount):
    names = [mount.snapshot("delete-%d" % i) for i in range(3)]
    for name in names:
        control(mount.root, verb="snapshot_create", name=name)
    yield lambda: control(mount.root, verb="snapshot_delete", names=[{"name": name} for name in names])
    for name in names:
        shown = exists(mount.snapshots + "/" + name)
        listed = any(name == one["name"] for one in control(mount.root, verb="snapshot_list")["snapshots"])
        assert shown == listed


def verb_rename(mount):
    one, two = mount.snapshot("verb-from"), mount.snapshot("verb-to")
    control(mount.root, verb="snapshot_create", name=one)
    yield lambda: control(mount.root, verb="snapshot_rename", **{"from": one, "to": two})
    assert exists(mount.snapshots + "/" + one) != exists(mount.snapshots + "/" + two)


def verb_prune(mount):
    tag = str(mount.number)
    for i in range(3):
        control(mount.root, verb="snapshot_create", name=mount.snapshot("prune-%d" % i), tags={"pass": tag})

    def act():
        control(mount.root, verb="snapshot_prune", dry_run=True, keep={"last": 1}, tags={"pass": tag})
        control(mount.root, verb="snapshot_prune", dry_run=False, keep={"last": 1}, tags={"pass": tag})

    yield act
    for i in range(3):
        name = mount.snapshot("prune-%d" % i)
        listed = any(name == one["name"] for one in control(mount.root, verb="snapshot_list")["snapshots"])
        assert exists(mount.snapshots + "/" + name) == listed


def verb_long_request(mount):
    """In parts, and answered in parts."""
    names = [{"name": "there is no such snapshot, for certain, whatever it is called %d" % i} for i in range(600)]
    yield lambda: control(mount.root, verb="snapshot_delete", names=names)


def verb_unknown(mount):
    got = []

    def act():
        try:
            control(mount.root, verb="there is none")
        except OSError as error:
            got.append(error.errno)
            if error.errno != errno.EOPNOTSUPP:
                raise

    error = yield act
    assert error is not None or got == [errno.EOPNOTSUPP]


STEPS = [
    create, make("mkdir", os.mkdir), make("mkfifo", os.mkfifo), make("mknod", os.mknod),
    make("symlink", lambda path: os.symlink("t" * 200, path)), link, temporary, unlink,
    remove_directory, rename, exchange, unlinked_and_open, look_up_nothing, write, write_much, append,
    read, mapping, truncate, allocate, seek, copy, synchronise, synchronise_directory,
    many_open, several_at_once, change_mode, change_owner, change_times, group_of_another_user,
    extended_attributes, set_attribute, remove_attribute, inode_flags, extended_flags, space, ask_in_a_row, poll,
    list_many, look_at_the_past, snapshot_of_a_mapping, make_snapshot, remove_snapshot,
    rename_snapshot, name_of_bytes, verb_damaged_files, verb_snapshot_create, verb_snapshot_looks, verb_holds, verb_delete, verb_rename,
    verb_prune, verb_long_request, verb_unknown, verb("stats"), verb("sync"), verb("flush"),
    verb("compact"), verb("prepare_verify"), verb("chunks"),
    verb("prepare_writing"), verb("flush_mappings"), verb("remount", atime=0, sync=0),
]


def roll_back(mount):
    """The whole tree; by itself, because the other steps would find theirs gone."""
    name = mount.snapshot("back")
    put(mount.path("before"), b"before")
    control(mount.root, verb="snapshot_create", name=name)
    put(mount.path("since"), b"since")
    error = yield lambda: control(mount.root, verb="rollback", name=name)
    assert content(mount.path("before")) == b"before"
    assert exists(mount.path("since")) == (error is not None), "a rollback is half done"


def keep(root):
    """What snapshot "old" has, which every pass looks at."""
    os.mkdir(root + "/kept")
    put(root + "/kept/large", FILLING)
    put(root + "/kept/small", b"small")
    os.symlink("small", root + "/kept/link")
    os.mkdir(root + "/.snapshots/old")
    control(root, verb="snapshot_wait", id=control(root, verb="snapshot_list")["snapshots"][0]["id"])
