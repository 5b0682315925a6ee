/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compaction_pick.c - which tables to merge next
 */
#include "engine/compaction_pick.h"

#include <errno.h>
#include <stdlib.h>

#define LEVEL_FACTOR 10
#define SCORE_ONE    1024 /* a level at its target; scores are fixed-point */

/* A delete or tombstone is worth rewriting this much; a table that is this many flushes old sinks
 * whatever it costs. */
#define SINK_BYTES_PER_DELETE ((uint64_t)256 << 10)
#define SINK_AGE              8
#define MANY_DELETES_DIVISOR  4 /* of the records */

/* L0 is merged with itself while L1 is this many times as large; a table that is more than this
 * many times what is newer stays out of that. */
#define FIRST_LEVEL_SMALL 4
#define FIRST_LEVEL_ALIKE 2

/* An inclusive range of keys. */
struct range {
    struct slice low, high;
};

static struct slice smallest(const struct version_table *table)
{
    return buffer_slice(&table->meta.smallest);
}

static struct slice largest(const struct version_table *table)
{
    return buffer_slice(&table->meta.largest);
}

static uint64_t table_size(const struct version_table *table)
{
    return table->meta.identity.file_size_bytes;
}

static bool is_busy(const struct version_table *table)
{
    return atomic_load_explicit(&table->busy, memory_order_relaxed);
}

static void range_widen(struct range *range, const struct version_table *table)
{
    if (!range->low.data || slice_compare(smallest(table), range->low) < 0)
        range->low = smallest(table);
    if (!range->high.data || slice_compare(largest(table), range->high) > 0)
        range->high = largest(table);
}

static bool range_touches(const struct range *range, const struct version_table *table)
{
    return slice_compare(smallest(table), range->high) <= 0 &&
           slice_compare(range->low, largest(table)) <= 0;
}

/* The tables of `level` (>= 1) that touch the range: `*ret_first` and how many. */
static size_t find_touching(const struct version *version, uint32_t level,
                            const struct range *range, size_t *ret_first)
{
    size_t first = version_find_table(version, level, range->low);
    size_t end = first;

    while (end < version->counts[level] && range_touches(range, version->levels[level][end]))
        end++;
    *ret_first = first;
    return end - first;
}

static bool any_below(const struct version *version, uint32_t level, const struct range *range)
{
    for (uint32_t below = level + 1; below < VERSION_LEVELS; below++) {
        size_t first;

        if (find_touching(version, below, range, &first) > 0)
            return true;
    }
    return false;
}

/* ---- making a compaction ---- */

static void take(struct compaction *compaction, struct version_table *table)
{
    size_t at = compaction->input_count + compaction->output_input_count;

    compaction->inputs[at] = version_table_ref(table);
}

void compaction_free(struct compaction *compaction)
{
    for (size_t i = 0; i < compaction->input_count + compaction->output_input_count; i++)
        version_table_unref(compaction->inputs[i]);
    free(compaction->inputs);
    memset(compaction, 0, sizeof *compaction);
}

static bool has_garbage(const struct version_table *table)
{
    return table->meta.deletes > 0 || table->meta.tombstones > 0;
}

/* What a merge of some tables of `input_level` into `output_level` would be. */
struct plan {
    enum compaction_reason reason;
    uint32_t input_level, output_level;
    struct version_table *const *inputs;
    size_t input_count;
    size_t output_first, output_count; /* in output_level, when it is another one */
    struct range range;                /* of all of them */
    uint64_t input_bytes, output_bytes;
    bool busy;
};

static struct plan plan_make(const struct version *version, enum compaction_reason reason,
                             uint32_t input_level, uint32_t output_level,
                             struct version_table *const *inputs, size_t input_count)
{
    struct plan plan = {
        .reason = reason,
        .input_level = input_level,
        .output_level = output_level,
        .inputs = inputs,
        .input_count = input_count,
    };

