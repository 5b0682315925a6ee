/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_atime.c - when files were last read: pages in memory, records in the store
 *
 * A page is read from the store without a lock, and put into the memory only if no page was let go
 * of meanwhile (`generation`): else it might be older than a record written since. A page with
 * times that are not in the store yet, or that are on their way there, is not let go of.
 */
#include "fuse/fs_atime.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/blocking.h"
#include "engine/base/endian.h"
#include "engine/base/invariant.h"

#define PAGE_SHIFT  10
#define PAGE_INODES (1u << PAGE_SHIFT)
#define PAGE_WORDS  (PAGE_INODES / 64)
#define BUCKETS     1024
#define MEMORY_MAX  (16u << 20)
#define DAY_S       86400

struct atime_page {
    struct atime_page *next;
    uint64_t number; /* of its first inode, shifted */
    uint64_t present[PAGE_WORDS], dirty[PAGE_WORDS];
    uint32_t count, room, dirty_count;
    bool writing;
    struct timespec *times; /* `count`, in order of inodes */
};

struct fs_atimes {
    struct lock write_lock; /* LOCK_RANK_FS_ATIME */
    struct lock lock;       /* LOCK_RANK_FS_TABLE: all below */
    struct atime_page *buckets[BUCKETS];
    uint64_t generation; /* pages were let go of so often */
    size_t memory_bytes;
    uint32_t dirty_count;
    bool writing; /* some were collected and are not in the log yet */
};

/* ---- a page ---- */

static bool bit_get(const uint64_t *words, uint32_t slot)
{
    return (words[slot / 64] >> slot % 64 & 1) != 0;
}

/* Where the slot's time is, or would be. */
static uint32_t page_index(const struct atime_page *page, uint32_t slot)
{
    uint32_t index = 0;

    for (uint32_t word = 0; word < slot / 64; word++)
        index += (uint32_t)__builtin_popcountll(page->present[word]);
    return index + (uint32_t)__builtin_popcountll(page->present[slot / 64] &
                                                  ((UINT64_C(1) << slot % 64) - 1));
}

/* Make room for one more: false when there is no memory. */
static bool page_grow(struct atime_page *page)
{
    uint32_t room = page->room == 0 ? 16 : 2 * page->room;
    struct timespec *times;

    if (page->count < page->room)
        return true;
    times = reallocarray(page->times, room, sizeof *times);
    if (times == NULL)
        return false;
    page->times = times;
    page->room = room;
    return true;
}

static bool page_set(struct atime_page *page, uint32_t slot, const struct timespec *time)
{
    uint32_t index = page_index(page, slot);

    if (!bit_get(page->present, slot)) {
        if (!page_grow(page))
            return false;
        memmove(&page->times[index + 1], &page->times[index],
                (page->count - index) * sizeof *page->times);
        page->present[slot / 64] |= UINT64_C(1) << slot % 64;
        page->count++;
    }
    page->times[index] = *time;
    return true;
}

static void page_remove(struct atime_page *page, uint32_t slot)
{
    uint32_t index = page_index(page, slot);

    page->count--;
    memmove(&page->times[index], &page->times[index + 1],
            (page->count - index) * sizeof *page->times);
    page->present[slot / 64] &= ~(UINT64_C(1) << slot % 64);
}

static void page_free(struct atime_page *page)
{
    if (page != NULL)
        free(page->times);
    free(page);
}

static size_t page_bytes(const struct atime_page *page)
{
    return sizeof *page + page->room * sizeof *page->times;
}

/* ---- pages in memory; the lock is held ---- */

static struct atime_page **find_link(struct fs_atimes *atimes, uint64_t number)
{
    struct atime_page **link = &atimes->buckets[number % BUCKETS];

    while (*link != NULL && (*link)->number != number)
        link = &(*link)->next;
    return link;
}

static struct atime_page *find(struct fs_atimes *atimes, uint64_t ino)
{
    return *find_link(atimes, ino >> PAGE_SHIFT);
}

static void let_go(struct fs_atimes *atimes)
{
    for (uint32_t i = 0; i < BUCKETS; i++) {
        struct atime_page **link = &atimes->buckets[i];

        while (*link != NULL) {
            struct atime_page *page = *link;

            if (page->dirty_count > 0 || page->writing) {
                link = &page->next;
                continue;
            }
            *link = page->next;
            atimes->memory_bytes -= page_bytes(page);
            page_free(page);
        }
    }
    atimes->generation++;
}

