/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_damage.c - files of a store removed, overwritten, added
 */
#include "tests/lib/crash_damage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/name_list.h"
#include "engine/chunk_format.h"
#include "engine/manifest.h"
#include "engine/store.h"
#include "tests/lib/seed.h"

#define MAP_BYTES (1 << 20)
/* wal/SYNCED: docs/on-disk-format.md */
#define WITNESS_AT_SEQUENCE 32
#define WITNESS_AT_CHECKSUM 40
#define WITNESS_SIZE        48

struct damage {
    struct io *io;
    const char *store;
    uint64_t seed;
};

static void require(int result)
{
    if (result < 0)
        abort();
}

static struct io_file *open_directory(const struct damage *damage, const char *name)
{
    struct io_file *directory;
    char path[4400];

    snprintf(path, sizeof path, "%.4000s/%s", damage->store, name);
    require(io_open_root(damage->io, path, &directory));
    return directory;
}

static void list_directory(const struct damage *damage, const char *name, struct name_list *list)
{
    struct io_file *directory = open_directory(damage, name);

    *list = (struct name_list){0};
    require(io_list(damage->io, directory, name_list_add, list));
    io_close(damage->io, directory);
}

/* ---- chunks ---- */

struct chunk_name {
    char directory[300], name[CHUNK_NAME_SIZE];
    ino_t inode;
    nlink_t links;
    bool is_gone;
};

struct chunk_names {
    struct chunk_name *list;
    size_t count;
};

static void add_names(const struct damage *damage, const char *directory, struct chunk_names *names)
{
    struct io_file *chunks = open_directory(damage, directory);
    struct name_list list;

    list_directory(damage, directory, &list);
    names->list = realloc(names->list, (names->count + list.count + 1) * sizeof *names->list);
    if (names->list == NULL)
        abort();
    for (size_t i = 0; i < list.count; i++) {
        struct chunk_name *name = &names->list[names->count];
        struct chunk_identity identity;
        struct stat status;
        bool sealed;

        if (!chunk_name_parse(list.names[i], &identity, &sealed) || !sealed ||
            io_stat_at(damage->io, chunks, list.names[i], &status) < 0 || S_ISDIR(status.st_mode))
            continue;
        *name = (struct chunk_name){.inode = status.st_ino, .links = status.st_nlink};
        snprintf(name->directory, sizeof name->directory, "%s", directory);
        snprintf(name->name, sizeof name->name, "%s", list.names[i]);
        names->count++;
    }
    name_list_free(&list);
    io_close(damage->io, chunks);
}

static void find_names(const struct damage *damage, struct chunk_names *names)
{
    struct name_list checkpoints;
    char directory[300];

    *names = (struct chunk_names){0};
    add_names(damage, "chunks", names);
    list_directory(damage, "checkpoints", &checkpoints);
    for (size_t i = 0; i < checkpoints.count; i++) {
        snprintf(directory, sizeof directory, "checkpoints/%.200s/chunks", checkpoints.names[i]);
        add_names(damage, directory, names);
    }
    name_list_free(&checkpoints);
}

/* Another directory has it, and no count that the disk has too low makes removing this one harm
 * that (R66). */
static bool may_go(const struct chunk_names *names, const struct chunk_name *name)
{
    size_t others = 0, same_file = 0;

    for (size_t i = 0; i < names->count; i++) {
        const struct chunk_name *other = &names->list[i];

        if (other->is_gone)
            continue;
        others += other != name && strcmp(other->name, name->name) == 0;
        same_file += other->inode == name->inode;
    }
    return others > 0 && same_file <= name->links;
}

static void lower_count(struct chunk_names *names, ino_t inode)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->list[i].inode == inode)
            names->list[i].links--;
}

/* A table of the live tree stays when its manifest goes: nothing would say that it belongs there. */
static void lose_chunks(struct damage *damage, bool keep_tables)
{
    struct chunk_names names;

    find_names(damage, &names);
    for (size_t i = 0; i < names.count; i++) {
        struct chunk_name *name = &names.list[i];
        bool is_live_table =
            strcmp(name->directory, "chunks") == 0 && strstr(name->name, ".tbl") != NULL;
        struct io_file *directory;

        if (!may_go(&names, name) || (keep_tables && is_live_table) ||
            seed_below(&damage->seed, 3) == 0)
            continue;
        directory = open_directory(damage, name->directory);
        require(io_unlink(damage->io, directory, name->name));
        io_close(damage->io, directory);
        name->is_gone = true;
        lower_count(&names, name->inode);
    }
    free(names.list);
}

/* ---- strays ---- */

