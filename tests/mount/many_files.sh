#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
# Many files in one directory: each listed exactly once, found by name, also while others go.
. "$(dirname "$0")/../lib/mount.sh"

count=20000
[ -z "${VARVE_TEST_FULL:-}" ] || count=200000
store_make
store_mount
mkdir "$mnt/many"
python3 - "$mnt/many" $count <<'PYTHON'
import os, sys
directory, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    with open("%s/file-%d" % (directory, number), "w") as file:
        if number % 10 == 0:
            file.write("content %d" % number)
PYTHON

check() {
    python3 - "$1" $count <<'PYTHON'
import os, random, sys
directory, count = sys.argv[1], int(sys.argv[2])
names = os.listdir(directory)
assert len(names) == len(set(names)) == count, (len(names), len(set(names)))
assert set(names) == {"file-%d" % number for number in range(count)}
numbers = list(range(0, count, 10))
random.shuffle(numbers)
for number in numbers[:2000]:
    assert open("%s/file-%d" % (directory, number)).read() == "content %d" % number
assert not os.path.exists(directory + "/file-%d" % count)
PYTHON
}
check "$mnt/many"
mkdir "$mnt/.snapshots/full"
store_remount
check "$mnt/many"

# Entries that stay are seen once by a reading that others change under.
python3 - "$mnt/many" $count <<'PYTHON'
import os, sys
directory, count = sys.argv[1], int(sys.argv[2])
seen = []
with os.scandir(directory) as entries:
    for entry in entries:
        number = int(entry.name.split("-")[1])
        seen.append(number)
        if len(seen) % 100 == 0:
            for victim in (number, number ^ 1):
                if victim % 4 < 2 and os.path.exists("%s/file-%d" % (directory, victim)):
                    os.unlink("%s/file-%d" % (directory, victim))
            open("%s/new-%d" % (directory, count + len(seen)), "w").close()
assert len(seen) == len(set(seen)), "an entry was seen twice"
left = {int(name.split("-")[1]) for name in os.listdir(directory)}
assert {n for n in left if n < count} <= set(seen), "an entry was not seen"
PYTHON
check "$mnt/.snapshots/full/many"
rm -r "$mnt/many"
expect_errno ENOENT stat "$mnt/many"
check "$mnt/.snapshots/full/many"
