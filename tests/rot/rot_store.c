/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_store.c - make, open, and say where the data is
 */
#include "tests/rot/rot_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/blob_ref.h"
#include "engine/wal_format.h"
#include "tests/lib/seed.h"

static const struct fs_caller root_caller = {0};

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "rot: %s\n", what);
    exit(2);
}

/* ---- opening ---- */

static struct engine_options engine_options_for(const struct rot_store *store, const char *path)
{
    struct engine_options chosen;

    engine_options_default(&chosen);
    chosen.path = path;
    chosen.io = store->io;
    chosen.memtable_bytes = store->is_large ? 4 << 20 : 64 << 10;
    chosen.wal_segment_bytes = WAL_SEGMENT_SIZE_MIN;
    chosen.wal_buffer_bytes = 64 << 10;
    chosen.blob_buffers = 2;
    chosen.block_cache_bytes = 1 << 20;
    chosen.sync_window_ms = 20;
    return chosen;
}

int rot_store_open(const struct rot_store *store, const char *path, struct engine **ret_engine,
                   struct fs **ret_fs)
{
    struct engine_options chosen = engine_options_for(store, path);
    struct fs_options fs_options;
    int error = engine_open(&chosen, ret_engine);

    if (error < 0)
        return error;
    fs_options_default(&fs_options);
    fs_options.atime = FS_ATIME_NONE;
    error = fs_open(*ret_engine, &fs_options, ret_fs);
    if (error < 0)
        (void)engine_close(*ret_engine);
    return error;
}

/* ---- making ---- */

static void make_file(struct fs *fs, uint64_t parent, const char *name, size_t size,
                      uint64_t *random)
{
    static uint8_t data[1 << 20];
    struct fs_entry entry;
    bool plain = seed_below(random, 2) == 0;

    require(fs_mknod(fs, parent, name, S_IFREG | 0640, 0, &root_caller, &entry) == 0, "mknod");
    for (size_t at = 0; at < size; at += sizeof data) {
        size_t part = size - at < sizeof data ? size - at : sizeof data;

        for (size_t i = 0; i < part; i++)
            data[i] = plain ? (uint8_t)(i / 64 + at) : (uint8_t)seed_next(random);
        require(fs_write(fs, entry.attribute.node, data, part, at, false, false) == (int64_t)part,
                "write");
    }
    fs_forget(fs, entry.attribute.node, 1);
}

static uint64_t make_directory(struct fs *fs, uint64_t parent, const char *name)
{
    struct fs_entry entry;

    require(fs_mkdir(fs, parent, name, 0755, &root_caller, &entry) == 0, "mkdir");
    return entry.attribute.node;
}

static void make_snapshot(struct fs *fs, const char *name)
{
    struct fs_entry directory_entry, entry;
    struct engine *engine = fs_engine(fs);

    require(fs_lookup(fs, FS_ROOT, ".snapshots", &directory_entry) == 0, "lookup");
    require(fs_mkdir(fs, directory_entry.attribute.node, name, 0755, &root_caller, &entry) == 0,
            "snapshot");
    fs_forget(fs, entry.attribute.node, 1);
    fs_forget(fs, directory_entry.attribute.node, 1);
    for (uint64_t id = 1; id < 100; id++) {
        int error = engine_checkpoint_wait(engine, id);

        require(error == 0 || error == -ENOENT, "materialise");
    }
}

/* Some files of more than one frame among many of one. */
static void make_many(struct fs *fs, uint64_t parent, unsigned count, uint64_t *random)
{
    for (unsigned i = 0; i < count; i++) {
        char name[32];

        snprintf(name, sizeof name, "file-%u", i);
        make_file(fs, parent, name, seed_below(random, i % 100 == 99 ? 1000000 : 120000), random);
    }
}

static void first_part(const struct rot_store *store, struct fs *fs, uint64_t *random)
{
    uint64_t inner = make_directory(fs, FS_ROOT, "directory");
    struct fs_entry entry;

    make_file(fs, FS_ROOT, "inline", 100, random);
    make_file(fs, FS_ROOT, "plain", 6000, random);
    make_file(fs, inner, "data", 9000, random);
    require(fs_symlink(fs, inner, "link", "../plain", &root_caller, &entry) == 0, "symlink");
    require(fs_setxattr(fs, inner, "user.name", "value", 5, 0, &root_caller) == 0, "setxattr");
    if (store->is_large)
        make_many(fs, inner, 3000, random);
}

static void second_part(const struct rot_store *store, struct fs *fs, uint64_t *random)
{
    uint64_t other = make_directory(fs, FS_ROOT, "other");

    require(fs_unlink(fs, FS_ROOT, "inline", &root_caller) == 0, "unlink");
    make_file(fs, other, "more", 5000, random);
    make_file(fs, FS_ROOT, "inline", 300, random);
    if (store->is_large)
        make_many(fs, other, 500, random);
}