static void forget_snapshot(struct damage *damage)
{
    char path[4200];
    const struct manifest_options options = {.path = path, .map_size_bytes = MAP_BYTES};
    struct manifest_state state;
    struct manifest *manifest;

    snprintf(path, sizeof path, "%.4000s/manifest", damage->store);
    require(manifest_open(&options, &manifest));
    require(manifest_load(manifest, &state));
    if (state.checkpoint_count > 0) {
        size_t chosen = (size_t)seed_below(&damage->seed, state.checkpoint_count);
        const struct manifest_edit edit = {.remove_checkpoints = &state.checkpoints[chosen].id,
                                           .remove_checkpoint_count = 1};

        if (state.checkpoints[chosen].state == MANIFEST_CHECKPOINT_READY)
            require(manifest_commit(manifest, &edit));
    }
    manifest_state_free(&state);
    manifest_close(manifest);
}

static void make_directory(const struct damage *damage, const char *parent, const char *name)
{
    struct io_file *directory = open_directory(damage, parent);

    require(io_mkdir(damage->io, directory, name, 0700));
    io_close(damage->io, directory);
}

/* As a snapshot that was begun. */
static void add_half(struct damage *damage)
{
    struct io_file *from, *to;
    struct name_list list;

    make_directory(damage, "checkpoints", "half");
    make_directory(damage, "checkpoints/half", "chunks");
    from = open_directory(damage, "chunks");
    to = open_directory(damage, "checkpoints/half/chunks");
    list_directory(damage, "chunks", &list);
    for (size_t i = 0; i < list.count; i++) {
        int error = io_link(damage->io, from, list.names[i], to, list.names[i]);

        require(error == -EMLINK || error == -ESTALE || error == -EPERM ? 0 : error);
    }
    name_list_free(&list);
    io_close(damage->io, to);
    io_close(damage->io, from);
}

/* ---- the log ---- */

/* Nothing, where there was no sync window. */
static void promise_more(const struct damage *damage)
{
    struct io_file *wal = open_directory(damage, "wal"), *file;
    uint8_t bytes[WITNESS_SIZE];

    if (io_open(damage->io, wal, "SYNCED", IO_OPEN_WRITE, 0, &file) == 0) {
        if (io_read_exact(damage->io, file, bytes, sizeof bytes, 0) == 0) {
            put_le64(bytes + WITNESS_AT_SEQUENCE, get_le64(bytes + WITNESS_AT_SEQUENCE) + 1000);
            put_le64(bytes + WITNESS_AT_CHECKSUM, checksum64(bytes, WITNESS_AT_CHECKSUM));
            require(io_write(damage->io, file, bytes, sizeof bytes, 0));
        }
        io_close(damage->io, file);
    }
    io_close(damage->io, wal);
}

/* ---- the manifest ---- */

static void damage_file(struct damage *damage, struct io_file *manifest)
{
    struct io_file *file;
    struct stat status;
    uint64_t noise[8];
    size_t size;

    require(io_open(damage->io, manifest, "data.mdb", IO_OPEN_WRITE, 0, &file));
    require(io_stat(damage->io, file, &status));
    size = (size_t)status.st_size;
    if (seed_below(&damage->seed, 2) == 0) {
        require(io_truncate(damage->io, file, seed_below(&damage->seed, size)));
    } else {
        for (size_t i = 0; i < sizeof noise / sizeof *noise; i++)
            noise[i] = seed_next(&damage->seed);
        require(io_write(damage->io, file, noise, sizeof noise,
                         seed_below(&damage->seed, size - sizeof noise)));
    }
    io_close(damage->io, file);
}

static void lose_manifest(struct damage *damage)
{
    struct io_file *manifest = open_directory(damage, "manifest");
    unsigned how = (unsigned)seed_below(&damage->seed, 4);

    if (how > 1)
        damage_file(damage, manifest);
    else
        require(io_unlink(damage->io, manifest, "data.mdb"));
    io_close(damage->io, manifest);
    if (how == 0) {
        struct io_file *root = open_directory(damage, ".");

        require(store_remove_tree(damage->io, root, "manifest"));
        io_close(damage->io, root);
    }
}

void crash_damage_do(struct disk_model *disk, const char *store, unsigned what, uint64_t seed)
{
    struct damage damage = {.io = disk_model_io(disk), .store = store, .seed = seed};
    struct io_file *root;

    if ((what & CRASH_DAMAGE_CHUNKS) != 0)
        lose_chunks(&damage, (what & CRASH_DAMAGE_MANIFEST) != 0);
    if ((what & CRASH_DAMAGE_STRAYS) != 0) {
        forget_snapshot(&damage);
        add_half(&damage);
    }
    if ((what & CRASH_DAMAGE_LOG) != 0)
        promise_more(&damage);
    if ((what & CRASH_DAMAGE_MANIFEST) != 0)
        lose_manifest(&damage);
    root = open_directory(&damage, ".");
    require(io_sync_filesystem(damage.io, root));
    io_close(damage.io, root);
}