static bool set_dirty(struct fs_atimes *atimes, struct atime_page *page, uint32_t slot,
                      const struct timespec *time)
{
    size_t before = page_bytes(page);
    bool set = page_set(page, slot, time);

    atimes->memory_bytes += page_bytes(page) - before;
    if (set && !bit_get(page->dirty, slot)) {
        page->dirty[slot / 64] |= UINT64_C(1) << slot % 64;
        page->dirty_count++;
        atimes->dirty_count++;
    }
    return set;
}

static void clear_dirty(struct fs_atimes *atimes, struct atime_page *page, uint32_t slot)
{
    if (!bit_get(page->dirty, slot))
        return;
    page->dirty[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    page->dirty_count--;
    atimes->dirty_count--;
}

/* ---- pages from the store ---- */

static int take_record(struct atime_page *page, const struct record *record)
{
    struct timespec time;
    struct slice rest;
    uint64_t zero, ino;
    uint8_t type;

    if (!fs_key_parse(record->key, &zero, &type, &rest) || rest.size != 8 ||
        fs_atime_decode(record->value, &time) < 0)
        return ERROR_CORRUPT;
    ino = get_be64(rest.data);
    return page_set(page, (uint32_t)(ino % PAGE_INODES), &time) ? 0 : -ENOMEM;
}

static int fill_page(struct engine_view *view, struct atime_page *page)
{
    struct engine_iterator *iterator;
    struct fs_key from, end;
    int found;

    fs_key_atime(&from, page->number << PAGE_SHIFT);
    fs_key_atime(&end, (page->number + 1) << PAGE_SHIFT);
    found = engine_iterator_new(view, fs_key_slice(&end), &iterator);
    if (found < 0)
        return found;
    found = engine_iterator_seek(iterator, fs_key_slice(&from));
    while (found > 0) {
        int error = take_record(page, engine_iterator_record(iterator));

        found = error < 0 ? error : engine_iterator_next(iterator);
    }
    engine_iterator_free(iterator);
    return found;
}

static int read_page(struct fs *fs, uint64_t number, struct atime_page **ret_page)
{
    struct atime_page *page = calloc(1, sizeof *page);
    struct engine_view *view = engine_view_acquire(fs->engine);
    int error = page == NULL || view == NULL ? -ENOMEM : 0;

    if (error == 0) {
        page->number = number;
        error = fill_page(view, page);
    }
    engine_view_release(view);
    if (error < 0)
        page_free(page);
    else
        *ret_page = page;
    return error;
}

static void insert(struct fs_atimes *atimes, struct atime_page *page)
{
    struct atime_page **link;

    if (atimes->memory_bytes + page_bytes(page) > MEMORY_MAX)
        let_go(atimes);
    link = find_link(atimes, page->number);
    page->next = *link;
    *link = page;
    atimes->memory_bytes += page_bytes(page);
}

/* The page of `ino`, with the lock held on success, and not held on failure. */
static int lock_page(struct fs *fs, uint64_t ino, struct atime_page **ret_page)
{
    struct fs_atimes *atimes = fs->atimes;

    lock_acquire(&atimes->lock);
    for (;;) {
        struct atime_page *page = find(atimes, ino), *new_page;
        uint64_t generation = atimes->generation;
        int error;

        if (page != NULL) {
            *ret_page = page;
            return 0;
        }
        lock_release(&atimes->lock);
        error = read_page(fs, ino >> PAGE_SHIFT, &new_page);
        if (error < 0) {
            log_debug("times of reading near inode %" PRIu64 " cannot be read: %s", ino,
                      error_text(error));
            return error;
        }
        lock_acquire(&atimes->lock);
        if (generation == atimes->generation && find(atimes, ino) == NULL)
            insert(atimes, new_page);
        else
            page_free(new_page);
    }
}

/* ---- asking ---- */

/* What counts; the lock is held. */
static struct timespec page_time(const struct atime_page *page, uint64_t ino,
                                 const struct timespec *otherwise)
{
    uint32_t slot = (uint32_t)(ino % PAGE_INODES);

    return bit_get(page->present, slot) ? page->times[page_index(page, slot)] : *otherwise;
}

void fs_atime_get(struct fs *fs, uint64_t ino, struct timespec *time)
{
    struct atime_page *page;

    if (lock_page(fs, ino, &page) < 0)
        return;
    *time = page_time(page, ino, time);
    lock_release(&fs->atimes->lock);
}

/* ---- noting ---- */

static bool is_later(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* relatime: the first reading after a change counts, and one a day. */
static bool is_due(const struct timespec *atime, const struct fs_inode *inode,
                   const struct timespec *now)
{
    return !is_later(atime, &inode->mtime) || !is_later(atime, &inode->ctime) ||
           now->tv_sec - atime->tv_sec >= DAY_S;
}

static enum fs_atime_mode mode_for(const struct fs *fs, const struct fs_inode *inode)
{
    unsigned options = atomic_load_explicit(&fs->atime_options, memory_order_relaxed);

    if (fs->read_only || (inode->flags & FS_NOATIME_FL) != 0 ||
        (S_ISDIR(inode->mode) && (options & FS_ATIME_NO_DIRECTORIES) != 0))
        return FS_ATIME_NONE;
    return (enum fs_atime_mode)(options & ~(unsigned)FS_ATIME_NO_DIRECTORIES);
}

/* Nothing of what was neither read nor changed since the mount began is in the kernel's memory: it
 * will ask for it. (What was read counts anew after a day.) */
static bool is_told(const struct fs *fs, const struct timespec *atime, const struct fs_inode *inode,
                    const struct timespec *now)
{
    return is_later(&fs->opened, atime) && is_later(&fs->opened, &inode->ctime) &&
           now->tv_sec - fs->opened.tv_sec < DAY_S;
}

static bool touch(struct fs *fs, uint64_t ino, const struct fs_inode *inode, bool opened)
{
    enum fs_atime_mode mode = mode_for(fs, inode);
    struct timespec now, atime;
    struct atime_page *page;
    bool noted = false;
    uint32_t waiting;

    if (mode == FS_ATIME_NONE || lock_page(fs, ino, &page) < 0)
        return false;
    now = fs_now();
    atime = page_time(page, ino, &inode->atime);
    if ((mode == FS_ATIME_STRICT || is_due(&atime, inode, &now)) &&
        !(opened && is_told(fs, &atime, inode, &now)))
        noted = set_dirty(fs->atimes, page, (uint32_t)(ino % PAGE_INODES), &now);
    waiting = fs->atimes->dirty_count;
    lock_release(&fs->atimes->lock);
    if (noted && waiting >= FS_ATIME_DIRTY_MAX)
        (void)fs_atime_flush(fs);
    return noted;
}

bool fs_atime_touch(struct fs *fs, uint64_t ino, const struct fs_inode *inode)
{
    return touch(fs, ino, inode, false);
}

bool fs_atime_touch_opened(struct fs *fs, uint64_t ino, const struct fs_inode *inode)
{
    return touch(fs, ino, inode, true);
}

/* ---- writing ---- */

static void acquire_write_lock(struct fs *fs)
{
    if (lock_try_acquire_same_rank(&fs->atimes->write_lock))
        return;
    blocking_enter();
    lock_acquire(&fs->atimes->write_lock);
}

static void put_time(struct batch *batch, uint64_t ino, const struct timespec *time)
{
    uint8_t value[FS_ATIME_SIZE];
    struct fs_key key;

    fs_key_atime(&key, ino);
    fs_atime_encode(time, value);
    batch_put(batch, fs_key_slice(&key), slice_of(value, sizeof value));
}

static void collect_page(struct atime_page *page, struct batch *batch)
{
    for (uint32_t slot = 0; slot < PAGE_INODES; slot++) {
        if (page->dirty[slot / 64] == 0) {
            slot |= 63;
            continue;
        }
        if (bit_get(page->dirty, slot))
            put_time(batch, (page->number << PAGE_SHIFT) + slot,
                     &page->times[page_index(page, slot)]);
    }
    memset(page->dirty, 0, sizeof page->dirty);
    page->dirty_count = 0;
    page->writing = true;
}

static void collect(struct fs_atimes *atimes, struct batch *batch)
{
    lock_acquire(&atimes->lock);
    for (uint32_t i = 0; i < BUCKETS; i++) {
        for (struct atime_page *page = atimes->buckets[i]; page != NULL; page = page->next) {
            if (page->dirty_count > 0)
                collect_page(page, batch);
        }
    }
    atimes->dirty_count = 0;
    atimes->writing = true;
    lock_release(&atimes->lock);
}

static void settle(struct fs_atimes *atimes)
{
    lock_acquire(&atimes->lock);
    for (uint32_t i = 0; i < BUCKETS; i++) {
        for (struct atime_page *page = atimes->buckets[i]; page != NULL; page = page->next)
            page->writing = false;
    }
    atimes->writing = false;
    lock_release(&atimes->lock);
}

/* Nothing waits, and nothing is on its way to the log? */
static bool is_settled(struct fs_atimes *atimes)
{
    bool settled;

    lock_acquire(&atimes->lock);
    settled = atimes->dirty_count == 0 && !atimes->writing;
    lock_release(&atimes->lock);
    return settled;
}

/* Holding a stripe, as all who change something do: in a quiet time nothing is written. What cannot
 * be written is lost with the memory; it is no reason for a read to fail. */
int fs_atime_flush(struct fs *fs)
{
    const uint64_t root = FS_ROOT;
    struct fs_edit edit;
    int error;

    if (fs->read_only || is_settled(fs->atimes))
        return 0;
    error = fs_edit_begin(fs, &root, 1, &edit);
    if (error < 0)
        return error;
    edit.sync = false;
    acquire_write_lock(fs);
    collect(fs->atimes, edit.batch);
    if (edit.batch->count > 0)
        error = fs_edit_commit(&edit);
    settle(fs->atimes);
    lock_release(&fs->atimes->write_lock);
    fs_edit_end(&edit);
    if (error < 0)
        log_debug("times of reading are not written: %s", error_text(error));
    return error;
}

/* ---- removing ---- */

int fs_atime_begin_removal(struct fs_edit *edit, uint64_t ino, struct fs_atime_removal *removal)
{
    struct fs *fs = edit->fs;
    struct atime_page *page;
    struct fs_key key;
    int error = lock_page(fs, ino, &page);

    if (error < 0)
        return error;
    removal->ino = ino;
    removal->found = bit_get(page->present, (uint32_t)(ino % PAGE_INODES));
    lock_release(&fs->atimes->lock);
    if (!removal->found)
        return 0;
    /* Nobody may be about to write it again. */
    acquire_write_lock(fs);
    fs_key_atime(&key, ino);
    batch_delete(edit->batch, fs_key_slice(&key));
    return 0;
}

void fs_atime_end_removal(struct fs *fs, const struct fs_atime_removal *removal, bool committed)
{
    struct fs_atimes *atimes = fs->atimes;
    uint32_t slot = (uint32_t)(removal->ino % PAGE_INODES);
    struct atime_page *page;

    if (!removal->found)
        return;
    if (committed) {
        lock_acquire(&atimes->lock);
        page = find(atimes, removal->ino);
        if (page != NULL && bit_get(page->present, slot)) {
            clear_dirty(atimes, page, slot);
            page_remove(page, slot);
        }
        /* A page that is being read may have been read before the removal. */
        atimes->generation++;
        lock_release(&atimes->lock);
    }
    lock_release(&atimes->write_lock);
}

/* ---- life ---- */

void fs_atime_forget_all(struct fs *fs)
{
    struct fs_atimes *atimes = fs->atimes;

    lock_acquire(&atimes->lock);
    for (uint32_t i = 0; i < BUCKETS; i++) {
        for (struct atime_page *page = atimes->buckets[i]; page != NULL; page = page->next) {
            page->dirty_count = 0;
            page->writing = false;
        }
    }
    atimes->dirty_count = 0;
    let_go(atimes);
    lock_release(&atimes->lock);
}

struct fs_atimes *fs_atimes_new(void)
{
    struct fs_atimes *atimes = calloc(1, sizeof *atimes);

    if (atimes == NULL)
        return NULL;
    lock_init(&atimes->write_lock, LOCK_RANK_FS_ATIME);
    lock_init(&atimes->lock, LOCK_RANK_FS_TABLE);
    return atimes;
}

void fs_atimes_free(struct fs_atimes *atimes)
{
    struct atime_page *next;

    if (atimes == NULL)
        return;
    for (uint32_t i = 0; i < BUCKETS; i++) {
        for (struct atime_page *page = atimes->buckets[i]; page != NULL; page = next) {
            next = page->next;
            page_free(page);
        }
    }
    lock_destroy(&atimes->write_lock);
    lock_destroy(&atimes->lock);
    free(atimes);
}
