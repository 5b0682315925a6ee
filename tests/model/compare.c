/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compare.c - is the filesystem what the reference says?
 */
#include "tests/model/compare.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/seed.h"

const char *compare_operation = "start";
uint64_t compare_operation_number;

void compare_expect(bool condition, const char *text, const char *file, int line)
{
    if (condition)
        return;
    fprintf(stderr, "%s:%d: operation %llu (%s): not true: %s\n", file, line,
            (unsigned long long)compare_operation_number, compare_operation, text);
    abort();
}

void compare_expect_equal(long long actual, long long wanted, const char *text, const char *file,
                          int line)
{
    if (actual == wanted)
        return;
    fprintf(stderr, "%s:%d: operation %llu (%s): %s is %lld, not %lld\n", file, line,
            (unsigned long long)compare_operation_number, compare_operation, text, actual, wanted);
    abort();
}

/* ---- one inode ---- */

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

void compare_attribute(const struct fs_attribute *attribute, const struct reference_inode *inode,
                       uint32_t nlink)
{
    expect_equal(attribute->mode, inode->mode);
    expect_equal(attribute->uid, inode->uid);
    expect_equal(attribute->gid, inode->gid);
    expect_equal(attribute->nlink, nlink);
    expect_equal(attribute->rdev, inode->rdev);
    if (S_ISDIR(inode->mode))
        expect_equal(attribute->size_bytes, inode->name_count);
    else if (S_ISLNK(inode->mode))
        expect_equal(attribute->size_bytes, strlen(inode->target));
    else
        expect_equal(attribute->size_bytes, inode->size);
    expect(same_time(&attribute->atime, &inode->atime));
    expect(same_time(&attribute->mtime, &inode->mtime));
    expect(same_time(&attribute->ctime, &inode->ctime));
    expect(same_time(&attribute->btime, &inode->btime));
    if (S_ISREG(inode->mode))
        expect_equal(attribute->blocks_512, (reference_mapped(inode) + 4095) / 4096 * 8);
}

/* Is any byte of the block mapped that holds `offset`? */
static bool is_block_mapped(const struct reference_inode *inode, size_t offset)
{
    size_t start = offset - offset % FS_BLOCK_SIZE;

    for (size_t i = start; i < start + FS_BLOCK_SIZE && i < inode->size; i++) {
        if (inode->mapped[i])
            return true;
    }
    return false;
}

static void compare_holes(struct fs *fs, uint64_t node, uint64_t handle,
                          const struct reference_inode *inode)
{
    size_t offset = 0;

    while (offset < inode->size) {
        bool mapped = is_block_mapped(inode, offset);
        size_t end = offset;
        int64_t data = fs_seek(fs, node, handle, offset, SEEK_DATA);
        int64_t hole = fs_seek(fs, node, handle, offset, SEEK_HOLE);

        while (end < inode->size && is_block_mapped(inode, end) == mapped)
            end += FS_BLOCK_SIZE;
        if (end > inode->size)
            end = inode->size;
        if (mapped) {
            expect_equal(data, offset);
            expect_equal(hole, end);
        } else {
            expect_equal(data, end == inode->size ? -ENXIO : (int64_t)end);
            expect_equal(hole, offset);
        }
        offset = end;
    }
    expect_equal(fs_seek(fs, node, handle, inode->size, SEEK_DATA), -ENXIO);
    expect_equal(fs_seek(fs, node, handle, inode->size, SEEK_HOLE), -ENXIO);
}

void compare_data(struct fs *fs, uint64_t node, uint64_t handle,
                  const struct reference_inode *inode, uint64_t *random)
{
    static uint8_t bytes[REFERENCE_SIZE_MAX + 1];
    size_t offset = 0;

    while (offset < inode->size) {
        size_t most = seed_below(random, 3) == 0 ? 5000 : sizeof bytes;
        size_t size = 1 + seed_below(random, most), left = inode->size - offset;
        size_t wanted = size < left ? size : left;

        memset(bytes, 0xee, wanted);
        expect_equal(fs_read(fs, node, handle, bytes, size, offset), wanted);
        expect(memcmp(bytes, inode->bytes + offset, wanted) == 0);
        offset += wanted;
    }
    expect_equal(fs_read(fs, node, handle, bytes, 10, inode->size), 0);
    compare_holes(fs, node, handle, inode);
}

