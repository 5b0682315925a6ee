#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each directory has a .snapshots of its own, not listed, that shows its past; a directory that was
# not there then is not in it. What is done in one shows in all. Paths do not move under who works.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
mkdir -p "$mnt/project/src/deep" "$mnt/elsewhere"
printf 'then' >"$mnt/project/src/file"
printf 'deep' >"$mnt/project/src/deep/file"
mkdir "$mnt/.snapshots/monday"
printf 'now' >"$mnt/project/src/file"
mkdir "$mnt/project/young" "$mnt/.snapshots/tuesday"

# As people use it.
cd "$mnt/project"
expect_status 1 diff -r src .snapshots/monday/src
expect_equal 'the difference' "$(diff -rq src .snapshots/monday/src)" \
    'Files src/file and .snapshots/monday/src/file differ'
expect_status 0 diff -r src .snapshots/tuesday/src
expect_file src/.snapshots/monday/file then
expect_file src/deep/.snapshots/monday/file deep
expect_equal 'the list' "$(ls .snapshots)" "$(printf 'monday\ntuesday')"
cp -p .snapshots/monday/src/file src/file
expect_file src/file then
cd /

# Not listed, so nobody walks into it.
expect_equal 'ls -A' "$(ls -A "$mnt/project")" "$(printf 'src\nyoung')"
expect_equal 'find' "$(find "$mnt" -name .snapshots | wc -l)" 0
cp -a "$mnt/project" "$mnt/copy"
expect_equal 'files of the copy' "$(find "$mnt/copy" -type f | wc -l)" 2
rm -r "$mnt/copy"

# Absent where the directory did not exist.
expect_equal 'the past of what is young' "$(ls "$mnt/project/young/.snapshots")" tuesday
expect_errno ENOENT stat "$mnt/project/young/.snapshots/monday"
mkdir "$mnt/newer"
expect_equal 'the past of what has none' "$(ls -A "$mnt/newer/.snapshots")" ''
rmdir "$mnt/newer"
expect_errno ENOENT stat "$mnt/project/src/.snapshots/never"
expect_errno ENOTDIR stat "$mnt/project/src/file/.snapshots"
expect_errno ENOENT stat "$mnt/project/.snapshots/monday/.snapshots"
# It is the directory's past, wherever it is now and was then.
mv "$mnt/project/src" "$mnt/elsewhere/moved"
expect_file "$mnt/elsewhere/moved/.snapshots/monday/file" then
expect_errno ENOENT stat "$mnt/project/src"
mv "$mnt/elsewhere/moved" "$mnt/project/src"

# Files are the same files on all paths; directories have the same number.
for path in file deep/file deep ''; do
    expect_equal "number of $path" "$(stat -c %d:%i "$mnt/project/src/.snapshots/monday/$path")" \
        "$(stat -c %d:%i "$mnt/.snapshots/monday/project/src/$path")"
    expect_equal "number of $path" "$(stat -c %d:%i "$mnt/project/.snapshots/monday/src/$path")" \
        "$(stat -c %d:%i "$mnt/.snapshots/monday/project/src/$path")"
done
expect_equal 'numbers listed' "$(ls -ai "$mnt/project/.snapshots/monday/src" | awk '$2 != ".."')" \
    "$(ls -ai "$mnt/.snapshots/monday/project/src" | awk '$2 != ".."')"

# Who works at one path stays there when another reads the same directory at another.
for base in "$mnt/.snapshots/monday/project" "$mnt/project/.snapshots/monday"; do
    cd "$base/src/deep"
    ls "$mnt/project/src/.snapshots/monday/deep" "$mnt/.snapshots/monday/project/src/deep" \
        "$mnt/project/.snapshots/monday/src/deep" "$mnt/project/src/deep/.snapshots/monday" \
        >"$directory/out"
    expect_equal 'pwd' "$(/bin/pwd)" "$base/src/deep"
    expect_equal '../..' "$(cd -P ../.. && pwd)" "$base"
    cd /
done
python3 - "$mnt" <<'PYTHON'
import os, sys, threading
mnt = sys.argv[1]
paths = ['/.snapshots/monday/project/src/deep', '/project/.snapshots/monday/src/deep',
         '/project/src/.snapshots/monday/deep', '/project/src/deep/.snapshots/monday']
failed = []
def read(path):
    for _ in range(300):
        try:
            assert os.listdir(mnt + path) == ['file']
            assert open(mnt + path + '/file').read() == 'deep'
        except BaseException as error:
            failed.append((path, error))
            return