    for (size_t i = 0; i < input_count; i++) {
        range_widen(&plan.range, inputs[i]);
        plan.input_bytes += table_size(inputs[i]);
        plan.busy |= is_busy(inputs[i]);
    }
    if (input_level == output_level || input_count == 0)
        return plan;
    plan.output_count = find_touching(version, output_level, &plan.range, &plan.output_first);
    for (size_t i = 0; i < plan.output_count; i++) {
        const struct version_table *table = version->levels[output_level][plan.output_first + i];

        range_widen(&plan.range, table);
        plan.output_bytes += table_size(table);
        plan.busy |= is_busy(table);
    }
    return plan;
}

/* L0 holds older tables than those of the plan that touch its range. */
static bool older_in_first_level(const struct version *version, const struct plan *plan)
{
    for (size_t i = 0; plan->input_level == 0 && i < version->counts[0]; i++) {
        const struct version_table *table = version->levels[0][i];

        if (table->order < plan->inputs[plan->input_count - 1]->order &&
            range_touches(&plan->range, table))
            return true;
    }
    return false;
}

static int plan_execute(const struct version *version, const struct plan *plan,
                        struct compaction *ret_compaction)
{
    struct compaction compaction = {
        .reason = plan->reason,
        .input_level = plan->input_level,
        .output_level = plan->output_level,
    };

    compaction.inputs =
        malloc((plan->input_count + plan->output_count) * sizeof(struct version_table *));
    if (!compaction.inputs)
        return -ENOMEM;
    for (size_t i = 0; i < plan->input_count; i++, compaction.input_count++)
        take(&compaction, plan->inputs[i]);
    for (size_t i = 0; i < plan->output_count; i++, compaction.output_input_count++)
        take(&compaction, version->levels[plan->output_level][plan->output_first + i]);

    compaction.bottom = !any_below(version, plan->output_level, &plan->range);
    if (plan->input_level == plan->output_level)
        compaction.bottom = compaction.bottom && !older_in_first_level(version, plan);
    compaction.trivial_move = plan->input_level != plan->output_level && plan->input_count == 1 &&
                              plan->output_count == 0 &&
                              !(compaction.bottom && has_garbage(plan->inputs[0]));
    *ret_compaction = compaction;
    return 1;
}

/* ---- size ---- */

/*
 * L0 into L1: the oldest tables up to the first busy one. What is newer than a busy table must not
 * pass it on the way down.
 */
static struct plan plan_first_level(const struct version *version, enum compaction_reason reason)
{
    struct version_table *const *newest = version->levels[0];
    size_t first = version->counts[0]; /* newest of the run */

    while (first > 0 && !is_busy(newest[first - 1]))
        first--;
    /* A level without tables has no array to point into. */
    return plan_make(version, reason, 0, 1, first < version->counts[0] ? newest + first : NULL,
                     version->counts[0] - first);
}

/* How many tables of L0 from this one on, newest first, are about alike in size. */
static size_t alike_from(const struct version *version, size_t first)
{
    struct version_table *const *tables = version->levels[0];
    uint64_t bytes = 0;
    size_t end = first;

    while (end < version->counts[0] && !is_busy(tables[end]) &&
           (end == first || table_size(tables[end]) <= FIRST_LEVEL_ALIKE * bytes)) {
        bytes += table_size(tables[end]);
        end++;
    }
    return end - first;
}

/*
 * L0 with itself: neighbours that are about alike in size, COMPACTION_L0_TRIGGER at least. Snapshots
 * and syncs of little leave many small tables; to merge a few of those into L1 would rewrite all of
 * L1 each time. Here a record is rewritten about once for each doubling, so it stays cheap.
 */
static struct plan plan_first_level_itself(const struct version *version)
{
    for (size_t first = 0; first + COMPACTION_L0_TRIGGER <= version->counts[0]; first++) {
        size_t count = alike_from(version, first);

        if (count >= COMPACTION_L0_TRIGGER)
            return plan_make(version, COMPACTION_L0, 0, 0, version->levels[0] + first, count);
    }
    return plan_make(version, COMPACTION_L0, 0, 0, NULL, 0);
}

