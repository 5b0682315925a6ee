/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_checkpoint.c - checkpoints while other things happen: commits, compaction, deletion
 *
 * The disk is made to stand still at a link, a sync or a deletion; what must not be able to do harm
 * is done meanwhile. Links are counted where a chunk must be kept or must be gone.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "engine/engine_internal.h"
#include "tests/lib/engine_fault_fixture.h"

#define FRAME 20000

/* ---- keys with data in blobs ---- */

static void fill_frame(uint8_t data[FRAME], uint64_t number, uint32_t generation)
{
    uint64_t random = number * 1000003 + generation + 1;

    for (size_t i = 0; i < FRAME; i += 8) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        memcpy(data + i, &random, 8);
    }
}

static void put(struct engine *engine, uint64_t number, uint32_t generation)
{
    struct engine_view *pin = engine_view_acquire(engine);
    struct batch batch = {0};
    struct blob_ref ref;
    uint8_t key[8], data[FRAME];

    fill_frame(data, number, generation);
    assert_int_equal(engine_blob_append(engine, data, FRAME, &ref), 0);
    batch_put_reference(&batch, engine_fixture_key(key, number), &ref);
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
    engine_view_release(pin);
}

static void delete_all(struct engine *engine)
{
    struct batch batch = {0};
    uint8_t low[8], high[8];

    batch_delete_range(&batch, engine_fixture_key(low, 0), engine_fixture_key(high, UINT64_MAX));
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
}

/* generation 0: absent. */
static void expect(struct engine_view *view, uint64_t number, uint32_t generation)
{
    struct buffer value = {0};
    struct record record;
    struct blob_ref ref;
    uint8_t key[8], data[FRAME], wanted[FRAME];
    struct engine_blob_read read = {&ref, data};
    int found = engine_view_get(view, engine_fixture_key(key, number), &value, &record);

    assert_int_equal(found, generation > 0);
    if (found > 0) {
        fill_frame(wanted, number, generation);
        assert_int_equal(blob_ref_decode(record.value, &ref), 0);
        assert_int_equal(ref.length, FRAME);
        assert_int_equal(engine_blob_read(view, &read, 1), 0);
        assert_memory_equal(data, wanted, FRAME);
    }
    buffer_free(&value);
}

static uint64_t create(struct engine *engine, const char *name)
{
    uint64_t id;

    assert_int_equal(engine_checkpoint_create(engine, slice_of_string(name), slice_of("", 0), &id),
                     0);
    return id;
}

static void expect_in_checkpoint(struct engine *engine, uint64_t id, uint64_t count,
                                 uint32_t generation)
{
    struct engine_view *view;

    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    for (uint64_t i = 0; i < count; i++)
        expect(view, i, generation);
    engine_view_release(view);
}

/* ---- what lies on the disk ---- */

typedef void file_callback(void *context, const char *name, const struct stat *status);

static void each_file(const char *directory, file_callback *callback, void *context)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;

    assert_non_null(stream);
    while ((entry = readdir(stream)) != NULL) {
        struct stat status;
        char path[1024];

        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        assert_int_equal(lstat(path, &status), 0);
        if (S_ISREG(status.st_mode))
            callback(context, entry->d_name, &status);
    }
    closedir(stream);
}

static char *below(const struct engine_fault_fixture *fixture, const char *name)
{
    char *path;

    assert_true(asprintf(&path, "%s/%s", fixture->base->path, name) > 0);
    return path;
}

struct sum {
    uint64_t files, bytes;
};

static void add_file(void *context, const char *name, const struct stat *status)
{
    struct sum *sum = context;

    (void)name;
    sum->files++;
    sum->bytes += (uint64_t)status->st_size;
}

static struct sum files_in(const struct engine_fault_fixture *fixture, const char *name)
{
    struct sum sum = {0};
    char *path = below(fixture, name);

    each_file(path, add_file, &sum);
    free(path);
    return sum;
}

static void sleep_ms(long milliseconds)
{
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};

    (void)nanosleep(&pause, NULL);
}

/* A few tables and chunks of generation 1. */
static void write_some(struct engine *engine, uint64_t count, uint32_t generation)
{
    for (uint64_t i = 0; i < count; i++) {
        put(engine, i, generation);
        if (i % 16 == 15)
            assert_int_equal(engine_flush(engine), 0);
    }
}