static void compare_xattrs(struct fs *fs, uint64_t node, const struct reference_inode *inode)
{
    uint8_t value[4096];
    char list[4096];
    int64_t size = fs_listxattr(fs, node, true, list, sizeof list);
    unsigned count = 0;

    expect(size >= 0);
    expect_equal(fs_listxattr(fs, node, true, NULL, 0), size);
    for (const char *name = list; name < list + size; name += strlen(name) + 1) {
        expect(reference_find_xattr(inode, name) >= 0);
        count++;
    }
    expect_equal(count, inode->xattr_count);
    for (unsigned i = 0; i < inode->xattr_count; i++) {
        const struct reference_xattr *xattr = &inode->xattrs[i];

        expect_equal(fs_getxattr(fs, node, xattr->name, value, sizeof value), xattr->size);
        expect(memcmp(value, xattr->value, xattr->size) == 0);
    }
    expect_equal(fs_getxattr(fs, node, "user.absent", value, sizeof value), -ENODATA);
}

static void compare_target(struct fs *fs, uint64_t node, const struct reference_inode *inode)
{
    struct buffer target = {.data = NULL};

    expect_equal(fs_readlink(fs, node, &target), 0);
    expect_equal(target.size, strlen(inode->target));
    expect(memcmp(target.data, inode->target, target.size) == 0);
    buffer_free(&target);
}

/* ---- directories ---- */

struct listing {
    struct fs *fs;
    const struct reference_state *state;
    const struct reference_inode *directory;
    bool seen[REFERENCE_NAMES];
    unsigned count, dots, room;
    uint64_t cookie;
    bool plus;
};

static int take_entry(void *context, const struct fs_directory_entry *entry)
{
    struct listing *listing = context;
    char name[256];
    int position;

    if (listing->room == 0)
        return 1;
    listing->room--;
    expect(entry->cookie > listing->cookie);
    listing->cookie = entry->cookie;
    memcpy(name, entry->name, entry->name_size);
    name[entry->name_size] = '\0';
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        listing->dots++;
        return 0;
    }
    position = reference_find(listing->directory, name);
    expect(position >= 0);
    expect(!listing->seen[position]);
    listing->seen[position] = true;
    listing->count++;
    expect_equal(entry->type,
                 listing->state->inodes[listing->directory->names[position].index]->mode & S_IFMT);
    expect(!listing->plus || entry->entry != NULL);
    if (entry->entry != NULL) {
        expect_equal(entry->entry->attribute.number, entry->number);
        fs_forget(listing->fs, entry->entry->attribute.node, 1);
    }
    return 0;
}

static void compare_listing(struct fs *fs, uint64_t node, const struct reference_state *state,
                            const struct reference_inode *directory, uint64_t *random)
{
    struct listing listing = {.fs = fs, .state = state, .directory = directory};
    struct fs_directory *stream;
    unsigned before;

    expect_equal(fs_directory_open(fs, node, &stream), 0);
    do {
        listing.plus = seed_below(random, 2) == 0;
        listing.room = 1 + (unsigned)seed_below(random, 20);
        before = listing.count + listing.dots;
        expect_equal(fs_readdir(stream, listing.cookie, listing.plus, take_entry, &listing), 0);
    } while (listing.count + listing.dots > before);
    fs_directory_close(stream);
    expect_equal(listing.count, directory->name_count);
    expect_equal(listing.dots, 2);
}

/* ---- trees ---- */

/* Which object each file node of snapshots stood for, and the other way round. */
#define IDENTITIES_MAX (REFERENCE_INODES * REFERENCE_SNAPSHOTS)

struct identities {
    const struct reference_inode *objects[IDENTITIES_MAX];
    uint64_t nodes[IDENTITIES_MAX];
    unsigned count;
};

struct walk {
    struct fs *fs;
    const struct reference *reference; /* NULL: the live tree */
    const struct reference_state *state;
    struct identities *identities;
    uint64_t *random;
};

static void check_identity(struct identities *identities, const struct reference_inode *inode,
                           uint64_t node)
{
    /* a directory is another inode in each snapshot, unchanged or not */
    for (unsigned i = 0; i < identities->count; i++) {
        if (S_ISDIR(inode->mode)) {
            expect(identities->nodes[i] != node);
        } else if (identities->objects[i] == inode || identities->nodes[i] == node) {
            expect(identities->objects[i] == inode && identities->nodes[i] == node);
            return;
        }
    }
    identities->objects[identities->count] = inode;
    identities->nodes[identities->count++] = node;
}

