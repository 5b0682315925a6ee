/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - the storage engine alone: how many operations a second, how long the slow ones take,
 * and what is written for what
 *
 * Records are such as the filesystem writes: keys of 17 bytes, values of 100. Each workload goes
 * through all its operations one by one; "p99" is in microseconds. Write amplification is what went
 * to the disk, by the engine's own count, for each byte of keys, values and file data given to it.
 */
#include <argp.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/endian.h"
#include "engine/base/lock.h"
#include "engine/engine.h"

#define KEY_SIZE     17
#define VALUE_SIZE   100
#define BATCH        4 /* records in one, as creating a file has */
#define FRAME_SIZE   ((uint32_t)(128 * 1024))
#define SYNCS        2000
#define SNAPSHOTS    200
#define COLD_RECORDS 100000
#define MIB          (1024.0 * 1024.0)

struct bench {
    const char *directory;
    uint64_t records, stream_mib;
    bool json;

    struct io *io;
    struct engine *engine;
    struct batch batch;
    struct buffer value;
    uint8_t *frame;
    uint64_t random, given_bytes, written_bytes; /* the latter: by engines that are closed */
    uint64_t *took_ns;
    uint64_t room;
    json_t *results;
};

static void die(const char *what, int error)
{
    fprintf(stderr, "bench_engine: %s: %s\n", what, error_text(error));
    exit(1);
}

static void check(const char *what, int error)
{
    if (error < 0)
        die(what, error);
}

static uint64_t next_random(struct bench *bench)
{
    bench->random ^= bench->random << 13;
    bench->random ^= bench->random >> 7;
    bench->random ^= bench->random << 17;
    return bench->random;
}

/* ---- measuring ---- */

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static double quantile_us(const struct bench *bench, uint64_t count, double share)
{
    return (double)bench->took_ns[(uint64_t)((double)(count - 1) * share)] / 1e3;
}

static void report(struct bench *bench, const char *name, uint64_t count, uint64_t total_ns)
{
    double rate = (double)count * 1e9 / (double)total_ns;

    qsort(bench->took_ns, count, sizeof *bench->took_ns, compare);
    if (!bench->json)
        printf("%-28s %12.0f %10.1f %10.1f %10.1f %10.1f\n", name, rate,
               quantile_us(bench, count, 0.5), quantile_us(bench, count, 0.99),
               quantile_us(bench, count, 0.999), quantile_us(bench, count, 1));
    (void)json_object_set_new(
        bench->results, name,
        json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "operations", (json_int_t)count, "per_second",
                  rate, "p50_us", quantile_us(bench, count, 0.5), "p99_us",
                  quantile_us(bench, count, 0.99), "p999_us", quantile_us(bench, count, 0.999),
                  "max_us", quantile_us(bench, count, 1)));
}

typedef void operation(struct bench *bench, uint64_t index);

static void measure(struct bench *bench, const char *name, uint64_t count, operation *run)
{
    uint64_t start_ns = clock_monotonic_ns(), before_ns = start_ns, now_ns = start_ns;

    if (count > bench->room) {
        free(bench->took_ns);
        bench->took_ns = malloc(count * sizeof *bench->took_ns);
        bench->room = count;
        if (bench->took_ns == NULL)
            die(name, -ENOMEM);
    }
    for (uint64_t i = 0; i < count; i++) {
        run(bench, i);
        now_ns = clock_monotonic_ns();
        bench->took_ns[i] = now_ns - before_ns;
        before_ns = now_ns;
    }
    report(bench, name, count, now_ns - start_ns);
}

/* ---- operations ---- */

static struct slice make_key(uint8_t key[KEY_SIZE], uint64_t group, uint64_t number)
{
    put_be64(key, group);
    key[8] = 1;
    put_be64(key + 9, number);
    return slice_of(key, KEY_SIZE);
}

static void add_record(struct bench *bench, uint64_t number)
{
    uint8_t key[KEY_SIZE], value[VALUE_SIZE];

    for (size_t i = 0; i + 8 <= sizeof value; i += 16)
        put_be64(value + i, next_random(bench)); /* about half of it compresses */
    memset(value + 96, 0, 4);
    batch_put(&bench->batch, make_key(key, 1, number), slice_of(value, sizeof value));
    bench->given_bytes += KEY_SIZE + VALUE_SIZE;
}

static void write_batch(struct bench *bench)
{
    check("write", engine_write(bench->engine, &bench->batch, NULL));
    batch_clear(&bench->batch);
}

static void fill(struct bench *bench, uint64_t index)
{
    for (uint64_t i = 0; i < BATCH; i++)
        add_record(bench, index * BATCH + i);
    write_batch(bench);
}

static void overwrite(struct bench *bench, uint64_t index)
{
    (void)index;
    for (uint64_t i = 0; i < BATCH; i++)
        add_record(bench, next_random(bench) % bench->records);
    write_batch(bench);
}

static void write_and_sync(struct bench *bench, uint64_t index)
{
    overwrite(bench, index);
    check("sync", engine_sync(bench->engine, engine_sequence(bench->engine)));
}

