/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_cut.c - copies of a disk: as the next process sees it, as it is after the power went, as
 * files
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/disk_model_internal.h"
#include "tests/lib/seed.h"

#define STRANGE_CHANCE 40 /* of 256: a name leads to something of another kind */

/* ---- copies ---- */

static struct disk_inode *copy_inode(const struct disk_inode *from)
{
    struct disk_inode *to = disk_must(malloc(sizeof *to));

    *to = *from;
    to->handles = 0;
    to->is_locked = false;
    disk_content_copy(&from->content, &to->content);
    disk_content_copy(&from->durable, &to->durable);
    disk_names_copy(&from->names, &to->names);
    disk_names_copy(&from->durable_names, &to->durable_names);
    to->changes = disk_must(calloc(from->change_count + 1, sizeof *to->changes));
    to->change_room = from->change_count + 1;
    for (size_t i = 0; i < from->change_count; i++) {
        to->changes[i] = from->changes[i];
        atomic_fetch_add_explicit(&to->changes[i]->references, 1, memory_order_relaxed);
    }
    to->halves = disk_must(calloc(from->half_count + 1, sizeof *to->halves));
    to->half_room = from->half_count + 1;
    for (size_t i = 0; i < from->half_count; i++) {
        to->halves[i] = from->halves[i];
        to->halves[i].text = disk_must(strdup(from->halves[i].text));
    }
    return to;
}

struct disk_model *disk_model_clone_locked(struct disk_model *disk)
{
    struct disk_model *copy = disk_must(calloc(1, sizeof *copy));

    copy->base = disk_must(strdup(""));
    copy->options = disk->options;
    copy->next_number = disk->next_number;
    copy->inode_count = copy->inode_room = disk->inode_count;
    copy->inodes = disk_must(calloc(disk->inode_count, sizeof(struct disk_inode *)));
    for (size_t i = 0; i < disk->inode_count; i++)
        if (disk->inodes[i] != NULL)
            copy->inodes[i] = copy_inode(disk->inodes[i]);
    disk_collect(copy);
    disk_model_enlist(copy);
    return copy;
}

struct disk_model *disk_model_clone(struct disk_model *disk)
{
    struct disk_model *copy;

    pthread_mutex_lock(&disk->lock);
    copy = disk_model_clone_locked(disk);
    pthread_mutex_unlock(&disk->lock);
    return copy;
}

/* ---- what survives ---- */

enum cut_mode {
    CUT_NOTHING,    /* only what was promised */
    CUT_EVERYTHING, /* all of it */
    CUT_CHANGES,    /* each change by itself */
    CUT_SECTORS,    /* each sector by itself */
    CUT_INODES,     /* all or nothing of a file or directory */
    CUT_HORIZON,    /* what came before a moment */
    CUT_LATE,       /* what came after a moment */
    CUT_NAMES,      /* names, no data */
    CUT_DATA,       /* data by sectors, no names */
    CUT_NEARLY,     /* before a moment mostly, after it hardly */
    CUT_MODES,
};

struct cut {
    enum cut_mode mode;
    uint64_t seed;
    unsigned chance; /* of 256 */
    uint64_t horizon;
};

/* A number that is always the same for the same question. */
static unsigned cut_dice(const struct cut *cut, uint64_t first, uint64_t second)
{
    uint64_t state = cut->seed ^ (first * 0x9e3779b97f4a7c15u) ^ (second * 0xc2b2ae3d27d4eb4fu);

    return (unsigned)(seed_next(&state) & 0xff);
}

static bool cut_keeps(const struct cut *cut, uint64_t number, uint64_t part, size_t inode,
                      bool is_name)
{
    switch (cut->mode) {
    case CUT_NOTHING:
        return false;
    case CUT_EVERYTHING:
        return true;
    case CUT_CHANGES:
        return cut_dice(cut, number, 0) < cut->chance;
    case CUT_INODES:
        return cut_dice(cut, is_name ? number : inode, 1) < cut->chance;
    case CUT_HORIZON:
        return number < cut->horizon;
    case CUT_LATE:
        return number >= cut->horizon;
    case CUT_NAMES:
        return is_name;
    case CUT_DATA:
        return !is_name && cut_dice(cut, number, part + 1) < cut->chance;
    case CUT_NEARLY:
        return cut_dice(cut, number, part + 1) < (number < cut->horizon ? 240u : 16u);
    case CUT_SECTORS:
    default:
        return cut_dice(cut, number, is_name ? 0 : part + 1) < cut->chance;
    }
}

