#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# A sample of tests/sweep/mount: memory, descriptors and threads fail in the daemon of a mount.
. "$(dirname "$0")/../lib/mount.sh"

require_root
build=$(dirname "$(dirname "$varve")")
[ -x "$build/tests/sweep_mount" ] || skip 'tests/sweep_mount is not built'
TMPDIR=$directory python3 -B "$test_root/tests/sweep/mount" "$build" --calls 1 --trials 12 --seed 1
