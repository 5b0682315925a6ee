# SPDX-License-Identifier: Apache-2.0
# lib.sh - a store and a mount of its own for each mount test; sourced, not run
#
# Uses $VARVE (default: varve of the PATH). Exits 77 (skipped) where FUSE cannot be mounted.
set -eu
VARVE=${VARVE:-varve}
[ -c /dev/fuse ] && [ "$(id -u)" = 0 ] || { echo "needs root and /dev/fuse"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/varve-test.XXXXXX")
store=$work/store mnt=$work/mnt
mkdir "$mnt"

cleanup() {
    status=$?
    umount -l "$mnt" 2>/dev/null || true
    rm -rf "$work"
    exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

fail() {
    echo "FAIL: $*" >&2
    exit 1
}

# status EXPECTED COMMAND...: the command ends with that exit status
status() {
    expected=$1
    shift
    got=0
    "$@" >"$work/out" 2>"$work/err" || got=$?
    [ "$got" = "$expected" ] || fail "$* ended with $got, not $expected: $(cat "$work/err")"
}

# The daemon's process, from its own numbers; never found by name.
daemon_pid() {
    "$VARVE" stats --json "$mnt" | python3 -c 'import json,sys; print(json.load(sys.stdin)["daemon"]["pid"])'
}
