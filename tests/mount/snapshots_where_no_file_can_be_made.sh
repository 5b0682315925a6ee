#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk with room and without inodes: what a full disk is asked for is not refused before it is
# tried. Snapshots get ENOSPC and leave nothing, no call waits for room, deleting works, and when
# there is room everything does.
. "$(dirname "$0")/../lib/mount.sh"

at_end() {
    disk_end
}
disk_make 300M -N 400
store_make
store_mount
cp -r "$headers/linux/netfilter" "$mnt/kept"
"$varve" snapshot create -q "$mnt" before
echo more >"$mnt/more"

# Each call ends, and well before anybody would call it waiting; OK or ENOSPC is printed.
bounded() { # CALL ARGUMENT...
    local answer

    answer=$(timeout 30 python3 "$test_root/tests/lib/system_call.py" "$@") || fail "$*: ${answer:-no end}"
    case $answer in
        OK | ENOSPC) ;;
        *) fail "$*: $answer" ;;
    esac
    echo "$answer"
}

mkdir "$disk/rest"
for ((count = 0; ; count++)); do
    : 2>/dev/null >"$disk/rest/$count" || break
done
[ "$count" -gt 50 ] || fail "only $count files were missing"
status=0
timeout 30 "$varve" snapshot create "$mnt" waits 2>"$directory/error" || status=$?
expect_equal 'snapshot create' "$status" 1
grep -q 'No space left on device' "$directory/error" || fail "it says: $(cat "$directory/error")"
expect_equal 'snapshots' "$(ls "$mnt/.snapshots")" before

for ((number = 0; number < 6; number++)); do
    [ "$(bounded mkdir "$mnt/.snapshots/$number")" = ENOSPC ] || made+=" $number"
done
expect_equal 'snapshots' "$(ls -m "$mnt/.snapshots")" "$(echo ${made:-} before | sed 's/ /, /g')"
for number in ${made:-}; do
    expect_errno OK rmdir "$mnt/.snapshots/$number"
done
expect_errno OK unlink "$mnt/more"
expect_errno OK rmdir "$mnt/.snapshots/before"
expect_equal 'snapshots' "$(ls "$mnt/.snapshots")" ''
diff -r "$headers/linux/netfilter" "$mnt/kept" || fail 'the tree is wrong'
expect_equal 'state' "$("$varve" stats --json "$mnt" | json_get state)" ok

rm -r "$disk/rest"
[ "$("$varve" snapshot create "$mnt" waits)" = waits ] || fail 'no snapshot where there is room'
expect_errno OK mkdir "$mnt/.snapshots/0"
"$varve" sync "$mnt"
store_kill
store_mount
expect_equal 'snapshots' "$(ls -m "$mnt/.snapshots")" '0, waits'
diff -r "$headers/linux/netfilter" "$mnt/.snapshots/waits/kept" || fail 'the snapshot is wrong'