/* Nobody needs them any more: the chunks go, but for what holds the deletions themselves. */
static void expect_reclaimed(struct engine_fault_fixture *fixture)
{
    struct sum left = {0};

    for (int i = 0; i < 100; i++) {
        assert_int_equal(engine_compact(fixture->engine), 0);
        left = files_in(fixture, "chunks");
        if (left.files <= 4)
            return;
        sleep_ms(20);
    }
    fail_msg("%llu chunks are left", (unsigned long long)left.files);
}

/* ---- R51, R64: deletions wait for whoever needs the chunks ---- */

static void r51_chunks_stay_until_the_last_of_nested_checkpoints_is_made(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    struct engine_view *reader;
    uint64_t first, second;

    write_some(engine, 64, 1);
    fault_io_stall(fixture->fault, FAULT_LINK, 1);
    first = create(engine, "first");
    fault_io_wait_stalled(fixture->fault);
    delete_all(engine);
    assert_int_equal(engine_compact(engine), 0);
    put(engine, 1000, 1);
    /* Younger pins come and go while the older one still needs what was deleted. */
    second = create(engine, "second");
    reader = engine_view_acquire(engine);
    delete_all(engine);
    assert_int_equal(engine_compact(engine), 0);
    engine_view_release(reader);
    assert_int_equal(engine_compact(engine), 0);
    fault_io_clear(fixture->fault, FAULT_LINK);
    assert_int_equal(engine_checkpoint_wait(engine, first), 0);
    assert_int_equal(engine_checkpoint_wait(engine, second), 0);
    assert_int_equal(engine_compact(engine), 0);
    expect_in_checkpoint(engine, first, 64, 1);
    assert_int_equal(engine_checkpoint_delete(engine, first), 0);
    assert_int_equal(engine_checkpoint_delete(engine, second), 0);
    expect_reclaimed(fixture);
}

struct turn {
    struct engine *engine;
    pthread_mutex_t writing; /* held while what a checkpoint is compared with changes */
    uint32_t generation;
    atomic_bool stop;
};

static void *overwrite_and_collect(void *context)
{
    struct turn *turn = context;

    while (!turn->stop) {
        pthread_mutex_lock(&turn->writing);
        turn->generation++;
        for (uint64_t i = 0; i < 8; i++)
            put(turn->engine, i, turn->generation);
        pthread_mutex_unlock(&turn->writing);
        assert_int_equal(engine_compact(turn->engine), 0);
    }
    return NULL;
}