static void apply_write(const struct cut *cut, struct disk_inode *inode, size_t index,
                        const struct disk_change *change)
{
    uint64_t old_size = inode->durable.size_bytes;
    uint64_t end = change->offset + change->size;
    uint64_t kept_end = 0, at = change->offset;

    while (at < end) {
        uint64_t next = (at / DISK_SECTOR_SIZE + 1) * DISK_SECTOR_SIZE;

        if (next > end)
            next = end;
        if (cut_keeps(cut, change->number, at / DISK_SECTOR_SIZE, index, false)) {
            disk_content_write(&inode->durable, change->data + (at - change->offset),
                               (size_t)(next - at), at);
            kept_end = next;
        }
        at = next;
    }
    /* The size is another thing than the data. */
    if (kept_end > old_size && cut->mode >= CUT_CHANGES && cut->mode != CUT_HORIZON &&
        cut_dice(cut, change->number, 0x51) < 64)
        disk_content_resize(&inode->durable, old_size);
    else if (end > inode->durable.size_bytes && cut->mode >= CUT_CHANGES &&
             cut->mode != CUT_HORIZON && cut_dice(cut, change->number, 0x52) < 64)
        disk_content_resize(&inode->durable, end);
}

/* Is only this end of the rename still to come to the disk? */
static bool is_last_end(const struct disk_model *disk, const struct disk_half *end)
{
    for (size_t i = 0; i < disk->inode_count; i++)
        for (size_t j = 0; disk->inodes[i] != NULL && j < disk->inodes[i]->half_count; j++)
            if (&disk->inodes[i]->halves[j] != end &&
                disk->inodes[i]->halves[j].group == end->group)
                return false;
    return true;
}

/* The directory that a file left was synced, the one that it came to was not: it has lost a name, but
 * its count stands. (Of one that is in both it is taken to have two.) Before any half is dropped. */
static void settle_halves(const struct cut *cut, struct disk_model *disk, size_t index)
{
    const struct disk_inode *directory = disk->inodes[index];

    for (size_t i = 0; i < directory->half_count; i++) {
        const struct disk_half *half = &directory->halves[i];

        if (half->is_arrival && disk->inodes[half->inode] != NULL &&
            !cut_keeps(cut, half->group, 0, index, true) && is_last_end(disk, half))
            disk->inodes[half->inode]->halved++;
    }
}

static void settle_inode(const struct cut *cut, struct disk_inode *inode, size_t index)
{
    for (size_t i = 0; i < inode->change_count; i++) {
        const struct disk_change *change = inode->changes[i];

        if (change->kind == DISK_CHANGE_WRITE)
            apply_write(cut, inode, index, change);
        else if (cut_keeps(cut, change->number, 0, index, false))
            disk_content_resize(&inode->durable, change->offset);
    }
    for (size_t i = 0; i < inode->half_count; i++)
        if (cut_keeps(cut, inode->halves[i].group, 0, index, true))
            disk_names_set(&inode->durable_names, inode->halves[i].text, inode->halves[i].inode,
                           inode->halves[i].linked);
    if (cut->mode == CUT_EVERYTHING || (cut->mode != CUT_NOTHING && cut_dice(cut, index, 2) < 128))
        inode->durable_mode = inode->mode;
    disk_inode_drop_changes(inode);
    disk_content_free(&inode->content);
    disk_content_copy(&inode->durable, &inode->content);
    disk_names_free(&inode->names);
    disk_names_copy(&inode->durable_names, &inode->names);
    inode->mode = inode->durable_mode;
}

static void take_name(struct disk_inode *directory, const char *text)
{
    disk_names_set(&directory->durable_names, text, DISK_NOTHING, 0);
    disk_names_set(&directory->names, text, DISK_NOTHING, 0);
}

/* The disk has in its place what the inode was used for before or after: of the other kind. */
static void settle_strange(const struct cut *cut, struct disk_inode *inode, size_t index)
{
    if (cut->mode == CUT_NOTHING || cut_dice(cut, index, 5) >= STRANGE_CHANCE)
        return;
    inode->is_directory = !inode->is_directory;
    inode->mode = inode->durable_mode = (inode->is_directory ? 0700 : 0600) | DISK_STRANGE;
    disk_content_free(&inode->content);
    disk_content_free(&inode->durable);
    disk_names_free(&inode->names);
    disk_names_free(&inode->durable_names);
    inode->was_synced = true;
}

