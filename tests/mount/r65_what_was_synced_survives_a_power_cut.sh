#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# Power cuts under load: every file that was synced, or lies in a directory that was, is there with
# its content, and so is every snapshot that had returned; what was not synced is a prefix. Nothing
# but fsync may help here: the window is longer than the test.
. "$(dirname "$0")/../lib/mount.sh"
. "$(dirname "$0")/../lib/power_cut.sh"

rounds=4
[ -z "${VARVE_TEST_FULL:-}" ] || rounds=40
disk_make 600M
store_make
store_mount -o sync_window=3600000

# Numbered files; what is durable is noted in lines of "count file|directory|snapshot name". With LAST
# (file, directory) a sync of that kind is the last thing it does, and it waits for its end.
write_files() { # ROUND LAST
    exec python3 - "$mnt" "$1" "$directory/durable" "$2" <<'PYTHON'
import os, random, signal, sys, time
mnt, number, record, last = sys.argv[1:]
end = time.monotonic() + 0.5
base = "%s/round-%s" % (mnt, number)
os.mkdir(base)
rng, count = random.Random(int(number)), 0

def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)

with open(record, "a") as durable:
    def note(kind, name):
        durable.write("%d %s %s\n" % (count, kind, name))
        durable.flush()
    while True:
        count += 1
        directory = "%s/%d" % (base, count // 50)
        os.makedirs(directory, exist_ok=True)
        name = "%s/%d" % (directory, count)
        with open(name + ".new", "wb") as file:
            file.write(b"%d\n" % count * rng.choice((1, 100, 3000, 40000)))
        os.rename(name + ".new", name)
        if last and time.monotonic() > end:
            sync(name if last == "file" else directory)
            note(last, name)
            open(record + "-last", "w").close()
            signal.pause()
        what = rng.random()
        if what < 0.1:
            sync(name)
            note("file", name)
        elif what < 0.15:
            sync(directory)
            note("directory", name)
        elif what < 0.17:
            snapshot = "s-%s-%d" % (number, count)
            os.mkdir("%s/.snapshots/%s" % (mnt, snapshot))
            note("snapshot", "%s/.snapshots/%s/%s" % (mnt, snapshot, name[len(mnt) + 1:]))
PYTHON
}

check_files() { # MOUNT DURABLE
    python3 - "$mnt" "$1" "$2" <<'PYTHON'
import os, sys
mnt, after, record = sys.argv[1:]
last = {}
def content_is_whole(path, number):
    data = open(path, "rb").read()
    line = b"%d\n" % number
    assert data == line * (len(data) // len(line)) and data, path
for line in open(record):
    count, kind, name = line.split()
    path = after + name[len(mnt):]
    assert os.path.exists(path), "%s of a synced %s is gone" % (path, kind)
    content_is_whole(path, int(count))
    if kind != "snapshot":
        base = name.split("/round-")[1].split("/")[0]
        last[base] = int(count)
# Whatever else is there is a prefix: no file without those before it.
for entry in os.listdir(after):
    base, numbers = after + "/" + entry, []
    for directory in os.listdir(base):
        for name in os.listdir(base + "/" + directory):
            if not name.endswith(".new"):
                numbers.append(int(name))
                content_is_whole("%s/%s/%s" % (base, directory, name), int(name))
    assert sorted(numbers) == list(range(1, len(numbers) + 1)), "a gap in " + entry
    assert len(numbers) >= last.get(entry.split("-")[1], 0), entry
PYTHON
}

: >"$directory/durable"
for round in $(seq $rounds); do
    last=''
    case $((round % 4)) in
    0) last=file ;;
    2) last=directory ;;
    esac
    rm -f "$directory/durable-last"
    write_files "$round" "$last" 2>"$directory/writer" &
    writer=$!
    if [ -n "$last" ]; then
        until [ -e "$directory/durable-last" ]; do
            kill -0 $writer || fail "the writer ended: $(cat "$directory/writer")"
            sleep 0.1
        done
    else
        sleep "0.$((RANDOM % 8 + 2))"
    fi
    cp "$directory/durable" "$directory/before-the-cut"
    # The last line may still be in writing.
    [ -n "$last" ] || sed -i '$d' "$directory/before-the-cut"
    kill -0 $writer || fail "the writer ended: $(cat "$directory/writer")"
    disk_cut repaired
    # Of its end the shell need not tell.
    { kill -9 $writer && wait $writer; } 2>/dev/null || true
    (
        store=$cut/store mnt_after=$directory/after
        mkdir -p "$mnt_after"
        "$varve" mount -q "$store" "$mnt_after" || fail "round $round: the store does not mount"
        check_files "$mnt_after" "$directory/before-the-cut"
        rm -rf "$mnt_after"/round-* # none, where the cut came before anything was synced
        "$varve" compact "$mnt_after"
        "$varve" umount "$mnt_after"
        store_check --verify
    )
    disk_cut_end
done
