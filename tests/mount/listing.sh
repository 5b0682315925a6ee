#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Several threads change and list one directory: each list has what its reader made, and nothing it
# removed.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
python3 - "$mnt" <<'PYTHON'
import os, random, sys, threading, time
mnt = sys.argv[1]
end = time.time() + 5
errors = []
def work(number):
    names, count, r = set(), 0, random.Random(number)
    while time.time() < end and not errors:
        what = r.random()
        if what < .45:
            name = 'f%d_%d' % (number, count); count += 1
            open(mnt + '/' + name, 'w').close(); names.add(name)
        elif what < .8 and names:
            name = r.choice(sorted(names)); os.unlink(mnt + '/' + name); names.remove(name)
        else:
            listed = os.listdir(mnt)
            mine = {n for n in listed if n.startswith('f%d_' % number)}
            if mine != names or len(listed) != len(set(listed)):
                errors.append((mine ^ names, len(listed) - len(set(listed))))
threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not errors, errors
PYTHON
