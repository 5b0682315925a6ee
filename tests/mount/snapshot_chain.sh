#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# A tree that changes daily, its snapshots carried away by rsync -aH, counted by du, stored by tar:
# a few days of what tests/bench/snapshot_chain does for a month.
. "$(dirname "$0")/../lib/mount.sh"

require_root
require_command rsync tar du
days=6
[ -z "${VARVE_TEST_FULL:-}" ] || days=30
expect_status 0 "$test_root/tests/bench/snapshot_chain" --varve "$varve" --dir "$directory" \
    --days $days --percent 5 --seed "${VARVE_TEST_SEED:-1}" --from "$headers/linux" varve
expect_equal 'what was checked' "$(grep -c '^holds' <<<"$output")" 9
