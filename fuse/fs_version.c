/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_version.c - gathering which versions of files the snapshots hold
 *
 * Why differences of neighbours are enough: a version that a snapshot holds is either in the one
 * before it too, or it differs from what that one has. So once all snapshots up to one have been
 * gathered, the next adds what differs from any of them; the nearest differs least. It does not
 * matter that snapshots go meanwhile: what is known of them stays true, and whoever asks looks
 * whether a snapshot still has it.
 */
#include "fuse/fs_version.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/blocking.h"
#include "fuse/fs_internal.h"

/* So many records of one inode are passed one by one, before the next inode is looked for. */
#define PASS_MAX 8
#define ROOM_MIN 64

struct known {
    uint64_t version, ino;
};

struct known_array {
    struct known *items;
    size_t count, room;
};

struct fs_versions {
    struct lock lock; /* LOCK_RANK_FS_VERSION */
    size_t limit;
    struct known_array known; /* in order of versions */
    uint64_t last_id;         /* snapshots up to this one have been gathered */
    bool full;                /* the one after it did not fit */
    struct timespec full_at;  /* when the list of snapshots had changed last, then */
};

struct fs_versions *fs_versions_new(size_t limit)
{
    struct fs_versions *versions = calloc(1, sizeof *versions);

    if (versions == NULL)
        return NULL;
    versions->limit = limit;
    lock_init(&versions->lock, LOCK_RANK_FS_VERSION);
    return versions;
}

void fs_versions_free(struct fs_versions *versions)
{
    if (versions == NULL)
        return;
    lock_destroy(&versions->lock);
    free(versions->known.items);
    free(versions);
}

/* ---- the array ---- */

static int known_reserve(struct known_array *array, size_t count)
{
    size_t room = array->room > 0 ? array->room : ROOM_MIN;
    struct known *items;

    if (count <= array->room)
        return 0;
    while (room < count)
        room *= 2;
    items = reallocarray(array->items, room, sizeof *items);
    if (items == NULL)
        return -ENOMEM;
    array->items = items;
    array->room = room;
    return 0;
}

static int known_append(struct known_array *array, struct known item)
{
    int error = known_reserve(array, array->count + 1);

    if (error == 0)
        array->items[array->count++] = item;
    return error;
}

static int compare_known(const void *a, const void *b)
{
    uint64_t left = ((const struct known *)a)->version, right = ((const struct known *)b)->version;

    return left < right ? -1 : left > right;
}

static const struct known *known_find(const struct known_array *array, uint64_t version)
{
    const struct known wanted = {.version = version};

    if (array->count == 0)
        return NULL;
    return bsearch(&wanted, array->items, array->count, sizeof wanted, compare_known);
}

/* Bring in what is new, in any order; none of it is there yet. */
static int known_merge(struct known_array *array, struct known_array *news)
{
    size_t old = array->count, new = news->count, to = old + new;
    int error = known_reserve(array, to);

    if (error < 0 || new == 0)
        return error;
    qsort(news->items, new, sizeof *news->items, compare_known);
    array->count = to;
    while (new > 0) {
        if (old > 0 && array->items[old - 1].version > news->items[new - 1].version)
            array->items[--to] = array->items[--old];
        else
            array->items[--to] = news->items[--new];
    }
    return 0;
}

/* ---- one snapshot ---- */

/* Take what an inode record of a snapshot says: 0, -EFBIG past the limit, or an error. */
static int take(const struct fs_versions *versions, struct known_array *news, uint64_t ino,
                const struct record *record)
{
    struct fs_inode inode;
    int error = fs_inode_decode(record->value, &inode);

    if (error < 0)
        return error;
    if (S_ISDIR(inode.mode) || known_find(&versions->known, record->sequence) != NULL)
        return 0;
    if (versions->known.count + news->count >= versions->limit)
        return -EFBIG;
    return known_append(news, (struct known){.version = record->sequence, .ino = ino});
}

/* Go on to the next inode: 1, 0 at the end, or an error. */
static int pass_inode(struct engine_iterator *iterator, uint64_t ino)
{
    struct fs_key next;

    for (unsigned passed = 0; passed < PASS_MAX; passed++) {
        int found = engine_iterator_next(iterator);
        struct slice rest;
        uint64_t at;
        uint8_t type;

        if (found <= 0)
            return found;
        if (!fs_key_parse(engine_iterator_record(iterator)->key, &at, &type, &rest))
            return ERROR_CORRUPT;
        if (at != ino)
            return 1;
    }
    fs_key_start(&next, ino + 1);
    return engine_iterator_seek(iterator, fs_key_slice(&next));
}

static int walk_inodes(const struct fs_versions *versions, struct engine_iterator *iterator,
                       struct known_array *news)
{
    struct fs_key first;
    int found;

    fs_key_start(&first, FS_ROOT);
    found = engine_iterator_seek(iterator, fs_key_slice(&first));
    while (found > 0) {
        const struct record *record = engine_iterator_record(iterator);
        struct slice rest;
        uint64_t ino;
        uint8_t type;

        if (!fs_key_parse(record->key, &ino, &type, &rest))
            return ERROR_CORRUPT;
        if (type == FS_KEY_INODE)
            found = take(versions, news, ino, record);
        if (found >= 0)
            found = pass_inode(iterator, ino);
    }
    return found;
}

