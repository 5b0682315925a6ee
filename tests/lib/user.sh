# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# user.sh - a user who is not root: as_user COMMAND..., $home, and a program, store and mount point
# that he can use ($varve, $store, $mnt)
#
# A script sources it right after mount.sh, and is begun anew in a mount namespace where that is
# needed. Run by somebody who is not root, that is the user, and $user is empty.

# Where only root may open /dev/fuse, look at a machine where everybody may, as it is common.
if [ "$(id -u)" = 0 ] && [ "$(stat -c %a /dev/fuse)" != 666 ] && [ -z "${UNSHARED:-}" ]; then
    unshare --mount --propagation private true || skip 'no mount namespace of its own'
    mknod -m 666 "$directory/fuse" c 10 229
    UNSHARED=1 exec unshare --mount --propagation private sh -c \
        'mount --bind "$1" /dev/fuse && exec bash "$2"' sh "$directory/fuse" "$0"
fi
[ -z "${UNSHARED:-}" ] || leave_other_mounts
user=''
as_user() {
    "$@"
}
if [ "$(id -u)" = 0 ]; then
    require_command useradd setpriv
    user=varve-test-$$
    useradd --no-create-home --shell /bin/sh "$user" || skip 'cannot add a user'
    at_end() {
        userdel "$user"
    }
    as_user() {
        setpriv --reuid="$user" --regid="$user" --init-groups env HOME="$home" "$@"
    }
fi
home=$directory/home
mkdir "$home"
[ -z "$user" ] || chown "$user:" "$home"
# Where a user of no rights can run it.
cp "$varve" "$directory/varve"
varve=$directory/varve
store=$home/store mnt=$home/mnt
