/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_check_tree.c - fsck: names against inodes, link counts, the tree, orphans
 */
#include "fuse/fs_check_internal.h"

/* check_node.state, bits */
enum state {
    STATE_ORPHAN = 1,
    STATE_ON_PATH = 2, /* on the way up from a directory: met again, it is a ring */
    STATE_REACHES = 4, /* its way up is known */
};

static struct check_node *nodes_of(const struct check *check)
{
    return check->nodes.items;
}

static struct check_node *find_node(const struct check *check, uint64_t ino)
{
    struct check_node *nodes = nodes_of(check);
    size_t low = 0, high = check->nodes.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (check_ino(nodes[middle].packed) < ino)
            low = middle + 1;
        else
            high = middle;
    }
    return low < check->nodes.count && check_ino(nodes[low].packed) == ino ? &nodes[low] : NULL;
}

static bool is_directory(const struct check_node *node)
{
    return S_ISDIR(check_type(node->packed));
}

/* ---- names ---- */

static void check_one_name(struct check *check, const struct check_name *name)
{
    unsigned long long child_ino = check_ino(name->child), parent_ino = name->parent;
    struct check_node *child = find_node(check, child_ino), *parent;

    if (child == NULL) {
        check_find(check, "directory %llu: a name leads to inode %llu, which is not there",
                   parent_ino, child_ino);
        return;
    }
    child->names++;
    if (child->packed != name->child)
        check_find(check, "directory %llu: a name says another type than inode %llu", parent_ino,
                   child_ino);
    if (!is_directory(child))
        return;
    parent = find_node(check, parent_ino);
    if (parent != NULL)
        parent->directories++;
    if (child->parent != parent_ino)
        check_find(check, "directory %llu: it lies in %llu and says that it lies in %llu",
                   child_ino, parent_ino, (unsigned long long)child->parent);
}

/* ---- orphans ---- */

static void check_orphans(struct check *check)
{
    const uint64_t *orphans = check->orphans.items;

    for (size_t i = 0; i < check->orphans.count; i++) {
        struct check_node *node = find_node(check, orphans[i]);

        if (node == NULL) {
            check_find(check, "orphan %llu: its inode is not there",
                       (unsigned long long)orphans[i]);
            continue;
        }
        node->state |= STATE_ORPHAN;
        if (node->nlink != 0)
            check_find(check, "orphan %llu: its link count is %u", (unsigned long long)orphans[i],
                       node->nlink);
    }
}

/* ---- times of reading ---- */

static void check_atimes(struct check *check)
{
    const uint64_t *atimes = check->atimes.items;

    for (size_t i = 0; i < check->atimes.count; i++) {
        if (find_node(check, atimes[i]) == NULL)
            check_find(check, "inode %llu: it has a time of reading and is not there",
                       (unsigned long long)atimes[i]);
    }
}

/* ---- inodes ---- */

static void check_directory_links(struct check *check, const struct check_node *node)
{
    unsigned long long ino = check_ino(node->packed);
    uint32_t names = ino == FS_ROOT ? 0 : 1;

    if (node->names > names)
        check_find(check, "directory %llu: %u names lead to it", ino, node->names);
    if (!(node->state & STATE_ORPHAN) && (uint64_t)node->nlink != UINT64_C(2) + node->directories)
        check_find(check, "directory %llu: its link count is %u, with %u directories in it", ino,
                   node->nlink, node->directories);
}

static void check_links(struct check *check, const struct check_node *node)
{
    unsigned long long ino = check_ino(node->packed);

    if (node->names == 0 && ino != FS_ROOT && !(node->state & STATE_ORPHAN))
        check_find(check, "inode %llu: no name leads to it and it is no orphan", ino);
    if (node->names > 0 && (node->state & STATE_ORPHAN))
        check_find(check, "orphan %llu: %u names lead to it", ino, node->names);
    if (is_directory(node))
        check_directory_links(check, node);
    else if (node->nlink != node->names)
        check_find(check, "inode %llu: its link count is %u, %u names lead to it", ino, node->nlink,
                   node->names);
}

/* ---- rings: directories that lie in each other have names, yet the root does not lead to them
 * ---- */

static struct check_node *parent_of(const struct check *check, const struct check_node *node)
{
    return find_node(check, node->parent);
}

static void check_way_up(struct check *check, struct check_node *start)
{
    struct check_node *node = start;

    while (node != NULL && !(node->state & (STATE_ON_PATH | STATE_REACHES))) {
        node->state |= STATE_ON_PATH;
        node = parent_of(check, node);
    }
    if (node != NULL && (node->state & STATE_ON_PATH))
        check_find(check, "directory %llu: it lies below itself",
                   (unsigned long long)check_ino(node->packed));
    for (node = start; node != NULL && (node->state & STATE_ON_PATH);
         node = parent_of(check, node)) {
        node->state &= ~(uint32_t)STATE_ON_PATH;
        node->state |= STATE_REACHES;
    }
}

static void check_root(struct check *check)
{
    struct check_node *root = find_node(check, FS_ROOT);

    if (root == NULL || !is_directory(root))
        check_find(check, "there is no root directory");
    else
        root->state |= STATE_REACHES;
}

void check_tree(struct check *check)
{
    const struct check_name *names = check->names.items;
    struct check_node *nodes = nodes_of(check);

    check_root(check);
    check_orphans(check);
    check_atimes(check);
    for (size_t i = 0; i < check->names.count; i++)
        check_one_name(check, &names[i]);
    for (size_t i = 0; i < check->nodes.count; i++) {
        check_links(check, &nodes[i]);
        if (is_directory(&nodes[i]) && !(nodes[i].state & STATE_ORPHAN))
            check_way_up(check, &nodes[i]);
    }
}
