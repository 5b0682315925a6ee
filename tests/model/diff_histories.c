/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff_histories.c - in random histories the difference of any two snapshots is what a walk of both
 * trees finds
 *
 * A history has a store of its own. Files and directories come, go and move, are linked, written to,
 * cut, given other modes, owners and attributes, and restored out of snapshots; memtables become
 * tables, tables are merged, the store is opened anew, rolled back, and goes on as a clone of itself.
 * After each snapshot pairs of snapshots are compared, both ways, and one of them with the live tree.
 *
 * VARVE_HISTORIES sets how many, VARVE_TEST_SEED repeats them; a failing one names its own seed.
 */
#include "tests/lib/diff_walk.h"
#include "tests/lib/fs_history.h"

#define HISTORIES_DEFAULT 40

static uint64_t pairs, entries;

/* ---- comparing ---- */

static void check_both_ways(struct engine_view *before, struct engine_view *after)
{
    entries += diff_walk_check(before, after);
    entries += diff_walk_check(after, before);
    pairs += 2;
}

static void compare_some(struct fs_history *history)
{
    struct engine_view *before, *after;
    struct snapshot *one, *other;

    for (int i = 0; i < 4 && history->count > 1; i++) {
        one = fs_history_view(history, fs_history_below(history, history->count), &before);
        other = fs_history_view(history, fs_history_below(history, history->count), &after);
        check_both_ways(before, after);
        fs_history_put(one, before);
        fs_history_put(other, after);
    }
    for (uint64_t i = fs_history_below(history, 6); i > 0; i--)
        fs_history_change(history);
    one = fs_history_view(history, fs_history_below(history, history->count), &before);
    after = engine_view_acquire(history->fixture->engine);
    assert_non_null(after);
    check_both_ways(before, after);
    engine_view_release(after);
    fs_history_put(one, before);
}

/* ---- a history ---- */

static void run_history(uint64_t seed)
{
    struct fs_history history;
    uint64_t rounds;

    fs_history_begin(&history, seed);
    rounds = 2 + fs_history_below(&history, FS_HISTORY_SNAPSHOTS_MAX - 3);
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint64_t i = fs_history_below(&history, fs_history_below(&history, 4) == 0 ? 400 : 80);
             i > 0; i--)
            fs_history_change(&history);
        fs_history_change_store(&history);
        if (history.count < FS_HISTORY_SNAPSHOTS_MAX)
            fs_history_take(&history);
        fs_history_change_store(&history);
        if (history.count > 0)
            compare_some(&history);
    }
    fs_history_end(&history);
}

static void each_difference_is_what_a_walk_of_both_trees_finds(void **state)
{
    uint64_t count = fs_history_run("diff_histories", HISTORIES_DEFAULT, run_history);

    (void)state;
    fprintf(stderr, "%llu histories, %llu differences with %llu entries\n",
            (unsigned long long)count, (unsigned long long)pairs, (unsigned long long)entries);
    assert_true(count < 10 || entries > count * 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(each_difference_is_what_a_walk_of_both_trees_finds,
                                  fs_history_name_seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
