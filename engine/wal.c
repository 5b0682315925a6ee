/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wal.c - writing the log
 *
 * The leader (the one caller of wal_write_group() and its like) owns what is written: the current
 * segment, the buffer, the offsets. The lock guards what others see or do meanwhile: the spare
 * segment in the making, the lists, the error, the numbers.
 *
 * A group is written in whole blocks of 4096 bytes. The last, partly filled block stays in the
 * buffer, and the next group's write repeats it with the same bytes before its own: whichever of
 * the sectors reach the disk, what was durable before stays readable.
 *
 * Order that replay relies on (wal_replay.c): a segment is synced to its end before its successor
 * gets its first group, and that group says where the end was.
 */
#include "engine/wal.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/blocking.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/lock.h"
#include "engine/wal_format.h"
#include "engine/wal_segment.h"

/* A buffer that one large group made grow beyond this is given back. */
#define BUFFER_KEEP_SIZE (4 * 1024 * 1024)
#define BUFFER_MIN_SIZE  (256 * 1024)

enum spare_state { SPARE_NONE, SPARE_MAKING, SPARE_READY };

struct segment_list {
    struct wal_segment *first, *last;
    uint32_t count;
};

struct wal {
    struct wal_segment_options segment_options;
    uint8_t store_uuid[STORE_UUID_SIZE];
    uint32_t spares_max;

    /* The leader's own. */
    struct wal_segment *current; /* NULL after it was retired */
    bool must_roll;              /* the next group goes to a new segment */
    uint64_t previous_segment, previous_end;
    uint64_t last_sequence; /* 0: nothing written yet */
    uint8_t *buffer;        /* begins with the partly filled last block */
    size_t buffer_size;

    struct lock lock;
    pthread_cond_t spare_changed;
    enum spare_state spare_state;
    bool spare_wanted; /* a segment was taken after the first */
    struct wal_segment *spare;
    uint64_t next_number;
    struct segment_list live;    /* before the current one, still needed */
    struct segment_list retired; /* kept for reuse */
    int error;
    struct wal_statistics statistics;
};

/* ---- lists and errors ---- */

static void list_append(struct segment_list *list, struct wal_segment *segment)
{
    segment->next = NULL;
    if (list->last != NULL)
        list->last->next = segment;
    else
        list->first = segment;
    list->last = segment;
    list->count++;
}

static struct wal_segment *list_take_first(struct segment_list *list)
{
    struct wal_segment *segment = list->first;

    if (segment == NULL)
        return NULL;
    list->first = segment->next;
    if (list->first == NULL)
        list->last = NULL;
    segment->next = NULL;
    list->count--;
    return segment;
}

static void list_free(struct io *io, struct segment_list *list)
{
    struct wal_segment *segment;

    while ((segment = list_take_first(list)) != NULL)
        wal_segment_free(io, segment);
}

int wal_error(struct wal *wal)
{
    int error;

    lock_acquire(&wal->lock);
    error = wal->error;
    lock_release(&wal->lock);
    return error;
}

/* Keep the first error; returns it. */
static int latch(struct wal *wal, int error)
{
    lock_acquire(&wal->lock);
    if (wal->error == 0)
        wal->error = error;
    error = wal->error;
    lock_release(&wal->lock);
    return error;
}

/* ---- segments ---- */

/* Lock held and state SPARE_MAKING, set by the caller; released while the disk works. A number
 * whose making failed is not used again: what is left of it stays without groups. */
static int make_segment(struct wal *wal, struct wal_segment **ret_segment)
{
    struct wal_segment *retired = list_take_first(&wal->retired);
    uint64_t number = wal->next_number;
    bool sync_failed = false;
    bool was_recycled = false;
    int error;

    if (number == UINT64_MAX)
        return -EOVERFLOW;
    wal->next_number++;
    lock_release(&wal->lock);
    error = wal_segment_make(&wal->segment_options, number, retired, ret_segment, &was_recycled,
                             &sync_failed);
    if (error < 0 && (sync_failed || !error_is_shortage(error)))
        (void)latch(wal, error);
    lock_acquire(&wal->lock);
    if (error == 0) {
        wal->statistics.segments_recycled += was_recycled;
        wal->statistics.segments_created += !was_recycled;
    }
    return error;
}

int wal_prepare_spare(struct wal *wal)
{
    struct wal_segment *segment;
    int error;

    lock_acquire(&wal->lock);
    error = wal->error;
    if (error < 0 || wal->spare_state != SPARE_NONE) {
        lock_release(&wal->lock);
        return error;
    }
    wal->spare_state = SPARE_MAKING;
    wal->spare_wanted = false;
    error = make_segment(wal, &segment);
    wal->spare_state = error < 0 ? SPARE_NONE : SPARE_READY;
    if (error == 0)
        wal->spare = segment;
    pthread_cond_broadcast(&wal->spare_changed);
    lock_release(&wal->lock);
    return error;
}