static struct plan plan_first_level_by_cost(const struct version *version)
{
    struct plan down = plan_first_level(version, COMPACTION_L0), itself;

    if (down.output_bytes / FIRST_LEVEL_SMALL <= down.input_bytes)
        return down;
    itself = plan_first_level_itself(version);
    if (itself.input_count > 0 || version->counts[0] < COMPACTION_L0_FULL)
        return itself;
    return down;
}

/* The table of `level` that costs least: fewest bytes touched below for each of its own. */
static bool plan_cheapest(const struct version *version, uint32_t level, struct plan *ret_plan)
{
    bool found = false;

    for (size_t i = 0; i < version->counts[level]; i++) {
        struct plan plan =
            plan_make(version, COMPACTION_SIZE, level, level + 1, &version->levels[level][i], 1);

        if (plan.busy)
            continue;
        /* a/b < c/d without division; sizes are far below 2^64 */
        if (!found || (__uint128_t)plan.output_bytes * ret_plan->input_bytes <
                          (__uint128_t)ret_plan->output_bytes * plan.input_bytes) {
            *ret_plan = plan;
            found = true;
        }
    }
    return found;
}

static uint64_t level_score(const struct version *version, const struct compaction_policy *policy,
                            uint32_t level)
{
    __uint128_t target = policy->base_bytes > 0 ? policy->base_bytes : 1;

    if (level == 0)
        return version->counts[0] * SCORE_ONE / COMPACTION_L0_TRIGGER;
    for (uint32_t i = 1; i < level; i++)
        target *= LEVEL_FACTOR;
    /* Rounded up: a byte above the target is above it. */
    return (uint64_t)(((__uint128_t)version->level_bytes[level] * SCORE_ONE + target - 1) / target);
}

/* The fullest level that is above its target and has something to give. */
static bool plan_size(const struct version *version, const struct compaction_policy *policy,
                      struct plan *ret_plan)
{
    uint64_t best = 0;

    for (uint32_t level = 0; level + 1 < VERSION_LEVELS; level++) {
        uint64_t score = level_score(version, policy, level);
        bool due = level == 0 ? score >= SCORE_ONE : score > SCORE_ONE;
        struct plan plan = {0};

        if (!due || score <= best)
            continue;
        if (level == 0)
            plan = plan_first_level_by_cost(version);
        else if (!plan_cheapest(version, level, &plan))
            continue;
        if (plan.input_count == 0 || plan.busy)
            continue;
        *ret_plan = plan;
        best = score;
    }
    return best > 0;
}

/* ---- relocation ---- */

/*
 * The table that refers to the oldest chunk; of several the one on the lowest level, because what
 * lies there stays longest. The oldest, because the copies lie in a new chunk that may be chosen
 * again at once: the table that was just rewritten must come last, or it would come for ever.
 */
static bool plan_relocation(const struct version *version, const struct compaction_policy *policy,
                            struct plan *ret_plan)
{
    size_t first = policy->relocate_count;

    for (uint32_t level = VERSION_LEVELS; first > 0 && level-- > 0;) {
        for (size_t i = 0; i < version->counts[level]; i++) {
            struct version_table *const *table = &version->levels[level][i];
            size_t referred = version_table_find_use(*table, policy->relocate_chunks, first);

            if (is_busy(*table) || referred == first)
                continue;
            *ret_plan = plan_make(version, COMPACTION_RELOCATE, level, level, table, 1);
            first = referred;
        }
    }
    return first < policy->relocate_count;
}

/* ---- tombstones ---- */

static bool should_sink(const struct version_table *table)
{
    return table->meta.tombstones > 0 ||
           (table->meta.deletes > 0 &&
            table->meta.deletes >= table->meta.records / MANY_DELETES_DIVISOR);
}

static uint64_t newest_order(const struct version *version)
{
    uint64_t newest = version->counts[0] > 0 ? version->levels[0][0]->order : 0;

    for (uint32_t level = 1; level < VERSION_LEVELS; level++)
        for (size_t i = 0; i < version->counts[level]; i++)
            if (version->levels[level][i]->order > newest)
                newest = version->levels[level][i]->order;
    return newest;
}

