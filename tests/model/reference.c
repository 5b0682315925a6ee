/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reference.c - the filesystem as it should be
 */
#include "tests/model/reference.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- objects ---- */

static void *copy_of(const void *data, size_t size)
{
    void *copy = malloc(size > 0 ? size : 1);

    assert(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

struct reference_inode *reference_inode_ref(struct reference_inode *inode)
{
    inode->references++;
    return inode;
}

void reference_inode_unref(struct reference_inode *inode)
{
    if (inode == NULL || --inode->references > 0)
        return;
    for (unsigned i = 0; i < inode->xattr_count; i++) {
        free(inode->xattrs[i].name);
        free(inode->xattrs[i].value);
    }
    for (unsigned i = 0; i < inode->name_count; i++)
        free(inode->names[i].name);
    free(inode->bytes);
    free(inode->mapped);
    free(inode->target);
    free(inode);
}

static struct reference_inode *clone(const struct reference_inode *from)
{
    struct reference_inode *inode = copy_of(from, sizeof *from);

    inode->references = 1;
    if (from->bytes != NULL) {
        inode->bytes = copy_of(from->bytes, REFERENCE_SIZE_MAX);
        inode->mapped = copy_of(from->mapped, REFERENCE_SIZE_MAX);
    }
    if (from->target != NULL)
        inode->target = strdup(from->target);
    for (unsigned i = 0; i < from->xattr_count; i++) {
        inode->xattrs[i].name = strdup(from->xattrs[i].name);
        inode->xattrs[i].value = copy_of(from->xattrs[i].value, from->xattrs[i].size);
    }
    for (unsigned i = 0; i < from->name_count; i++)
        inode->names[i].name = strdup(from->names[i].name);
    return inode;
}

struct reference_inode *reference_edit(struct reference *reference, unsigned index)
{
    struct reference_inode *inode = reference->live.inodes[index];

    assert(inode != NULL);
    if (inode->references > 1) {
        struct reference_inode *own = clone(inode);

        reference_inode_unref(inode);
        reference->live.inodes[index] = own;
        return own;
    }
    return inode;
}

unsigned reference_new(struct reference *reference, mode_t mode)
{
    struct reference_inode *inode;

    for (unsigned i = 0; i < REFERENCE_INODES; i++) {
        if (reference->live.inodes[i] != NULL)
            continue;
        inode = calloc(1, sizeof *inode);
        assert(inode != NULL);
        inode->references = 1;
        inode->mode = mode;
        if (S_ISREG(mode)) {
            inode->bytes = calloc(1, REFERENCE_SIZE_MAX);
            inode->mapped = calloc(1, REFERENCE_SIZE_MAX);
        }
        reference->live.inodes[i] = inode;
        return i;
    }
    return REFERENCE_INODES;
}

void reference_drop(struct reference *reference, unsigned index)
{
    reference_inode_unref(reference->live.inodes[index]);
    reference->live.inodes[index] = NULL;
}

static void state_free(struct reference_state *state)
{
    for (unsigned i = 0; i < REFERENCE_INODES; i++)
        reference_inode_unref(state->inodes[i]);
    memset(state, 0, sizeof *state);
}

void reference_free(struct reference *reference)
{
    state_free(&reference->live);
    while (reference->snapshot_count > 0)
        reference_snapshot_delete(reference, 0);
}

/* ---- directories ---- */

int reference_find(const struct reference_inode *directory, const char *name)
{
    for (unsigned i = 0; i < directory->name_count; i++)
        if (strcmp(directory->names[i].name, name) == 0)
            return (int)i;
    return -1;
}

void reference_add_name(struct reference *reference, unsigned directory, const char *name,
                        unsigned index)
{
    struct reference_inode *inode = reference_edit(reference, directory);

    assert(inode->name_count < REFERENCE_NAMES && reference_find(inode, name) < 0);
    inode->names[inode->name_count++] = (struct reference_name){strdup(name), index};
    if (S_ISDIR(reference->live.inodes[index]->mode))
        reference_edit(reference, index)->parent = directory;
}

void reference_remove_name(struct reference *reference, unsigned directory, const char *name)
{
    struct reference_inode *inode = reference_edit(reference, directory);
    int position = reference_find(inode, name);

    assert(position >= 0);
    free(inode->names[position].name);
    inode->names[position] = inode->names[--inode->name_count];
}

unsigned reference_directories_in(const struct reference_state *state,
                                  const struct reference_inode *directory)
{
    unsigned count = 0;

    for (unsigned i = 0; i < directory->name_count; i++)
        count += S_ISDIR(state->inodes[directory->names[i].index]->mode);
    return count;
}

bool reference_within(const struct reference_state *state, unsigned index, unsigned under)
{
    while (index != under && index != REFERENCE_ROOT)
        index = state->inodes[index]->parent;
    return index == under;
}

bool reference_locate(const struct reference_state *state, unsigned index, unsigned *ret_directory,
                      const char **ret_name)
{
    for (unsigned i = 0; i < REFERENCE_INODES; i++) {
        const struct reference_inode *directory = state->inodes[i];

        for (unsigned n = 0; directory != NULL && n < directory->name_count; n++) {
            if (directory->names[n].index == index) {
                *ret_directory = i;
                *ret_name = directory->names[n].name;
                return true;
            }
        }
    }
    return false;
}

/* ---- data ---- */

void reference_resize(struct reference_inode *inode, size_t size)
{
    assert(size <= REFERENCE_SIZE_MAX);
    if (size < inode->size)
        reference_punch(inode, size, inode->size);
    inode->size = size;
}

void reference_write(struct reference_inode *inode, const uint8_t *data, size_t size, size_t offset)
{
    assert(offset + size <= REFERENCE_SIZE_MAX);
    memcpy(inode->bytes + offset, data, size);
    memset(inode->mapped + offset, 1, size);
    if (offset + size > inode->size)
        inode->size = offset + size;
}

void reference_punch(struct reference_inode *inode, size_t start, size_t end)
{
    memset(inode->bytes + start, 0, end - start);
    memset(inode->mapped + start, 0, end - start);
}

void reference_copy(const struct reference_inode *from, size_t from_offset,
                    struct reference_inode *to, size_t to_offset, size_t size)
{
    assert(to_offset + size <= REFERENCE_SIZE_MAX && from_offset + size <= from->size);
    memmove(to->bytes + to_offset, from->bytes + from_offset, size);
    memmove(to->mapped + to_offset, from->mapped + from_offset, size);
    if (to_offset + size > to->size)
        to->size = to_offset + size;
}

size_t reference_mapped(const struct reference_inode *inode)
{
    size_t count = 0;

    for (size_t i = 0; i < inode->size; i++)
        count += inode->mapped[i];
    return count;
}

/* ---- xattrs ---- */

int reference_find_xattr(const struct reference_inode *inode, const char *name)
{
    for (unsigned i = 0; i < inode->xattr_count; i++)
        if (strcmp(inode->xattrs[i].name, name) == 0)
            return (int)i;
    return -1;
}

void reference_set_xattr(struct reference_inode *inode, const char *name, const uint8_t *value,
                         size_t size)
{
    int position = reference_find_xattr(inode, name);

    if (position < 0) {
        assert(inode->xattr_count < REFERENCE_XATTRS);
        position = (int)inode->xattr_count++;
        inode->xattrs[position] = (struct reference_xattr){strdup(name), NULL, 0};
    }
    free(inode->xattrs[position].value);
    inode->xattrs[position].value = copy_of(value, size);
    inode->xattrs[position].size = size;
}

void reference_remove_xattr(struct reference_inode *inode, const char *name)
{
    int position = reference_find_xattr(inode, name);

    assert(position >= 0);
    free(inode->xattrs[position].name);
    free(inode->xattrs[position].value);
    inode->xattrs[position] = inode->xattrs[--inode->xattr_count];
}

/* ---- snapshots ---- */

void reference_snapshot_create(struct reference *reference, const char *name)
{
    struct reference_snapshot *snapshot = &reference->snapshots[reference->snapshot_count++];

    assert(reference->snapshot_count <= REFERENCE_SNAPSHOTS);
    snapshot->name = strcpy(malloc(256), name);
    for (unsigned i = 0; i < REFERENCE_INODES; i++) {
        struct reference_inode *inode = reference->live.inodes[i];

        snapshot->state.inodes[i] = inode != NULL ? reference_inode_ref(inode) : NULL;
    }
}

int reference_snapshot_find(const struct reference *reference, const char *name)
{
    for (unsigned i = 0; i < reference->snapshot_count; i++)
        if (strcmp(reference->snapshots[i].name, name) == 0)
            return (int)i;
    return -1;
}

void reference_snapshot_delete(struct reference *reference, unsigned position)
{
    struct reference_snapshot *snapshot = &reference->snapshots[position];

    free(snapshot->name);
    state_free(&snapshot->state);
    reference->snapshot_count--;
    memmove(snapshot, snapshot + 1, (reference->snapshot_count - position) * sizeof *snapshot);
}

unsigned reference_snapshot_holders(const struct reference *reference,
                                    const struct reference_inode *inode, unsigned index)
{
    unsigned count = 0;

    for (unsigned i = 0; i < reference->snapshot_count; i++)
        count += reference->snapshots[i].state.inodes[index] == inode;
    return count;
}