bool wal_wants_spare(struct wal *wal)
{
    bool wanted;

    lock_acquire(&wal->lock);
    wanted = wal->spare_wanted && wal->spare_state == SPARE_NONE && wal->error == 0;
    lock_release(&wal->lock);
    return wanted;
}

/* The spare, waited for when it is in the making, or a segment made now. */
static int take_segment(struct wal *wal, struct wal_segment **ret_segment)
{
    int error = 0;

    blocking_enter();
    lock_acquire(&wal->lock);
    while (wal->spare_state == SPARE_MAKING)
        lock_wait(&wal->lock, &wal->spare_changed);
    if (wal->spare_state == SPARE_READY) {
        *ret_segment = wal->spare;
        wal->spare = NULL;
    } else {
        wal->spare_state = SPARE_MAKING;
        error = make_segment(wal, ret_segment);
    }
    wal->spare_state = SPARE_NONE;
    wal->spare_wanted = wal->statistics.segment > 0; /* who hardly writes needs only the first */
    pthread_cond_broadcast(&wal->spare_changed);
    lock_release(&wal->lock);
    return error;
}

static uint64_t written_offset(const struct wal *wal)
{
    return wal->statistics.written_offset; /* changed by the leader only */
}

static bool current_has_groups(const struct wal *wal)
{
    return wal->current != NULL && written_offset(wal) > WAL_FIRST_GROUP_OFFSET;
}

/* `segment` becomes the current one; the one before joins the live ones. */
static void enter_segment(struct wal *wal, struct wal_segment *segment)
{
    struct wal_segment *before = wal->current;

    if (before != NULL) {
        wal->previous_segment = before->number;
        wal->previous_end = written_offset(wal);
        wal_segment_close(wal->segment_options.io, before);
    }
    lock_acquire(&wal->lock);
    if (before != NULL)
        list_append(&wal->live, before);
    wal->statistics.segment = segment->number;
    wal->statistics.written_offset = WAL_FIRST_GROUP_OFFSET;
    wal->statistics.durable_offset = WAL_FIRST_GROUP_OFFSET;
    lock_release(&wal->lock);
    wal->current = segment;
    wal->must_roll = false;
}

static int next_segment(struct wal *wal)
{
    struct wal_segment *segment;
    int error = 0;

    if (wal->current != NULL)
        error = wal_sync(wal);
    if (error == 0)
        error = take_segment(wal, &segment);
    if (error == 0)
        enter_segment(wal, segment);
    return error;
}

int wal_roll(struct wal *wal, uint64_t *ret_segment)
{
    int error = wal_error(wal);

    if (error < 0)
        return error;
    if (wal->current != NULL && !wal->must_roll && !current_has_groups(wal)) {
        *ret_segment = wal->current->number;
        return 0;
    }
    wal->must_roll = true;
    lock_acquire(&wal->lock);
    if (wal->spare_state == SPARE_READY)
        *ret_segment = wal->spare->number;
    else
        *ret_segment = wal->next_number - (wal->spare_state == SPARE_MAKING ? 1 : 0);
    lock_release(&wal->lock);
    return 0;
}

/* Frees it. */
static int remove_segment(struct wal *wal, struct wal_segment *segment)
{
    int error = wal_segment_unlink(wal->segment_options.io, wal->segment_options.directory,
                                   segment->number);

    wal_segment_free(wal->segment_options.io, segment);
    return error;
}

/* Keep it for reuse or remove its name. */
static int retire_one(struct wal *wal, struct wal_segment *segment)
{
    bool is_kept;

    lock_acquire(&wal->lock);
    is_kept = wal->retired.count < wal->spares_max &&
              segment->size_bytes == wal->segment_options.size_bytes;
    if (is_kept)
        list_append(&wal->retired, segment);
    lock_release(&wal->lock);
    return is_kept ? 0 : remove_segment(wal, segment);
}

/* The first retired segment, taken out, if more than the limit are kept; NULL otherwise. */
static struct wal_segment *take_superfluous(struct wal *wal)
{
    struct wal_segment *taken = NULL;

    lock_acquire(&wal->lock);
    if (wal->retired.count > wal->spares_max)
        taken = list_take_first(&wal->retired);
    lock_release(&wal->lock);
    return taken;
}

int wal_limit_spares(struct wal *wal, uint32_t spares_max)
{
    struct wal_segment *superfluous;
    int first_error = 0;

    lock_acquire(&wal->lock);
    wal->spares_max = spares_max;
    lock_release(&wal->lock);
    while ((superfluous = take_superfluous(wal)) != NULL) {
        int error = remove_segment(wal, superfluous);

        if (first_error == 0)
            first_error = error;
    }
    return first_error;
}

