#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
# git, which maps, locks, renames and checksums: clone, work, gc and fsck stay clean.
. "$(dirname "$0")/../lib/mount.sh"

git config --global user.name Tester
git config --global user.email tester@example.org
git config --global init.defaultBranch main
git config --global --add safe.directory '*'

if [ -e "$test_root/.git" ]; then
    source=$test_root
else
    source=$directory/source
    cp -r "$headers/linux" "$source"
    git -C "$source" init -q
    git -C "$source" add .
    git -C "$source" commit -q -m all
fi

store_make
store_mount
cd "$mnt"
git clone -q --no-hardlinks "$source" clone
cd clone
expect_equal 'status of a clone' "$(git status --porcelain)" ''
git checkout -q -b work
for file in 1 2 3 4 5; do
    printf 'change %s\n' $file >"new-$file"
    git add "new-$file"
    git commit -q -m "change $file"
done
git rm -q new-1
git mv new-2 renamed
git commit -q -m 'remove and rename'
cp -r "$headers/linux" headers
git add headers
git commit -q -m 'many files'
git branch second HEAD~3
git checkout -q second
git checkout -q work
git gc -q --prune=now
git fsck --strict --no-dangling 2>&1 | tee "$directory/fsck"
expect_equal 'what git fsck says' "$(grep -cE 'error|missing|corrupt' "$directory/fsck")" 0
expect_equal 'status' "$(git status --porcelain)" ''
git worktree add -q ../second second
expect_equal 'status of a second work tree' "$(git -C ../second status --porcelain)" ''
cd /
store_remount
cd "$mnt/clone"
git fsck --strict --no-dangling || fail 'git fsck after a remount'
expect_equal 'status after a remount' "$(git status --porcelain)" ''
expect_equal 'files' "$(git ls-files | wc -l)" "$(find . -path ./.git -prune -o \
    \( -type f -o -type l \) -print | wc -l)"
