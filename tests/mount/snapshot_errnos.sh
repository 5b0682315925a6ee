#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Each call on .snapshots and in a snapshot that must fail, and its errno.
. "$(dirname "$0")/../lib/mount.sh"

store_make
store_mount
mkdir "$mnt/directory"
printf 'then' >"$mnt/file"
: >"$mnt/another"
ln "$mnt/file" "$mnt/hard"
ln -s file "$mnt/symbolic"
setfattr -n user.key -v value "$mnt/file"
snapshots=$mnt/.snapshots
expect_errno OK mkdir "$snapshots/one"
printf 'between' >"$mnt/file"
expect_errno OK mkdir "$snapshots/two"
one=$snapshots/one
printf 'now' >"$mnt/file"

# Names.
expect_errno EEXIST mkdir "$one"
expect_errno OK mkdir "$snapshots/$(printf 'n%.0s' {1..255})"
expect_errno OK rmdir "$snapshots/$(printf 'n%.0s' {1..255})"
expect_errno ENAMETOOLONG mkdir "$snapshots/$(printf 'n%.0s' {1..256})"
expect_errno ENAMETOOLONG rename "$one" "$snapshots/$(printf 'n%.0s' {1..256})"
expect_errno ENOENT rmdir "$snapshots/missing"
expect_errno ENOENT rename "$snapshots/missing" "$snapshots/other"
expect_errno EEXIST mkdir "$snapshots"

# Nothing changes inside a snapshot.
expect_errno EROFS create "$one/new"
expect_errno EROFS mkdir "$one/new"
expect_errno EROFS mkfifo "$one/new"
expect_errno EROFS symlink target "$one/new"
expect_errno EROFS tmpfile "$one"
expect_errno EROFS unlink "$one/file"
expect_errno EROFS rmdir "$one/directory"
expect_errno EROFS rename "$one/file" "$one/other"
expect_errno EROFS renameat2 "$one/file" "$one/another" exchange
expect_errno EROFS link "$one/file" "$one/other"
expect_errno EROFS open_write "$one/file"
expect_errno EROFS open_truncate "$one/file"
expect_errno EROFS append "$one/file"
expect_errno EROFS truncate "$one/file" 0
expect_errno EROFS chmod "$one/file" 600
expect_errno EROFS chmod "$one" 700
expect_errno EROFS chmod "$one/directory" 700
expect_errno EROFS chown "$one/file" 1 1
expect_errno EROFS utime "$one/file"
expect_errno EROFS utime "$one"
expect_errno EROFS setxattr "$one/file" user.key other
expect_errno EROFS removexattr "$one/file" user.key
expect_errno EEXIST mkdir "$one/directory"
expect_errno ENOENT stat "$one/.snapshots/one"
if rm -rf "$one" 2>"$directory/rm"; then
    fail 'rm -rf of a snapshot succeeded'
fi
grep -q 'Read-only file system' "$directory/rm" || fail "rm -rf said: $(cat "$directory/rm")"

# Nor do files go from one tree to another.
expect_errno EXDEV link "$one/file" "$mnt/new"
expect_errno EXDEV link "$mnt/file" "$one/new"
expect_errno EXDEV link "$one/file" "$snapshots/two/new"
expect_errno EXDEV rename "$one/file" "$mnt/new"
expect_errno EXDEV rename "$mnt/file" "$one/new"
expect_errno EXDEV rename "$one/file" "$snapshots/two/new"
expect_errno EXDEV rename "$mnt/directory" "$snapshots/new"
expect_errno EXDEV rename "$one" "$mnt/new"
expect_errno EXDEV renameat2 "$one/file" "$mnt/file" exchange

# .snapshots itself holds snapshots only, and stays.
for call in create mkfifo; do
    actual=$(errno_of $call "$snapshots/new")
    [[ $actual =~ ^(EROFS|EPERM)$ ]] || fail "$call in .snapshots: $actual"
