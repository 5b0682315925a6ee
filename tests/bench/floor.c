/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor.c - what FUSE itself costs: a file system that only answers
 *
 *     bench_floor [--no-open] DIRECTORY        until the directory is unmounted
 *
 * One thread reads /dev/fuse and answers from memory: nothing is stored, compressed, checked,
 * counted or made durable, there are no extended attributes, no links and no access times. Names
 * and attributes are cached for ever, listings come with attributes. So no daemon that is asked the
 * same is faster on the machine where it runs, and what a file system does besides shows beside it. With --no-open
 * neither files nor directories are opened, as if their handles held nothing.
 *
 * The protocol is that of linux/fuse.h; nothing else of FUSE is used.
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/checksum.h"

#define DATA_MAX  (1U << 20)
#define BUCKETS   (1U << 20)
#define FOR_EVER  (1ULL << 30) /* seconds */
#define NAME_SIZE 255U

struct node {
    struct fuse_attr attr;
    struct node *parent, *chained;          /* by name */
    struct node *children, *after, *before; /* in a directory */
    uint64_t cookie;                        /* its place in the listing, falling */
    uint64_t lookups;
    size_t room;
    char *data;  /* of a file, or what a symbolic link says */
    char name[]; /* as it was made; a new name takes a new node's place */
};

static struct {
    int device;
    bool no_open;
    struct node *root;
    uint64_t nodes;
    struct node *buckets[BUCKETS];
    struct fuse_in_header *header;
    union {
        char bytes[DATA_MAX + 4096];
        struct fuse_in_header header;
    } request;
    char listing[DATA_MAX];
} floor_fs;

/* ---- answering ---- */

static void answer(int error, const void *data, size_t size)
{
    struct fuse_out_header header = {
        .len = (uint32_t)(sizeof header + size),
        .error = -error,
        .unique = floor_fs.header->unique,
    };
    struct iovec parts[] = {{&header, sizeof header}, {(void *)(uintptr_t)data, size}};

    if (writev(floor_fs.device, parts, size > 0 ? 2 : 1) < 0 && errno != ENOENT)
        err(1, "answering");
}

static uint64_t id_of(const struct node *node)
{
    return node == floor_fs.root ? FUSE_ROOT_ID : (uint64_t)(uintptr_t)node;
}

static struct node *node_of(uint64_t id)
{
    return id == FUSE_ROOT_ID ? floor_fs.root : (struct node *)(uintptr_t)id;
}

static struct fuse_entry_out entry_of(struct node *node)
{
    node->lookups++;
    return (struct fuse_entry_out){
        .nodeid = id_of(node),
        .entry_valid = FOR_EVER,
        .attr_valid = FOR_EVER,
        .attr = node->attr,
    };
}

static void answer_attr(const struct node *node)
{
    struct fuse_attr_out out = {.attr_valid = FOR_EVER, .attr = node->attr};

    answer(0, &out, sizeof out);
}

static void answer_entry(struct node *node)
{
    struct fuse_entry_out out = entry_of(node);

    answer(0, &out, sizeof out);
}

/* ---- names ---- */

static struct node **bucket_of(const struct node *parent, const char *name)
{
    uint64_t hash = checksum64_seeded(name, strlen(name), (uint64_t)(uintptr_t)parent);

    return &floor_fs.buckets[hash % BUCKETS];
}

static struct node *find(const struct node *parent, const char *name)
{
    struct node *node = *bucket_of(parent, name);

    while (node != NULL && (node->parent != parent || strcmp(node->name, name) != 0))
        node = node->chained;
    return node;
}

static void attach(struct node *parent, struct node *node)
{
    struct node **bucket = bucket_of(parent, node->name);

    node->parent = parent;
    node->chained = *bucket;
    *bucket = node;
    node->cookie = ++floor_fs.nodes;
    node->before = NULL;
    node->after = parent->children;
    if (node->after != NULL)
        node->after->before = node;
    parent->children = node;
    if (S_ISDIR(node->attr.mode))
        parent->attr.nlink++;
}

