/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs.c - a filesystem on an engine: make, open, close, options
 */
#include "fuse/fs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "engine/base/endian.h"
#include "fuse/fs_atime.h"

#define SNAPDIR_NAME ".snapshots"
/* A walk through a month of daily snapshots looks at all of them again and again. */
#define SNAPSHOT_VIEWS_MAX 64
/* 64 MiB. */
#define VERSIONS_MAX    (UINT32_C(4) << 20)
#define SUPERBLOCK_SIZE 8
#define MODE_ROOT       (S_IFDIR | 0755)

void fs_options_default(struct fs_options *options)
{
    *options = (struct fs_options){
        .snapdir_name = NULL,
        .snaplinks = true,
        .snapdir_everywhere = true,
        .owner_uid = getuid(),
        .snapshot_views_max = SNAPSHOT_VIEWS_MAX,
        .versions_max = VERSIONS_MAX,
    };
}

/* ---- make ---- */

static void put_superblock(struct batch *batch, uint64_t next_ino)
{
    uint8_t value[SUPERBLOCK_SIZE];
    struct fs_key key;

    fs_key_superblock(&key);
    put_le64(value, next_ino);
    batch_put(batch, fs_key_slice(&key), slice_of(value, sizeof value));
}

int fs_format(struct engine *engine, uid_t root_uid, gid_t root_gid)
{
    struct timespec now = fs_now();
    struct fs_inode root = {
        .mode = MODE_ROOT,
        .uid = root_uid,
        .gid = root_gid,
        .nlink = 2,
        .atime = now,
        .mtime = now,
        .ctime = now,
        .btime = now,
        .generation = 1,
        .parent = FS_ROOT,
        .next_cookie = FS_COOKIE_FIRST,
    };
    struct batch batch = {0};
    uint64_t first;
    int error;

    put_superblock(&batch, FS_ROOT + 1);
    fs_inode_put(&batch, FS_ROOT, &root);
    error = engine_write(engine, &batch, &first);
    if (error == 0)
        error = engine_sync(engine, first + batch.count - 1);
    batch_free(&batch);
    return error;
}

/* ---- open ---- */

/* Does the store hold any inode at all? 1, 0, or an error. */
static int has_inodes(struct engine_view *view)
{
    struct engine_iterator *iterator;
    struct fs_key start;
    int found = engine_iterator_new(view, slice_of(NULL, 0), &iterator);

    if (found < 0)
        return found;
    fs_key_start(&start, FS_ROOT);
    found = engine_iterator_seek(iterator, fs_key_slice(&start));
    engine_iterator_free(iterator);
    return found;
}

/* 0; -ENOENT when the store is new; an error when it is not and yet has no superblock. */
static int load_superblock(struct fs *fs, struct engine_view *view)
{
    struct buffer value = {0};
    struct fs_key key;
    int found;

    fs_key_superblock(&key);
    found = engine_view_get(view, fs_key_slice(&key), &value, NULL);
    if (found > 0) {
        uint64_t next = value.size == SUPERBLOCK_SIZE ? get_le64(value.data) : 0;

        fs->next_ino = fs->reserved_ino = next;
        found = next > FS_ROOT && next <= FS_INO_MAX + 1 ? 0 : ERROR_CORRUPT;
    } else if (found == 0) {
        found = has_inodes(view);
        found = found == 0 ? -ENOENT : found < 0 ? found : ERROR_CORRUPT;
    }
    buffer_free(&value);
    if (found == ERROR_CORRUPT)
        log_error("the filesystem's superblock is missing or damaged");
    return found;
}

static int check_root(struct fs *fs, struct engine_view *view)
{
    struct fs_dentry dentry;
    struct fs_inode root;
    int error = fs_inode_load(view, FS_ROOT, &root, NULL);

    if (error == -ENOENT || (error == 0 && !S_ISDIR(root.mode))) {
        log_error("the filesystem has no root directory");
        return ERROR_CORRUPT;
    }
    if (error < 0)
        return error;
    error = fs_dentry_load(view, FS_ROOT, fs->snapdir_name, &dentry);
    if (error == -ENOENT)
        return 0;
    if (error == 0) {
        log_error("the root directory has an entry \"%s\", which would hide the snapshots: choose "
                  "another name for their directory (snapdir_name)",
                  fs->snapdir_name);
        return -EEXIST;
    }
    return error;
}

static int load(struct fs *fs)
{
    struct engine_view *view = engine_view_acquire(fs->engine);
    int error;

    if (view == NULL)
        return -ENOMEM;
    error = load_superblock(fs, view);
    if (error == -ENOENT && !fs->read_only) {
        engine_view_release(view);
        error = fs_format(fs->engine, fs->options.owner_uid, getgid());
        if (error < 0)
            return error;
        view = engine_view_acquire(fs->engine);
        if (view == NULL)
            return -ENOMEM;
        error = load_superblock(fs, view);
    }
    if (error == 0)
        error = check_root(fs, view);
    engine_view_release(view);
    return error;
}

