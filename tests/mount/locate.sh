#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# updatedb does not walk into history: .snapshots is not listed, and where it is, PRUNENAMES keeps it out.
. "$(dirname "$0")/../lib/mount.sh"

require_root
require_command updatedb.plocate plocate
store_make
store_mount
printf 'x' >"$mnt/somewhere"
mkdir "$mnt/.snapshots/one"
found() { # PRUNENAMES
    updatedb.plocate -U "$mnt" -o "$directory/db" --require-visibility 0 --prune-bind-mounts no \
        --prunefs '' --prunepaths '' --prunenames "$1"
    plocate -d "$directory/db" somewhere | tr '\n' ' '
}
expect_equal 'found' "$(found '')" "$mnt/somewhere "
store_remount -o snapdir=visible
expect_equal 'found where it is listed' "$(found '' | wc -w)" 2
expect_equal 'found with PRUNENAMES' "$(found '.git .bzr .hg .svn .snapshots')" "$mnt/somewhere "
