#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# prune deletes the snapshots that it decided about: not one that somebody makes meanwhile and gives the
# name of one of these, after deleting that.
. "$(dirname "$0")/../lib/mount.sh"
require_command python3

store_make
store_mount
python3 - "$mnt" "$varve" <<'PYTHON'
import os, subprocess, sys

mnt, varve = sys.argv[1:]
past = mnt + '/.snapshots/'
raced = 0
for round in range(3):
    for number in range(50):
        os.mkdir('%s%d' % (past, number))
    os.mkdir(past + 'latest')
    os.mkdir(past + 'kept')
    prune = subprocess.Popen([varve, 'snapshot', 'prune', '-q', mnt, '--keep-last', '1'])
    while os.path.exists(past + '10'):
        pass
    try:
        os.rmdir(past + 'latest')
        raced += 1
    except FileNotFoundError:
        pass # too late
    os.mkdir(past + 'latest')
    assert prune.wait() == 0
    assert sorted(os.listdir(past)) == ['kept', 'latest'], os.listdir(past)
    os.rmdir(past + 'latest')
    os.rmdir(past + 'kept')
print('%d of 3 in time' % raced)
PYTHON