static void detach(struct node *node)
{
    struct node **link = bucket_of(node->parent, node->name);

    while (*link != node)
        link = &(*link)->chained;
    *link = node->chained;
    if (node->before != NULL)
        node->before->after = node->after;
    else
        node->parent->children = node->after;
    if (node->after != NULL)
        node->after->before = node->before;
    if (S_ISDIR(node->attr.mode))
        node->parent->attr.nlink--;
    node->parent = NULL;
}

static void drop_if_unused(struct node *node)
{
    if (node->lookups > 0 || node->parent != NULL || node == floor_fs.root)
        return;
    free(node->data);
    free(node);
}

static struct node *node_new(const char *name, uint32_t mode)
{
    struct node *node = calloc(1, sizeof *node + NAME_SIZE + 1);
    struct timespec now;

    if (node == NULL)
        err(1, "no memory");
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    strncpy(node->name, name, NAME_SIZE);
    node->attr.ino = ++floor_fs.nodes;
    node->attr.mode = mode;
    node->attr.nlink = S_ISDIR(mode) ? 2 : 1;
    node->attr.blksize = 4096;
    node->attr.atime = node->attr.mtime = node->attr.ctime = (uint64_t)now.tv_sec;
    if (floor_fs.header != NULL) {
        node->attr.uid = floor_fs.header->uid;
        node->attr.gid = floor_fs.header->gid;
    }
    return node;
}

static struct node *make(struct node *parent, const char *name, uint32_t mode)
{
    struct node *node = node_new(name, mode);

    attach(parent, node);
    return node;
}

/* ---- requests ---- */

static void serve_init(const struct fuse_init_in *in)
{
    struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = in->minor < 31 ? in->minor : 31,
        .max_readahead = in->max_readahead,
        .flags =
            in->flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_DO_READDIRPLUS |
                         FUSE_ATOMIC_O_TRUNC | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
                         FUSE_HANDLE_KILLPRIV | FUSE_NO_OPEN_SUPPORT | FUSE_NO_OPENDIR_SUPPORT),
        .max_background = 64,
        .congestion_threshold = 48,
        .max_write = DATA_MAX,
        .time_gran = 1,
        .max_pages = DATA_MAX / 4096,
    };

    answer(0, &out, sizeof out);
}

static void set_size(struct node *node, uint64_t size)
{
    if (size > node->room) {
        size_t room = node->room > 0 ? node->room : 4096;

        while (room < size)
            room *= 2;
        node->data = realloc(node->data, room);
        if (node->data == NULL)
            err(1, "no memory");
        memset(node->data + node->room, 0, room - node->room);
        node->room = room;
    }
    node->attr.size = size;
    node->attr.blocks = (size + 511) / 512;
}

static void serve_setattr(struct node *node, const struct fuse_setattr_in *in)
{
    if ((in->valid & FATTR_MODE) != 0)
        node->attr.mode = (node->attr.mode & S_IFMT) | (in->mode & 07777);
    if ((in->valid & FATTR_UID) != 0)
        node->attr.uid = in->uid;
    if ((in->valid & FATTR_GID) != 0)
        node->attr.gid = in->gid;
    if ((in->valid & FATTR_SIZE) != 0)
        set_size(node, in->size);
    if ((in->valid & FATTR_MTIME) != 0)
        node->attr.mtime = in->mtime;
    answer_attr(node);
}

static void serve_create(struct node *parent, const struct fuse_create_in *in)
{
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out = {
        .entry = entry_of(make(parent, (const char *)(in + 1), S_IFREG | (in->mode & 07777))),
        .open.open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH,
    };

    answer(0, &out, sizeof out);
}

static void serve_lookup(struct node *parent, const char *name)
{
    struct fuse_entry_out absent = {.entry_valid = FOR_EVER};
    struct node *node = find(parent, name);

    if (node != NULL)
        answer_entry(node);
    else
        answer(0, &absent, sizeof absent);
}

