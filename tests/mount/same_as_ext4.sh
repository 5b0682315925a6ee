#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# What some hundred system calls answer, and which times they move: the same as on ext4, but for what
# is listed here and explained in docs/posix.md.
if [ "$(id -u)" = 0 ] && [ -z "${IN_NAMESPACE:-}" ]; then
    IN_NAMESPACE=1 exec unshare --mount --propagation slave "$0" "$@"
fi
. "$(dirname "$0")/../lib/mount.sh"
require_root
leave_other_mounts
require_command mkfs.ext4 python3

chmod 755 "$directory"
truncate -s 512M "$directory/image"
mkfs.ext4 -q "$directory/image"
mkdir "$directory/ext4"
mount -o loop "$directory/image" "$directory/ext4" 2>"$directory/complaint" ||
    skip "no loop device: $(<"$directory/complaint")"
store_make
store_mount
for where in "$directory/ext4" "$mnt"; do
    mkdir "$where/probe"
    python3 "$test_root/tests/lib/posix_probe.py" "$where/probe" >"$directory/said" 2>&1 ||
        fail "$(tail -n 5 "$directory/said")"
    mv "$directory/said" "$directory/said-$(basename "$where")"
done
umount "$directory/ext4"
! grep -n ' ended: ' "$directory"/said-* || fail 'a part could not be asked'
lines=$(wc -l <"$directory/said-mnt")
[ "$lines" -gt 300 ] || fail "only $lines answers"
expect_equal 'times on Varve' "$(grep -c '^times kept: \[True, True, True, True, True, True\]' \
    "$directory/said-mnt")" 1
printf '%s\n' 'times kept' >"$directory/known"
while read -r line; do
    printf '%s\n' "$line" >>"$directory/known"
done <<'KNOWN'
times, through a link
O_DIRECT, odd
KNOWN
for where in ext4 mnt; do
    grep -vFf "$directory/known" "$directory/said-$where" >"$directory/compared-$where"
done
diff -u "$directory/compared-ext4" "$directory/compared-mnt" >"$directory/differences" ||
    fail "other answers than on ext4: $(<"$directory/differences")"