static void get(struct bench *bench, uint64_t group, uint64_t number, int expected)
{
    struct engine_view *view = engine_view_acquire(bench->engine);
    uint8_t key[KEY_SIZE];
    int found;

    if (view == NULL)
        die("read", -ENOMEM);
    found = engine_view_get(view, make_key(key, group, number), &bench->value, NULL);
    engine_view_release(view);
    check("read", found);
    if (found != expected) {
        fprintf(stderr, "bench_engine: record %" PRIu64 " is %s\n", number,
                found ? "there" : "not there");
        exit(1);
    }
}

static void read_random(struct bench *bench, uint64_t index)
{
    (void)index;
    get(bench, 1, next_random(bench) % bench->records, 1);
}

static void read_absent(struct bench *bench, uint64_t index)
{
    (void)index;
    get(bench, 1, bench->records + next_random(bench) % bench->records, 0);
}

static void append_frame(struct bench *bench, uint64_t index)
{
    struct engine_view *view = engine_view_acquire(bench->engine);
    uint8_t key[KEY_SIZE];
    struct blob_ref ref;

    if (view == NULL)
        die("stream", -ENOMEM);
    put_be64(bench->frame, index);
    check("stream", engine_blob_append(bench->engine, bench->frame, FRAME_SIZE, &ref));
    batch_put_reference(&bench->batch, make_key(key, 2, index), &ref);
    write_batch(bench);
    engine_view_release(view);
    bench->given_bytes += FRAME_SIZE;
}

static void read_frame(struct bench *bench, uint64_t index)
{
    struct engine_view *view = engine_view_acquire(bench->engine);
    struct engine_blob_read read = {.to = bench->frame};
    uint8_t key[KEY_SIZE];
    struct record record;
    struct blob_ref ref;

    if (view == NULL)
        die("stream", -ENOMEM);
    check("stream", engine_view_get(view, make_key(key, 2, index), &bench->value, &record) == 1
                        ? blob_ref_decode(record.value, &ref)
                        : ERROR_CORRUPT);
    read.ref = &ref;
    check("stream", engine_blob_read(view, &read, 1));
    engine_view_release(view);
}

static void snapshot(struct bench *bench, uint64_t index)
{
    char name[32];
    uint64_t id;

    (void)snprintf(name, sizeof name, "s%" PRIu64, index);
    check("snapshot",
          engine_checkpoint_create(bench->engine, slice_of_string(name), slice_of(NULL, 0), &id));
    check("snapshot", engine_checkpoint_wait(bench->engine, id));
    check("snapshot", engine_checkpoint_delete(bench->engine, id));
}

/* Only until it is acknowledged, with changes to hold. */
static void snapshot_acknowledged(struct bench *bench, uint64_t index)
{
    char name[32];
    uint64_t id;

    overwrite(bench, index);
    (void)snprintf(name, sizeof name, "a%" PRIu64, index);
    check("snapshot",
          engine_checkpoint_create(bench->engine, slice_of_string(name), slice_of(NULL, 0), &id));
}

static void scan(struct bench *bench)
{
    struct engine_view *view = engine_view_acquire(bench->engine);
    uint64_t start_ns = clock_monotonic_ns(), count = 0;
    struct engine_iterator *iterator;
    double rate;
    int found;

    if (view == NULL)
        die("scan", -ENOMEM);
    check("scan", engine_iterator_new(view, slice_of(NULL, 0), &iterator));
    for (found = engine_iterator_seek(iterator, slice_of(NULL, 0)); found > 0;
         found = engine_iterator_next(iterator))
        count++;
    check("scan", found);
    engine_iterator_free(iterator);
    engine_view_release(view);
    rate = (double)count * 1e9 / (double)(clock_monotonic_ns() - start_ns);
    if (!bench->json)
        printf("%-28s %12.0f\n", "scan", rate);
    (void)json_object_set_new(
        bench->results, "scan",
        json_pack("{s:I, s:f}", "operations", (json_int_t)count, "per_second", rate));
}

/* ---- the store ---- */

static uint64_t tree_bytes;

static int add_size(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)where;
    if (type == FTW_F && strstr(path, "/checkpoints/") == NULL) /* links of the same files */
        tree_bytes += (uint64_t)status->st_blocks * 512;
    return 0;
}

static uint64_t store_bytes(const struct bench *bench)
{
    tree_bytes = 0;
    (void)nftw(bench->directory, add_size, 16, FTW_PHYS);
    return tree_bytes;
}

static void open_store(struct bench *bench)
{
    struct engine_options options;

    engine_options_default(&options);
    options.path = bench->directory;
    options.io = bench->io;
    check(bench->directory, engine_open(&options, &bench->engine));
}

static void close_store(struct bench *bench)
{
    struct engine_statistics statistics;

    engine_get_statistics(bench->engine, &statistics);
    bench->written_bytes += statistics.io.write_bytes;
    check("close", engine_close(bench->engine));
}

