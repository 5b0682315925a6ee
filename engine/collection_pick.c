/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collection_pick.c - which blob chunks to copy together
 */
#include "engine/collection_pick.h"

#include <stdlib.h>

#include "engine/blob_ref.h"

/* A sparse chunk: a copy is smaller by this part at least; and how much may be dead beside what
 * lives before such chunks are copied, in percent. */
#define SPARSE_DIVISOR   8
#define DEAD_PERCENT_MAX 10
/* While there is no time for it: */
#define DEAD_PERCENT_MAX_BUSY 100
#define NEARLY_EMPTY_DIVISOR  8

#define SMALL_CHUNK_DIVISOR 4 /* small: below chunk size / 4 */
#define SMALL_CHUNKS_MANY   8

/* In the order in which they are taken. */
enum candidate_kind {
    CANDIDATE_DYING,  /* below the live share */
    CANDIDATE_SPARSE, /* a copy is certainly smaller by a part */
    CANDIDATE_SMALL
};

struct candidate {
    uint64_t id;
    uint64_t live, size;
    enum candidate_kind kind;
};

struct candidates {
    struct candidate *entries;
    size_t counts[CANDIDATE_SMALL + 1];
    size_t count;
    struct collection_totals totals;
};

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *left = a, *right = b;
    __uint128_t left_share, right_share;

    if (left->kind != right->kind)
        return left->kind < right->kind ? -1 : 1;
    left_share = (__uint128_t)left->live * right->size;
    right_share = (__uint128_t)right->live * left->size;
    if (left->kind != CANDIDATE_SMALL && left_share != right_share)
        return left_share < right_share ? -1 : 1;
    if (left->size != right->size)
        return left->size < right->size ? -1 : 1;
    return left->id < right->id ? -1 : left->id > right->id;
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

/* Bytes of frames in the file, 1 at least. */
static uint64_t frame_bytes(const struct chunk_identity *blob)
{
    uint64_t fixed = CHUNK_HEADER_SIZE + CHUNK_TRAILER_SIZE;

    return blob->file_size_bytes > fixed ? blob->file_size_bytes - fixed : 1;
}

/* A copy holds the live bytes, and what aligns each frame at most; so it is not sparse itself. */
static bool is_sparse(const struct version_blob *use, uint64_t size)
{
    uint64_t copy = use->bytes + use->references * (BLOB_BLOCK_SIZE - 1);

    return copy < size && size - copy >= size / SPARSE_DIVISOR;
}

/* False: not one. */
static bool classify(const struct version_blob *use, const struct collection_policy *policy,
                     struct candidate *candidate)
{
    candidate->live = use->bytes;
    if ((__uint128_t)candidate->live * 100 <
        (__uint128_t)candidate->size * policy->live_percent_max)
        candidate->kind = CANDIDATE_DYING;
    else if (policy->idle && is_sparse(use, candidate->size))
        candidate->kind = CANDIDATE_SPARSE;
    else if (candidate->size < policy->chunk_size_bytes / SMALL_CHUNK_DIVISOR)
        candidate->kind = CANDIDATE_SMALL;
    else
        return false;
    return true;
}

static void find_candidates(const struct version *version, const struct chunk_identity *blobs,
                            size_t blob_count, const struct collection_policy *policy,
                            struct candidates *to)
{
    for (size_t i = 0; i < blob_count; i++) {
        const struct version_blob *use = version_find_blob(version, blobs[i].id);
        struct candidate candidate = {.id = blobs[i].id, .size = frame_bytes(&blobs[i])};

        if (!use || (policy->pinned_count > 0 &&
                     bsearch(&candidate.id, policy->pinned, policy->pinned_count,
                             sizeof candidate.id, compare_ids)))
            continue;
        to->totals.live_bytes += use->bytes;
        to->totals.dead_bytes += candidate.size > use->bytes ? candidate.size - use->bytes : 0;
        if (!classify(use, policy, &candidate))
            continue;
        to->counts[candidate.kind]++;
        to->entries[to->count++] = candidate;
    }
    qsort(to->entries, to->count, sizeof *to->entries, compare_candidates);
}