/* The first live segment below `segment`, taken out; NULL when there is none. */
static struct wal_segment *take_live_below(struct wal *wal, uint64_t segment)
{
    struct wal_segment *taken = NULL;

    lock_acquire(&wal->lock);
    if (wal->live.first != NULL && wal->live.first->number < segment)
        taken = list_take_first(&wal->live);
    lock_release(&wal->lock);
    return taken;
}

int wal_retire(struct wal *wal, uint64_t segment)
{
    struct wal_segment *old;
    int first_error = 0;

    while ((old = take_live_below(wal, segment)) != NULL) {
        int error = retire_one(wal, old);

        if (first_error == 0)
            first_error = error;
    }
    if (wal->current != NULL && wal->must_roll && wal->current->number < segment) {
        int error;

        old = wal->current;
        wal->current = NULL;
        wal->previous_segment = old->number;
        wal->previous_end = written_offset(wal);
        wal_segment_close(wal->segment_options.io, old);
        error = retire_one(wal, old);
        if (first_error == 0)
            first_error = error;
    }
    return first_error;
}

/* ---- groups ---- */

int wal_entry_append(struct buffer *to, enum wal_entry_kind kind, uint64_t first_sequence,
                     struct slice bytes)
{
    uint8_t header[WAL_ENTRY_HEADER_SIZE];
    int error;

    if (bytes.size > WAL_GROUP_BODY_SIZE_MAX)
        return -EFBIG;
    error = buffer_reserve(to, to->size + sizeof header + bytes.size);
    if (error < 0)
        return error;
    header[0] = (uint8_t)kind;
    put_le32(header + 1, (uint32_t)bytes.size);
    put_le64(header + 5, first_sequence);
    (void)buffer_append(to, header, sizeof header);
    return buffer_append(to, bytes.data, bytes.size);
}

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) & ~(unit - 1);
}

/* A buffer of at least `size` bytes that still begins with the `kept` bytes of the last block. */
static int fit_buffer(struct wal *wal, size_t size, size_t kept)
{
    size_t new_size = size < BUFFER_MIN_SIZE ? BUFFER_MIN_SIZE : size;
    uint8_t *buffer;

    if (size <= wal->buffer_size &&
        (wal->buffer_size <= BUFFER_KEEP_SIZE || size > BUFFER_KEEP_SIZE))
        return 0;
    buffer = io_allocate_aligned(new_size);
    if (buffer == NULL)
        return size <= wal->buffer_size ? 0 : -ENOMEM;
    if (kept > 0)
        memcpy(buffer, wal->buffer, kept);
    free(wal->buffer);
    wal->buffer = buffer;
    wal->buffer_size = new_size;
    return 0;
}

/* Lay the group out at `at`, for the present offset. */
static void encode_group(struct wal *wal, const struct wal_group *group, uint64_t body_size,
                         uint8_t *at)
{
    uint8_t *body = at + WAL_GROUP_HEADER_SIZE;
    uint64_t seed = wal->current->seed;
    struct wal_group_header header = {
        .piece_count = (uint32_t)group->piece_count,
        .segment = wal->current->number,
        .offset = written_offset(wal),
        .body_size = body_size,
        .entries_size = group->entries.size,
        .durable_offset = wal->statistics.durable_offset,
        .previous_segment = wal->previous_segment,
        .previous_end = wal->previous_end,
        .first_sequence = group->first_sequence,
        .last_sequence = group->last_sequence,
    };

    wal_group_body_encode(body, group);
    /* What replay would refuse must not be acknowledged. */
    invariant(wal_group_body_check(&header, slice_of(body, (size_t)body_size)) == 0);
    header.body_checksum = checksum64_seeded(body, (size_t)body_size, seed);
    wal_group_header_encode(at, &header, seed);
}

static int write_group(struct wal *wal, const struct wal_group *group, uint64_t body_size)
{
    uint64_t offset = written_offset(wal);
    uint64_t end = offset + wal_group_size(body_size);
    size_t kept = offset % WAL_BLOCK_SIZE;
    size_t used = kept + (size_t)(end - offset);
    size_t size = round_up(used, WAL_BLOCK_SIZE);
    size_t group_end = kept + WAL_GROUP_HEADER_SIZE + (size_t)body_size;
    size_t next_kept = end % WAL_BLOCK_SIZE;
    int error = fit_buffer(wal, size, kept);

    if (error < 0)
        return error;
    encode_group(wal, group, body_size, wal->buffer + kept);
    memset(wal->buffer + group_end, 0, size - group_end);
    error = io_write(wal->segment_options.io, wal->current->file, wal->buffer, size, offset - kept);
    /* What a full disk cut off is a torn end like any other; the next group is written over it. */
    if (error < 0)
        return error_is_shortage(error) ? error : latch(wal, error);
    if (next_kept > 0)
        memmove(wal->buffer, wal->buffer + used - next_kept, next_kept);
    wal->last_sequence = group->last_sequence;
    if (end > wal->current->size_bytes)
        wal->current->size_bytes = end; /* too large to be recycled */
    lock_acquire(&wal->lock);
    wal->statistics.written_offset = end;
    wal->statistics.groups++;
    wal->statistics.bytes += size;
    lock_release(&wal->lock);
    return 0;
}