static void init_locks(struct fs *fs)
{
    for (unsigned i = 0; i < FS_STRIPES; i++)
        lock_init(&fs->stripes[i], LOCK_RANK_FS_INODE);
    lock_init(&fs->quiet_lock, LOCK_RANK_LEAF);
    lock_condition_init(&fs->quiet_over);
    lock_init(&fs->ino_lock, LOCK_RANK_FS_TABLE);
    lock_init(&fs->departed_lock, LOCK_RANK_FS_TABLE);
    lock_init(&fs->rename_lock, LOCK_RANK_FS_RENAME);
}

static void destroy(struct fs *fs)
{
    snapshot_set_close(fs->snapshots);
    fs_atimes_free(fs->atimes);
    fs_versions_free(fs->versions);
    inode_table_free(fs->table);
    for (unsigned i = 0; i < FS_STRIPES; i++)
        lock_destroy(&fs->stripes[i]);
    lock_destroy(&fs->quiet_lock);
    pthread_cond_destroy(&fs->quiet_over);
    lock_destroy(&fs->ino_lock);
    lock_destroy(&fs->departed_lock);
    lock_destroy(&fs->rename_lock);
    free(fs->snapdir_name);
    free(fs);
}

static int open_parts(struct fs *fs)
{
    struct snapshot_options snapshot_options = {.views_max = fs->options.snapshot_views_max};
    const char *name = fs->options.snapdir_name;
    int error;

    if (name == NULL)
        name = SNAPDIR_NAME;
    error = snapshot_name_check(slice_of_string(name));
    if (error < 0)
        return error;
    fs->snapdir_name = strdup(name);
    fs->table = inode_table_new();
    if (getrandom(&fs->node_seed, sizeof fs->node_seed, 0) != (ssize_t)sizeof fs->node_seed)
        return -EIO;
    fs->atimes = fs_atimes_new();
    fs->versions = fs_versions_new(fs->options.versions_max);
    if (fs->snapdir_name == NULL || fs->table == NULL || fs->atimes == NULL || fs->versions == NULL)
        return -ENOMEM;
    fs->options.snapdir_name = fs->snapdir_name;
    error = snapshot_set_open(fs->engine, &snapshot_options, &fs->snapshots);
    if (error == 0)
        error = load(fs);
    if (error == 0 && !fs->read_only)
        error = fs_orphan_reap_all(fs);
    return error;
}

int fs_open(struct engine *engine, const struct fs_options *options, struct fs **ret_fs)
{
    struct fs *fs = calloc(1, sizeof *fs);
    int error;

    if (fs == NULL)
        return -ENOMEM;
    fs->engine = engine;
    fs->options = *options;
    fs->read_only = engine_is_read_only(engine);
    fs->opened = fs_now();
    fs_set_atime(fs, options->atime);
    fs_set_sync(fs, options->sync);
    init_locks(fs);
    error = open_parts(fs);
    if (error < 0) {
        destroy(fs);
        return error;
    }
    *ret_fs = fs;
    return 0;
}

/* ---- close ---- */

/* The numbers that were set aside and not given out are there for the next time. */
static void return_numbers(struct fs *fs)
{
    struct batch batch = {0};
    int error;

    if (fs->next_ino == fs->reserved_ino)
        return;
    put_superblock(&batch, fs->next_ino);
    error = engine_write(fs->engine, &batch, NULL);
    batch_free(&batch);
    if (error < 0)
        log_debug("inode numbers up to %" PRIu64 " stay unused: %s", fs->reserved_ino,
                  error_text(error));
}

void fs_close(struct fs *fs)
{
    if (fs == NULL)
        return;
    /* Nobody holds anything any more, whether or not the kernel said so one by one. */
    fs_departed_purge(fs, true);
    if (!fs->read_only && engine_latch_reason(fs->engine, NULL) == 0) {
        (void)fs_orphan_reap_all(fs);
        (void)fs_atime_flush(fs);
        return_numbers(fs);
    }
    destroy(fs);
}

/* ---- what it consists of ---- */

void fs_set_notify(struct fs *fs, const struct fs_notify *notify)
{
    fs->notify = *notify;
}

void fs_set_atime(struct fs *fs, unsigned atime)
{
    atomic_store_explicit(&fs->atime_options, atime, memory_order_relaxed);
}

void fs_set_sync(struct fs *fs, unsigned sync)
{
    atomic_store_explicit(&fs->sync_options, sync, memory_order_relaxed);
}

struct snapshot_set *fs_snapshots(struct fs *fs)
{
    return fs->snapshots;
}

struct engine *fs_engine(struct fs *fs)
{
    return fs->engine;
}

bool fs_read_only(const struct fs *fs)
{
    return fs->read_only;
}

int fs_set_read_only(struct fs *fs, bool read_only)
{
    int error = 0;

    if (fs->read_only == read_only)
        return 0;
    if (read_only) {
        (void)fs_atime_flush(fs);
        fs->read_only = true;
        error = engine_sync(fs->engine, engine_sequence(fs->engine));
    }
    if (error == 0)
        error = engine_set_read_only(fs->engine, read_only);
    if (error == 0 && !read_only) {
        fs->read_only = false;
        error = fs_orphan_reap_all(fs);
    }
    return error;
}

bool fs_refuses_changes(struct fs *fs)
{
    if (!fs->read_only)
        return false;
    if (fs->notify.is_writable == NULL || !fs->notify.is_writable(fs->notify.context) ||
        engine_set_read_only(fs->engine, false) < 0)
        return true;
    fs->read_only = false;
    return false;
}