/* Synced, and in the log when the power goes. */
static void last_part(struct fs *fs, uint64_t *random)
{
    make_file(fs, FS_ROOT, "logged", 200, random);
    require(fs_sync(fs) == 0, "sync");
    make_file(fs, FS_ROOT, "logged-data", 5000, random);
    require(fs_unlink(fs, FS_ROOT, "plain", &root_caller) == 0, "unlink");
    require(fs_sync(fs) == 0, "sync");
}

void rot_store_make(struct rot_store *store, const char *path)
{
    struct store_format format = {.chunk_size_bytes = store->is_large ? 16 << 20 : 1 << 20,
                                  .compression_level = 1};
    const struct timespec pause = {.tv_nsec = 200000000};
    uint64_t random = store->seed;
    struct engine *engine;
    struct fs *fs;

    require(store_create(store->io, path, &format) == 0, "store_create");
    require(rot_store_open(store, path, &engine, &fs) == 0, "open");
    first_part(store, fs, &random);
    require(fs_sync(fs) == 0 && engine_flush(engine) == 0, "flush");
    make_snapshot(fs, "one");
    second_part(store, fs, &random);
    require(engine_flush(engine) == 0, "flush");
    make_snapshot(fs, "two");
    rot_image_load(&store->older, path);
    require(fs_setxattr(fs, FS_ROOT, "user.root", "x", 1, 0, &root_caller) == 0, "setxattr");
    require(engine_flush(engine) == 0, "flush");
    last_part(fs, &random);
    (void)nanosleep(&pause, NULL); /* the log thread says in the log what was synced */
    rot_image_load(&store->image, path);
    fs_close(fs);
    require(engine_close(engine) == 0, "close");
}

/* ---- where the data is ---- */

static int compare_frames(const void *a, const void *b)
{
    const struct rot_frame *one = a, *two = b;

    if (one->chunk_id != two->chunk_id)
        return one->chunk_id < two->chunk_id ? -1 : 1;
    return (one->position > two->position) - (one->position < two->position);
}

static void add_frames(struct rot_frames *frames, struct engine_view *view)
{
    struct engine_iterator *iterator;
    int more;

    require(view != NULL && engine_iterator_new(view, (struct slice){0}, &iterator) == 0,
            "iterator");
    for (more = engine_iterator_seek(iterator, (struct slice){0}); more == 1;
         more = engine_iterator_next(iterator)) {
        const struct record *record = engine_iterator_record(iterator);
        struct blob_ref ref;

        if (record->kind != RECORD_REFERENCE)
            continue;
        require(blob_ref_decode(record->value, &ref) == 0, "a reference that is not one");
        require(ref.skip == 0 && ref.length == ref.raw_size, "a part of a frame");
        if (frames->count == frames->capacity) {
            frames->capacity = frames->capacity * 2 + 64;
            frames->frames = realloc(frames->frames, frames->capacity * sizeof *frames->frames);
            require(frames->frames != NULL, "memory");
        }
        frames->frames[frames->count++] =
            (struct rot_frame){ref.chunk_id, ref.position, ref.stored_size, 1};
    }
    require(more == 0, "walk over the references");
    engine_iterator_free(iterator);
    engine_view_release(view);
}

/* The same frame in several trees is one. */
static void merge_frames(struct rot_frames *frames)
{
    size_t kept = 0;

    qsort(frames->frames, frames->count, sizeof *frames->frames, compare_frames);
    for (size_t i = 0; i < frames->count; i++) {
        if (kept > 0 && compare_frames(&frames->frames[kept - 1], &frames->frames[i]) == 0)
            frames->frames[kept - 1].trees++;
        else
            frames->frames[kept++] = frames->frames[i];
    }
    frames->count = kept;
}

void rot_frames_read(struct rot_frames *frames, struct engine *engine)
{
    *frames = (struct rot_frames){0};
    add_frames(frames, engine_view_acquire(engine));
    for (uint64_t id = 1; id < 100; id++) {
        struct engine_view *view;

        if (engine_checkpoint_view(engine, id, &view) == 0)
            add_frames(frames, view);
    }
    merge_frames(frames);
}

const struct rot_frame *rot_frames_find(const struct rot_frames *frames, uint64_t chunk_id,
                                        uint64_t position)
{
    struct rot_frame wanted = {.chunk_id = chunk_id, .position = position};
    size_t low = 0, high = frames->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare_frames(&frames->frames[middle], &wanted) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    low--;
    if (frames->frames[low].chunk_id != chunk_id ||
        position - frames->frames[low].position >= frames->frames[low].size)
        return NULL;
    return &frames->frames[low];
}
