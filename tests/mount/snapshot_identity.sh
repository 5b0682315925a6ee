#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# A random history with snapshots: over a million random pairs of files in snapshots, (st_dev, st_ino)
# is the same if and only if content, mode, owner, times and attributes are, and every link count is
# the number of names found by walking; also when snapshots were deleted, after a rollback and after a
# remount. VARVE_TEST_SEED repeats a history.
. "$(dirname "$0")/../lib/mount.sh"

require_root
store_make
store_mount -o memtable_mb=1
cat >"$directory/history.py" <<'PYTHON'
import hashlib, os, random, stat, subprocess, sys, time

mnt, varve, seed, full = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] != ''
print('VARVE_TEST_SEED=%d' % seed)
rnd = random.Random(seed)
snapshots = mnt + '/.snapshots/'
PAIRS = 1000000
files, directories = [], [mnt]
made = 0


def fresh():
    global made
    made += 1
    return '%s/n%d' % (rnd.choice(directories), made)


def create():
    path = fresh()
    kind = rnd.randrange(20)
    if kind == 0:
        os.symlink('target-%d' % made, path)
    elif kind == 1:
        os.mkfifo(path)
    else:
        with open(path, 'wb') as file:
            file.write(rnd.randbytes(rnd.choice([0, 10, 900, 5000, 200000])))
    files.append(path)


def regular():
    for _ in range(50):
        path = rnd.choice(files)
        if stat.S_ISREG(os.lstat(path).st_mode):
            return path
    create()
    return regular()


def append():
    with open(regular(), 'ab') as file:
        file.write(b'more')


def same_content():
    path = regular()
    with open(path, 'r+b') as file:
        data = file.read(10)
        file.seek(0)
        file.write(data)


def mode():
    os.chmod(regular(), rnd.choice([0o600, 0o644, 0o755]))


def owner():
    os.chown(rnd.choice(files), rnd.randrange(5), rnd.randrange(5), follow_symlinks=False)


def times():
    os.utime(rnd.choice(files), ns=(rnd.randrange(10**18), rnd.randrange(10**18)),
             follow_symlinks=False)


def attribute():
    path = regular()
    name = 'user.k%d' % rnd.randrange(3)
    if name in os.listxattr(path) and rnd.random() < 0.5:
        os.removexattr(path, name)
    else:
        os.setxattr(path, name, rnd.randbytes(rnd.randrange(1, 40)))


def link():
    to = fresh()
    os.link(rnd.choice(files), to, follow_symlinks=False)
    files.append(to)


def rename():
    path = files.pop(rnd.randrange(len(files)))
    to = fresh()
    os.rename(path, to)
    files.append(to)


def replace():
    path, to = regular(), rnd.choice(files)
    if os.path.samefile(path, mnt) or path == to or os.lstat(path).st_ino == os.lstat(to).st_ino:
        return
    os.rename(path, to)
    files.remove(path)


def unlink():
    if len(files) > 50:
        os.unlink(files.pop(rnd.randrange(len(files))))


def truncate():
    os.truncate(regular(), rnd.choice([0, 3, 6000]))


def read():
    with open(regular(), 'rb') as file:
        file.read(100)


def directory():
    path = fresh()
    os.mkdir(path)
    directories.append(path)


def rename_directory():
    if len(directories) > 2:
        path = rnd.choice(directories[1:])
        to = '%s/moved-%d' % (mnt, rnd.randrange(10**9))
        os.rename(path, to)
        swap = lambda one: to + one[len(path):] if one == path or one.startswith(path + '/') else one
        files[:] = map(swap, files)
        directories[:] = map(swap, directories)


actions = [create] * 6 + [append] * 4 + [same_content, mode, owner, times, attribute, attribute, link,
           link, rename, rename, replace, unlink, unlink, truncate, read, read]
rare = [directory, directory, rename_directory]


def work(count):
    for _ in range(count):
        rnd.choice(rare if rnd.random() < 0.05 else actions)()