static void serve_symlink(struct node *parent, const char *name)
{
    const char *target = name + strlen(name) + 1;
    struct node *node = make(parent, name, S_IFLNK | 0777);

    set_size(node, strlen(target));
    memcpy(node->data, target, strlen(target));
    answer_entry(node);
}

static void serve_remove(struct node *parent, const char *name)
{
    struct node *node = find(parent, name);

    if (node == NULL || node->children != NULL) {
        answer(node == NULL ? ENOENT : ENOTEMPTY, NULL, 0);
        return;
    }
    detach(node);
    drop_if_unused(node);
    answer(0, NULL, 0);
}

static void serve_rename(struct node *from, uint64_t to_id, const char *old_name)
{
    const char *new_name = old_name + strlen(old_name) + 1;
    struct node *node = find(from, old_name), *over = find(node_of(to_id), new_name);

    if (node == NULL) {
        answer(ENOENT, NULL, 0);
        return;
    }
    if (over != NULL) {
        detach(over);
        drop_if_unused(over);
    }
    detach(node);
    strncpy(node->name, new_name, NAME_SIZE);
    attach(node_of(to_id), node);
    answer(0, NULL, 0);
}

static void serve_open(bool directory)
{
    struct fuse_open_out out = {
        .open_flags = FOPEN_KEEP_CACHE | (directory ? FOPEN_CACHE_DIR : FOPEN_NOFLUSH),
    };

    if (floor_fs.no_open)
        answer(ENOSYS, NULL, 0);
    else
        answer(0, &out, sizeof out);
}

static void serve_read(const struct node *node, const struct fuse_read_in *in)
{
    uint64_t left = in->offset < node->attr.size ? node->attr.size - in->offset : 0;

    answer(0, node->data + in->offset, left < in->size ? left : in->size);
}

static void serve_write(struct node *node, const struct fuse_write_in *in)
{
    struct fuse_write_out out = {.size = in->size};
    struct timespec now;

    if (in->offset + in->size > node->attr.size)
        set_size(node, in->offset + in->size);
    memcpy(node->data + in->offset, in + 1, in->size);
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    node->attr.mtime = node->attr.ctime = (uint64_t)now.tv_sec;
    node->attr.mtimensec = node->attr.ctimensec = (uint32_t)now.tv_nsec;
    answer(0, &out, sizeof out);
}

/* Newest first: what is left of a listing is what is older than its cookie. */
static void serve_list(const struct node *directory, const struct fuse_read_in *in, bool plus)
{
    struct node *node = directory->children;
    size_t used = 0;

    while (node != NULL && in->offset != 0 && node->cookie >= in->offset)
        node = node->after;
    for (; node != NULL; node = node->after) {
        struct fuse_dirent entry = {
            .ino = node->attr.ino,
            .off = node->cookie,
            .namelen = (uint32_t)strlen(node->name),
            .type = node->attr.mode >> 12,
        };
        size_t before = plus ? sizeof(struct fuse_entry_out) : 0;
        size_t size = FUSE_DIRENT_ALIGN(before + FUSE_NAME_OFFSET + entry.namelen);
        char *to = floor_fs.listing + used;

        if (used + size > in->size || used + size > DATA_MAX)
            break;
        if (plus) {
            struct fuse_entry_out out = entry_of(node);

            memcpy(to, &out, sizeof out);
        }
        memcpy(to + before, &entry, FUSE_NAME_OFFSET);
        memcpy(to + before + FUSE_NAME_OFFSET, node->name, entry.namelen);
        used += size;
    }
    answer(0, floor_fs.listing, used);
}

static void forget(uint64_t id, uint64_t count)
{
    struct node *node = node_of(id);

    node->lookups -= count;
    drop_if_unused(node);
}

static void serve_forgets(const struct fuse_batch_forget_in *in)
{
    const struct fuse_forget_one *one = (const void *)(in + 1);

    for (uint32_t i = 0; i < in->count; i++)
        forget(one[i].nodeid, one[i].nlookup);
}

