#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Names of 255 bytes, paths up to PATH_MAX, and the errno one byte further.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
cd "$mnt"
name=$(printf 'n%.0s' {1..255})
printf 'long' >"$name"
expect_file "$name" long
expect_errno ENAMETOOLONG create "${name}n"
expect_errno ENAMETOOLONG mkdir "${name}n"
expect_errno ENAMETOOLONG rename "$name" "${name}n"
expect_errno ENAMETOOLONG link "$name" "${name}n"
expect_errno ENAMETOOLONG symlink target "${name}n"
wide=$(printf 'é%.0s' {1..127})
expect_errno OK mkdir "$wide"
expect_errno ENAMETOOLONG mkdir "${wide}éé"
expect_errno OK symlink "$(printf 't%.0s' {1..4095})" symbolic
expect_equal 'length of a symbolic link' "$(readlink symbolic | tr -d '\n' | wc -c)" 4095

# Deeper than one path can name: step by step.
python3 - "$mnt" <<'PYTHON'
import os, sys
os.chdir(sys.argv[1])
name = "d" * 99
for level in range(60):
    os.mkdir(name)
    os.chdir(name)
open("bottom", "w").write("deep")
PYTHON

deepest() { # ROOT
    python3 - "$1" <<'PYTHON'
import os, sys
os.chdir(sys.argv[1])
levels = 0
while os.path.isdir("d" * 99):
    os.chdir("d" * 99)
    levels += 1
print(levels, open("bottom").read())
PYTHON
}
expect_equal 'the deepest file' "$(deepest "$mnt")" '60 deep'
path=.
for _ in {1..40}; do
    path+=/$(printf 'd%.0s' {1..99})
done
# 40 steps of 100 and the name fill 4095 bytes.
last=$(printf 'f%.0s' {1..93})
expect_errno OK create "$path/$last"
expect_errno ENAMETOOLONG create "$path/${last}f"
cd /
mkdir "$mnt/.snapshots/deep"
store_remount
expect_equal 'the deepest file after a remount' "$(deepest "$mnt")" '60 deep'
expect_equal 'the deepest file in a snapshot' "$(deepest "$mnt/.snapshots/deep")" '60 deep'
rm -r "$mnt"/ddd*
expect_equal 'it again when the live one is removed' "$(deepest "$mnt/.snapshots/deep")" '60 deep'

# So deep that the paths of what differs are more than one answer can hold.
if [ -n "${VARVE_TEST_FULL:-}" ]; then
    "$varve" snapshot create -q "$mnt" before
    python3 -c '
import os, sys
os.chdir(sys.argv[1])
for level in range(1500):
    os.mkdir("e" * 250)
    os.chdir("e" * 250)
' "$mnt"
    expect_status 1 "$varve" snapshot diff -q -v "$mnt" before
    expect_equal 'what differs' "$output" '1500 added, 0 removed, 0 modified, 0 renamed'
fi