/* Names of what never reached the disk itself: nobody can follow them, and a check removes them. */
static void settle_newcomers(const struct cut *cut, struct disk_model *disk, const bool *is_free)
{
    for (size_t i = 1; i < disk->inode_count; i++) /* [0] is the root */
        if (disk->inodes[i] != NULL && (is_free[i] || !disk->inodes[i]->was_synced))
            settle_strange(cut, disk->inodes[i], i);
    for (size_t i = 0; i < disk->inode_count; i++) {
        struct disk_inode *directory = disk->inodes[i];

        for (size_t j = 0; directory != NULL && j < directory->names.count;) {
            struct disk_name *name = &directory->names.names[j];

            if (disk->inodes[name->inode]->was_synced ||
                (cut->mode != CUT_NOTHING && cut_dice(cut, name->inode, 4) < 128)) {
                j++;
                continue;
            }
            take_name(directory, name->text);
        }
    }
}

/* Which inodes have no name any more, but for one that the disk may still have. */
static bool *find_free(const struct disk_model *disk)
{
    bool *is_free = disk_must(calloc(disk->inode_count, sizeof *is_free));

    for (size_t i = 1; i < disk->inode_count; i++) /* [0] is the root */
        is_free[i] = disk->inodes[i] != NULL;
    for (size_t i = 0; i < disk->inode_count; i++)
        for (size_t j = 0; disk->inodes[i] != NULL && j < disk->inodes[i]->names.count; j++)
            is_free[disk->inodes[i]->names.names[j].inode] = false;
    return is_free;
}

/* A directory of which both ends of a rename came to the disk: a check leaves it one name. */
static void settle_double(const struct cut *cut, struct disk_model *disk, size_t index)
{
    struct disk_inode *first = NULL;
    const char *first_text = NULL;

    for (size_t i = 0; i < disk->inode_count; i++) {
        struct disk_inode *directory = disk->inodes[i];

        for (size_t j = 0; directory != NULL && j < directory->names.count; j++) {
            if (directory->names.names[j].inode != index)
                continue;
            if (first == NULL) {
                first = directory;
                first_text = directory->names.names[j].text;
            } else if (cut_dice(cut, index, 5) < 128) {
                take_name(directory, directory->names.names[j].text);
                return;
            } else {
                take_name(first, first_text);
                return;
            }
        }
    }
}

/* Names of the inode, and those of them whose link no sync of the file covered. */
static unsigned count_names(const struct disk_model *disk, size_t index, unsigned *ret_unsynced)
{
    unsigned count = 0;

    *ret_unsynced = 0;
    for (size_t i = 0; i < disk->inode_count; i++) {
        const struct disk_inode *directory = disk->inodes[i];

        for (size_t j = 0; directory != NULL && j < directory->names.count; j++) {
            if (directory->names.names[j].inode != index)
                continue;
            count++;
            *ret_unsynced +=
                directory->names.names[j].linked >= disk->inodes[index]->links_synced &&
                directory->names.names[j].linked > 0;
        }
    }
    return count;
}

/* As many as there are names, or fewer by those links that no sync of the file covered. A count
 * that was lowered goes to the disk together with the removal of the name. */
static void settle_links(const struct cut *cut, struct disk_model *disk, size_t index)
{
    struct disk_inode *inode = disk->inodes[index];
    unsigned missing, names = count_names(disk, index, &missing);

    if (inode->is_directory) {
        if (names > 0)
            inode->links = 2; /* also of one whose removal the disk does not know */
        return;
    }
    if (disk->options.is_checked) {
        inode->links = names;
        inode->links_synced = disk->next_number;
        return;
    }
    if (cut->mode == CUT_EVERYTHING || (cut->mode != CUT_NOTHING && cut_dice(cut, index, 3) < 128))
        missing = 0;
    if (inode->deficit >= (int)(names + inode->halved))
        inode->links = 0;
    else
        inode->links = (unsigned)((int)(names + inode->halved) - inode->deficit);
    if (inode->links > 0)
        inode->links = missing < inode->links ? inode->links - missing : 1;
    inode->links_synced = disk->next_number;
}

