#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh FUZZER NAME - fuzz for VARVE_FUZZ_SECONDS (5) from the corpus of NAME
#
# New inputs go to a directory that is thrown away, or to VARVE_FUZZ_CORPUS/NAME, which is kept and
# begun from. An input that takes longer than VARVE_FUZZ_TIMEOUT (120) seconds has failed: more on a
# machine that does other things. An input that fails is left in VARVE_FUZZ_ARTIFACTS (the build directory); running the
# fuzzer with its path repeats it.
set -euo pipefail

fuzzer=$1 name=$2
corpus=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/corpus/$name
artifacts=${VARVE_FUZZ_ARTIFACTS:-$(dirname "$fuzzer")}
work=$(mktemp -d "${TMPDIR:-/tmp}/varve-fuzz.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/found" "$work/tmp"
found=$work/found
if [ -n "${VARVE_FUZZ_CORPUS:-}" ]; then
    found=$VARVE_FUZZ_CORPUS/$name
    mkdir -p "$found"
fi
# A store that is made anew for each input belongs in memory, where there is some.
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then
    TMPDIR=$(mktemp -d /dev/shm/varve-fuzz.XXXXXX)
    trap 'rm -rf "$work" "$TMPDIR"' EXIT
    export TMPDIR
fi
# Decoders are told of sizes that no file has: a refused allocation is an answer.
export ASAN_OPTIONS=${ASAN_OPTIONS:-abort_on_error=1:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:abort_on_error=1:print_stacktrace=1}
# Its serving threads come and go while an input is under way, and one that is just ending has memory
# that nothing leads to. What they leave behind is looked for once, when all have ended.
leaks=1
[ "$name" != request ] || leaks=0
"$fuzzer" -detect_leaks=$leaks -max_total_time="${VARVE_FUZZ_SECONDS:-5}" -timeout="${VARVE_FUZZ_TIMEOUT:-120}" -rss_limit_mb=4096 \
    -max_len=65536 -artifact_prefix="$artifacts/$name-" -print_final_stats=1 \
    -close_fd_mask=1 "$found" "$corpus"