static void serve_statfs(void)
{
    struct fuse_statfs_out out = {
        .st = {.blocks = 1 << 24,
               .bfree = 1 << 24,
               .bavail = 1 << 24,
               .bsize = 4096,
               .frsize = 4096,
               .namelen = NAME_SIZE},
    };

    answer(0, &out, sizeof out);
}

static void serve(const struct fuse_in_header *header)
{
    const void *in = header + 1;
    struct node *node = header->nodeid != 0 ? node_of(header->nodeid) : NULL;

    switch (header->opcode) {
    case FUSE_INIT:
        serve_init(in);
        break;
    case FUSE_LOOKUP:
        serve_lookup(node, in);
        break;
    case FUSE_FORGET:
        forget(header->nodeid, ((const struct fuse_forget_in *)in)->nlookup);
        break;
    case FUSE_BATCH_FORGET:
        serve_forgets(in);
        break;
    case FUSE_GETATTR:
        answer_attr(node);
        break;
    case FUSE_SETATTR:
        serve_setattr(node, in);
        break;
    case FUSE_CREATE:
        serve_create(node, in);
        break;
    case FUSE_MKDIR:
        answer_entry(make(node, (const char *)in + sizeof(struct fuse_mkdir_in),
                          S_IFDIR | (((const struct fuse_mkdir_in *)in)->mode & 07777)));
        break;
    case FUSE_SYMLINK:
        serve_symlink(node, in);
        break;
    case FUSE_READLINK:
        answer(0, node->data, node->attr.size);
        break;
    case FUSE_UNLINK:
    case FUSE_RMDIR:
        serve_remove(node, in);
        break;
    case FUSE_RENAME:
        serve_rename(node, ((const struct fuse_rename_in *)in)->newdir,
                     (const char *)in + sizeof(struct fuse_rename_in));
        break;
    case FUSE_RENAME2:
        serve_rename(node, ((const struct fuse_rename2_in *)in)->newdir,
                     (const char *)in + sizeof(struct fuse_rename2_in));
        break;
    case FUSE_OPEN:
        serve_open(false);
        break;
    case FUSE_OPENDIR:
        serve_open(true);
        break;
    case FUSE_READ:
        serve_read(node, in);
        break;
    case FUSE_WRITE:
        serve_write(node, in);
        break;
    case FUSE_READDIR:
        serve_list(node, in, false);
        break;
    case FUSE_READDIRPLUS:
        serve_list(node, in, true);
        break;
    case FUSE_STATFS:
        serve_statfs();
        break;
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_DESTROY:
        answer(0, NULL, 0);
        break;
    case FUSE_INTERRUPT:
        break;
    default:
        answer(ENOSYS, NULL, 0);
        break; /* not asked again, where the kernel remembers that */
    }
}

static void floor_mount(const char *directory)
{
    char data[128];

    floor_fs.device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (floor_fs.device < 0)
        err(1, "/dev/fuse");
    snprintf(data, sizeof data,
             "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
             floor_fs.device);
    if (mount("bench_floor", directory, "fuse.bench_floor", MS_NOSUID | MS_NODEV, data) != 0)
        err(1, "%s", directory);
}

int main(int count, char **words)
{
    static const struct option options[] = {{"no-open", no_argument, NULL, 'n'}, {0}};
    int option;

    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        if (option != 'n')
            return 2;
        floor_fs.no_open = true;
    }
    if (optind != count - 1)
        errx(2, "usage: bench_floor [--no-open] DIRECTORY");
    floor_fs.root = node_new("", S_IFDIR | 0755);
    floor_mount(words[optind]);
    for (;;) {
        ssize_t size = read(floor_fs.device, &floor_fs.request, sizeof floor_fs.request);

        if (size < 0 && errno == ENODEV)
            return 0; /* unmounted */
        if (size < 0 && errno != EINTR && errno != ENOENT && errno != EAGAIN)
            err(1, "/dev/fuse");
        if (size < (ssize_t)sizeof floor_fs.request.header)
            continue;
        floor_fs.header = &floor_fs.request.header;
        serve(floor_fs.header);
    }
}
