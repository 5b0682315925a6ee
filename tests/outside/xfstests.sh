#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# The generic tests of xfstests, one case each: the quick ones, or with VARVE_TEST_FULL all that end
# by themselves; what it finds not to apply is skipped. In a
# mount namespace, where /sbin holds the helper that gives its two devices a store each, and df(1)
# says of the type what it expects. VARVE_TEST_FROM is where xfstests lies and is built.
from=${VARVE_TEST_FROM:?where xfstests lies}
if [ "${1:-list}" = list ]; then
    group=quick
    [ -z "${VARVE_TEST_FULL:-}" ] || group=auto
    cd "$from/tests" && grep -lE "^_begin_fstest .*\\b$group\\b" generic/[0-9]* | sort
    exit
fi
if [ "$(id -u)" = 0 ] && [ -z "${IN_NAMESPACE:-}" ]; then
    # Of processes too: the suite kills by name.
    IN_NAMESPACE=1 exec unshare --mount --propagation slave --pid --fork --kill-child --mount-proc \
        "$0" "$@"
fi
. "$(dirname "$0")/../lib/mount.sh"
require_root
leave_other_mounts
[ -x "$from/check" ] || fail "there is no check in $from"

mkdir "$directory/sbin" "$directory/bin" "$directory/test" "$directory/scratch" \
    "$directory/results"
ln -s "$varve" "$directory/sbin/mount.varve"
cat >"$directory/sbin/mount.fuse.varve" <<HELPER
#!/bin/sh
device=\$1
shift
exec '$directory/sbin/mount.varve' "$directory/store-\$device" "\$@" -o fsname="\$device",shutdown_ioctl
HELPER
cat >"$directory/bin/df" <<DF
#!/bin/sh
'$(type -P df)' "\$@" | sed 's/fuse\\.varve/fuse      /'
DF
chmod +x "$directory/sbin/mount.fuse.varve" "$directory/bin/df"
mount -t overlay overlay -o "lowerdir=$directory/sbin:/sbin" /sbin 2>"$directory/complaint" ||
    skip "cannot lay an overlay on /sbin: $(<"$directory/complaint")"
for device in varve-test varve-scratch; do
    store=$directory/store-$device store_make
done
# Some tests lower a limit and raise it again, or open as many files as the machine has: where that
# is not allowed (no CAP_SYS_RESOURCE) they move the soft limits only, and find a smaller machine.
ulimit() {
    builtin ulimit -S "$@"
}
export -f ulimit
files=$(builtin ulimit -H -n)
if [ "$files" != unlimited ] && [ "$files" -lt 100000 ]; then
    printf '%s\n' $((files * 19 / 10)) >"$directory/file-max"
    mount --bind "$directory/file-max" /proc/sys/fs/file-max
fi
cat >"$directory/config" <<CONFIG
export FSTYP=fuse FUSE_SUBTYP=.varve
export TEST_DEV=varve-test TEST_DIR=$directory/test
export SCRATCH_DEV=varve-scratch SCRATCH_MNT=$directory/scratch
CONFIG
export HOST_OPTIONS=$directory/config RESULT_BASE=$directory/results PATH=$directory/bin:$PATH

cd "$from"
./check -fuse "$1" >"$directory/check.out" 2>&1 || true
cd /
for device in varve-test varve-scratch; do
    umount "$directory/${device#varve-}" 2>/dev/null || true
    store=$directory/store-$device store_check
done
umount /sbin
if grep -q '^Not run:' "$directory/check.out"; then
    skip "$(head -n 1 "$directory/results/$1.notrun" 2>/dev/null || true)"
fi
grep -q '^Passed all' "$directory/check.out" || {
    cat "$directory/check.out" >&2
    fail "$1"
}