static void r51_a_release_that_races_with_a_new_checkpoint_deletes_nothing_of_it(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct turn turn = {.engine = fixture->engine, .writing = PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread;

    for (uint64_t i = 0; i < 8; i++)
        put(turn.engine, i, ++turn.generation);
    turn.generation = 100;
    for (uint64_t i = 0; i < 8; i++)
        put(turn.engine, i, turn.generation);
    assert_int_equal(pthread_create(&thread, NULL, overwrite_and_collect, &turn), 0);
    for (int round = 0; round < 40; round++) {
        uint32_t generations[2];
        uint64_t ids[2];

        for (int i = 0; i < 2; i++) {
            pthread_mutex_lock(&turn.writing);
            ids[i] = create(turn.engine, i == 0 ? "a" : "b");
            generations[i] = turn.generation;
            pthread_mutex_unlock(&turn.writing);
        }
        for (int i = 0; i < 2; i++) {
            assert_int_equal(engine_checkpoint_wait(turn.engine, ids[i]), 0);
            expect_in_checkpoint(turn.engine, ids[i], 8, generations[i]);
            assert_int_equal(engine_checkpoint_delete(turn.engine, ids[i]), 0);
        }
    }
    turn.stop = true;
    pthread_join(thread, NULL);
    delete_all(turn.engine);
    expect_reclaimed(fixture);
}

static void *compact(void *engine)
{
    assert_int_equal(engine_compact(engine), 0);
    return NULL;
}

/* What is restored from a checkpoint while its chunks are being deleted from the live store. */
struct restore {
    struct engine *engine;
    uint64_t id, count;
};

static void *restore_all(void *context)
{
    struct restore *restore = context;
    struct engine_view *live = engine_view_acquire(restore->engine), *from;
    struct batch batch = {0};
    struct buffer value = {0};

    assert_int_equal(engine_checkpoint_view(restore->engine, restore->id, &from), 0);
    for (uint64_t i = 0; i < restore->count; i++) {
        struct record record;
        struct blob_ref ref;
        uint8_t key[8];

        assert_int_equal(engine_view_get(from, engine_fixture_key(key, i), &value, &record), 1);
        assert_int_equal(blob_ref_decode(record.value, &ref), 0);
        assert_int_equal(engine_adopt_reference(restore->engine, from, &ref), 0);
        batch_put_reference(&batch, engine_fixture_key(key, i), &ref);
    }
    assert_int_equal(engine_write(restore->engine, &batch, NULL), 0);
    engine_view_release(from);
    engine_view_release(live);
    batch_free(&batch);
    buffer_free(&value);
    return NULL;
}

static void r64_a_deletion_under_way_takes_nothing_that_is_wanted_again(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct restore restore = {.engine = fixture->engine, .count = 32};
    struct engine_view *view;
    pthread_t compaction, restoration;
    uint64_t later;

    write_some(restore.engine, restore.count, 1);
    restore.id = create(restore.engine, "kept");
    assert_int_equal(engine_checkpoint_wait(restore.engine, restore.id), 0);
    delete_all(restore.engine);
    fault_io_stall(fixture->fault, FAULT_UNLINK, 1);
    assert_int_equal(pthread_create(&compaction, NULL, compact, restore.engine), 0);
    fault_io_wait_stalled(fixture->fault);
    assert_int_equal(pthread_create(&restoration, NULL, restore_all, &restore), 0);
    sleep_ms(100);
    /* The commit point of a checkpoint does not wait for a deletion. */
    later = create(restore.engine, "later");
    fault_io_clear(fixture->fault, FAULT_UNLINK);
    pthread_join(restoration, NULL);
    pthread_join(compaction, NULL);
    assert_int_equal(engine_checkpoint_wait(restore.engine, later), 0);
    assert_int_equal(engine_checkpoint_delete(restore.engine, restore.id), 0);
    assert_int_equal(engine_compact(restore.engine), 0);
    view = engine_view_acquire(restore.engine);
    for (uint64_t i = 0; i < restore.count; i++)
        expect(view, i, 1);
    engine_view_release(view);
}

/* A large file whose pieces lie in many chunks, in any order: what is remembered of them, and gone
 * through each time, grows with the chunks and not with the pieces. */
static void each_chunk_that_is_adopted_is_noted_once(void **state)
{
    enum { CHUNKS = 24 };
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    struct engine_view *from, *live;
    struct blob_ref refs[CHUNKS];
    struct buffer value = {0};
    uint64_t id;

    engine_compaction_pause(engine); /* it would make one chunk of them */
    for (uint64_t i = 0; i < CHUNKS; i++) {
        put(engine, i, 1);
        assert_int_equal(engine_flush(engine), 0); /* ends the chunk */
    }
    id = create(engine, "source");
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    assert_int_equal(engine_checkpoint_view(engine, id, &from), 0);
    for (uint64_t i = 0; i < CHUNKS; i++) {
        uint8_t key[8];

        assert_int_equal(engine_view_get(from, engine_fixture_key(key, i), &value, NULL), 1);
        assert_int_equal(blob_ref_decode(buffer_slice(&value), &refs[i]), 0);
    }
    for (unsigned round = 0; round < 200; round++) {
        live = engine_view_acquire(engine);
        for (size_t i = 0; i < CHUNKS; i++)
            assert_int_equal(engine_adopt_reference(engine, from, &refs[i]), 0);
        engine_view_release(live);
    }
    engine_compaction_resume(engine);
    assert_true(engine->adopted_count <= CHUNKS);
    assert_true(engine->adopted_capacity <= 64);
    buffer_free(&value);
    engine_view_release(from);
}

/* ---- R52, R53, R54, R58: which state it is ---- */

static void r52_what_is_committed_while_links_are_made_is_not_in_the_checkpoint(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    uint64_t ids[2];

    write_some(engine, 32, 1);
    fault_io_stall(fixture->fault, FAULT_LINK, 1);
    ids[0] = create(engine, "then");
    ids[1] = create(engine, "its turn comes later");
    fault_io_wait_stalled(fixture->fault);
    write_some(engine, 64, 2);
    assert_int_equal(engine_compact(engine), 0);
    for (size_t i = 0; i < 2; i++)
        expect_in_checkpoint(engine, ids[i], 32, 1); /* from memory and what is pinned */
    fault_io_clear(fixture->fault, FAULT_LINK);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(engine_checkpoint_wait(engine, ids[i]), 0);
        expect_in_checkpoint(engine, ids[i], 32, 1); /* from its directory */
    }
    engine_fixture_close(fixture->base);
    engine_fixture_open(fixture->base);
    fixture->engine = fixture->base->engine;
    for (size_t i = 0; i < 2; i++)
        expect_in_checkpoint(fixture->engine, ids[i], 32, 1);
}

