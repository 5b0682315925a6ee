# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# mount.sh - what the scripts in tests/mount share: a store, a mount, expectations
#
# A script sources this first. It then has a directory of its own ($directory), the names of a store
# and a mount point in it ($store, $mnt), and the program ($varve). Another store beside it:
# `store=... mnt=... store_mount`. When the script ends well, what is still mounted is unmounted
# and every store that was mounted is checked with fsck, so each script tests that too. tests/run
# gives the directory and the time, and cleans up whatever is left; without it, these are made here.
# A script that made something outside its directory defines at_end, which takes it away.
set -euo pipefail
shopt -s inherit_errexit

test_root=${VARVE_TEST_ROOT:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
varve=$(realpath "${VARVE:-$test_root/build-tests/varve}")
directory=${VARVE_TEST_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/varve-case.XXXXXX")}
# Tests of other users' rights pass through it.
chmod 755 "$directory"
store=$directory/store
mnt=$directory/mnt
# The system's own programs, also where a user has put others before them.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export LC_ALL=C.UTF-8 GIT_CONFIG_NOSYSTEM=1 HOME=$directory
# A program built with a sanitizer writes its findings here; they fail the test.
export ASAN_OPTIONS=log_path=$directory/sanitizer UBSAN_OPTIONS=log_path=$directory/sanitizer
export TSAN_OPTIONS=log_path=$directory/sanitizer
export LSAN_OPTIONS=suppressions=$test_root/tests/lib/leaks.supp:print_suppressions=0
umask 022

stores=() # that were mounted, for the check at the end

# ---- saying no ----

fail() { # MESSAGE...
    local frame=0

    printf 'failed: %.2000s\n' "$*" >&2
    while caller $frame >&2; do
        frame=$((frame + 1))
    done
    exit 1
}

skip() { # MESSAGE...
    printf 'skipped: %s\n' "$*"
    exit 77
}

require_root() {
    [ "$(id -u)" = 0 ] || skip 'needs root'
}

require_command() { # NAME...
    local name

    for name; do
        command -v "$name" >/dev/null || skip "needs $name"
    done
}

# ---- stores and mounts ----

# The store goes on an ext4 of its own, at $disk. A script with an at_end of its own calls disk_end there.
disk_make() { # SIZE [MKFS-OPTION...]
    require_root
    disk=$directory/disk
    truncate -s "$1" "$directory/image"
    mkfs.ext4 -qF "${@:2}" "$directory/image"
    mkdir "$disk"
    mount -o loop "$directory/image" "$disk" || skip 'no loop device'
    store=$disk/store
}

disk_end() {
    [ -z "${disk:-}" ] || ! mountpoint -q "$disk" || umount "$disk" || umount -l "$disk"
}

store_make() { # [MKFS-OPTION...]
    mkdir -p "$mnt"
    "$varve" mkfs "$@" "$store" || fail "mkfs $store"
}

store_mount() { # [MOUNT-OPTION...]
    # The mount point of a killed daemon is there, but does not answer.
    mkdir -p "$mnt" 2>/dev/null || true
    "$varve" mount "$store" "$mnt" "$@" || fail "mount $store $mnt $*"
    stores+=("$store")
}

store_unmount() {
    "$varve" umount "$mnt" || fail "umount $mnt"
}

store_remount() { # [MOUNT-OPTION...]
    store_unmount
    store_mount "$@"
}

store_check() { # [FSCK-OPTION...]
    "$varve" fsck "$@" "$store" >"$directory/fsck.out" 2>&1 || {
        local status=$?
        cat "$directory/fsck.out" >&2
        fail "fsck $store: status $status"
    }
}

# A new mount namespace holds copies of all mounts: a daemon whose mount has a copy does not end when it
# is unmounted elsewhere, and a loop device stays with the image that another case means to remove.
# Called first in one's own: copies of what other cases have mounted are let go.
leave_other_mounts() {
    awk -v own="$directory/" '$5 ~ "/varve-case\\." && index($5 "/", own) != 1 { print $5 }
        / - fuse/ { print $5 }' /proc/self/mountinfo | sort -ru | while read -r point; do
        umount -l "$point" 2>/dev/null || true
    done
}

is_mounted() { # PATH
    grep -qF " $1 " /proc/self/mountinfo
}

daemon_pid() {
    "$varve" stats --json "$mnt" | json_get daemon.pid
}

# A power failure of the program: what it has not given to the kernel is gone.
store_kill() {
    local pid

    pid=$(daemon_pid)
    kill -9 "$pid"
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.01
    done
}

# The value at a dotted path in the JSON on standard input.
json_get() { # PATH
    python3 -c '
import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[int(key) if isinstance(value, list) else key]
print(json.dumps(value) if isinstance(value, (dict, list)) else value)' "$1"
}

# ---- expectations ----

expect_equal() { # WHAT ACTUAL EXPECTED
    [ "$2" = "$3" ] || fail "$1: is '$2', not '$3'"
}

# Run a command, whose output is then in $output and whose complaints are in $complaint.
expect_status() { # STATUS COMMAND...
    local expected=$1 status=0

    shift
    output=$("$@" 2>"$directory/complaint") || status=$?
    complaint=$(<"$directory/complaint")
    [ "$status" = "$expected" ] ||
        fail "$*: status $status, not $expected; it said: $output $complaint"
}

# What the user sees of a failure: one line, that names the matter.
expect_complaint() { # PATTERN
    [ "$(printf '%s\n' "$complaint" | wc -l)" = 1 ] || fail "more than one line: $complaint"
    [[ $complaint == *$1* ]] || fail "'$complaint' does not say '$1'"
}

# What a system call answers: OK or the name of the errno.
errno_of() { # CALL ARGUMENT...
    python3 "$test_root/tests/lib/system_call.py" "$@"
}

expect_errno() { # NAME CALL ARGUMENT...
    local expected=$1 actual

    shift
    actual=$(errno_of "$@")
    [ "$actual" = "$expected" ] || fail "$*: $actual, not $expected"
}

# Contents, holes aside; types, owners, modes, times, links, ACLs and xattrs; nothing more or less.
expect_same_tree() { # A B
    local difference=''

    difference=$(rsync -aHAXSn --delete --itemize-changes "$1/" "$2/") ||
        fail "rsync cannot compare $1 with $2"
    [ -z "$difference" ] || fail "$1 and $2 differ: $(head -n 20 <<<"$difference")"
    diff -r --no-dereference --brief "$1" "$2" >"$directory/diff.out" 2>&1 || {
        # Special files: diff has no way to compare two of them and says so.
        ! grep -v ' is a .* while file ' "$directory/diff.out" | grep -q . ||
            fail "$1 and $2 differ: $(head -n 20 "$directory/diff.out")"
    }
    # rsync compares times to what both sides keep; here to the nanosecond.
    difference=$(diff <(tree_times "$1") <(tree_times "$2") | head -n 20) || true
    [ -z "$difference" ] || fail "attributes in $1 and $2 differ: $difference"
}

# Sizes of directories are each file system's own matter.
tree_times() { # DIRECTORY
    (cd "$1" && find . -type d -printf '%P %T@ %m %U %G d\n' \
        -o -printf '%P %T@ %m %U %G %s %y %l\n' | sort)
}

expect_file() { # PATH CONTENT
    expect_equal "content of $1" "$(cat "$1")" "$2"
}

# ---- trees to work on ----

# A tree of some thousand files of the machine's own, and a copy of everything special.
headers=/usr/include

tree_make_special() { # DIRECTORY
    local to=$1

    mkdir -p "$to/empty" "$to/nested/deeper"
    : >"$to/nothing"
    printf 'x' >"$to/byte"
    head -c 4096 /dev/urandom >"$to/page"
    head -c 131073 /dev/urandom >"$to/frame-and-one"
    head -c 5000000 /dev/urandom >"$to/large"
    yes 'the same line again' | head -c 3000000 >"$to/compressible" || true
    truncate -s 10M "$to/hole"
    printf 'end' | dd of="$to/sparse" bs=1 seek=20000000 conv=notrunc status=none
    printf 'one file\n' >"$to/link-1"
    ln "$to/link-1" "$to/nested/link-2"
    ln "$to/link-1" "$to/nested/deeper/link-3"
    ln -s link-1 "$to/symlink"
    ln -s /nowhere/at/all "$to/dangling"
    ln -s "$(printf 'x%.0s' {1..3000})" "$to/long-symlink"
    mkfifo "$to/fifo"
    printf '#!/bin/sh\n' >"$to/program"
    chmod 4755 "$to/program"
    chmod 2775 "$to/nested"
    chmod 1777 "$to/empty"
    touch -d '1969-12-31 23:59:58.123456789 UTC' "$to/nothing"
    touch -d '2106-02-08 00:00:00.000000001 UTC' "$to/page"
    touch -h -d '2001-02-03 04:05:06.789 UTC' "$to/symlink"
    touch -d '2010-10-10 10:10:10.101010101 UTC' "$to/nested"
    [ "$(id -u)" != 0 ] || tree_make_owned "$to"
    # Not every kernel's tmpfs can keep user's attributes.
    if setfattr -n user.short -v value "$to/page" 2>/dev/null; then
        tree_make_attributes "$to"
    fi
    chmod 000 "$to/byte"
}

tree_make_owned() { # DIRECTORY
    local to=$1

    mknod "$to/character" c 1 3
    mknod "$to/block" b 7 200
    chown 12345:23456 "$to/compressible"
    chown -h 12345:23456 "$to/dangling"
}

tree_make_attributes() { # DIRECTORY
    local to=$1

    setfattr -n user.binary -v 0x00ff00ff "$to/page"
    setfattr -n user.long -v "$(printf 'v%.0s' {1..2000})" "$to/large"
    setfattr -n user.directory -v yes "$to/nested"
    setfacl -m u:12345:rw,g:23456:r "$to/link-1"
    setfacl -d -m u:12345:rwx "$to/nested/deeper"
    [ "$(id -u)" != 0 ] || setfattr -n trusted.note -v root "$to/large"
}

# A copy that differs in nothing. rsync alone takes times within one second for equal.
copy_tree() { # FROM TO
    rsync -aHAXS --modify-window=-1 "$1" "$2"
}

# ---- the end ----

finish() {
    local status=$? report

    trap - EXIT
    set +e
    # Out of the way of what is unmounted.
    cd /
    if [ "$status" = 0 ]; then
        finish_stores || status=1
    fi
    if declare -F at_end >/dev/null; then
        at_end
    fi
    for report in "$directory"/sanitizer.*; do
        [ -e "$report" ] || continue
        cat "$report" >&2
        status=1
    done
    if [ -z "${VARVE_TEST_DIR:-}" ]; then
        awk -v prefix="$directory/" 'index($5, prefix) == 1 { print $5 }' /proc/self/mountinfo |
            sort -r | xargs -r -n 1 umount -l
        rm -rf --one-file-system "$directory"
    fi
    exit "$status"
}

finish_stores() {
    local point one checked=' '

    while read -r point; do
        "$varve" umount "$point" || return 1
    done < <(awk -v prefix="$directory/" '
        index($5, prefix) == 1 && / - fuse\.varve / { print $5 }' /proc/self/mountinfo | sort -r)
    for one in "${stores[@]}"; do
        if [[ $checked != *" $one "* && -e $one/FORMAT ]]; then
            (store=$one store_check) || return 1
            checked+="$one "
        fi
    done
}
trap finish EXIT