threads = [threading.Thread(target=read, args=(path,)) for path in paths]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not failed, failed
PYTHON

# What is made, renamed or deleted in one is so in all, at once.
stat "$mnt/.snapshots" "$mnt/project/.snapshots" "$mnt/project/src/.snapshots" >"$directory/out"
mkdir "$mnt/project/.snapshots/here"
expect_errno OK stat "$mnt/.snapshots/here"
expect_errno OK stat "$mnt/project/src/.snapshots/here/deep"
expect_errno EEXIST mkdir "$mnt/.snapshots/here"
mv "$mnt/project/src/.snapshots/here" "$mnt/project/src/.snapshots/there"
expect_errno ENOENT stat "$mnt/project/.snapshots/here"
expect_errno OK stat "$mnt/.snapshots/there"
expect_equal 'the list' "$(ls "$mnt/project/.snapshots" | tr '\n' ' ')" 'monday there tuesday '
rmdir "$mnt/.snapshots/there"
expect_errno ENOENT stat "$mnt/project/.snapshots/there"
expect_errno ENOENT stat "$mnt/project/src/.snapshots/there"
expect_equal 'the list' "$(ls "$mnt/project/src/.snapshots" | tr '\n' ' ')" 'monday tuesday '
expect_errno ENOENT rmdir "$mnt/project/young/.snapshots/monday"
expect_errno EXDEV rename "$mnt/project/.snapshots/monday" "$mnt/.snapshots/other"
"$varve" snapshot create -q "$mnt/project" command
expect_errno OK stat "$mnt/project/src/.snapshots/command"
"$varve" snapshot delete "$mnt/project/.snapshots" command
expect_errno ENOENT stat "$mnt/project/src/.snapshots/command"

# Nothing changes there, whichever path leads to it.
past=$mnt/project/.snapshots/monday
expect_errno EROFS create "$past/src/new"
expect_errno EROFS unlink "$past/src/file"
expect_errno EROFS rmdir "$past/src/deep"
expect_errno EROFS rename "$past/src/file" "$past/other"
expect_errno EROFS link "$past/src/file" "$past/other"
expect_errno EROFS chmod "$past/src" 700
expect_errno EROFS chmod "$past" 700
expect_errno EXDEV rename "$past/src/file" "$mnt/project/other"
expect_errno EXDEV link "$past/src/file" "$mnt/project/other"
expect_errno EXDEV rename "$past/src/file" "$mnt/project/.snapshots/tuesday/src/other"

# The name is taken.
expect_errno EEXIST mkdir "$mnt/project/.snapshots"
expect_errno EEXIST create "$mnt/project/.snapshots"
expect_errno EEXIST symlink target "$mnt/project/.snapshots"
expect_errno EEXIST link "$mnt/project/src/file" "$mnt/project/.snapshots"
[ "$(errno_of rename "$mnt/project/young" "$mnt/project/.snapshots")" != OK ] || fail 'hidden by a rename'
[ "$(errno_of rmdir "$mnt/project/.snapshots")" != OK ] || fail 'removed'

# A directory that goes takes its .snapshots along; what is open in it stays.
exec 5<"$mnt/project/src/deep/.snapshots/monday/file"
rm -r "$mnt/project/src"
expect_errno ENOENT stat "$mnt/project/src/.snapshots"
expect_equal 'content of an open file' "$(cat <&5)" deep
exec 5<&-
expect_file "$mnt/project/.snapshots/monday/src/file" then

# A snapshot that goes, too.
cd "$mnt/project/.snapshots/monday/src"
rmdir "$mnt/.snapshots/monday"
expect_file deep/file deep
cd /
expect_errno ENOENT stat "$mnt/project/.snapshots/monday"

# Only the root has one, when asked; and another name is for all.
store_remount -o snapdirs=root
expect_errno ENOENT stat "$mnt/project/.snapshots"
expect_errno OK stat "$mnt/.snapshots/tuesday/project/young"
printf 'mine' >"$mnt/project/.snapshots"
store_remount
expect_file "$mnt/project/.snapshots" mine
rm "$mnt/project/.snapshots"
expect_errno OK stat "$mnt/project/.snapshots/tuesday"
store_remount -o snapdir_name=.history
expect_errno OK stat "$mnt/project/.history/tuesday/src/deep/file"
expect_errno ENOENT stat "$mnt/project/.snapshots"