#define R53_WRITERS 2

struct acknowledged {
    struct engine *engine;
    uint64_t base;
    atomic_ullong begun, done;
    atomic_bool stop;
};

static void *write_and_acknowledge(void *context)
{
    struct acknowledged *mine = context;

    while (!mine->stop) {
        struct batch batch = {0};
        uint8_t key[8], text[8];
        uint64_t next = mine->done + 1;

        mine->begun = next;
        put_be64(text, next);
        batch_put(&batch, engine_fixture_key(key, mine->base), slice_of(text, sizeof text));
        batch_put(&batch, engine_fixture_key(key, mine->base + 1 + next % 500),
                  slice_of_string("x"));
        assert_int_equal(engine_write(mine->engine, &batch, NULL), 0);
        batch_free(&batch);
        mine->done = next;
    }
    return NULL;
}

static void r53_everything_below_its_number_is_in_it_and_nothing_above(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    struct acknowledged writers[R53_WRITERS];
    pthread_t threads[R53_WRITERS];
    uint64_t sequence_before = 0;

    for (size_t i = 0; i < R53_WRITERS; i++) {
        writers[i] = (struct acknowledged){.engine = engine, .base = 1 + i * 1000};
        assert_int_equal(pthread_create(&threads[i], NULL, write_and_acknowledge, &writers[i]), 0);
    }
    for (int round = 0; round < 30; round++) {
        uint64_t low[R53_WRITERS], high[R53_WRITERS], id, sequence, highest = 0;
        struct engine_iterator *iterator;
        struct engine_view *view;
        uint8_t key[8];

        sleep_ms(3);
        for (size_t i = 0; i < R53_WRITERS; i++)
            low[i] = writers[i].done;
        id = create(engine, "s");
        for (size_t i = 0; i < R53_WRITERS; i++)
            high[i] = writers[i].begun;
        assert_int_equal(engine_checkpoint_wait(engine, id), 0);
        assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
        assert_false(engine_view_pins_live(view)); /* what is looked at is the directory */
        sequence = engine_view_sequence(view);
        for (size_t i = 0; i < R53_WRITERS; i++) {
            struct buffer value = {0};
            int found =
                engine_view_get(view, engine_fixture_key(key, writers[i].base), &value, NULL);
            uint64_t number = found > 0 ? get_be64(value.data) : 0;

            assert_true(found >= 0);
            assert_in_range(number, low[i], high[i]);
            buffer_free(&value);
        }
        assert_int_equal(engine_iterator_new(view, slice_of("", 0), &iterator), 0);
        for (int more = engine_iterator_seek(iterator, slice_of("", 0)); more > 0;
             more = engine_iterator_next(iterator)) {
            uint64_t number = engine_iterator_record(iterator)->sequence;

            assert_in_range(number, 1, sequence);
            highest = number > highest ? number : highest;
        }
        engine_iterator_free(iterator);
        /* The number is that of its own mark, and nothing has come between. */
        if (sequence_before + 1 != sequence)
            assert_int_equal(highest, sequence - 1);
        sequence_before = sequence;
        engine_view_release(view);
        assert_int_equal(engine_checkpoint_delete(engine, id), 0);
    }
    for (size_t i = 0; i < R53_WRITERS; i++)
        writers[i].stop = true;
    for (size_t i = 0; i < R53_WRITERS; i++)
        pthread_join(threads[i], NULL);
}

