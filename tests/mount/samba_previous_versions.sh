#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Samba's shadow_copy2 on .snapshots, as docs/operations.md has it: a client sees the snapshots and
# gets old versions back, of the mount and of a directory in it.
. "$(dirname "$0")/../lib/mount.sh"

require_root
require_command smbd smbclient
[ -e "$(dirname "$(find /usr/lib -name shadow_copy2.so -print -quit 2>/dev/null)")" ] ||
    skip 'needs the modules of Samba'
store_make
store_mount
mkdir -p "$mnt/project/deep"
for version in 1 2 3; do
    printf 'version %s' "$version" >"$mnt/project/deep/file"
    "$varve" snapshot create -q "$mnt" "2026112${version}T10000${version}Z"
done
printf 'now' >"$mnt/project/deep/file"
mkdir "$mnt/.snapshots/other-name"

port=$((20000 + RANDOM % 20000))
mkdir -p "$directory/samba"
chmod 755 "$directory"
cat >"$directory/smb.conf" <<CONF
[global]
smb ports = $port
interfaces = lo
bind interfaces only = yes
private dir = $directory/samba
lock directory = $directory/samba
state directory = $directory/samba
cache directory = $directory/samba
pid directory = $directory/samba
ncalrpc dir = $directory/samba
log file = $directory/samba/log
map to guest = bad user
guest account = nobody
disable spoolss = yes
load printers = no
vfs objects = shadow_copy2
$(sed -n '/^shadow:/p' "$test_root/docs/operations.md")
[mount]
path = $mnt
guest ok = yes
[directory]
path = $mnt/project
guest ok = yes
CONF
# In a session of its own: when it ends it signals its whole process group.
setsid smbd --foreground --no-process-group --configfile="$directory/smb.conf" >"$directory/smbd.out" 2>&1 &
smbd_pid=$!
at_end() {
    kill "$smbd_pid" 2>/dev/null || true
    wait "$smbd_pid" 2>/dev/null || true
}
client() { # SHARE COMMANDS
    smbclient -N -p "$port" "//127.0.0.1/$1" -c "$2" 2>&1
}
for _ in {1..100}; do
    ! client mount ls >"$directory/out" || break
    kill -0 "$smbd_pid" 2>/dev/null || skip "smbd does not start: $(tail -n 1 "$directory/smbd.out")"
    sleep 0.1
done

check_share() { # SHARE PATH
    local share=$1 path=$2 listed version

    listed=$(client "$share" "allinfo $path" | grep '^@GMT' | tr '\n' ' ')
    expect_equal "snapshots of $path in $share" "$listed" \
        '@GMT-2026.11.23-10.00.03 @GMT-2026.11.22-10.00.02 @GMT-2026.11.21-10.00.01 '
    for version in 1 2 3; do
        client "$share" "get @GMT-2026.11.2$version-10.00.0$version\\$path $directory/got" \
            >"$directory/out"
        expect_file "$directory/got" "version $version"
    done
    client "$share" "get $path $directory/got" >"$directory/out"
    expect_file "$directory/got" now
}
check_share mount 'project\deep\file'
check_share directory 'deep\file'
# Listed nowhere, changed nowhere.
! client mount ls | grep -q '\.snapshots' || fail '.snapshots is listed'
