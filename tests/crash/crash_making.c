/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_making.c - a store, or its manifest, whose maker was killed, and that is used; a log that
 * is known to end too early
 *
 * What is there by then opens or does not. Where it opens, and something was put into it and
 * synced, no cut may take away what it hangs on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/engine_rebuild.h"
#include "engine/engine_repair.h"
#include "tests/lib/crash_damage.h"
#include "tests/lib/crash_fixture.h"

/* Open what is there, and with `is_used` put something into it; what opening returned. */
static int try_open(struct disk_model *disk, const char *base, const struct engine_options *from,
                    bool is_used)
{
    struct engine_options options = *from;
    char *store = test_path(base, "store");
    struct engine *engine;
    int result;

    disk_model_set_base(disk, base);
    options.path = store;
    options.io = disk_model_io(disk);
    result = engine_open(&options, &engine);
    if (result == 0 && is_used) {
        put(engine, "used", "yes");
        assert_int_equal(engine_sync(engine, engine_sequence(engine)), 0);
    }
    if (result == 0)
        assert_int_equal(engine_close(engine), 0);
    disk_model_set_base(disk, "");
    free(store);
    return result;
}

/* False: it does not open. */
static bool use_store(struct disk_model *disk, const char *base, const struct engine_options *from)
{
    return try_open(disk, base, from, true) == 0;
}

static void check_present(struct engine *engine, const char *key)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct buffer value = {0};

    assert_non_null(view);
    assert_int_equal(engine_view_get(view, slice_of_string(key), &value, NULL), 1);
    buffer_free(&value);
    engine_view_release(view);
}

/* Whatever the power leaves of it opens and has this. */
static void check_cuts(struct disk_model *disk, const char *base,
                       const struct engine_options *options, const char *key)
{
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct disk_model *cut = disk_model_cut(disk, seed);
        struct engine *engine;

        open_at(cut, base, options, &engine);
        check_present(engine, key);
        assert_int_equal(engine_close(engine), 0);
        disk_model_set_base(cut, "");
        disk_model_free(cut);
    }
}

static void a_store_stays_whose_maker_was_killed(void **state)
{
    struct crash_place place;
    struct kills *kills = calloc(1, sizeof *kills);
    size_t used = 0;

    (void)state;
    crash_place_begin(&place);
    disk_model_observe(place.disk, take_kill, kills);
    crash_place_make_store(&place, 16384);
    disk_model_observe(place.disk, NULL, NULL);
    for (size_t i = 0; i < kills->count; i++) {
        if (use_store(kills->list[i].disk, place.other, &place.options)) {
            check_cuts(kills->list[i].disk, place.other, &place.options, "used");
            used++;
        }
        disk_model_free(kills->list[i].disk);
    }
    assert_true(used > 0 && used < kills->count);
    disk_model_set_base(place.disk, "");
    free(kills);
    crash_place_end(&place);
}

static int rebuild_at(struct disk_model *disk, const char *base)
{
    char *store = test_path(base, "store");
    struct engine_rebuild_result result = {0};
    int error;

    disk_model_set_base(disk, base);
    error = engine_rebuild(disk_model_io(disk), store, &result);
    disk_model_set_base(disk, "");
    free(store);
    return error;
}

static void remove_manifest(struct disk_model *disk, const char *base)
{
    char *store = test_path(base, "store");
    struct io *io = disk_model_io(disk);
    struct io_file *root;

    disk_model_set_base(disk, base);
    assert_int_equal(io_open_root(io, store, &root), 0);
    assert_int_equal(store_remove_tree(io, root, "manifest"), 0);
    assert_int_equal(io_sync(io, root, false), 0);
    io_close(io, root);
    disk_model_set_base(disk, "");
    free(store);
}

/* The power goes while it is made: it is made again. */
static void check_cuts_repeated(struct disk_model *disk, const char *base,
                                const struct engine_options *options)
{
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct disk_model *cut = disk_model_cut(disk, seed);

        if (!use_store(cut, base, options)) {
            assert_int_equal(rebuild_at(cut, base), 0);
            assert_true(use_store(cut, base, options));
        }
        disk_model_free(cut);
    }
}