static int chunk_is_there(void *context, const struct chunk_identity *identity)
{
    const struct engine_fault_fixture *fixture = context;
    char name[CHUNK_NAME_SIZE + 8] = "chunks/", *path;
    struct stat status;

    chunk_name(name + strlen(name), identity);
    path = below(fixture, name);
    assert_int_equal(stat(path, &status), 0);
    free(path);
    return 0;
}

/* What the view sees, and its files by their names: open ones could be read when they are gone. */
static void expect_held_back(struct engine_fault_fixture *fixture, struct engine_view *view)
{
    assert_int_equal(engine_view_each_chunk(view, chunk_is_there, fixture), 0);
    for (uint64_t key = 0; key < 32; key++)
        expect(view, key, 1);
}

static void r54_a_checkpoint_never_moves_what_older_views_hold_back(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    struct engine_view *old;
    uint64_t ids[4];
    char name[8];

    write_some(engine, 32, 1);
    old = engine_view_acquire(engine);
    for (uint32_t i = 0; i < 4; i++) {
        write_some(engine, 32, 2 + i);
        snprintf(name, sizeof name, "n%u", (unsigned)i);
        ids[i] = create(engine, name);
        assert_int_equal(engine_checkpoint_wait(engine, ids[i]), 0);
        assert_int_equal(engine_compact(engine), 0);
        expect_held_back(fixture, old);
    }
    for (uint32_t i = 0; i < 4; i++) {
        expect_in_checkpoint(engine, ids[i], 32, 2 + i);
        assert_int_equal(engine_checkpoint_delete(engine, ids[i]), 0);
    }
    assert_int_equal(engine_compact(engine), 0);
    expect_held_back(fixture, old);
    engine_view_release(old);
    delete_all(engine);
    expect_reclaimed(fixture);
}

static void r58_the_manifest_is_written_from_memory(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    char *from = below(fixture, "manifest/data.mdb"), *to = below(fixture, "manifest/away");
    uint64_t ids[2];

    write_some(engine, 32, 1);
    fault_io_stall(fixture->fault, FAULT_LINK, 1);
    ids[0] = create(engine, "s");
    fault_io_wait_stalled(fixture->fault);
    ids[1] = create(engine, "not begun");
    assert_int_equal(engine_flush(engine), 0);
    assert_int_equal(rename(from, to), 0);
    fault_io_clear(fixture->fault, FAULT_LINK);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(engine_checkpoint_wait(engine, ids[i]), 0);
        expect_in_checkpoint(engine, ids[i], 32, 1);
    }
    assert_int_equal(rename(to, from), 0);
    free(from);
    free(to);
}

/* ---- R60, R61, R62: its files ---- */

static void r60_blob_chunks_that_are_collected_meanwhile_leave_no_dangling_extent(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    struct engine_view *view;
    uint64_t id;

    write_some(engine, 64, 1);
    fault_io_stall(fixture->fault, FAULT_LINK, 1);
    id = create(engine, "s");
    fault_io_wait_stalled(fixture->fault);
    /* Of each chunk little stays alive: the rest moves out and the chunk goes. */
    for (uint64_t i = 0; i < 64; i++)
        if (i % 16 != 3)
            put(engine, i, 2);
    assert_int_equal(engine_compact(engine), 0);
    assert_int_equal(engine_compact(engine), 0);
    fault_io_clear(fixture->fault, FAULT_LINK);
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    assert_int_equal(engine_compact(engine), 0);
    expect_in_checkpoint(engine, id, 64, 1);
    view = engine_view_acquire(engine);
    for (uint64_t i = 0; i < 64; i++)
        expect(view, i, i % 16 == 3 ? 1 : 2);
    engine_view_release(view);
}

static void add_file_alone(void *context, const char *name, const struct stat *status)
{
    if (status->st_nlink == 1)
        add_file(context, name, status);
}

