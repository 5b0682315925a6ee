# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
#
# packages.sh - what building, using and testing Varve needs, and installing what is missing
#
# Sourced by tests/run and tools/quickstart; this is the one list. A line is a Debian package and
# how to see without the package manager that it is there: cmd:NAME (a command), pkg:NAME (a
# library that pkg-config knows) or file:PATTERN. Other distributions have the same things under
# other names: the checks hold there too, only the installing does not.

packages_build='
gcc                 cmd:gcc
libc6-dev           file:/usr/include/stdio.h
linux-libc-dev      file:/usr/include/linux/fuse.h
meson               cmd:meson
ninja-build         cmd:ninja
pkg-config          cmd:pkg-config
libfuse3-dev        pkg:fuse3
liblmdb-dev         pkg:lmdb
libzstd-dev         pkg:libzstd
libxxhash-dev       pkg:libxxhash
liburing-dev        pkg:liburing
libjansson-dev      pkg:jansson
'

packages_mount='
fuse3               cmd:fusermount3
mount               cmd:mount
'

packages_quickstart='
rsync               cmd:rsync
'

packages_unit='
libcmocka-dev       pkg:cmocka
'

packages_sanitizer='
libgcc-12-dev       file:/usr/lib/gcc/*/*/libasan.so
'

packages_fuzz='
clang-14            cmd:clang-14
libclang-rt-14-dev  file:/usr/lib/llvm-14/lib/clang/*/lib/linux/libclang_rt.fuzzer-x86_64.a
'

packages_mount_tests='
python3             cmd:python3
git                 cmd:git
sqlite3             cmd:sqlite3
rsync               cmd:rsync
tar                 cmd:tar
diffutils           cmd:cmp
attr                cmd:setfattr
acl                 cmd:setfacl
e2fsprogs           cmd:mkfs.ext4
xfsprogs            cmd:mkfs.xfs
util-linux          cmd:setpriv
passwd              cmd:useradd
procps              cmd:ps
'

# Administrators' programs are not on every user's path.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

packages_have() { # CHECK
    local kind=${1%%:*} what=${1#*:}

    case $kind in
    cmd) command -v "$what" >/dev/null 2>&1 ;;
    pkg) pkg-config --exists "$what" 2>/dev/null ;;
    file) compgen -G "$what" >/dev/null ;;
    esac
}

# Of the given lists, the packages that are not there, one a line.
packages_missing() { # LIST...
    local package check

    printf '%s\n' "$@" | while read -r package check; do
        [ -z "$package" ] || packages_have "$check" || printf '%s\n' "$package"
    done | sort -u
}

packages_apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# Make the given lists complete: with apt as root, otherwise by saying what to install.
packages_require() { # LIST...
    local missing log status=0

    missing=$(packages_missing "$@")
    [ -n "$missing" ] || return 0
    # One line of words from here on.
    missing=$(printf '%s' "$missing" | tr '\n' ' ')
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        printf 'missing (Debian names): %s\n' "$missing" >&2
        printf 'install them, for example as root: apt-get install --no-install-recommends %s\n' \
            "$missing" >&2
        return 1
    fi
    printf 'installing: %s\n' "$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086
    { packages_apt update && packages_apt install --no-install-recommends $missing; } \
        >"$log" 2>&1 || status=$?
    [ "$status" = 0 ] || tail -n 30 "$log" >&2
    rm -f "$log"
    missing=$(packages_missing "$@" | tr '\n' ' ')
    [ -z "$missing" ] || { printf 'still missing: %s\n' "$missing" >&2; return 1; }
}
