/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_manifest_environment.c - tests of the manifest's dealings with LMDB: durability, failed
 * commits, a full map or disk, other processes, long looks, threads
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/manifest_record.h"
#include "tests/lib/child.h"
#include "tests/lib/manifest_fixture.h"

/* ---- the environment ---- */

static void r16_the_environment_says_that_it_is_durable(void **state)
{
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    assert_true(manifest_is_durable(fixture.manifest));
    manifest_fixture_reopen(&fixture);
    assert_true(manifest_is_durable(fixture.manifest));
    manifest_fixture_close(&fixture);
}

/* Descriptors of this process on the data file of `path`: 0 for data, 1 for the meta pages. */
static void find_descriptors(const char *path, int descriptors[2])
{
    char *data = test_path(path, "data.mdb");
    struct stat wanted, status;

    descriptors[0] = descriptors[1] = -1;
    assert_int_equal(stat(data, &wanted), 0);
    for (int descriptor = 3; descriptor < 1000; descriptor++) {
        if (fstat(descriptor, &status) != 0 || status.st_ino != wanted.st_ino ||
            status.st_dev != wanted.st_dev)
            continue;
        descriptors[(fcntl(descriptor, F_GETFL) & O_DSYNC) != 0 ? 1 : 0] = descriptor;
    }
    free(data);
}

/* Make every write through `descriptor` fail with EBADF. */
static void disable_writes(const char *path, int descriptor)
{
    char *data = test_path(path, "data.mdb");
    int replacement = open(data, O_RDONLY | O_CLOEXEC);

    assert_true(replacement >= 0);
    assert_int_equal(dup3(replacement, descriptor, O_CLOEXEC), descriptor);
    close(replacement);
    free(data);
}

static void check_poisoned(struct manifest_fixture *fixture)
{
    struct manifest_state loaded;

    assert_true(statistics_of(fixture->manifest).poisoned);
    assert_int_equal(add_blob(fixture->manifest, 3), ERROR_POISONED);
    assert_int_equal(manifest_load(fixture->manifest, &loaded), ERROR_POISONED);
    assert_int_equal(manifest_cursor_set(fixture->manifest, "c", 0), ERROR_POISONED);
    assert_int_equal(manifest_lease_put(fixture->manifest, 1, "o", 0), ERROR_POISONED);
    assert_int_equal(manifest_lease_count(fixture->manifest, 1, 0), ERROR_POISONED);
}

/* Which of LMDB's two descriptors fails decides how far the commit got. */
static void check_failed_commit(int which)
{
    struct manifest_fixture fixture;
    int descriptors[2];

    manifest_fixture_open(&fixture);
    assert_int_equal(add_blob(fixture.manifest, 1), 0);
    assert_false(statistics_of(fixture.manifest).poisoned);
    find_descriptors(fixture.path, descriptors);
    assert_true(descriptors[0] >= 0 && descriptors[1] >= 0);
    disable_writes(fixture.path, descriptors[which]);
    assert_int_equal(add_blob(fixture.manifest, 2), -EBADF);
    check_poisoned(&fixture);
    manifest_fixture_reopen(&fixture);
    assert_int_equal(count_blobs(fixture.manifest), 1);
    assert_int_equal(add_blob(fixture.manifest, 2), 0);
    manifest_fixture_close(&fixture);
}

static void r17_a_failed_write_of_data_pages_poisons(void **state)
{
    (void)state;
    check_failed_commit(0);
}

static void r17_a_failed_write_of_the_meta_page_poisons(void **state)
{
    (void)state;
    check_failed_commit(1);
}

