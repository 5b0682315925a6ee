#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Calls one by one: what they do, and the errno of what they must not do.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
cd "$mnt"

# Files.
expect_errno OK create file
expect_errno EEXIST create file
printf 'hello' >file
printf ', world' >>file
expect_file file 'hello, world'
printf 'J' | dd of=file conv=notrunc status=none
expect_file file 'Jello, world'
truncate -s 5 file
expect_file file Jello
truncate -s 100000 file
expect_equal 'zeros of a grown file' "$(tail -c +6 file | tr -d '\0' | wc -c)" 0
: >file
expect_equal 'size after O_TRUNC' "$(stat -c %s file)" 0
expect_errno ENOENT stat missing
expect_errno ENOENT unlink missing
expect_errno ENOTDIR stat file/below
expect_errno EISDIR unlink /
expect_errno EISDIR open_write "$mnt"

# Directories.
expect_errno OK mkdir a
expect_errno EEXIST mkdir a
expect_errno OK mkdir a/b
expect_errno ENOTEMPTY rmdir a
expect_equal 'links of a directory with one in it' "$(stat -c %h a)" 3
expect_errno ENOTDIR rmdir file
expect_errno OK rmdir a/b
expect_equal 'links of an empty directory' "$(stat -c %h a)" 2

# Renames.
printf 1 >one
printf 2 >two
mv one a/one
expect_file a/one 1
mv -f a/one two
expect_file two 1
printf 3 >three
expect_errno EEXIST renameat2 two three noreplace
expect_errno OK renameat2 two three exchange
expect_file three 1
expect_file two 3
expect_errno OK renameat2 two a/moved whiteout
expect_equal 'what is left' "$(stat -c '%F %t %T %h %a' two)" 'character special file 0 0 1 0'
expect_file a/moved 3
printf 2 >a/replaced
expect_errno OK renameat2 a/moved a/replaced whiteout
expect_equal 'what is left' "$(stat -c '%F %t %T' a/moved)" 'character special file 0 0'
expect_equal 'names' "$(ls a | tr '\n' ' ')" 'moved replaced '
expect_errno OK rename a/replaced two
rm a/moved
expect_file two 3
expect_errno EINVAL rename a a/inside
expect_errno EISDIR rename two a
expect_errno ENOTDIR rename a two
mkdir full && : >full/entry
expect_errno ENOTEMPTY rename a full
expect_errno OK rename a b
[ ! -e a ] && [ -d b ] || fail 'a directory was not renamed'

# Links.
expect_errno OK link three b/again
expect_equal 'links of a file' "$(stat -c %h three)" 2
expect_equal 'number of a link' "$(stat -c %i three)" "$(stat -c %i b/again)"
rm three
expect_file b/again 1
expect_errno EPERM link b b2
ln -s b/again symbolic
expect_file symbolic 1
expect_equal 'text of a symbolic link' "$(readlink symbolic)" b/again

# Special files and sockets.
expect_errno OK mkfifo pipe
expect_errno OK socket end
[ -p pipe ] && [ -S end ] || fail 'a pipe or socket is something else'

# Attributes, to the nanosecond.
touch -d '2020-02-02 02:02:02.123456789 UTC' two
expect_equal 'time of modification' "$(stat -c %.9Y two)" 1580608922.123456789
chmod 640 two
expect_equal 'mode' "$(stat -c %a two)" 640
umask 027 && : >masked && umask 022
expect_equal 'mode under the umask' "$(stat -c %a masked)" 640
before=$(stat -c %.9Z two)
chmod 600 two
[ "$(stat -c %.9Z two)" != "$before" ] || fail 'the time of change stood still'

# Extended attributes and ACLs.
expect_errno ENODATA getxattr two user.missing
expect_errno OK setxattr two user.key value
expect_equal 'an attribute' "$(getfattr --only-values -n user.key two)" value
expect_errno OK removexattr two user.key
expect_errno ENODATA removexattr two user.key
expect_errno EOPNOTSUPP setxattr two unknown.key value
setfacl -m u:12345:r two
getfacl -nc two | grep -q '^user:12345:r--$' || fail 'an ACL entry is not there'
mkdir inherit && setfacl -d -m u:12345:rwx inherit && : >inherit/file
getfacl -nc inherit/file | grep -q '^user:12345:rwx' || fail 'a default ACL was not inherited'

# Unlinked and open: readable until closed.
printf 'still here' >unlinked
exec 5<unlinked
rm unlinked
expect_equal 'an unlinked open file' "$(cat <&5)" 'still here'
exec 5<&-

# A file without a name.
expect_errno OK tmpfile .

# Holes.
truncate -s 1M holes
printf x | dd of=holes bs=1 seek=524288 conv=notrunc status=none
fallocate -p -o 524288 -l 4096 holes
expect_equal 'what a punched hole holds' "$(tr -d '\0' <holes | wc -c)" 0
fallocate -l 2M allocated
expect_equal 'size after fallocate' "$(stat -c %s allocated)" 2097152
python3 - holes2 <<'PYTHON'
import os, sys
descriptor = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.pwrite(descriptor, b"data", 1 << 20)
assert os.lseek(descriptor, 0, os.SEEK_DATA) <= 1 << 20
assert os.lseek(descriptor, 0, os.SEEK_HOLE) == 0
assert os.lseek(descriptor, 0, os.SEEK_END) == (1 << 20) + 4
os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
assert os.pread(descriptor, 8, (1 << 20) - 2) == b"\0\0data"
PYTHON

# Copies that share.
head -c 300000 /dev/urandom >source
python3 - source copy <<'PYTHON'
import os, sys
source, copy = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_CREAT | os.O_RDWR)
left = 300000
while left:
    left -= os.copy_file_range(source, copy, left)
PYTHON
cmp source copy

# Shared mappings.
python3 - source <<'PYTHON'
import mmap, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
with mmap.mmap(descriptor, 300000) as mapping:
    mapping[1000:1004] = b"mmap"
    mapping.flush()
    assert os.pread(descriptor, 4, 1000) == b"mmap"
PYTHON

# The whole.
python3 - "$mnt" <<'PYTHON'
import os, sys
space = os.statvfs(sys.argv[1])
assert space.f_blocks > space.f_bavail > 0 and space.f_namemax == 255, space
PYTHON

cd /
find "$mnt" -printf '%P %y %s %m %n %T@ %l\n' | sort >"$directory/before"
store_remount
find "$mnt" -printf '%P %y %s %m %n %T@ %l\n' | sort >"$directory/after"
diff "$directory/before" "$directory/after" || fail 'a remount changed the tree'
