#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two users, root, and root of a user namespace on root's mount: nobody reads, writes, removes or
# snapshots what he may not, neither in the live tree, nor in snapshots, nor through the command line.
# A mount without allow_other shows nothing to others.
. "$(dirname "$0")/../lib/mount.sh"
require_root
require_command setpriv unshare python3

store_make
store_mount
chmod 755 "$directory"
cp "$varve" "$directory/varve-for-all"
chmod 755 "$directory/varve-for-all"
own=12345 other=23456
as() { # UID COMMAND...
    setpriv --reuid "$1" --regid "$1" --clear-groups env HOME=/ "${@:2}"
}
# Prepended to a command: how it is run as somebody without rights.
outsiders=("as $other")
if as $other unshare --user --map-root-user true 2>/dev/null; then
    outsiders+=("as $other unshare --user --map-root-user")
    as $other unshare --user --map-root-user sh -c '[ "$(id -u)" = 0 ]' || fail 'not root in there'
fi

mkdir -m 1777 "$mnt/shared"
mkdir -m 755 "$mnt/public" "$mnt/closed"
chown $own "$mnt/public" "$mnt/closed"
printf 'secret' >"$mnt/public/private"
printf 'open' >"$mnt/public/readable"
printf 'open, in a closed directory' >"$mnt/closed/readable"
printf 'sticky' >"$mnt/shared/of-own"
chown $own "$mnt/public"/* "$mnt/closed/readable" "$mnt/shared/of-own"
chmod 600 "$mnt/public/private"
chmod 700 "$mnt/closed"
as $own setfattr -n user.note -v mine "$mnt/public/private"
mkdir "$mnt/.snapshots/past"
# What was private then stays private there, and what was not does not become so.
chmod 644 "$mnt/public/private"
chmod 755 "$mnt/closed"
chmod 600 "$mnt/public/readable"
tree() {
    find "$mnt" "$mnt/.snapshots" -path "$mnt/shared" -o -printf '%p %m %U %s %T@ %C@\n' | sort
}
before=$(tree)

cp "$test_root/tests/lib/system_call.py" "$directory/call.py"
call=$directory/call.py
refused() { # ERRNO CALL ARGUMENT...
    local expected=$1 actual

    actual=$($outsider python3 "$call" "${@:2}")
    [ "$actual" = "$expected" ] || fail "$outsider, ${*:2}: $actual, not $expected"
}
refused_command() { # COMMAND...
    ! $outsider "$@" >"$directory/said" 2>&1 || fail "$outsider could do: $*"
}
past=$mnt/.snapshots/past
for outsider in "${outsiders[@]}"; do
    # The live tree.
    refused OK read "$mnt/public/private"
    refused OK read "$mnt/closed/readable"
    refused EACCES read "$mnt/public/readable"
    refused EACCES write "$mnt/public/private"
    refused EACCES truncate "$mnt/public/private" 0
    refused EACCES unlink "$mnt/public/private"
    refused EACCES create "$mnt/public/new"
    refused EACCES rename "$mnt/public/private" "$mnt/shared/taken"
    refused EPERM chmod "$mnt/public/private" 666
    refused EPERM chown "$mnt/public/private" 0 0
    refused EPERM utime "$mnt/public/private"
    refused EPERM unlink "$mnt/shared/of-own"
    refused EPERM rename "$mnt/shared/of-own" "$mnt/shared/of-other"
    refused_command mknod "$mnt/shared/device" b 7 0
    refused_command chattr +i "$mnt/public/private"
    refused_command setfattr -n user.note -v theirs "$mnt/public/private"
    refused_command setfattr -n trusted.note -v theirs "$mnt/shared"
    refused_command setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 \
        "$mnt/public/private"
    # The past: as it was.
    refused EACCES read "$past/public/private"
    refused OK read "$past/public/readable"
    refused EACCES read "$past/closed/readable"
    refused EACCES list "$past/closed"
    refused_command getfattr -n user.note "$past/public/private"
    refused_command cp "$past/public/private" "$mnt/shared/copy"
    # Snapshots themselves.
    refused EPERM mkdir "$mnt/.snapshots/mine"
    refused EPERM rmdir "$mnt/.snapshots/past"
    refused EPERM rename "$mnt/.snapshots/past" "$mnt/.snapshots/other"
    for verb in 'snapshot create' 'snapshot delete' 'snapshot hold' 'rollback'; do
        # shellcheck disable=SC2086
        refused_command "$directory/varve-for-all" $verb "$mnt" past
    done
    refused_command "$directory/varve-for-all" snapshot rename "$mnt" past other
    refused_command "$directory/varve-for-all" snapshot prune "$mnt" --keep-last 1
    refused_command "$directory/varve-for-all" snapshot diff "$mnt" past
    refused_command "$directory/varve-for-all" umount "$mnt"
    refused_command ls "$store/chunks"
    # By handle, past all directories.
    refused EPERM by_handle "$mnt/public/private"
done
rm -f "$mnt/shared/copy" # cp makes it before it cannot read
expect_equal 'the tree' "$(tree)" "$before"
expect_equal 'snapshots' "$(ls "$mnt/.snapshots")" past
expect_file "$mnt/public/private" secret
expect_file "$past/public/private" secret

# Root may, here and in the past.
expect_errno OK read "$past/public/private"
expect_errno OK by_handle "$mnt/public/private"
# The owner his own, but not snapshots.
as $own cat "$past/public/private" >/dev/null || fail 'the owner may not read his past'
expect_equal 'mkdir by an owner of files' "$(as $own python3 "$call" mkdir "$mnt/.snapshots/x")" EPERM

# Whoever begins requests by the command line's channel, and does not end them, keeps nobody from it.
python3 - "$mnt" $other <<'PYTHON' || fail 'an outsider takes the room of others'
import fcntl, os, struct, sys

CONTROL = 3 << 30 | 12288 << 16 | ord('v') << 8 | 0x56
WHOLE, PART = 0x76727663, 0x76727670
mnt = os.open(sys.argv[1], os.O_RDONLY)


def send(magic, token, data):
    message = bytearray(struct.pack('=IIQ', magic, len(data), token) + data.ljust(12272, b'\0'))
    fcntl.ioctl(mnt, CONTROL, message)
    return struct.unpack_from('=IIQ', message)[2]


token = send(PART, 0, b'{"verb":')
child = os.fork()
if child == 0:
    os.setgroups([])
    os.setresgid(*[int(sys.argv[2])] * 3)
    os.setresuid(*[int(sys.argv[2])] * 3)
    for _ in range(100):
        send(PART, 0, b'{"verb":')
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
send(WHOLE, token, b' "sync"}')
PYTHON

# ... unless root made the mount for him.
store_remount -o uid=$own
as $own mkdir "$mnt/.snapshots/own" || fail 'the owner of the mount may not make a snapshot'
outsider="as $other"
refused EPERM rmdir "$mnt/.snapshots/own"
as $own rmdir "$mnt/.snapshots/own" || fail 'the owner of the mount may not delete a snapshot'
expect_status 2 "$varve" mount "$store" "$mnt" -o uid=nobody-of-this-name

# Without allow_other.
store_remount -o noallow_other
for outsider in "as $own" "${outsiders[@]}"; do
    refused EACCES list "$mnt"
    refused EACCES stat "$mnt/public"
    refused EACCES read "$mnt/closed/readable"
    refused EACCES list "$mnt/.snapshots"
    refused_command "$directory/varve-for-all" snapshot list "$mnt"
done
expect_errno OK read "$mnt/public/private"