static bool fits(const struct wal *wal, uint64_t size)
{
    uint64_t segment_size = wal->segment_options.size_bytes;

    if (wal->current == NULL || wal->must_roll)
        return false;
    /* A group larger than any segment is alone in one, which it makes grow. */
    return !current_has_groups(wal) ||
           (written_offset(wal) <= segment_size && size <= segment_size - written_offset(wal));
}

int wal_write_group(struct wal *wal, const struct wal_group *group, bool sync)
{
    uint64_t body_size;
    int error = wal_error(wal);

    if (error == 0)
        error = wal_group_body_size(group, &body_size);
    if (error < 0)
        return error;
    invariant(group->first_sequence > 0 && group->last_sequence < UINT64_MAX);
    invariant(group->last_sequence + 1 >= group->first_sequence);
    invariant(wal->last_sequence == 0 || group->first_sequence == wal->last_sequence + 1);

    if (!fits(wal, wal_group_size(body_size)))
        error = next_segment(wal);
    if (error == 0)
        error = write_group(wal, group, body_size);
    if (error == 0 && sync)
        error = wal_sync(wal);
    return error;
}

int wal_sync(struct wal *wal)
{
    uint64_t target = written_offset(wal);
    int error = wal_error(wal);

    if (error < 0)
        return error;
    if (wal->current == NULL || wal->statistics.durable_offset == target)
        return 0;
    error = io_sync(wal->segment_options.io, wal->current->file, true);
    if (error < 0)
        return latch(wal, error);
    lock_acquire(&wal->lock);
    invariant(wal->statistics.durable_offset <= target);
    invariant(target <= wal->statistics.written_offset);
    wal->statistics.durable_offset = target;
    wal->statistics.syncs++;
    lock_release(&wal->lock);
    return 0;
}

/* ---- open, close, numbers ---- */

static bool options_are_valid(const struct wal_options *options, uint64_t first_segment)
{
    return options->segment_size_bytes % WAL_BLOCK_SIZE == 0 &&
           options->segment_size_bytes >= WAL_SEGMENT_SIZE_MIN &&
           options->segment_size_bytes <= WAL_SEGMENT_SIZE_MAX / 2 && first_segment > 0;
}

int wal_open(const struct wal_options *options, uint64_t first_segment, struct wal **ret_wal)
{
    struct wal_segment *segment;
    struct wal *wal;
    int error;

    if (!options_are_valid(options, first_segment))
        return -EINVAL;
    wal = calloc(1, sizeof *wal);
    if (wal == NULL)
        return -ENOMEM;
    memcpy(wal->store_uuid, options->store_uuid, STORE_UUID_SIZE);
    wal->segment_options = (struct wal_segment_options){
        .io = options->io,
        .directory = options->directory,
        .store_uuid = wal->store_uuid,
        .size_bytes = options->segment_size_bytes,
    };
    wal->spares_max = options->spares_max;
    wal->next_number = first_segment;
    lock_init(&wal->lock, LOCK_RANK_WAL);
    lock_condition_init(&wal->spare_changed);
    error = fit_buffer(wal, BUFFER_MIN_SIZE, 0);
    if (error == 0)
        error = take_segment(wal, &segment);
    if (error < 0) {
        wal_close(wal);
        return error;
    }
    enter_segment(wal, segment);
    *ret_wal = wal;
    return 0;
}

void wal_close(struct wal *wal)
{
    struct io *io;

    if (wal == NULL)
        return;
    io = wal->segment_options.io;
    wal_segment_free(io, wal->current);
    wal_segment_free(io, wal->spare);
    list_free(io, &wal->live);
    list_free(io, &wal->retired);
    pthread_cond_destroy(&wal->spare_changed);
    lock_destroy(&wal->lock);
    free(wal->buffer);
    free(wal);
}

void wal_get_statistics(struct wal *wal, struct wal_statistics *ret)
{
    lock_acquire(&wal->lock);
    *ret = wal->statistics;
    ret->segments_live = wal->live.count + 1;
    lock_release(&wal->lock);
}
