#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 900
# pjdfstest on a mount: a case is one of its directories of tests. VARVE_TEST_FROM is where it lies
# and is built.
from=${VARVE_TEST_FROM:?where pjdfstest lies}
if [ "${1:-list}" = list ]; then
    find "$from/tests" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort
    exit
fi
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command prove
[ -x "$from/pjdfstest" ] || fail "$from/pjdfstest is not built"

store_make
store_mount
mkdir "$mnt/work"
cd "$mnt/work"
prove -r -Q "$from/tests/$1"