/* What only the checkpoint "s" holds. */
static struct sum files_alone(const struct engine_fault_fixture *fixture)
{
    static const char *const directories[] = {"checkpoints/s", "checkpoints/s/chunks"};
    struct sum sum = {0};

    for (size_t i = 0; i < 2; i++) {
        char *path = below(fixture, directories[i]);

        each_file(path, add_file_alone, &sum);
        free(path);
    }
    return sum;
}

static int take_info(void *context, const struct engine_checkpoint_info *info)
{
    struct engine_checkpoint_info *taken = context;

    *taken = *info;
    return 1;
}

static void r61_the_numbers_that_are_reported_are_those_on_disk(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    struct engine_checkpoint_info info = {0};
    struct engine_usage usage;
    struct sum chunks, rest, live, after, alone;
    uint64_t id, next;

    write_some(engine, 64, 1);
    fault_io_fail(fixture->fault, FAULT_LINK, 2, -EMLINK, false); /* one is copied */
    id = create(engine, "s");
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    assert_int_equal(engine_checkpoint_each(engine, take_info, &info), 1);
    chunks = files_in(fixture, "checkpoints/s/chunks");
    rest = files_in(fixture, "checkpoints/s");
    assert_int_equal(info.copied_files, 1);
    assert_int_equal(info.linked_files + info.copied_files, chunks.files);
    assert_int_equal(info.linked_bytes + info.copied_bytes, chunks.bytes);
    assert_int_equal(engine_checkpoint_usage(engine, &id, 1, &usage), 0);
    assert_int_equal(usage.files, chunks.files + rest.files);
    assert_int_equal(usage.bytes, chunks.bytes + rest.bytes);
    do { /* compaction may still take links away */
        alone = files_alone(fixture);
        assert_int_equal(engine_checkpoint_usage(engine, &id, 1, &usage), 0);
    } while (alone.files != files_alone(fixture).files);
    assert_true(alone.bytes >= info.copied_bytes + rest.bytes);
    assert_int_equal(usage.unique_files, alone.files);
    assert_int_equal(usage.unique_bytes, alone.bytes);
    /* And when nothing but the checkpoint holds them. */
    delete_all(engine);
    expect_reclaimed(fixture);
    live = files_in(fixture, "chunks");
    assert_int_equal(engine_checkpoint_usage(engine, &id, 1, &usage), 0);
    assert_int_equal(usage.unique_bytes, chunks.bytes + rest.bytes);
    next = create(engine, "next");
    assert_int_equal(engine_checkpoint_wait(engine, next), 0);
    after = files_in(fixture, "checkpoints/next/chunks");
    assert_true(after.files <= live.files + 2);
}

struct file_seen {
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct files_seen {
    struct file_seen files[256];
    size_t count;
};

static void see_file(void *context, const char *name, const struct stat *status)
{
    struct files_seen *seen = context;

    (void)name;
    assert_true(seen->count < 256);
    seen->files[seen->count++] =
        (struct file_seen){status->st_ino, status->st_size, status->st_mtim};
}

static void see_directory(const struct engine_fault_fixture *fixture, const char *name,
                          struct files_seen *seen)
{
    char *path = below(fixture, name);