static int gather_all(const struct fs_versions *versions, struct engine_view *view,
                      struct known_array *news)
{
    struct engine_iterator *iterator;
    int error = engine_iterator_new(view, slice_of(NULL, 0), &iterator);

    if (error < 0)
        return error;
    error = walk_inodes(versions, iterator, news);
    engine_iterator_free(iterator);
    return error;
}

static int walk_differences(const struct fs_versions *versions, struct engine_diff *diff,
                            struct known_array *news)
{
    struct engine_difference difference;
    int found;

    while ((found = engine_diff_next(diff, &difference)) > 0) {
        struct slice rest;
        uint64_t ino;
        uint8_t type;

        if (!fs_key_parse(difference.key, &ino, &type, &rest))
            return ERROR_CORRUPT;
        if (ino != 0 && type == FS_KEY_INODE && difference.after != NULL)
            found = take(versions, news, ino, difference.after);
        if (found < 0)
            return found;
    }
    return found;
}

static int gather_differences(const struct fs_versions *versions, struct engine_view *before,
                              struct engine_view *after, struct known_array *news)
{
    struct engine_diff *diff;
    int error = engine_diff_new(before, after, &diff);

    if (error < 0)
        return error;
    error = walk_differences(versions, diff, news);
    engine_diff_free(diff);
    return error;
}

/* What the snapshot shows in `view` and the one before it (NULL: none) does not. */
static int gather_view(const struct fs_versions *versions, struct snapshot *before,
                       struct engine_view *view, struct known_array *news)
{
    struct engine_view *old;
    int error = before != NULL ? snapshot_view_get(before, &old) : -ESTALE;

    if (error == -ESTALE)
        return gather_all(versions, view, news);
    if (error < 0)
        return error;
    error = gather_differences(versions, old, view, news);
    snapshot_view_put(before, old);
    return error;
}

/* -ESTALE when it has just been deleted. */
static int gather(struct fs_versions *versions, struct snapshot *before, struct snapshot *snapshot)
{
    struct known_array news = {0};
    struct engine_view *view;
    int error = snapshot_view_get(snapshot, &view);

    if (error < 0)
        return error;
    error = gather_view(versions, before, view, &news);
    snapshot_view_put(snapshot, view);
    if (error == 0)
        error = known_merge(&versions->known, &news);
    free(news.items);
    return error;
}

/* ---- all snapshots ---- */

/* The newest that is left of those that have been gathered, or NULL. */
static struct snapshot *newest_gathered(struct fs *fs)
{
    struct snapshot *found = NULL, *next = snapshot_next(fs->snapshots, 0);

    while (next != NULL && snapshot_id(next) <= fs->versions->last_id) {
        snapshot_unref(found);
        found = next;
        next = snapshot_next(fs->snapshots, snapshot_id(found));
    }
    snapshot_unref(next);
    return found;
}

static bool is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void forget_all(struct fs_versions *versions)
{
    free(versions->known.items);
    versions->known = (struct known_array){0};
    versions->last_id = 0;
    versions->full = false;
}

static void stop(struct fs *fs, struct fs_versions *versions)
{
    versions->full = true;
    versions->full_at = snapshot_set_changed(fs->snapshots);
    log_warning("snapshots have more than %zu versions of files: handles of what only the newest "
                "have are not resolved",
                versions->limit);
}

/* Gather the snapshots that were made since. One that is being deleted is passed over. */
static int catch_up(struct fs *fs)
{
    struct fs_versions *versions = fs->versions;
    struct snapshot *before, *snapshot;
    int error = 0;

    if (versions->full && !is_same_time(versions->full_at, snapshot_set_changed(fs->snapshots)))
        forget_all(versions);
    before = newest_gathered(fs);
    while (error == 0 && !versions->full &&
           (snapshot = snapshot_next(fs->snapshots, versions->last_id)) != NULL) {
        error = gather(versions, before, snapshot);
        if (error == -EFBIG) {
            stop(fs, versions);
            error = 0;
        } else if (error == 0 || error == -ESTALE) {
            versions->last_id = snapshot_id(snapshot);
        }
        if (error == 0) {
            snapshot_unref(before);
            before = snapshot_ref(snapshot);
        }
        snapshot_unref(snapshot);
        error = error == -ESTALE ? 0 : error;
    }
    snapshot_unref(before);
    return error;
}

int fs_version_find(struct fs *fs, uint64_t version, uint64_t *ret_ino)
{
    struct fs_versions *versions = fs->versions;
    const struct known *known;
    int error = 0;

    blocking_enter();
    lock_acquire(&versions->lock);
    known = known_find(&versions->known, version);
    if (known == NULL) {
        error = catch_up(fs);
        known = known_find(&versions->known, version);
    }
    if (known != NULL)
        *ret_ino = known->ino;
    lock_release(&versions->lock);
    return known != NULL ? 0 : error < 0 ? error : -ESTALE;
}