/* Is there as much to gain as the plan costs, or has it waited long enough? */
static bool sinking_pays(const struct plan *plan, uint64_t newest)
{
    uint64_t deletes = 0, order = 0;

    for (size_t i = 0; i < plan->input_count; i++) {
        const struct version_table *table = plan->inputs[i];

        deletes += table->meta.deletes + table->meta.tombstones;
        if (table->order > order)
            order = table->order;
    }
    return newest - order >= SINK_AGE ||
           (plan->input_bytes + plan->output_bytes) / SINK_BYTES_PER_DELETE < deletes;
}

static struct plan plan_sink_table(const struct version *version, uint32_t level, size_t index)
{
    struct version_table *const *table = &version->levels[level][index];
    struct plan plan = plan_make(version, COMPACTION_TOMBSTONES, level, level, table, 1);

    if (level + 1 < VERSION_LEVELS && any_below(version, level, &plan.range))
        plan = plan_make(version, COMPACTION_TOMBSTONES, level, level + 1, table, 1);
    return plan;
}

static bool plan_sink_first_level(const struct version *version, uint64_t newest,
                                  struct plan *ret_plan)
{
    struct plan plan = plan_first_level(version, COMPACTION_TOMBSTONES);
    bool wanted = false;

    for (size_t i = 0; i < plan.input_count; i++)
        wanted |= should_sink(plan.inputs[i]);
    if (!wanted || plan.busy || !sinking_pays(&plan, newest))
        return false;
    *ret_plan = plan;
    return true;
}

/* The highest level first, so that tombstones merge on their way down. */
static bool plan_tombstones(const struct version *version, struct plan *ret_plan)
{
    uint64_t newest = newest_order(version);

    if (plan_sink_first_level(version, newest, ret_plan))
        return true;
    for (uint32_t level = 1; level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < version->counts[level]; i++) {
            struct plan plan;

            if (!should_sink(version->levels[level][i]))
                continue;
            plan = plan_sink_table(version, level, i);
            if (!plan.busy && sinking_pays(&plan, newest)) {
                *ret_plan = plan;
                return true;
            }
        }
    }
    return false;
}

/* ---- */

int compaction_pick(const struct version *version, const struct compaction_policy *policy,
                    struct compaction *ret_compaction)
{
    struct plan plan;

    if (!plan_size(version, policy, &plan) && !plan_relocation(version, policy, &plan) &&
        !(policy->idle && plan_tombstones(version, &plan)))
        return 0;
    return plan_execute(version, &plan, ret_compaction);
}

int compaction_pick_full(const struct version *version, struct compaction *ret_compaction)
{
    struct compaction compaction = {.reason = COMPACTION_SIZE, .bottom = true};
    uint32_t first = VERSION_LEVELS, last = 1;
    size_t count = 0;
    bool garbage = false;

    for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < version->counts[level]; i++) {
            if (is_busy(version->levels[level][i]))
                return 0;
            garbage |= has_garbage(version->levels[level][i]);
        }
        count += version->counts[level];
        if (version->counts[level] > 0 && first == VERSION_LEVELS)
            first = level;
        if (version->counts[level] > 0 && level > last)
            last = level;
    }
    if (count == 0 || (first == last && !garbage))
        return 0;
    compaction.inputs = malloc(count * sizeof(struct version_table *));
    if (!compaction.inputs)
        return -ENOMEM;
    compaction.input_level = first;
    compaction.output_level = last;
    for (uint32_t level = first; level <= last; level++) {
        bool is_output = level == last && first != last;

        for (size_t i = 0; i < version->counts[level]; i++) {
            take(&compaction, version->levels[level][i]);
            if (is_output)
                compaction.output_input_count++;
            else
                compaction.input_count++;
        }
    }
    *ret_compaction = compaction;
    return 1;
}