def signature(path, status):
    attributes = b''
    if stat.S_ISREG(status.st_mode):
        with open(path, 'rb') as file:
            content = hashlib.md5(file.read()).digest()
        attributes = repr(sorted((name, os.getxattr(path, name)) for name in os.listxattr(path)))
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    else:
        content = b''
    return hash((content, status.st_mode, status.st_uid, status.st_gid, status.st_size,
                 status.st_rdev, status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns,
                 attributes))


def walk(top):
    """(identity, signature, link count) of every name that is not a directory's, by path."""
    found, inos = {}, set()
    for directory, names, others in os.walk(top):
        inos.add(os.lstat(directory).st_ino)
        for name in others + [one for one in names if os.path.islink(directory + '/' + one)]:
            path = directory + '/' + name
            status = os.lstat(path)
            found[path[len(top):]] = ((status.st_dev, status.st_ino), signature(path, status),
                                      status.st_nlink)
    return found, inos


def check(what):
    trees, directory_inos = {}, set()
    for name in sorted(os.listdir(snapshots)):
        trees[name], inos = walk(snapshots + name)
        assert not directory_inos & inos, 'directories of two snapshots share a number'
        directory_inos |= inos
    every = [one for tree in trees.values() for one in tree.values()]
    names = {}
    for identity, _, _ in every:
        names[identity] = names.get(identity, 0) + 1
    wrong = [(path, one[2], names[one[0]]) for name, tree in trees.items()
             for path, one in tree.items() if one[2] != names[one[0]]]
    assert not wrong, ('link counts', what, wrong[:5])
    assert not directory_inos & {identity[1] for identity in names}
    live = {os.lstat(path).st_ino for path in files}
    assert not live & {identity[1] for identity in names}, 'a live file has the number of a past one'
    # Half of the pairs are one path in two snapshots, or there would be few that are the same.
    lists = list(trees.values())
    same = 0
    for number in range(PAIRS):
        if number % 2 and len(lists) > 1:
            a, b = rnd.sample(lists, 2)
            path = rnd.choice(paths_of(a))
            one, other = a[path], b.get(path)
            if other is None:
                other = rnd.choice(every)
        else:
            one, other = rnd.choice(every), rnd.choice(every)
        assert (one[0] == other[0]) == (one[1] == other[1]), (what, one, other)
        same += one[0] == other[0]
    print('%s: %d names, %d files in %d snapshots; %d of %d pairs are the same file' %
          (what, len(every), len(names), len(trees), same, PAIRS))
    assert same > PAIRS // 100


cache = {}


def paths_of(tree):
    if id(tree) not in cache:
        cache[id(tree)] = (tree, list(tree))
    return cache[id(tree)][1]


def snapshot(name):
    os.mkdir(snapshots + name)


scale = 5 if full else 1
if len(sys.argv) > 5:
    check('after a remount')
    sys.exit()
for _ in range(300 * scale):
    create()
for number in range(14):
    work(150 * scale)
    snapshot('s%02d' % number)
check('made')
for name in rnd.sample(sorted(os.listdir(snapshots)), 4):
    os.rmdir(snapshots + name)
check('after deletions')
subprocess.check_call([varve, 'rollback', '-q', mnt, rnd.choice(sorted(os.listdir(snapshots)))])
# What is there now.
files[:], directories[:] = [], [mnt]
for top, names, others in os.walk(mnt):
    directories += [top + '/' + name for name in names if not os.path.islink(top + '/' + name)]
    files += [top + '/' + name for name in others]
for number in range(4):
    work(100 * scale)
    snapshot('t%02d' % number)
check('after a rollback')
PYTHON
seed=${VARVE_TEST_SEED:-$RANDOM$RANDOM}
python3 "$directory/history.py" "$mnt" "$varve" "$seed" "${VARVE_TEST_FULL:-}"
store_remount
python3 "$directory/history.py" "$mnt" "$varve" "$seed" "${VARVE_TEST_FULL:-}" remounted