done
actual=$(errno_of symlink target "$snapshots/new")
[[ $actual =~ ^(EROFS|EPERM)$ ]] || fail "symlink in .snapshots: $actual"
for call in "rmdir $snapshots" "chmod $snapshots 700" "unlink $one" "rename $snapshots $mnt/other" \
    "rename $mnt/directory $snapshots" "setxattr $snapshots user.key value"; do
    # shellcheck disable=SC2086
    [ "$(errno_of $call)" != OK ] || fail "$call succeeded"
done
expect_equal 'the list' "$(ls "$snapshots")" "$(printf 'one\ntwo')"

# Reading.
expect_file "$one/file" then
expect_file "$mnt/file" now
expect_errno OK open_direct "$one/file"
expect_errno OK fsync "$one/file"
expect_errno OK fsync "$one"
expect_errno OK fsync "$snapshots"
expect_errno ENOENT stat "$one/missing"
expect_errno ENODATA getxattr "$one/file" user.missing
expect_equal 'links in the snapshot' "$(stat -c %h "$one/symbolic")" 2
[[ $(getfattr --absolute-names --only-values -n user.varve.btime "$one") =~ ^[0-9]+\.[0-9]{9}$ ]] ||
    fail 'user.varve.btime is not seconds and nanoseconds'
[[ $(getfattr --absolute-names --only-values -n user.varve.seq "$one") =~ ^[0-9]+$ ]] || fail 'no user.varve.seq'

# Not for others.
if [ "$(id -u)" = 0 ]; then
    cp "$test_root/tests/lib/system_call.py" "$varve" "$directory/"
    as_nobody() {
        setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
    }
    nobody_gets() { # ERRNO CALL ARGUMENT...
        local expected=$1

        shift
        expect_equal "$* by another" \
            "$(as_nobody python3 -I "$directory/system_call.py" "$@")" "$expected"
    }
    nobody_gets OK read "$one/file"
    nobody_gets EPERM mkdir "$snapshots/theirs"
    nobody_gets EPERM rmdir "$snapshots/two"
    nobody_gets EPERM rename "$one" "$snapshots/theirs"
    expect_status 1 as_nobody "$directory/varve" snapshot create "$mnt" theirs
    expect_complaint 'only root and the owner'
    expect_status 1 as_nobody "$directory/varve" snapshot delete "$mnt" two
    expect_complaint 'only root and the owner'
    expect_status 1 as_nobody "$directory/varve" snapshot rename "$mnt" two theirs
    expect_complaint 'only root and the owner'
    expect_status 0 as_nobody "$directory/varve" snapshot list -q "$mnt"
    expect_equal 'the list that another sees' "$output" "$(printf 'one\ntwo')"
fi

# Whoever reads a deleted snapshot goes on reading.
exec 5<"$one/file"
expect_errno OK rename "$one" "$snapshots/renamed"
expect_equal 'content after a rename' "$(cat "$snapshots/renamed/file")" then
expect_errno EEXIST rename "$snapshots/renamed" "$snapshots/two"
expect_errno OK rmdir "$snapshots/renamed"
expect_errno ENOENT stat "$snapshots/renamed"
"$varve" compact "$mnt"
expect_equal 'content of an open file of a deleted snapshot' "$(cat <&5)" then
exec 5<&-

# A name that lies in the root is not hidden.
store_unmount
store_mount -o snapdir_name=.history
expect_errno OK stat "$mnt/.history/two"
expect_errno OK mkdir "$mnt/.snapshots"
store_unmount
expect_status 1 "$varve" mount "$store" "$mnt"
expect_complaint snapdir_name
store_mount -o snapdir_name=.history,snapdir=visible
expect_equal 'a visible directory' "$(ls -A "$mnt" | grep -cx '\.history')" 1
rmdir "$mnt/.snapshots"

# Mounted read-only.
store_unmount
store_mount -o ro
expect_errno EROFS mkdir "$snapshots/three"
expect_errno EROFS rmdir "$snapshots/two"
expect_errno EROFS create "$mnt/new"
expect_file "$snapshots/two/file" between
