#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# What a small file of a snapshot holds comes with its OPEN (ll_prefetch.h): no READ is asked for, the
# bytes are right, also behind the end in its last page, and many who open it at once do not wait for
# ever. Kernels for which that is not done (before 6.11) pass with READ requests.
. "$(dirname "$0")/../lib/mount.sh"
require_command python3

sizes='0 1 100 4095 4096 4097 10000 65535 65536 65537 300000'
requests_of() { # KIND
    "$varve" stats --json "$mnt" | python3 -c 'import json, sys; print(json.load(sys.stdin)["requests"].get(sys.argv[1], 0))' "$1"
}
prefetched() {
    "$varve" stats --json "$mnt" | json_get daemon.files_prefetched
}

store_make
store_mount
for size in $sizes; do
    head -c "$size" /dev/urandom >"$directory/$size"
    cp "$directory/$size" "$mnt/$size"
    head -c "$size" < <(yes "the same, compressed $size") >"$directory/text-$size"
    cp "$directory/text-$size" "$mnt/text-$size"
done
"$varve" snapshot create -q "$mnt" one
snapshot=$mnt/.snapshots/one

IFS=. read -r major minor _ <<<"$(uname -r)"
is_done=false
[ "$major" -lt 6 ] || { [ "$major" -eq 6 ] && [ "${minor%%[!0-9]*}" -lt 11 ]; } || is_done=true

# ---- what is asked for ----

store_remount
before=$(requests_of read)
for size in 1 100 4095 4096 4097 10000 65535 65536; do
    cmp "$directory/$size" "$snapshot/$size" || fail "$size bytes differ"
    cmp "$directory/text-$size" "$snapshot/text-$size" || fail "$size bytes of text differ"
done
if $is_done; then
    expect_equal 'READ requests for small files' "$(requests_of read)" "$before"
    expect_equal 'files that came with OPEN' "$(prefetched)" 16
fi
for size in 0 65537 300000; do
    cmp "$directory/$size" "$snapshot/$size" || fail "$size bytes differ"
    cmp "$directory/text-$size" "$snapshot/text-$size" || fail "$size bytes of text differ"
done
[ "$(requests_of read)" -gt "$before" ] || fail 'large files were not read'
# Files that change are read as ever.
before=$(requests_of read)
cat "$mnt/4096" "$mnt/10000" >/dev/null
expect_equal 'READ requests for two files that may change' "$(requests_of read)" $((before + 2))
if $is_done; then expect_equal 'files that came with OPEN then' "$(prefetched)" 16; fi

# ---- behind the end ----

store_remount
python3 - "$snapshot" <<'PYTHON'
import ctypes, mmap, os, sys
for name in os.listdir(sys.argv[1]):
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            continue
        whole = (size + 4095) // 4096 * 4096
        mapped = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        # The mapping is whole pages: what follows the end there has to be zeros.
        address = None
        for line in open("/proc/self/maps"):
            if line.rstrip().endswith("/" + name):
                address = int(line.split("-")[0], 16)
        tail = ctypes.string_at(address + size, whole - size)
        assert tail.count(0) == len(tail), (name, tail[:40])
        mapped.close()
PYTHON

# ---- many at once ----

cat >"$directory/readers.py" <<'PYTHON'
import mmap, multiprocessing, os, random, sys, time

snapshot, reference, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
wanted = {name: open(os.path.join(reference, name), "rb").read() for name in os.listdir(snapshot)}

def read(number):
    chooser, end = random.Random(number), time.monotonic() + seconds
    names, count = sorted(wanted), 0
    while time.monotonic() < end:
        # All at the same one, so that they meet at its first opening.
        name = names[int(time.monotonic() * 500) % len(names)]
        with open(os.path.join(snapshot, name), "rb") as file:
            how = chooser.randrange(3)
            if how == 0:
                data = file.read()
            elif how == 1:
                data = os.pread(file.fileno(), 1 << 20, 0)
            elif wanted[name]:
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                    data = mapped[:]
            else:
                data = b""
        if data != wanted[name]:
            sys.exit("%s differs" % name)
        count += 1
    sys.exit(0 if count > 0 else "nothing was read")

readers = [multiprocessing.Process(target=read, args=(i,)) for i in range(8)]
for reader in readers:
    reader.start()
end = time.monotonic() + seconds
while time.monotonic() < end:
    # What nobody has open is forgotten, and met for the first time again.
    open("/proc/sys/vm/drop_caches", "w").write("2" if random.random() < 0.5 else "3")
    time.sleep(0.02)
for reader in readers:
    reader.join(60)
    if reader.exitcode != 0:
        sys.exit("a reader: %s" % reader.exitcode)
PYTHON
require_root
for transport in dev auto; do
    store_remount -o transport=$transport
    timeout 120 python3 "$directory/readers.py" "$snapshot" "$directory" 8 || fail "readers, transport=$transport"
    if $is_done; then [ "$(prefetched)" -gt 100 ] || fail "only $(prefetched) files came with OPEN"; fi
done
