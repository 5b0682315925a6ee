#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# SQLite in both journal modes: a writer, the daemon or both are killed in a loop; the database is
# whole, no committed row is lost, and the one in a snapshot opens.
# (synchronous=extra: only then does SQLite promise that in rollback mode.)
. "$(dirname "$0")/../lib/mount.sh"

rounds=4
[ -z "${VARVE_TEST_FULL:-}" ] || rounds=40

# Insert numbers until killed; a number is in the file "committed" when its commit has returned.
# In the background only: it becomes the process that is killed.
write_rows() { # DATABASE COMMITTED
    exec python3 - "$1" "$2" <<'PYTHON'
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
database.execute("pragma synchronous=extra")
last = database.execute("select coalesce(max(id), 0) from rows").fetchone()[0]
with open(sys.argv[2], "w") as committed:
    while True:
        last += 1
        database.execute("begin")
        database.execute("insert into rows values(?, ?)", (last, os.urandom(200)))
        database.execute("update total set n = n + 1")
        database.execute("commit")
        # When the daemon dies between the unlink of the journal and the opening of the directory to
        # sync it, SQLite takes the latter's failure for success: ask whether it is there still.
        os.statvfs(sys.argv[1])
        committed.seek(0)
        committed.write(str(last))
        committed.flush()
PYTHON
}

check_rows() { # DATABASE COMMITTED
    local rows

    expect_equal "integrity of $1" "$(sqlite3 "$1" 'pragma integrity_check')" ok
    rows=$(sqlite3 "$1" 'select count(*) from rows')
    expect_equal "total in $1" "$(sqlite3 "$1" 'select n from total')" "$rows"
    [ "$rows" -ge "$(cat "$2")" ] || fail "$1: $rows rows, $(cat "$2") were committed"
}

for mode in wal delete; do
    store=$directory/$mode
    store_make
    store_mount
    database=$mnt/$mode.db committed=$directory/$mode.committed
    sqlite3 "$database" "pragma journal_mode=$mode; create table rows(id integer primary key, b);
        create table total(n); insert into total values(0);" >"$directory/mode"
    expect_equal 'journal mode' "$(cat "$directory/mode")" "$mode"
    printf 0 >"$committed"
    for round in $(seq "$rounds"); do
        write_rows "$database" "$committed" 2>>"$directory/writer" &
        writer=$!
        sleep 0.5
        if [ $((round % 2)) = 0 ]; then
            store_kill
            kill -9 "$writer" 2>/dev/null || true
            wait "$writer" || true
            store_mount -q
        else
            kill -9 "$writer" || fail "the writer had ended: $(cat "$directory/writer")"
            wait "$writer" || true
        fi
        check_rows "$database" "$committed"
    done

    # A snapshot while a writer is at work.
    write_rows "$database" "$committed" &
    writer=$!
    sleep 0.3
    before=$(cat "$committed")
    mkdir "$mnt/.snapshots/now"
    kill -9 "$writer"
    wait "$writer" || true
    printf '%s' "${before:-0}" >"$directory/before"
    mkdir "$directory/copy"
    cp "$mnt/.snapshots/now/$mode".db* "$directory/copy/"
    check_rows "$directory/copy/$mode.db" "$directory/before"
    rm -r "$directory/copy"
    store_unmount
done
