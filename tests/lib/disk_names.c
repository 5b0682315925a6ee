/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_names.c - inodes and directories of the disk model, in the cache and on the disk
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/disk_model_internal.h"

void *disk_must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static void grow(void **array, size_t *room, size_t count, size_t element)
{
    if (count < *room)
        return;
    *room = *room * 2 + 8;
    *array = disk_must(realloc(*array, *room * element));
}

/* ---- names ---- */

size_t disk_names_find(const struct disk_names *names, const char *text)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->names[i].text, text) == 0)
            return names->names[i].inode;
    return DISK_NOTHING;
}

uint64_t disk_names_linked(const struct disk_names *names, const char *text)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->names[i].text, text) == 0)
            return names->names[i].linked;
    return 0;
}

void disk_names_set(struct disk_names *names, const char *text, size_t inode, uint64_t linked)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->names[i].text, text) != 0)
            continue;
        if (inode != DISK_NOTHING) {
            names->names[i].inode = inode;
            names->names[i].linked = linked;
        } else {
            free(names->names[i].text);
            names->names[i] = names->names[--names->count];
        }
        return;
    }
    if (inode == DISK_NOTHING)
        return;
    grow((void **)&names->names, &names->room, names->count, sizeof *names->names);
    names->names[names->count++] = (struct disk_name){disk_must(strdup(text)), inode, linked};
}

void disk_names_copy(const struct disk_names *from, struct disk_names *to)
{
    *to = (struct disk_names){.count = from->count, .room = from->count};
    if (from->count == 0)
        return;
    to->names = disk_must(calloc(from->count, sizeof *to->names));
    for (size_t i = 0; i < from->count; i++) {
        to->names[i] = from->names[i];
        to->names[i].text = disk_must(strdup(from->names[i].text));
    }
}

void disk_names_free(struct disk_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->names[i].text);
    free(names->names);
    *names = (struct disk_names){0};
}

/* ---- inodes ---- */

struct disk_inode *disk_inode_new(struct disk_model *disk, bool is_directory, mode_t mode,
                                  const char *label, size_t *ret_index)
{
    struct disk_inode *inode = disk_must(calloc(1, sizeof *inode));
    size_t index = 0;

    inode->is_used = true;
    inode->is_directory = is_directory;
    inode->mode = inode->durable_mode = mode;
    inode->links = is_directory ? 2 : 1;
    snprintf(inode->label, sizeof inode->label, "%s", label);
    while (index < disk->inode_count && disk->inodes[index] != NULL)
        index++;
    if (index == disk->inode_count) {
        grow((void **)&disk->inodes, &disk->inode_room, index, sizeof *disk->inodes);
        disk->inode_count++;
    }
    disk->inodes[index] = inode;
    *ret_index = index;
    return inode;
}

void disk_inode_free(struct disk_inode *inode)
{
    if (inode == NULL)
        return;
    disk_inode_drop_changes(inode);
    free(inode->changes);
    free(inode->halves);
    disk_content_free(&inode->content);
    disk_content_free(&inode->durable);
    disk_names_free(&inode->names);
    disk_names_free(&inode->durable_names);
    free(inode);
}

void disk_directory_set(struct disk_model *disk, struct disk_inode *directory, const char *text,
                        size_t inode, uint64_t linked, uint64_t group)
{
    disk_names_set(&directory->names, text, inode, linked);
    grow((void **)&directory->halves, &directory->half_room, directory->half_count,
         sizeof *directory->halves);
    directory->halves[directory->half_count++] = (struct disk_half){
        .text = disk_must(strdup(text)),
        .inode = inode,
        .linked = linked,
        .number = disk->next_number++,
        .group = group,
    };
}

void disk_change_unref(struct disk_change *change)
{
    if (atomic_fetch_sub_explicit(&change->references, 1, memory_order_acq_rel) == 1)
        free(change);
}

void disk_inode_change(struct disk_model *disk, struct disk_inode *inode,
                       enum disk_change_kind kind, const void *data, size_t size, uint64_t offset)
{
    struct disk_change *change = disk_must(malloc(sizeof *change + size));

    atomic_init(&change->references, 1);
    change->kind = kind;
    change->number = disk->next_number++;
    change->offset = offset;
    change->size = size;
    if (size > 0)
        memcpy(change->data, data, size);
    if (kind == DISK_CHANGE_WRITE)
        disk_content_write(&inode->content, data, size, offset);
    else
        disk_content_resize(&inode->content, offset);
    grow((void **)&inode->changes, &inode->change_room, inode->change_count,
         sizeof *inode->changes);
    inode->changes[inode->change_count++] = change;
}

void disk_inode_drop_changes(struct disk_inode *inode)
{
    for (size_t i = 0; i < inode->change_count; i++)
        disk_change_unref(inode->changes[i]);
    inode->change_count = 0;
    for (size_t i = 0; i < inode->half_count; i++)
        free(inode->halves[i].text);
    inode->half_count = 0;
}

void disk_inode_make_durable(struct disk_model *disk, struct disk_inode *inode, bool data_only)
{
    for (size_t i = 0; i < inode->change_count; i++) {
        const struct disk_change *change = inode->changes[i];

        if (change->kind == DISK_CHANGE_WRITE)
            disk_content_write(&inode->durable, change->data, change->size, change->offset);
        else
            disk_content_resize(&inode->durable, change->offset);
    }
    for (size_t i = 0; i < inode->half_count; i++)
        disk_names_set(&inode->durable_names, inode->halves[i].text, inode->halves[i].inode,
                       inode->halves[i].linked);
    disk_inode_drop_changes(inode);
    inode->was_synced = true;
    if (!data_only) {
        inode->durable_mode = inode->mode;
        inode->links_synced = disk->next_number;
    }
}

void disk_inode_set_durable(struct disk_inode *inode, const void *data, size_t size)
{
    disk_inode_drop_changes(inode);
    disk_content_set(&inode->content, data, size);
    disk_content_free(&inode->durable);
    disk_content_copy(&inode->content, &inode->durable);
    inode->was_synced = true;
}

/* ---- collecting ---- */

static void mark(struct disk_model *disk, bool *reached, size_t index)
{
    struct disk_inode *inode;

    if (index == DISK_NOTHING || reached[index])
        return;
    reached[index] = true;
    inode = disk->inodes[index];
    for (size_t i = 0; i < inode->names.count; i++)
        mark(disk, reached, inode->names.names[i].inode);
    for (size_t i = 0; i < inode->durable_names.count; i++)
        mark(disk, reached, inode->durable_names.names[i].inode);
    for (size_t i = 0; i < inode->half_count; i++)
        mark(disk, reached, inode->halves[i].inode);
}

void disk_collect(struct disk_model *disk)
{
    bool *reached = disk_must(calloc(disk->inode_count, sizeof *reached));

    mark(disk, reached, 0);
    for (size_t i = 0; i < disk->inode_count; i++)
        if (disk->inodes[i] != NULL && disk->inodes[i]->handles > 0)
            mark(disk, reached, i);
    for (size_t i = 0; i < disk->inode_count; i++) {
        if (reached[i] || disk->inodes[i] == NULL)
            continue;
        disk_inode_free(disk->inodes[i]);
        disk->inodes[i] = NULL;
    }
    free(reached);
    disk->removals = 0;
}
