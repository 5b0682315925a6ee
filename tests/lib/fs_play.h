/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_play.h - random changes of a small tree, errors included
 *
 * Few names and directories, so that names meet, are replaced, linked and moved onto each other.
 * Looked-up nodes are never given back: what is unlinked stays held.
 */
#ifndef VARVE_TESTS_LIB_FS_PLAY_H
#define VARVE_TESTS_LIB_FS_PLAY_H

#include "tests/lib/fs_fixture.h"
#include "tests/lib/seed.h"

#define FS_PLAY_DIRECTORIES_MAX 12

struct fs_play {
    struct fs_fixture *fixture;
    uint64_t random;
    uint64_t directories[FS_PLAY_DIRECTORIES_MAX];
    size_t count;
};

static inline uint64_t fs_play_directory(struct fs_play *play)
{
    return play->directories[seed_below(&play->random, play->count)];
}

static inline const char *fs_play_name(struct fs_play *play)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};

    return names[seed_below(&play->random, 8)];
}

/* Errors are part of the play. */
static inline void fs_play_once(struct fs_play *play)
{
    struct fs *fs = play->fixture->fs;
    uint64_t parent = fs_play_directory(play), other = fs_play_directory(play);
    const char *name = fs_play_name(play), *other_name = fs_play_name(play);
    struct fs_setattr change = {.mask = FS_SETATTR_MODE, .mode = 0600};
    struct fs_entry entry;
    bool found = fs_fixture_find(play->fixture, parent, name, &entry) == 0;

    switch (seed_below(&play->random, 11)) {
    case 0:
        if (play->count < FS_PLAY_DIRECTORIES_MAX &&
            fs_mkdir(fs, parent, name, 0755, &fs_fixture_root, &entry) == 0)
            play->directories[play->count++] = entry.attribute.node;
        break;
    case 1:
        if (fs_rmdir(fs, parent, name, &fs_fixture_root) == 0) {
            for (size_t i = 0; i < play->count; i++)
                if (play->directories[i] == entry.attribute.node)
                    play->directories[i--] = play->directories[--play->count];
        }
        break;
    case 2:
        (void)fs_unlink(fs, parent, name, &fs_fixture_root);
        break;
    case 3:
    case 4:
        (void)fs_rename(fs, parent, name, other, other_name,
                        seed_below(&play->random, 4) == 0 ? 2 : 0, &fs_fixture_root);
        /* A directory that was replaced is gone. */
        for (size_t i = 1; i < play->count; i++) {
            struct fs_entry held;

            if (fs_getattr(fs, play->directories[i], &held) < 0 || held.attribute.nlink == 0)
                play->directories[i--] = play->directories[--play->count];
        }
        break;
    case 5:
        if (found && S_ISREG(entry.attribute.mode))
            (void)fs_link(fs, entry.attribute.node, other, other_name, &fs_fixture_root, &entry);
        break;
    case 6:
        change.mode = 0600 + (mode_t)seed_below(&play->random, 3);
        if (found)
            (void)fs_setattr(fs, entry.attribute.node, &change, &fs_fixture_root, &entry);
        break;
    case 7:
        if (found)
            (void)fs_setxattr(fs, entry.attribute.node, "user.x", "value",
                              seed_below(&play->random, 5), 0, &fs_fixture_root);
        break;
    case 8:
        (void)fs_symlink(fs, parent, name, "target", &fs_fixture_root, &entry);
        break;
    default:
        if (!found && fs_mknod(fs, parent, name, S_IFREG | 0644, 0, &fs_fixture_root, &entry) == 0)
            found = true;
        if (found && S_ISREG(entry.attribute.mode)) {
            char data[3000] = "";

            (void)fs_write(fs, entry.attribute.node, data,
                           1 + seed_below(&play->random, sizeof data),
                           seed_below(&play->random, 9000), false, false);
        }
        break;
    }
}

#endif