/* Is what is dead, beside the first ones, more than `percent` of what lives? */
static bool is_much_dead(const struct candidates *from, uint64_t dead_bytes, unsigned percent)
{
    return dead_bytes / percent > from->totals.live_bytes / 100;
}

/*
 * Who overwrites a file leaves chunks that are half dead and soon dead altogether: copying them
 * meanwhile would be for nothing, and slow him down. So while there is no time for it those are
 * collected that are nearly empty, and the others, the emptiest first, when more is dead than lives.
 */
static size_t count_dying(const struct candidates *from, const struct collection_policy *policy,
                          size_t room)
{
    size_t dying = from->counts[CANDIDATE_DYING], taken = 0;
    uint64_t dead = from->totals.dead_bytes;

    if (dying > room)
        dying = room;
    if (policy->idle)
        return dying;
    while (taken < dying) {
        const struct candidate *entry = &from->entries[taken];

        if (entry->live > entry->size / NEARLY_EMPTY_DIVISOR &&
            !is_much_dead(from, dead, DEAD_PERCENT_MAX_BUSY))
            break;
        dead -= entry->size - entry->live;
        taken++;
    }
    return taken;
}

/* The emptiest until little is dead beside what lives; returns how many, after the dying ones. */
static size_t count_sparse(const struct candidates *from, size_t room)
{
    uint64_t dead = from->totals.dead_bytes;
    size_t first = from->counts[CANDIDATE_DYING], taken = 0;

    for (size_t i = 0; i < first; i++)
        dead -= from->entries[i].size - from->entries[i].live;
    while (taken < from->counts[CANDIDATE_SPARSE] && taken < room &&
           is_much_dead(from, dead, DEAD_PERCENT_MAX)) {
        const struct candidate *entry = &from->entries[first + taken];

        dead -= entry->size - entry->live;
        taken++;
    }
    return taken;
}

/* Would rewriting the tables that refer to these (sorted) chunks leave at most half as many? */
static bool merging_pays(const struct version *version, const uint64_t *ids, size_t count)
{
    size_t tables = 0;

    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        for (size_t i = 0; i < version->counts[level]; i++)
            tables += version_table_find_use(version->levels[level][i], ids, count) < count;
    return tables * 2 <= count;
}

/* Small ones, when they are many and merging them pays: writes their ids. */
static size_t take_small(const struct version *version, const struct candidates *from,
                         uint64_t *ret_ids, size_t room)
{
    size_t first = from->count - from->counts[CANDIDATE_SMALL], taken = 0;

    if (from->counts[CANDIDATE_SMALL] < SMALL_CHUNKS_MANY || room < SMALL_CHUNKS_MANY)
        return 0;
    while (first + taken < from->count && taken < room) {
        ret_ids[taken] = from->entries[first + taken].id;
        taken++;
    }
    qsort(ret_ids, taken, sizeof *ret_ids, compare_ids);
    return merging_pays(version, ret_ids, taken) ? taken : 0;
}

size_t collection_pick(const struct version *version, const struct chunk_identity *blobs,
                       size_t blob_count, const struct collection_policy *policy, uint64_t *ret_ids,
                       size_t room, struct collection_totals *ret_totals)
{
    struct candidates candidates = {.entries = malloc((blob_count + 1) * sizeof(struct candidate))};
    size_t wanted, taken = 0;

    *ret_totals = candidates.totals;
    if (!candidates.entries)
        return 0; /* without memory nothing is collected now */
    find_candidates(version, blobs, blob_count, policy, &candidates);
    *ret_totals = candidates.totals;
    wanted = count_dying(&candidates, policy, room);
    if (policy->idle && wanted < room)
        wanted += count_sparse(&candidates, room - wanted);
    while (taken < wanted && taken < room) {
        ret_ids[taken] = candidates.entries[taken].id;
        taken++;
    }
    if (taken < room)
        taken += take_small(version, &candidates, ret_ids + taken, room - taken);
    free(candidates.entries);
    qsort(ret_ids, taken, sizeof *ret_ids, compare_ids);
    return taken;
}