static void r17_a_file_that_may_not_grow_poisons(void **state)
{
    struct rlimit before, limited;
    struct manifest_fixture fixture;
    int error;

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(add_blob(fixture.manifest, 1), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limited = (struct rlimit){.rlim_cur = 8192, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
    error = add_blob(fixture.manifest, 2);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(error, -EFBIG);
    check_poisoned(&fixture);
    manifest_fixture_reopen(&fixture);
    assert_int_equal(count_blobs(fixture.manifest), 1);
    manifest_fixture_close(&fixture);
}

/* In a child: a small file system of its own, full but for what the manifest has reserved. */
static void fill_file_system(void *context)
{
    const char *directory = context;
    static uint8_t block[65536];
    char *filler = test_path(directory, "filler"), *path = test_path(directory, "manifest");
    struct manifest *manifest;
    uint64_t id = 1;
    int descriptor, error;

    if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", directory, "tmpfs", 0, "size=12m") != 0)
        _exit(77);
    if (mkdir(path, 0700) != 0 || manifest_fixture_try_open(path, true, &manifest) != 0)
        _exit(1);
    descriptor = open(filler, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    while (write(descriptor, block, sizeof block) > 0)
        ;
    /* There is room for many commits yet, and then a refusal before anything is tried. */
    while ((error = add_blob(manifest, id)) == 0)
        id++;
    if (error != -ENOSPC || id < 1000 || add_blob(manifest, id) != -ENOSPC)
        _exit(2);
    if (statistics_of(manifest).poisoned || count_blobs(manifest) != id - 1)
        _exit(3);
    /* Space comes back, and the manifest goes on. */
    if (ftruncate(descriptor, 0) != 0 || add_blob(manifest, id) != 0)
        _exit(4);
    if (count_blobs(manifest) != id)
        _exit(5);
    manifest_close(manifest);
    _exit(0);
}

static void r17_a_full_disk_is_refused_before_the_commit_and_poisons_nothing(void **state)
{
    char *directory = test_directory_make();
    char output[4096];
    int status;

    (void)state;
    status = child_run(fill_file_system, directory, output, sizeof output);
    test_directory_remove(directory);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    if (WEXITSTATUS(status) != 0)
        fail_msg("child: %d: %s", WEXITSTATUS(status), output);
}

static void r18_one_process_opens_an_environment_once(void **state)
{
    struct manifest *second;
    struct manifest_fixture fixture;
    char *other;

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(manifest_fixture_try_open(fixture.path, false, &second), -EBUSY);
    assert_int_equal(add_blob(fixture.manifest, 1), 0); /* the first is none the worse */
    other = test_directory_make();
    assert_int_equal(manifest_fixture_try_open(other, true, &second), 0);
    manifest_close(second);
    manifest_fixture_reopen(&fixture);
    test_directory_remove(other);
    manifest_fixture_close(&fixture);
}

static void use_manifest(void *context)
{
    struct manifest *manifest = context;

    (void)add_blob(manifest, 1);
}

static void r18_use_after_a_fork_is_a_broken_invariant(void **state)
{
    struct manifest_fixture fixture;
    char output[8192];
    int status;

    (void)state;
    manifest_fixture_open(&fixture);
    status = child_run(use_manifest, fixture.manifest, output, sizeof output);
    assert_true(WIFSIGNALED(status));
    assert_non_null(strstr(output, "getpid"));
    assert_int_equal(count_blobs(fixture.manifest), 0);
    manifest_fixture_close(&fixture);
}

static void r19_a_full_map_grows_and_the_commit_is_repeated(void **state)
{
    enum { COUNT = 20000 };
    struct manifest_options options = {.create = true, .map_size_bytes = 1};
    struct chunk_identity *blobs = calloc(COUNT, sizeof *blobs);
    struct manifest_edit edit = {.add_blobs = blobs, .add_blob_count = COUNT};
    struct manifest_statistics statistics;
    struct manifest_fixture fixture = {.path = test_directory_make()};
    uint64_t growths;

    (void)state;
    options.path = fixture.path;
    assert_int_equal(manifest_open(&options, &fixture.manifest), 0);
    for (uint64_t i = 0; i < COUNT; i++)
        blobs[i] = blob_of(i + 1);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0); /* many times the map at once */
    statistics = statistics_of(fixture.manifest);
    growths = statistics.map_growths;
    assert_true(growths >= 4);
    assert_true(statistics.map_size_bytes >= COUNT * 45);
    assert_true(statistics.used_bytes <= statistics.map_size_bytes);
    assert_int_equal(count_blobs(fixture.manifest), COUNT);
    for (uint64_t round = 1; round < 8; round++) { /* and step by step */
        for (uint64_t i = 0; i < COUNT; i++)
            blobs[i] = blob_of(round * COUNT + i + 1);
        assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    }
    assert_true(statistics_of(fixture.manifest).map_growths > growths);
    manifest_fixture_reopen(&fixture);
    assert_int_equal(count_blobs(fixture.manifest), 8 * COUNT);
    free(blobs);
    manifest_fixture_close(&fixture);
}

/* Sanitizers need all the address space there is. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CAN_LIMIT_ADDRESS_SPACE
#endif

#ifdef CAN_LIMIT_ADDRESS_SPACE
static void r19_a_map_that_cannot_grow_is_an_error_and_not_a_crash(void **state)
{
    struct rlimit before, limited = {.rlim_cur = 1, .rlim_max = RLIM_INFINITY};
    struct manifest_options options = {.create = true, .map_size_bytes = 1};
    struct manifest_fixture fixture = {.path = test_directory_make()};
    uint64_t id = 1;
    int error;

    (void)state;
    options.path = fixture.path;
    assert_int_equal(manifest_open(&options, &fixture.manifest), 0);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limited.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_AS, &limited), 0);
    while ((error = add_blob(fixture.manifest, id)) == 0)
        id++;
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(error, -ENOMEM);
    check_poisoned(&fixture);
    manifest_fixture_reopen(&fixture);
    assert_int_equal(count_blobs(fixture.manifest), id - 1);
    manifest_fixture_close(&fixture);
}
#endif

static int die(struct manifest_transaction *transaction, void *context)
{
    (void)transaction;
    (void)context;
    kill(getpid(), SIGKILL);
    return 0;
}

/* Another process opens the environment, says so, and waits; with `reading`, it is killed in the
 * middle of a read transaction instead. */
static pid_t start_other(const char *path, bool reading)
{
    int ends[2];
    char byte;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct manifest *manifest;

        /* A failing test does not leave it behind. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ||
            manifest_fixture_try_open(path, false, &manifest) != 0)
            _exit(1);
        if (reading)
            (void)manifest_inspect(manifest, die, NULL);
        if (write(ends[1], "x", 1) != 1)
            _exit(2);
        pause();
        _exit(0);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), reading ? 0 : 1);
    close(ends[0]);
    return child;
}

static void r20_the_slot_of_a_killed_reader_is_reclaimed_at_open(void **state)
{
    struct manifest_fixture fixture;
    pid_t holder, reader;
    int status;

    (void)state;
    manifest_fixture_open(&fixture);
    manifest_close(fixture.manifest);
    /* While someone has it open, the table of readers is not made anew at open. */
    holder = start_other(fixture.path, false);
    reader = start_other(fixture.path, true);
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(manifest_fixture_try_open(fixture.path, false, &fixture.manifest), 0);
    assert_int_equal(statistics_of(fixture.manifest).readers_reclaimed, 1);
    manifest_fixture_reopen(&fixture);
    assert_int_equal(statistics_of(fixture.manifest).readers_reclaimed, 0);
    kill(holder, SIGKILL);
    assert_int_equal(waitpid(holder, &status, 0), holder);
    manifest_fixture_close(&fixture);
}

static int take_long(struct manifest_transaction *transaction, void *context)
{
    (void)transaction;
    usleep(*(const useconds_t *)context);
    return 0;
}

static void r21_a_long_read_transaction_is_counted(void **state)
{
    useconds_t short_time = 1, long_time = 50000;
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    manifest_set_slow_look_ms(fixture.manifest, 30);
    assert_int_equal(manifest_inspect(fixture.manifest, take_long, &short_time), 0);
    assert_int_equal(statistics_of(fixture.manifest).slow_looks, 0);
    assert_int_equal(manifest_inspect(fixture.manifest, take_long, &long_time), 0);
    assert_int_equal(statistics_of(fixture.manifest).slow_looks, 1);
    manifest_fixture_close(&fixture);
}

static void *look_long(void *context)
{
    useconds_t long_time = 200000;

    (void)manifest_inspect(context, take_long, &long_time);
    return NULL;
}

static void wait_for_long_look(void *context)
{
    struct manifest *manifest;
    pthread_t thread;

    log_set_level(LOG_LEVEL_WARNING);
    if (manifest_fixture_try_open(context, true, &manifest) != 0)
        _exit(1);
    manifest_set_slow_look_ms(manifest, 50);
    if (pthread_create(&thread, NULL, look_long, manifest) != 0)
        _exit(1);
    usleep(120000);
    (void)add_blob(manifest, 1);
    pthread_join(thread, NULL);
    manifest_close(manifest);
}

static void r21_a_read_transaction_that_does_not_end_is_reported_by_the_next_caller(void **state)
{
    char *directory = test_directory_make();
    char output[4096];

    (void)state;
    assert_int_equal(child_run(wait_for_long_look, directory, output, sizeof output), 0);
    assert_non_null(strstr(output, "a read transaction has been open for"));
    assert_non_null(strstr(output, "a read transaction lasted"));
    test_directory_remove(directory);
}

static void a_read_only_manifest_takes_no_change_and_makes_no_file(void **state)
{
    struct manifest_options options = {.read_only = true};
    struct manifest_fixture fixture;
    struct manifest *manifest;
    char *empty = test_directory_make();

    (void)state;
    options.path = empty;
    assert_int_equal(manifest_open(&options, &manifest), ERROR_TRUNCATED);
    assert_int_equal(rmdir(empty), 0); /* it is still empty */
    assert_int_equal(manifest_open(&options, &manifest), -ENOENT);
    options.create = true;
    assert_int_equal(manifest_open(&options, &manifest), -EINVAL);
    options.create = false;
    free(empty);

    manifest_fixture_open(&fixture);
    assert_int_equal(add_blob(fixture.manifest, 1), 0);
    manifest_close(fixture.manifest);
    options.path = fixture.path;
    assert_int_equal(manifest_open(&options, &fixture.manifest), 0);
    assert_int_equal(count_blobs(fixture.manifest), 1);
    assert_int_equal(add_blob(fixture.manifest, 2), -EROFS);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 0), -EROFS);
    manifest_fixture_close(&fixture);
}

