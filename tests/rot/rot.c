/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot.c - damage a store in every way that a disk may, and look whether anybody is lied to
 *
 * A store with snapshots, shared and own data, inline and compressed data, and a log that is still
 * to be replayed is made and kept in memory. Each trial puts it on disk again with one piece of
 * damage, and a child process opens it and reads everything. What may come of it: all is as it was
 * (harmless), or some things are refused with an error (detected), or the store is. What may not:
 * another byte, name or attribute than was written; an empty tree; a crash; a hang.
 *
 *   rot [--every | --bytes | --sample N] [--seed N] [--part I/N] [--large] [--file WORD] [--keep]
 *       [--trial N] [-v]
 *
 * --every: each bit of each file in turn; --bytes: one random bit of each byte; --sample: N random
 * pieces of damage of all kinds (bits, bytes, blocks of zeros, blocks and sectors swapped within a
 * file and between files, whole chunks swapped, files cut short, older copies of files put back).
 * --trial N does the Nth of them alone. --large: a store of some hundred MB.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/engine.h"
#include "tests/lib/seed.h"
#include "tests/lib/test_directory.h"
#include "tests/rot/rot_image.h"
#include "tests/rot/rot_tree.h"

#define SECTOR          512
#define BLOCK           4096
#define TRIAL_SECONDS   120
#define LINES_SHOWN_MAX 40

enum outcome { HARMLESS, DETECTED, REFUSED, WRONG, CRASHED, HUNG, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = {"harmless", "detected", "refused",
                                                    "WRONG",    "CRASHED",  "HUNG"};

static struct {
    bool every, bytes, large, keep, verbose;
    uint64_t sample, seed, part, parts, trial;
    bool one_trial;
    const char *file;
} options = {.parts = 1, .sample = 2000, .seed = 1};

static struct io *io;
static char *directory, *store_path, *work_path;
static struct rot_image image, older;
static struct rot_tree expected;
static uint64_t counts[OUTCOMES], shown;

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "rot: %s\n", what);
    exit(2);
}

/* ---- the store ---- */

static struct engine_options engine_options_for(const char *path)
{
    struct engine_options chosen;

    engine_options_default(&chosen);
    chosen.path = path;
    chosen.io = io;
    chosen.memtable_bytes = options.large ? 4 << 20 : 64 << 10;
    chosen.wal_segment_bytes = options.large ? 4 << 20 : 64 << 10;
    chosen.wal_buffer_bytes = 64 << 10;
    chosen.blob_buffers = 2;
    chosen.block_cache_bytes = 1 << 20;
    chosen.sync_window_ms = 20;
    return chosen;
}

static const struct fs_caller root_caller = {0};

