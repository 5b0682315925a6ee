#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Project ids: set and shown by chattr -p and lsattr -p, kept through a remount and in snapshots, handed
# on by directories with chattr +P, which let nothing of another project in.
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command chattr lsattr

project() { # PATH
    # shellcheck disable=SC2046
    set -- $(lsattr -dp "$1")
    printf '%s' "$1"
}
expect_project() { # PATH NUMBER
    expect_equal "project of $1" "$(project "$1")" "$2"
}

store_make
store_mount
mkdir "$mnt/directory" "$mnt/plain"
: >"$mnt/file"
expect_project "$mnt/file" 0
chattr -p 4000000000 "$mnt/file"
chattr -p 7 "$mnt/directory" "$mnt/plain"
chattr +P "$mnt/directory"
mkdir "$mnt/directory/below" "$mnt/plain/below"
: >"$mnt/directory/below/file"
mkdir "$mnt/.snapshots/past"
ln "$mnt/file" "$mnt/directory/link" 2>/dev/null && fail 'a link of another project came in'
expect_errno EXDEV rename "$mnt/file" "$mnt/directory/file"
# mv(1) copies then, and the copy is of the directory's project.
mv "$mnt/file" "$mnt/directory/file"
store_remount
for path in directory directory/below directory/below/file directory/file plain; do
    expect_project "$mnt/$path" 7
done
expect_project "$mnt/plain/below" 0
expect_project "$mnt/.snapshots/past/file" 4000000000
expect_project "$mnt/.snapshots/past/directory/below/file" 7
expect_equal 'flags of what is below' "$(lsattr -d "$mnt/directory/below" | cut -d " " -f 1 | tr -d -)" \
    P
chattr -p 9 "$mnt/directory/file"
expect_project "$mnt/directory/file" 9
expect_errno OK rename "$mnt/directory/file" "$mnt/file"