/* ---- threads ---- */

enum { THREADS = 4, EDITS = 100 };

struct worker {
    struct manifest *manifest;
    uint64_t first_id;
    int error;
};

static void *work(void *context)
{
    struct worker *worker = context;

    for (uint64_t i = 0; worker->error == 0 && i < EDITS; i++) {
        struct manifest_state loaded;
        const uint64_t id = worker->first_id + i, before = id - 1;
        struct chunk_identity blob = blob_of(id);
        struct manifest_edit edit = {.add_blobs = &blob,
                                     .add_blob_count = 1,
                                     .remove_blobs = &before,
                                     .remove_blob_count = i > 0};

        worker->error = manifest_commit(worker->manifest, &edit);
        if (worker->error == 0)
            worker->error = manifest_load(worker->manifest, &loaded);
        if (worker->error == 0) {
            if (loaded.blob_count > THREADS)
                worker->error = ERROR_CORRUPT;
            manifest_state_free(&loaded);
        }
    }
    return NULL;
}

static void commits_and_loads_of_many_threads_are_atomic(void **state)
{
    struct worker workers[THREADS] = {{0}};
    pthread_t threads[THREADS];
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.manifest = fixture.manifest, .first_id = 1 + i * 1000};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].error, 0);
    }
    assert_int_equal(count_blobs(fixture.manifest), THREADS);
    assert_true(statistics_of(fixture.manifest).commits >= THREADS * EDITS);
    manifest_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r16_the_environment_says_that_it_is_durable),
        cmocka_unit_test(r17_a_failed_write_of_data_pages_poisons),
        cmocka_unit_test(r17_a_failed_write_of_the_meta_page_poisons),
        cmocka_unit_test(r17_a_file_that_may_not_grow_poisons),
        cmocka_unit_test(r17_a_full_disk_is_refused_before_the_commit_and_poisons_nothing),
        cmocka_unit_test(r18_one_process_opens_an_environment_once),
        cmocka_unit_test(r18_use_after_a_fork_is_a_broken_invariant),
        cmocka_unit_test(r19_a_full_map_grows_and_the_commit_is_repeated),
#ifdef CAN_LIMIT_ADDRESS_SPACE
        cmocka_unit_test(r19_a_map_that_cannot_grow_is_an_error_and_not_a_crash),
#endif
        cmocka_unit_test(r20_the_slot_of_a_killed_reader_is_reclaimed_at_open),
        cmocka_unit_test(r21_a_long_read_transaction_is_counted),
        cmocka_unit_test(r21_a_read_transaction_that_does_not_end_is_reported_by_the_next_caller),
        cmocka_unit_test(a_read_only_manifest_takes_no_change_and_makes_no_file),
        cmocka_unit_test(commits_and_loads_of_many_threads_are_atomic),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