static uint64_t make_file(struct fs *fs, uint64_t parent, const char *name, size_t size,
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
    return entry.attribute.node;
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

static void first_part(struct fs *fs, uint64_t *random)
{
    uint64_t inner = make_directory(fs, FS_ROOT, "directory");
    struct fs_entry entry;

    (void)make_file(fs, FS_ROOT, "inline", 100, random);
    (void)make_file(fs, FS_ROOT, "plain", 6000, random);
    (void)make_file(fs, inner, "data", 9000, random);
    require(fs_symlink(fs, inner, "link", "../plain", &root_caller, &entry) == 0, "symlink");
    require(fs_setxattr(fs, inner, "user.name", "value", 5, 0, &root_caller) == 0, "setxattr");
    if (!options.large)
        return;
    for (unsigned i = 0; i < 3000; i++) {
        char name[32];

        snprintf(name, sizeof name, "file-%u", i);
        (void)make_file(fs, inner, name, seed_below(random, 120000), random);
    }
}

static void second_part(struct fs *fs, uint64_t *random)
{
    uint64_t other = make_directory(fs, FS_ROOT, "other");

    require(fs_unlink(fs, FS_ROOT, "inline", &root_caller) == 0, "unlink");
    (void)make_file(fs, other, "more", 5000, random);
    (void)make_file(fs, FS_ROOT, "inline", 300, random);
    for (unsigned i = 0; options.large && i < 500; i++) {
        char name[32];

        snprintf(name, sizeof name, "more-%u", i);
        (void)make_file(fs, other, name, seed_below(random, 120000), random);
    }
}

/* Synced, and in the log when the power goes. */
static void last_part(struct fs *fs, uint64_t *random)
{
    (void)make_file(fs, FS_ROOT, "logged", 200, random);
    require(fs_sync(fs) == 0, "sync");
    (void)make_file(fs, FS_ROOT, "logged-data", 5000, random);
    require(fs_unlink(fs, FS_ROOT, "plain", &root_caller) == 0, "unlink");
    require(fs_sync(fs) == 0, "sync");
}

static void open_store(const char *path, struct engine **ret_engine, struct fs **ret_fs)
{
    struct engine_options chosen = engine_options_for(path);
    struct fs_options fs_options;

    fs_options_default(&fs_options);
    fs_options.atime = FS_ATIME_NONE;
    require(engine_open(&chosen, ret_engine) == 0 && fs_open(*ret_engine, &fs_options, ret_fs) == 0,
            "open");
}

static void make_store(void)
{
    struct store_format format = {.chunk_size_bytes = options.large ? 16 << 20 : 1 << 20,
                                  .compression_level = 1};
    uint64_t random = options.seed;
    const struct timespec pause = {.tv_nsec = 200000000};
    struct engine *engine;
    struct fs *fs;

    require(store_create(io, store_path, &format) == 0, "store_create");
    open_store(store_path, &engine, &fs);
    first_part(fs, &random);
    require(fs_sync(fs) == 0 && engine_flush(engine) == 0, "flush");
    make_snapshot(fs, "one");
    second_part(fs, &random);
    require(engine_flush(engine) == 0, "flush");
    make_snapshot(fs, "two");
    rot_image_load(&older, store_path);
    require(fs_setxattr(fs, FS_ROOT, "user.root", "x", 1, 0, &root_caller) == 0, "setxattr");
    require(engine_flush(engine) == 0, "flush");
    last_part(fs, &random);
    (void)nanosleep(&pause, NULL); /* the log thread says in the log what was synced */
    rot_image_load(&image, store_path);
    fs_close(fs);
    require(engine_close(engine) == 0, "close");
}

static void expect(void)
{
    struct engine *engine;
    struct fs *fs;

    rot_image_store(&image, work_path);
    open_store(work_path, &engine, &fs);
    rot_tree_read(&expected, fs);
    require(expected.errors == 0 && expected.count > 20, "the store that was made is not right");
    fs_close(fs);
    require(engine_close(engine) == 0, "close");
}

/* ---- a trial ---- */

static enum outcome look(void)
{
    struct engine_options chosen = engine_options_for(work_path);
    struct fs_options fs_options;
    struct engine *engine;
    struct rot_tree tree;
    struct fs *fs;
    const char *lie;
    int error;

    fs_options_default(&fs_options);
    fs_options.atime = FS_ATIME_NONE;
    error = engine_open(&chosen, &engine);
    if (error < 0)
        return REFUSED;
    error = fs_open(engine, &fs_options, &fs);
    if (error < 0) {
        (void)engine_close(engine);
        return REFUSED;
    }
    rot_tree_read(&tree, fs);
    lie = rot_tree_compare(&expected, &tree);
    if (lie != NULL) {
        fprintf(stderr, "lie: %s\n", lie);
        return WRONG; /* the process ends here: nothing to close for */
    }
    fs_close(fs);
    (void)engine_close(engine);
    return tree.errors > 0 ? DETECTED : HARMLESS;
}

/* What the child said, for those who ask. */
static void show_log(int log)
{
    char text[4096];
    ssize_t size = pread(log, text, sizeof text - 1, 0);

    if (size > 0) {
        text[size] = '\0';
        fprintf(stderr, "%s", text);
    }
}

static enum outcome run_child(int log)
{
    int status = 0;
    pid_t child;

    fflush(NULL);
    child = fork();
    require(child >= 0, "fork");
    if (child == 0) {
        (void)dup2(log, STDERR_FILENO);
        (void)alarm(TRIAL_SECONDS);
        _exit(look());
    }
    require(waitpid(child, &status, 0) == child, "waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) <= WRONG)
        return (enum outcome)WEXITSTATUS(status);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? HUNG : CRASHED;
}

/* A refusal that does not say what is damaged helps nobody. */
static bool names_something(int log)
{
    char first[16];

    return pread(log, first, sizeof first, 0) > 0;
}

static void trial(const char *what)
{
    int log = memfd_create("log", MFD_CLOEXEC);
    enum outcome outcome;

    require(log >= 0, "memfd_create");
    rot_image_store(&image, work_path);
    outcome = run_child(log);
    if ((outcome == REFUSED || outcome == DETECTED) && !names_something(log))
        outcome = WRONG;
    counts[outcome]++;
    if (outcome >= WRONG || options.verbose || options.one_trial) {
        if (shown++ < LINES_SHOWN_MAX || options.verbose) {
            fprintf(stderr, "%s: %s\n", outcome_names[outcome], what);
            show_log(log);
        }
    }
    close(log);
}

/* ---- damage ---- */

static void flip(struct rot_file *file, uint64_t bit)
{
    char what[512];

    snprintf(what, sizeof what, "bit %llu of byte %llu of %s", (unsigned long long)(bit % 8),
             (unsigned long long)(bit / 8), file->path);
    file->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    trial(what);
    file->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

static bool is_wanted(const struct rot_file *file)
{
    return file->bytes != NULL && file->size > 0 && strcmp(file->path, "LOCK") != 0 &&
           strstr(file->path, "lock.mdb") == NULL &&
           (options.file == NULL || strstr(file->path, options.file) != NULL);
}

static void flip_all(void)
{
    uint64_t random = options.seed, number = 0;

    for (size_t i = 0; i < image.count; i++) {
        struct rot_file *file = &image.files[i];

        if (!is_wanted(file))
            continue;
        for (size_t byte = 0; byte < file->size; byte++) {
            unsigned chosen = (unsigned)seed_below(&random, 8);

            if (number++ % options.parts != options.part)
                continue;
            if (!options.every) {
                flip(file, byte * 8 + chosen);
                continue;
            }
            for (unsigned bit = 0; bit < 8; bit++)
                flip(file, byte * 8 + bit);
        }
    }
}

/* Weighted by size, but small files get their share too. */
static struct rot_file *choose_file(uint64_t *random)
{
    uint64_t total = 0, at;

    for (size_t i = 0; i < image.count; i++)
        if (is_wanted(&image.files[i]))
            total += image.files[i].size + 65536;
    require(total > 0, "no such file");
    at = seed_below(random, total);
    for (size_t i = 0; i < image.count; i++) {
        if (!is_wanted(&image.files[i]))
            continue;
        if (at < image.files[i].size + 65536)
            return &image.files[i];
        at -= image.files[i].size + 65536;
    }
    return NULL;
}

static const struct rot_file *find_older(const struct rot_file *file)
{
    for (size_t i = 0; i < older.count; i++)
        if (strcmp(older.files[i].path, file->path) == 0)
            return &older.files[i];
    return NULL;
}

static void swap_bytes(uint8_t *a, uint8_t *b, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = a[i];

        a[i] = b[i];
        b[i] = byte;
    }
}

enum damage {
    BIT,
    BIT_AGAIN,
    BYTES,
    ZEROS,
    SWAP_WITHIN,
    SWAP_BETWEEN,
    EXCHANGE,
    CUT,
    OLD,
    DAMAGES
};

static bool damage_one(struct rot_file *file, struct rot_file *other, enum damage kind,
                       uint64_t *random, char what[512])
{
    size_t unit = seed_below(random, 2) == 0 ? SECTOR : BLOCK;
    size_t at = seed_below(random, file->size) / unit * unit;
    size_t other_at = seed_below(random, other->size) / unit * unit;
    const struct rot_file *old = find_older(file);

    /* The log and its witness vouch for each other: what damages both at once goes unseen, which
     * docs/durability.md says. */
    if (kind != SWAP_WITHIN && other != file && strncmp(file->path, "wal/", 4) == 0 &&
        strncmp(other->path, "wal/", 4) == 0)
        return false;
    if (kind == BIT || kind == BIT_AGAIN) {
        uint64_t bit = seed_below(random, file->size * 8);

        file->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        snprintf(what, 512, "bit %llu of %s", (unsigned long long)bit, file->path);
    } else if (kind == BYTES) {
        for (size_t i = at; i < at + unit && i < file->size; i++)
            file->bytes[i] = (uint8_t)seed_next(random);
        snprintf(what, 512, "%zu random bytes at %zu of %s", unit, at, file->path);
    } else if (kind == ZEROS) {
        memset(file->bytes + at, 0, file->size - at < unit ? file->size - at : unit);
        snprintf(what, 512, "%zu zeros at %zu of %s", unit, at, file->path);
    } else if (kind == SWAP_WITHIN || kind == SWAP_BETWEEN) {
        if (kind == SWAP_WITHIN)
            other = file;
        other_at = seed_below(random, other->size) / unit * unit;
        if (file->size - at < unit || other->size - other_at < unit ||
            file->bytes + at == other->bytes + other_at)
            return false;
        swap_bytes(file->bytes + at, other->bytes + other_at, unit);
        snprintf(what, 512, "%zu bytes at %zu of %s and %zu of %s swapped", unit, at, file->path,
                 other_at, other->path);
    } else if (kind == EXCHANGE) {
        uint8_t *bytes = file->bytes;
        size_t size = file->size;

        if (other == file)
            return false;
        file->bytes = other->bytes;
        file->size = other->size;
        other->bytes = bytes;
        other->size = size;
        snprintf(what, 512, "%s and %s exchanged", file->path, other->path);
    } else if (kind == CUT) {
        file->size = seed_below(random, file->size);
        snprintf(what, 512, "%s cut to %zu bytes", file->path, file->size);
    } else {
        /* One block of what it once was, or all of it. */
        if (old == NULL || old->bytes == NULL || old->size < unit)
            return false;
        if (old->size == file->size && seed_below(random, 4) == 0) {
            memcpy(file->bytes, old->bytes, file->size);
            snprintf(what, 512, "an older %s", file->path);
        } else {
            at = seed_below(random, old->size < file->size ? old->size : file->size) / unit * unit;
            if (old->size - at < unit || file->size - at < unit)
                return false;
            memcpy(file->bytes + at, old->bytes + at, unit);
            snprintf(what, 512, "an older block at %zu of %s", at, file->path);
        }
    }
    return true;
}

static struct rot_file save(const struct rot_file *file)
{
    struct rot_file copy = *file;

    copy.bytes = malloc(file->size + 1);
    require(copy.bytes != NULL, "memory");
    memcpy(copy.bytes, file->bytes, file->size);
    return copy;
}

static void restore(struct rot_file *file, struct rot_file *saved)
{
    file->size = saved->size;
    memcpy(file->bytes, saved->bytes, saved->size);
    free(saved->bytes);
}

static void damage(uint64_t number)
{
    uint64_t random = options.seed * UINT64_C(1000003) + number;
    struct rot_file *file = choose_file(&random), *other = choose_file(&random);
    enum damage kind = (enum damage)seed_below(&random, DAMAGES);
    struct rot_file saved = save(file), other_saved = save(other);
    uint8_t *bytes = file->bytes, *other_bytes = other->bytes;
    char what[512], line[600];

    if (damage_one(file, other, kind, &random, what)) {
        snprintf(line, sizeof line, "trial %llu: %s", (unsigned long long)number, what);
        trial(line);
    }
    file->bytes = bytes;
    other->bytes = other_bytes;
    restore(file, &saved);
    if (other != file)
        restore(other, &other_saved);
    else
        free(other_saved.bytes);
}

static void damage_some(void)
{
    if (options.one_trial) {
        damage(options.trial);
        return;
    }
    for (uint64_t i = 0; i < options.sample; i++)
        if (i % options.parts == options.part)
            damage(i);
}

/* ---- the program ---- */

static uint64_t number_of(const char *text)
{
    char *end;
    uint64_t number = strtoull(text, &end, 10);

    require(end != text, "a number is expected");
    return number;
}

static void parse(int argument_count, char **arguments)
{
    static const struct option long_options[] = {
        {"every", no_argument, NULL, 'e'},        {"bytes", no_argument, NULL, 'b'},
        {"sample", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'S'},
        {"part", required_argument, NULL, 'p'},   {"large", no_argument, NULL, 'l'},
        {"file", required_argument, NULL, 'f'},   {"trial", required_argument, NULL, 't'},
        {"keep", no_argument, NULL, 'k'},         {NULL, 0, NULL, 0}};
    int letter;

    while ((letter = getopt_long(argument_count, arguments, "v", long_options, NULL)) != -1) {
        switch (letter) {
        case 'e':
            options.every = true;
            break;
        case 'b':
            options.bytes = true;
            break;
        case 's':
            options.sample = number_of(optarg);
            break;
        case 'S':
            options.seed = number_of(optarg);
            break;
        case 'p':
            require(sscanf(optarg, "%lu/%lu", &options.part, &options.parts) == 2 &&
                        options.parts > 0,
                    "--part I/N");
            break;
        case 'l':
            options.large = true;
            break;
        case 'f':
            options.file = optarg;
            break;
        case 't':
            options.trial = number_of(optarg);
            options.one_trial = true;
            break;
        case 'k':
            options.keep = true;
            break;
        case 'v':
            options.verbose = true;
            break;
        default:
            exit(2);
        }
    }
}

int main(int argument_count, char **arguments)
{
    uint64_t bytes = 0;

    if (getenv("VARVE_TEST_SEED") != NULL)
        options.seed = number_of(getenv("VARVE_TEST_SEED"));
    parse(argument_count, arguments);
    log_set_level(LOG_LEVEL_WARNING);
    /* Each trial writes a store: in memory, where there is some. */
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    directory = test_directory_make();
    store_path = test_path(directory, "store");
    work_path = test_path(directory, "work");
    require(io_open_backend(IO_BACKEND_SYNC, &io) == 0, "I/O");
    make_store();
    expect();
    for (size_t i = 0; i < image.count; i++)
        bytes += is_wanted(&image.files[i]) ? image.files[i].size : 0;
    printf("%llu bytes, seed %llu\n", (unsigned long long)bytes, (unsigned long long)options.seed);
    fflush(stdout);
    if (options.every || options.bytes)
        flip_all();
    else
        damage_some();
    for (int i = 0; i < OUTCOMES; i++)
        printf("%s%llu %s", i > 0 ? ", " : "", (unsigned long long)counts[i], outcome_names[i]);
    printf("\n");
    if (!options.keep)
        test_directory_remove(directory);
    return counts[WRONG] + counts[CRASHED] + counts[HUNG] > 0 ? 1 : 0;
}