/* Once names in lost directories are gone, whose counts nobody lowers. */
static void settle_deficit(struct disk_model *disk, size_t index)
{
    struct disk_inode *inode = disk->inodes[index];
    unsigned unsynced, names = count_names(disk, index, &unsynced);

    if (inode->is_directory)
        return;
    inode->deficit = (int)names - (int)inode->links;
    inode->is_destroyed = names > 0 && inode->links == 0;
}

static struct cut cut_of(const struct disk_model *disk, uint64_t seed)
{
    uint64_t oldest = disk->next_number, span;
    struct cut cut = {.mode = CUT_NOTHING, .seed = seed};

    if (seed <= 1) {
        cut.mode = seed == 0 ? CUT_NOTHING : CUT_EVERYTHING;
        return cut;
    }
    for (size_t i = 0; i < disk->inode_count; i++) {
        const struct disk_inode *inode = disk->inodes[i];

        if (inode != NULL && inode->change_count > 0 && inode->changes[0]->number < oldest)
            oldest = inode->changes[0]->number;
        if (inode != NULL && inode->half_count > 0 && inode->halves[0].number < oldest)
            oldest = inode->halves[0].number;
    }
    span = disk->next_number - oldest + 1;
    cut.mode = CUT_CHANGES + (enum cut_mode)(seed_next(&seed) % (CUT_MODES - CUT_CHANGES));
    cut.chance = (unsigned)(seed_next(&seed) % 5) * 56 + 16;
    cut.horizon = oldest + seed_next(&seed) % span;
    return cut;
}

struct disk_model *disk_model_cut(struct disk_model *disk, uint64_t seed)
{
    struct disk_model *image = disk_model_clone(disk);
    struct cut cut = cut_of(image, seed);
    bool *is_free = find_free(image);

    for (size_t i = 0; i < image->inode_count; i++)
        if (image->inodes[i] != NULL)
            image->inodes[i]->halved = 0;
    for (size_t i = 0; i < image->inode_count; i++)
        if (image->inodes[i] != NULL)
            settle_halves(&cut, image, i);
    for (size_t i = 0; i < image->inode_count; i++)
        if (image->inodes[i] != NULL)
            settle_inode(&cut, image->inodes[i], i);
    if (image->options.is_checked && cut.mode != CUT_EVERYTHING)
        settle_newcomers(&cut, image, is_free);
    free(is_free);
    for (size_t i = 0; image->options.is_checked && i < image->inode_count; i++)
        if (image->inodes[i] != NULL && image->inodes[i]->is_directory)
            settle_double(&cut, image, i);
    for (size_t i = 0; i < image->inode_count; i++)
        if (image->inodes[i] != NULL)
            image->inodes[i]->was_synced = true; /* all that is left is on the disk */
    for (size_t i = 0; i < image->inode_count; i++)
        if (image->inodes[i] != NULL)
            settle_links(&cut, image, i);
    disk_collect(image);
    for (size_t i = 0; i < image->inode_count; i++)
        if (image->inodes[i] != NULL)
            settle_deficit(image, i);
    return image;
}

/* ---- real files ---- */

static void write_real(const char *path, const void *data, size_t size, mode_t mode)
{
    int descriptor;

    (void)unlink(path);
    descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (descriptor < 0 || write(descriptor, data, size) != (ssize_t)size ||
        fchmod(descriptor, mode) != 0) {
        fprintf(stderr, "disk model: cannot write %s: %s\n", path, strerror(errno));
        abort();
    }
    close(descriptor);
}

static void make_real_directory(const char *path)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        fprintf(stderr, "disk model: cannot make %s: %s\n", path, strerror(errno));
        abort();
    }
}

static void export_directory(const struct disk_model *disk, const struct disk_inode *directory,
                             const char *path)
{
    make_real_directory(path);
    for (size_t i = 0; i < directory->names.count; i++) {
        const struct disk_inode *inode = disk->inodes[directory->names.names[i].inode];
        char below[4096];

        if (snprintf(below, sizeof below, "%s/%s", path, directory->names.names[i].text) >=
            (int)sizeof below)
            abort();
        if (inode->is_directory) {
            export_directory(disk, inode, below);
        } else {
            size_t size = (size_t)inode->content.size_bytes;
            uint8_t *data = disk_must(malloc(size + 1));

            (void)disk_content_read(&inode->content, data, size, 0);
            write_real(below, data, size, inode->mode);
            free(data);
        }
    }
}

void disk_model_export(struct disk_model *disk, const char *directory)
{
    export_directory(disk, disk->inodes[0], directory);
}