static void check_manifest_made_anew(const struct disk_model_options *disk_options)
{
    struct crash_place place;
    struct kills *kills = calloc(1, sizeof *kills);
    struct engine *engine;
    size_t used = 0;

    crash_place_begin(&place);
    disk_model_set_options(place.disk, disk_options);
    crash_place_make_store(&place, 16384);
    open_at(place.disk, place.base, &place.options, &engine);
    put(engine, "a", "one");
    assert_int_equal(engine_compact(engine), 0);
    assert_int_equal(engine_close(engine), 0);
    remove_manifest(place.disk, place.base);
    disk_model_observe(place.disk, take_kill, kills);
    assert_int_equal(rebuild_at(place.disk, place.base), 0);
    disk_model_observe(place.disk, NULL, NULL);
    check_cuts(place.disk, place.other, &place.options, "a");
    for (size_t i = 0; i < kills->count; i++) {
        struct disk_model *killed = kills->list[i].disk;

        check_cuts_repeated(killed, place.other, &place.options);
        if (!use_store(killed, place.other, &place.options)) {
            assert_int_equal(rebuild_at(killed, place.other), 0);
            assert_true(use_store(killed, place.other, &place.options));
        } else {
            used++;
        }
        check_cuts(killed, place.other, &place.options, "used");
        check_cuts(killed, place.other, &place.options, "a");
        disk_model_free(killed);
    }
    assert_true(used > 0 && used < kills->count);
    free(kills);
    crash_place_end(&place);
}

static void a_manifest_made_anew_stays_whose_maker_was_killed(void **state)
{
    (void)state;
    check_manifest_made_anew(&(struct disk_model_options){0});
    check_manifest_made_anew(&(struct disk_model_options){.is_checked = true});
}

/* ---- a log that ends too early ---- */

static bool has_witness(struct disk_model *disk, const char *base)
{
    char *wal = test_path(base, "store/wal");
    struct io_file *directory;
    struct stat status;
    int result;

    assert_int_equal(io_open_root(disk_model_io(disk), wal, &directory), 0);
    result = io_stat_at(disk_model_io(disk), directory, "SYNCED", &status);
    io_close(disk_model_io(disk), directory);
    free(wal);
    return result == 0;
}

/* wal/SYNCED says more than the log has. */
static void make_log_short(struct crash_place *place)
{
    char *store = test_path(place->base, "store");
    struct engine *engine;

    place->options.sync_window_ms = 2;
    crash_place_make_store(place, 16384);
    open_at(place->disk, place->base, &place->options, &engine);
    for (unsigned tries = 0; !has_witness(place->disk, place->base); tries++) {
        assert_true(tries < 10000);
        put(engine, "a", "one");
        assert_int_equal(engine_sync(engine, engine_sequence(engine)), 0);
        usleep(1000);
    }
    assert_int_equal(engine_close(engine), 0);
    crash_damage_do(place->disk, store, CRASH_DAMAGE_LOG, 1);
    disk_model_set_base(place->disk, "");
    free(store);
}

static void say_nothing(void *context, const char *line, bool repaired)
{
    (void)context, (void)line, (void)repaired;
}

/* It is not asked for again after a cut. */
static void what_a_log_has_lost_is_given_up_for_good(void **state)
{
    struct crash_place place;
    struct disk_model *found;
    char *store;

    (void)state;
    crash_place_begin(&place);
    store = test_path(place.base, "store");
    make_log_short(&place);
    found = disk_model_clone(place.disk);
    assert_int_equal(try_open(found, place.other, &place.options, false), ERROR_CORRUPT);
    disk_model_free(found);
    disk_model_set_base(place.disk, place.base);
    assert_int_equal(engine_repair_log(disk_model_io(place.disk), store, true, say_nothing, NULL),
                     0);
    disk_model_set_base(place.disk, "");
    check_cuts(place.disk, place.other, &place.options, "a");
    free(store);
    crash_place_end(&place);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_stays_whose_maker_was_killed),
        cmocka_unit_test(a_manifest_made_anew_stays_whose_maker_was_killed),
        cmocka_unit_test(what_a_log_has_lost_is_given_up_for_good),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
