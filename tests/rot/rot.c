/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot.c - damage a store in every way that a disk may, and look whether anybody is lied to
 *
 * A store (rot_store.h) is made and kept in memory. Each trial puts it on disk again with a piece of
 * damage, and a child process opens it and reads everything. What may come of it: all is as it was
 * (harmless), or some things are refused with an error (detected), or the store is. What may not:
 * another byte, name or attribute than was written; an empty tree; a crash; a hang.
 *
 *   rot [--every | --bytes | --flips N | --sample N] [--seed N] [--part I/N] [--large] [--file WORD]
 *       [--keep] [--trial N] [-v]
 *
 * --every: each bit of each file in turn; --bytes: one random bit of each byte; --flips: N random
 * bits, those in file data many at once (rot_damage.h); --sample: N random pieces of damage of all
 * kinds. --trial N does the Nth of these alone. --large: a store of some hundred MB.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "tests/lib/test_directory.h"
#include "tests/rot/rot_damage.h"

#define SMALL_BYTES_MAX 150000
#define TRIES           20

static struct {
    bool every, bytes, keep, verbose;
    uint64_t flips, sample, trial;
} options = {.sample = 2000, .trial = UINT64_MAX};

static struct rot_store store = {.seed = 1};
/* All of it stays until the end. */
static char *directory, *store_path, *work_path;
static struct rot_tree expected;
static struct rot_frames frames;
static struct rot_plan plan;
static struct rot_choice choice = {.store = &store, .seed = 1, .parts = 1};

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "rot: %s\n", what);
    exit(2);
}

/* How many segments the log has depends on how busy the machine is: one is enough. */
static void make_store(const char *path)
{
    for (unsigned i = 1;; i++) {
        rot_store_make(&store, path);
        if (store.is_large || rot_wanted_bytes(&choice) <= SMALL_BYTES_MAX || i == TRIES)
            return;
        rot_remove(path);
        rot_image_free(&store.image);
        rot_image_free(&store.older);
    }
}

static void read_undamaged(const char *path)
{
    struct engine *engine;
    struct fs *fs;

    rot_image_store(&store.image, path);
    require(rot_store_open(&store, path, &engine, &fs) == 0, "open");
    rot_tree_read(&expected, fs, NULL);
    require(expected.errors == 0 && expected.count > 20, "the store that was made is not right");
    rot_frames_read(&frames, engine);
    fs_close(fs);
    require(engine_close(engine) == 0, "close");
}

static uint64_t number_of(const char *text)
{
    char *end;
    uint64_t number = strtoull(text, &end, 10);

    require(end != text, "a number is expected");
    return number;
}

static void parse(int argument_count, char **arguments)
{
    static const struct option long_options[] = {{"every", no_argument, NULL, 'e'},
                                                 {"bytes", no_argument, NULL, 'b'},
                                                 {"flips", required_argument, NULL, 'n'},
                                                 {"sample", required_argument, NULL, 's'},
                                                 {"seed", required_argument, NULL, 'S'},
                                                 {"part", required_argument, NULL, 'p'},
                                                 {"large", no_argument, NULL, 'l'},
                                                 {"file", required_argument, NULL, 'f'},
                                                 {"trial", required_argument, NULL, 't'},
                                                 {"keep", no_argument, NULL, 'k'},
                                                 {NULL, 0, NULL, 0}};
    int letter;

    while ((letter = getopt_long(argument_count, arguments, "v", long_options, NULL)) != -1) {
        switch (letter) {
        case 'e':
            options.every = true;
            break;
        case 'b':
            options.bytes = true;
            break;
        case 'n':
            options.flips = number_of(optarg);
            break;
        case 's':
            options.sample = number_of(optarg);
            break;
        case 'S':
            store.seed = choice.seed = number_of(optarg);
            break;
        case 'p':
            require(sscanf(optarg, "%lu/%lu", &choice.part, &choice.parts) == 2 &&
                        choice.part < choice.parts,
                    "--part I/N, I from 0 to N - 1");
            break;
        case 'l':
            store.is_large = true;
            break;
        case 'f':
            choice.file_word = optarg;
            break;
        case 't':
            options.trial = number_of(optarg);
            options.verbose = true;
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

static void make_plan(void)
{
    if (options.every || options.bytes)
        rot_plan_every(&choice, !options.every, &plan);
    else if (options.flips > 0)
        rot_plan_flips(&choice, &frames, options.flips, &plan);
    else
        rot_plan_sample(&choice, options.sample, options.trial, &plan);
}

int main(int argument_count, char **arguments)
{
    bool is_right;

    if (getenv("VARVE_TEST_SEED") != NULL)
        store.seed = choice.seed = number_of(getenv("VARVE_TEST_SEED"));
    parse(argument_count, arguments);
    log_set_level(LOG_LEVEL_WARNING);
    /* Each trial writes a store: in memory, where there is some. */
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    directory = test_directory_make();
    store_path = test_path(directory, "store");
    work_path = test_path(directory, "work");
    require(io_open_backend(IO_BACKEND_SYNC, &store.io) == 0, "I/O");
    make_store(store_path);
    read_undamaged(work_path);
    make_plan();
    printf("%llu bytes, seed %llu, part %llu of %llu: %llu groups of damage\n",
           (unsigned long long)rot_wanted_bytes(&choice), (unsigned long long)choice.seed,
           (unsigned long long)choice.part, (unsigned long long)choice.parts,
           (unsigned long long)plan.groups);
    is_right = rot_trials_run(&(struct rot_trials){.store = &store,
                                                   .work_path = work_path,
                                                   .expected = &expected,
                                                   .verbose = options.verbose},
                              &plan);
    if (!options.keep)
        test_directory_remove(directory);
    return is_right ? 0 : 1;
}