static void drop_caches(void)
{
    FILE *file = fopen("/proc/sys/vm/drop_caches", "w");

    if (file == NULL || fputs("3", file) < 0 || fclose(file) != 0)
        fprintf(stderr, "bench_engine: not root: cold reads are not cold\n");
}

static void report_number(struct bench *bench, const char *name, double number)
{
    if (!bench->json)
        printf("%-28s %12.2f\n", name, number);
    (void)json_object_set_new(bench->results, name, json_real(number));
}

/* What was written for what was given since the last call. */
static void report_written(struct bench *bench, const char *name)
{
    static uint64_t given_before, written_before;
    struct engine_statistics statistics;
    uint64_t written;

    check("flush", engine_flush(bench->engine));
    engine_get_statistics(bench->engine, &statistics);
    written = bench->written_bytes + statistics.io.write_bytes;
    report_number(bench, name,
                  (double)(written - written_before) / (double)(bench->given_bytes - given_before));
    given_before = bench->given_bytes;
    written_before = written;
}

static void run(struct bench *bench)
{
    uint64_t frames = bench->stream_mib * 1024 * 1024 / FRAME_SIZE;

    open_store(bench);
    if (!bench->json)
        printf("%-28s %12s %10s %10s %10s %10s\n", "", "per second", "p50 us", "p99 us", "p99.9 us",
               "max us");
    measure(bench, "fill (4 records)", bench->records / BATCH, fill);
    measure(bench, "overwrite (4 records)", bench->records / BATCH, overwrite);
    report_written(bench, "written for each byte");
    measure(bench, "read", bench->records, read_random);
    measure(bench, "read absent", bench->records, read_absent);
    scan(bench);
    measure(bench, "write + sync", SYNCS, write_and_sync);
    report_written(bench, "written, with syncs");
    measure(bench, "write 128 KiB of data", frames, append_frame);
    check("sync", engine_sync(bench->engine, engine_sequence(bench->engine)));
    report_written(bench, "written for a byte of data");
    measure(bench, "snapshot, to the reply", SNAPSHOTS, snapshot_acknowledged);
    measure(bench, "snapshot, whole life", SNAPSHOTS, snapshot);
    close_store(bench);

    drop_caches();
    open_store(bench);
    measure(bench, "read cold", COLD_RECORDS, read_random);
    measure(bench, "read 128 KiB of data cold", frames, read_frame);
    check("compact", engine_compact(bench->engine));
    close_store(bench);
    report_number(bench, "MiB given", (double)bench->given_bytes / MIB);
    report_number(bench, "MiB of the store", (double)store_bytes(bench) / MIB);
}

/* ---- the command line ---- */

static const struct argp_option options[] = {
    {"records", 'r', "N", 0, "Records to write, then to overwrite at random (1000000)", 0},
    {"stream", 's', "MIB", 0, "File data to write and read (512)", 0},
    {"json", 'j', NULL, 0, "Print JSON", 0},
    {0},
};

static uint64_t parse_number(const char *text, struct argp_state *state)
{
    char *end;
    unsigned long long number;

    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno != 0 || *text < '0' || *text > '9' || *end != '\0' || number == 0)
        argp_error(state, "'%s' is not a number above 0", text);
    return number;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct bench *bench = state->input;

    switch (key) {
    case 'r':
        bench->records = parse_number(argument, state);
        if (bench->records < BATCH)
            argp_error(state, "at least %d records", BATCH);
        return 0;
    case 's':
        bench->stream_mib = parse_number(argument, state);
        return 0;
    case 'j':
        bench->json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (bench->directory != NULL)
            argp_usage(state);
        bench->directory = argument;
        return 0;
    case ARGP_KEY_END:
        if (bench->directory == NULL)
            argp_usage(state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse_option, "STORE", "Measure the engine on a new store, which is left there.",
        NULL,    NULL,         NULL};
    /* What mkfs takes by itself. */
    const struct store_format format = {.chunk_size_bytes = UINT64_C(128) << 20,
                                        .compression_level = 1};
    struct bench bench = {
        .records = 1000000, .stream_mib = 512, .random = UINT64_C(88172645463325252)};

    if (argp_parse(&argp, argc, argv, 0, NULL, &bench) != 0)
        return 1;
    bench.results = json_object();
    bench.frame = malloc(FRAME_SIZE);
    if (bench.results == NULL || bench.frame == NULL)
        die("start", -ENOMEM);
    for (uint32_t i = 0; i < FRAME_SIZE; i += 8)
        put_be64(bench.frame + i, next_random(&bench));
    check("I/O", io_open_backend(IO_BACKEND_URING, &bench.io));
    check(bench.directory, store_create(bench.io, bench.directory, &format));
    run(&bench);
    if (bench.json) {
        (void)json_dumpf(bench.results, stdout, JSON_INDENT(1));
        putchar('\n');
    }
    json_decref(bench.results);
    io_close_backend(bench.io);
    batch_free(&bench.batch);
    buffer_free(&bench.value);
    free(bench.took_ns);
    free(bench.frame);
    return 0;
}
