#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# A store on a small disk is filled: ENOSPC reaches the caller, what was acknowledged is right,
# deleting works and gives room, snapshots included; the store is sound after all of it.
. "$(dirname "$0")/../lib/mount.sh"

at_end() {
    disk_end
}
disk_make 400M
store_make
store_mount
mkdir "$mnt/kept"
cp -a "$headers/linux" "$mnt/kept/headers"
mkdir "$mnt/.snapshots/before"
"$varve" sync "$mnt"

# Fill with files that a hash tells apart; stop at the first error.
fill() { # DIRECTORY SIZE SYNC
    python3 - "$@" <<'PYTHON'
import errno, hashlib, os, sys
directory, size, sync = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
number, sums = 0, {}
try:
    os.makedirs(directory, exist_ok=True)
    while True:
        path = "%s/%d" % (directory, number)
        data = os.urandom(size)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
        try:
            # A short count is how a full disk may first show.
            written = 0
            while written < size:
                written += os.write(descriptor, data[written:])
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sums[path] = hashlib.sha256(data).hexdigest()
        number += 1
except OSError as error:
    assert error.errno == errno.ENOSPC, error
with open(sys.argv[4], "w") as record:
    for path, digest in sums.items():
        record.write("%s  %s\n" % (digest, path))
print(number)
PYTHON
}

for round in 1 2 3; do
    written=$(fill "$mnt/fill-$round" $((round * 777777)) $((round % 2)) "$directory/sums")
    [ "$written" -ge 20 ] || fail "round $round: only $written files fitted"
    sha256sum --quiet -c "$directory/sums" || fail 'an acknowledged file is wrong'
    diff -r "$headers/linux" "$mnt/.snapshots/before/kept/headers" || fail 'the snapshot is wrong'
    if [ $round = 2 ]; then
        "$varve" umount "$mnt" || fail 'umount of a full store'
        store_mount
        sha256sum --quiet -c "$directory/sums" || fail 'a file is wrong after a remount'
    fi
    # The last room goes too, piece by piece.
    fill "$mnt/small" 3000 0 "$directory/small" >"$directory/count"
    # (Perhaps not even one did.)
    [ ! -s "$directory/small" ] || sha256sum --quiet -c "$directory/small" || fail 'an acknowledged small file is wrong'
    # Truncating and removing work on the full disk.
    largest=$(find "$mnt/fill-$round" -name 3)
    truncate -s 0 "$largest" || fail 'truncate on a full disk'
    rm -r "$mnt/fill-$round" || fail 'rm on a full disk'
    rm -rf "$mnt/small" || fail 'rm on a full disk'
    "$varve" sync "$mnt" || fail 'sync after rm on a full disk'
    for _ in {1..100}; do
        "$varve" compact "$mnt"
        available=$(df --output=avail -m "$mnt" | tail -n 1)
        [ "$available" -lt 150 ] || break
        sleep 0.1
    done
    [ "$available" -ge 150 ] || fail "round $round: only $available MiB came back"
done

# What a snapshot holds is freed by deleting it.
written=$(fill "$mnt/held" 3000000 0 "$directory/sums")
rm -r "$mnt/held/1"
if mkdir "$mnt/.snapshots/full" 2>"$directory/mkdir"; then
    rm -r "$mnt/held"
    rmdir "$mnt/.snapshots/full" || fail 'deleting a snapshot on a full disk'
else
    rm -r "$mnt/held"
fi
rmdir "$mnt/.snapshots/before"
for _ in {1..100}; do
    "$varve" compact "$mnt"
    available=$(df --output=avail -m "$mnt" | tail -n 1)
    [ "$available" -lt 150 ] || break
    sleep 0.1
done
[ "$available" -ge 150 ] || fail "only $available MiB came back from snapshots"
expect_errno OK create "$mnt/new"
expect_equal 'state' "$("$varve" stats --json "$mnt" | json_get state)" ok
store_unmount
store_check --verify
