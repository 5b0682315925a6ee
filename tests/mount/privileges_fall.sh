#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Whoever changes the content of a file without privileges takes suid and sgid away from it, by
# whatever call, and stat(2) shows it at once; root keeps them. An ACL that is set by an owner outside
# the file's group takes sgid away.
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command python3 setfacl

store_make
store_mount
chmod 755 "$directory"
mkdir -m 777 "$mnt/all"
head -c 65536 /dev/zero >"$mnt/source"

# Change "file" by each call as the user; print what has kept its bits.
change_as() { # UID
    python3 - "$mnt/source" "$mnt/all/file" "$1" <<'PYTHON'
import ctypes, mmap, os, sys
source, path, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)
page = mmap.mmap(-1, 4096)
os.setgroups([])

def fallocate(fd, mode):
    if libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(4096)) != 0:
        raise OSError(ctypes.get_errno(), 'fallocate')

def copy(fd):
    other = os.open(source, os.O_RDONLY)
    assert os.copy_file_range(other, fd, 4096) == 4096
    os.close(other)

calls = {
    'write': (0, lambda fd: os.write(fd, b'x')),
    'append': (os.O_APPEND, lambda fd: os.write(fd, b'x')),
    'direct write': (os.O_DIRECT, lambda fd: os.write(fd, page)),
    'truncate': (0, lambda fd: os.ftruncate(fd, 100)),
    'open with O_TRUNC': (os.O_TRUNC, lambda fd: None),
    'fallocate': (0, lambda fd: fallocate(fd, 0)),
    'punch': (0, lambda fd: fallocate(fd, 3)),
    'zero': (0, lambda fd: fallocate(fd, 16)),
    'copy_file_range': (0, copy),
}
for mode in (0o6777, 0o4766, 0o6666):
    for name, (flags, call) in calls.items():
        with open(path, 'wb') as file:
            file.write(b'y' * 8192)
        os.chmod(path, mode)
        os.stat(path)
        os.setegid(uid)
        os.seteuid(uid)
        fd = os.open(path, os.O_WRONLY | flags)
        call(fd)
        os.close(fd)
        os.seteuid(0)
        os.setegid(0)
        if os.stat(path).st_mode & 0o6000:
            print('%s %o' % (name, mode))
PYTHON
}
expect_equal 'kept by a user' "$(change_as 12345)" ''
expect_equal 'kept by root' "$(change_as 0 | wc -l)" 27

# The owner is in the group or not.
: >"$mnt/file"
chown 12345:23456 "$mnt/file"
set_acl() { # GROUP
    chmod 2777 "$mnt/file"
    stat "$mnt/file" >/dev/null
    setpriv --reuid 12345 --regid 12345 --groups "$1" setfacl -m "u:$1:rwx" "$mnt/file"
    stat -c %a "$mnt/file"
}
expect_equal 'mode after an ACL of a member' "$(set_acl 23456)" 2777
expect_equal 'mode after an ACL of another' "$(set_acl 34567)" 777

# sgid without execution stays when one of the group changes content or group, whichever of his
# groups it is, and goes when another does.
: >"$mnt/all/shared"
change_mode_as() { # GROUPS COMMAND...
    chown 12345:23456 "$mnt/all/shared"
    chmod 2666 "$mnt/all/shared"
    stat "$mnt/all/shared" >/dev/null
    setpriv --reuid 12345 --regid 12345 --groups "$1" "${@:2}"
    stat -c %a "$mnt/all/shared"
}
shared=$mnt/all/shared
expect_equal 'mode after chgrp by a member' "$(change_mode_as 34567,23456 chgrp 34567 "$shared")" 2666
expect_equal 'mode after chgrp by another' "$(change_mode_as 34567 chgrp 34567 "$shared")" 666
expect_equal 'mode after a write by a member' \
    "$(change_mode_as 34567,23456 dd if=/dev/zero of="$shared" count=1 status=none)" 2666
expect_equal 'mode after a write by another' \
    "$(change_mode_as 234567,2345 dd if=/dev/zero of="$shared" count=1 status=none)" 666

# Names and values of any length come through.
for size in 0 1 4000 60000; do
    head -c $size /dev/zero | tr '\0' v >"$directory/value"
    python3 -c 'import os, sys
path, file = sys.argv[1:]
value = open(file, "rb").read()
name = "user." + "n" * (len(value) % 200 + 1)
os.setxattr(path, name, value)
assert os.getxattr(path, name) == value
try:
    os.setxattr(path, name, value, os.XATTR_CREATE)
    sys.exit("set twice")
except FileExistsError:
    pass' "$mnt/file" "$directory/value" || fail "an attribute of $size bytes"
done