static uint32_t wanted_links(const struct walk *walk, const struct reference_inode *inode,
                             unsigned index)
{
    if (S_ISDIR(inode->mode))
        return 2 + reference_directories_in(walk->state, inode);
    if (walk->reference == NULL)
        return inode->nlink;
    return inode->nlink * reference_snapshot_holders(walk->reference, inode, index);
}

static void compare_tree(const struct walk *walk, const struct fs_attribute *attribute,
                         unsigned index)
{
    const struct reference_inode *inode = walk->state->inodes[index];
    uint64_t node = attribute->node;
    struct fs_entry entry;

    compare_attribute(attribute, inode, wanted_links(walk, inode, index));
    if (walk->identities == NULL)
        expect_equal(node, inode->node);
    else
        check_identity(walk->identities, inode, node);
    compare_xattrs(walk->fs, node, inode);
    if (S_ISREG(inode->mode))
        compare_data(walk->fs, node, 0, inode, walk->random);
    if (S_ISLNK(inode->mode))
        compare_target(walk->fs, node, inode);
    if (!S_ISDIR(inode->mode))
        return;
    compare_listing(walk->fs, node, walk->state, inode, walk->random);
    for (unsigned i = 0; i < inode->name_count; i++) {
        expect_equal(fs_lookup(walk->fs, node, inode->names[i].name, &entry), 0);
        compare_tree(walk, &entry.attribute, inode->names[i].index);
        fs_forget(walk->fs, entry.attribute.node, 1);
    }
    expect_equal(fs_lookup(walk->fs, node, "never there", &entry), -ENOENT);
}

void compare_live(struct fs *fs, const struct reference *reference, uint64_t *random)
{
    struct walk walk = {.fs = fs, .state = &reference->live, .random = random};
    struct fs_entry entry;

    expect_equal(fs_getattr(fs, FS_ROOT, &entry), 0);
    compare_tree(&walk, &entry.attribute, REFERENCE_ROOT);
}

uint64_t compare_snapshots_node(struct fs *fs)
{
    struct fs_entry entry;

    expect_equal(fs_lookup(fs, FS_ROOT, ".snapshots", &entry), 0);
    fs_forget(fs, entry.attribute.node, 1);
    return entry.attribute.node;
}

static int count_entry(void *context, const struct fs_directory_entry *entry)
{
    (void)entry;
    ++*(unsigned *)context;
    return 0;
}

void compare_snapshots(struct fs *fs, const struct reference *reference, uint64_t *random)
{
    struct identities *identities = calloc(1, sizeof *identities);
    uint64_t snapshots = compare_snapshots_node(fs);
    struct fs_directory *stream;
    unsigned count = 0;

    for (unsigned i = 0; i < reference->snapshot_count; i++) {
        struct walk walk = {.fs = fs,
                            .reference = reference,
                            .state = &reference->snapshots[i].state,
                            .identities = identities,
                            .random = random};
        struct fs_entry entry;

        expect_equal(fs_lookup(fs, snapshots, reference->snapshots[i].name, &entry), 0);
        compare_tree(&walk, &entry.attribute, REFERENCE_ROOT);
        fs_forget(fs, entry.attribute.node, 1);
    }
    expect_equal(fs_directory_open(fs, snapshots, &stream), 0);
    expect_equal(fs_readdir(stream, 0, false, count_entry, &count), 0);
    fs_directory_close(stream);
    expect_equal(count, reference->snapshot_count + 2);
    free(identities);
}

/* ---- paths in snapshots ---- */

static uint64_t lookup_path(struct fs *fs, const struct reference_snapshot *snapshot,
                            unsigned index)
{
    struct fs_entry entry;
    const char *name;
    uint64_t parent;
    unsigned directory;

    if (index == REFERENCE_ROOT) {
        uint64_t snapshots = compare_snapshots_node(fs);

        expect_equal(fs_lookup(fs, snapshots, snapshot->name, &entry), 0);
        return entry.attribute.node;
    }
    if (!reference_locate(&snapshot->state, index, &directory, &name))
        return 0;
    parent = lookup_path(fs, snapshot, directory);
    if (parent == 0)
        return 0;
    expect_equal(fs_lookup(fs, parent, name, &entry), 0);
    fs_forget(fs, parent, 1);
    return entry.attribute.node;
}

uint64_t compare_lookup_in_snapshot(struct fs *fs, const struct reference_snapshot *snapshot,
                                    unsigned index)
{
    return lookup_path(fs, snapshot, index);
}