    each_file(path, see_file, seen);
    free(path);
}

static const struct file_seen *find_seen(const struct files_seen *seen, ino_t inode)
{
    for (size_t i = 0; i < seen->count; i++)
        if (seen->files[i].inode == inode)
            return &seen->files[i];
    return NULL;
}

static void expect_sealed(void *context, const char *name, const struct stat *status)
{
    (void)context;
    assert_non_null(name);
    assert_int_equal(status->st_mode & 0222, 0);
}

static void r62_nothing_that_is_still_written_to_is_linked(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    static struct files_seen before, after, log;
    char *path = below(fixture, "checkpoints/s/chunks");
    uint64_t id;

    before.count = after.count = log.count = 0;
    write_some(engine, 20, 1); /* the last of them in an open chunk, and in the log */
    id = create(engine, "s");
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    see_directory(fixture, "wal", &log);
    see_directory(fixture, "checkpoints/s/chunks", &before);
    see_directory(fixture, "checkpoints/s", &before);
    assert_true(log.count > 0 && before.count > 3);
    for (size_t i = 0; i < log.count; i++)
        assert_null(find_seen(&before, log.files[i].inode));
    each_file(path, expect_sealed, NULL);
    free(path);
    write_some(engine, 200, 2);
    assert_int_equal(engine_sync(engine, engine_sequence(engine)), 0);
    see_directory(fixture, "checkpoints/s/chunks", &after);
    see_directory(fixture, "checkpoints/s", &after);
    assert_int_equal(after.count, before.count);
    for (size_t i = 0; i < before.count; i++) {
        const struct file_seen *now = find_seen(&after, before.files[i].inode);

        assert_non_null(now);
        assert_int_equal(now->size, before.files[i].size);
        assert_memory_equal(&now->changed, &before.files[i].changed, sizeof now->changed);
    }
    expect_in_checkpoint(engine, id, 20, 1);
}

/* ---- one of many ---- */

static int count_visit(void *context, const struct engine_checkpoint_info *info)
{
    uint64_t *seen = context;

    seen[0]++;
    seen[1] = info->id;
    return 7;
}

static void one_of_many_is_found_without_passing_the_others(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    uint64_t ids[20];

    for (size_t i = 0; i < 20; i++) {
        char name[8];

        snprintf(name, sizeof name, "n%zu", i);
        ids[i] = create(fixture->engine, name);
    }
    assert_int_equal(engine_checkpoint_delete(fixture->engine, ids[7]), 0);
    for (size_t i = 0; i < 20; i++) {
        uint64_t seen[2] = {0};
        int result = engine_checkpoint_one(fixture->engine, ids[i], count_visit, seen);

        assert_int_equal(result, i == 7 ? -ENOENT : 7);
        assert_int_equal(seen[0], i != 7);
        assert_int_equal(seen[1], i == 7 ? 0 : ids[i]);
    }
}

/* ---- collecting from two threads ---- */

/* Two threads look, neither finds it noted, both note it: what that comes to, without the luck. */
static void a_dead_chunk_that_two_threads_find_at_once_is_forgotten_once(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    struct engine_view *holds_it_back = engine_view_acquire(engine);
    struct chunk_identity dead = {
        .id = engine_allocate_chunk_id(engine),
        .kind = CHUNK_BLOB,
        .file_size_bytes = 4096,
        .hash = {.low = 1, .high = 1},
    };
    struct manifest_edit edit = {.add_blobs = &dead, .add_blob_count = 1};

    lock_acquire(&engine->install_lock);
    assert_int_equal(engine_install_locked(engine, &edit, NULL, 0, NULL), 0);
    assert_int_equal(catalogue_add(engine, &dead, 1), 0);
    lock_release(&engine->install_lock);
    engine_obsolete_table(engine, &dead);
    engine_obsolete_table(engine, &dead);
    engine_collect(engine);
    assert_true(catalogue_find(engine, dead.id, NULL));
    engine_view_release(holds_it_back);
    engine_collect(engine);
    assert_false(catalogue_find(engine, dead.id, NULL));
    assert_int_equal(engine_latch_reason(engine, NULL), 0);
}

#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fault_fixture_setup, engine_fault_fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(r51_chunks_stay_until_the_last_of_nested_checkpoints_is_made),
        TEST(r51_a_release_that_races_with_a_new_checkpoint_deletes_nothing_of_it),
        TEST(r52_what_is_committed_while_links_are_made_is_not_in_the_checkpoint),
        TEST(r53_everything_below_its_number_is_in_it_and_nothing_above),
        TEST(r54_a_checkpoint_never_moves_what_older_views_hold_back),
        TEST(r58_the_manifest_is_written_from_memory),
        TEST(r60_blob_chunks_that_are_collected_meanwhile_leave_no_dangling_extent),
        TEST(r61_the_numbers_that_are_reported_are_those_on_disk),
        TEST(r62_nothing_that_is_still_written_to_is_linked),
        TEST(a_dead_chunk_that_two_threads_find_at_once_is_forgotten_once),
        TEST(one_of_many_is_found_without_passing_the_others),
        TEST(r64_a_deletion_under_way_takes_nothing_that_is_wanted_again),
        TEST(each_chunk_that_is_adopted_is_noted_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
