/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_directory.c - requests about open directories
 *
 * The kernel may cache listings. It compares the directory's version when a reader starts, and
 * drops a listing that is older; but a reader in the middle of the directory goes on in whatever
 * listing is complete by then, also in one that another reader began before the latest changes:
 * names that were removed before opendir() come back [Linux 6.18]. With one caching reader at a
 * time that cannot be: its own listing is as old as its start. So of a live directory only a
 * descriptor that is opened while no other is open may use the cache; the others ask us.
 * Directories in snapshots never change; .snapshots itself, which changes also behind the kernel's
 * back, is never cached.
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>

static struct fs_directory *ll_directory_of(const struct fuse_file_info *info)
{
    return (struct fs_directory *)(uintptr_t)info->fh;
}

/* May this descriptor use the kernel's listing? Negative on trouble. */
static int ll_directory_may_cache(struct ll *ll, uint64_t node)
{
    if (fs_node_is_live(node))
        return ll_handles_add(ll->directories, node);
    return !ll_node_is_snapdir(node);
}

static void ll_directory_close(struct ll *ll, uint64_t node, struct fs_directory *directory)
{
    fs_directory_close(directory);
    if (fs_node_is_live(node))
        ll_handles_remove(ll->directories, node);
}

void ll_opendir(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info)
{
    struct ll *ll = ll_of(request);
    struct fs_directory *directory;
    int error = fs_directory_open(ll->fs, node, &directory), may_cache;

    if (error < 0) {
        ll_reply_error(request, error);
        return;
    }
    may_cache = ll_directory_may_cache(ll, node);
    if (may_cache < 0) {
        fs_directory_close(directory);
        ll_reply_error(request, may_cache);
        return;
    }
    if ((info->flags & O_NOATIME) == 0)
        ll_opened_for_reading(ll, node, 0);
    info->fh = (uintptr_t)directory;
    info->cache_readdir = may_cache > 0;
    info->keep_cache = 1; /* another descriptor's listing stays */
    if (fuse_reply_open(request, info) != 0)
        ll_directory_close(ll, node, directory);
}

void ll_releasedir(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info)
{
    ll_directory_close(ll_of(request), node, ll_directory_of(info));
    ll_reply_error(request, 0);
}

struct ll_listing {
    fuse_req_t request;
    struct ll *ll;
    uint64_t parent;
    char *data;
    size_t used, room;
};

static int ll_listing_add(void *context, const struct fs_directory_entry *entry)
{
    struct ll_listing *listing = context;
    struct stat attributes = {.st_ino = entry->number, .st_mode = entry->type};
    size_t left = listing->room - listing->used;
    size_t size = fuse_add_direntry(listing->request, listing->data + listing->used, left,
                                    entry->name, &attributes, (off_t)entry->cookie);

    if (size > left)
        return 1;
    listing->used += size;
    return 0;
}

static int ll_listing_add_plus(void *context, const struct fs_directory_entry *entry)
{
    struct ll_listing *listing = context;
    struct fuse_entry_param param;
    size_t left = listing->room - listing->used;
    size_t size;

    /* Node 0 counts no lookup: "." and "..". */
    if (entry->entry != NULL)
        ll_fill_entry(listing->ll, listing->parent, entry->entry, &param);
    else
        param = (struct fuse_entry_param){
            .attr = {.st_ino = entry->number, .st_mode = entry->type},
        };
    size = fuse_add_direntry_plus(listing->request, listing->data + listing->used, left,
                                  entry->name, &param, (off_t)entry->cookie);
    if (size > left)
        return 1;
    listing->used += size;
    return 0;
}

/* The kernel did not take the listing: take back the lookups it would have counted. */
static void ll_listing_forget(struct ll_listing *listing)
{
    struct fuse_direntplus header;
    size_t at = 0;

    while (at + sizeof header <= listing->used) {
        memcpy(&header, listing->data + at, sizeof header);
        if (header.entry_out.nodeid != 0)
            fs_forget(listing->ll->fs, header.entry_out.nodeid, 1);
        at += FUSE_DIRENTPLUS_SIZE(&header);
    }
}

/* A rollback has come in between (ll_attribute_timeout): of what was filled in before, too. */
static void ll_listing_distrust(struct ll_listing *listing)
{
    struct fuse_direntplus header;
    size_t at = 0;

    while (at + sizeof header <= listing->used) {
        memcpy(&header, listing->data + at, sizeof header);
        header.entry_out.attr_valid = header.entry_out.attr_valid_nsec = 0;
        memcpy(listing->data + at, &header, sizeof header);
        at += FUSE_DIRENTPLUS_SIZE(&header);
    }
}

static void ll_read_directory(fuse_req_t request, uint64_t node, size_t size, off_t cookie,
                              const struct fuse_file_info *info, bool plus)
{
    struct ll_listing listing = {
        .request = request,
        .ll = ll_of(request),
        .parent = node,
        .room = size < LL_REQUEST_DATA_MAX ? size : LL_REQUEST_DATA_MAX,
    };
    int error;

    listing.data = ll_loop_reply_buffer(listing.room);
    if (listing.data == NULL) {
        ll_reply_error(request, -ENOMEM);
        return;
    }
    error = fs_readdir(ll_directory_of(info), (uint64_t)cookie, plus,
                       plus ? ll_listing_add_plus : ll_listing_add, &listing);
    if (plus && ll_loop_meets_rollback(listing.ll))
        ll_listing_distrust(&listing);
    /* After an error the entries before it are delivered; the next call meets it again. */
    if (error < 0 && listing.used == 0)
        ll_reply_error(request, error);
    else if (fuse_reply_buf(request, listing.data, listing.used) != 0 && plus)
        ll_listing_forget(&listing);
}

void ll_readdir(fuse_req_t request, fuse_ino_t node, size_t size, off_t cookie,
                struct fuse_file_info *info)
{
    ll_read_directory(request, node, size, cookie, info, false);
}

void ll_readdirplus(fuse_req_t request, fuse_ino_t node, size_t size, off_t cookie,
                    struct fuse_file_info *info)
{
    ll_read_directory(request, node, size, cookie, info, true);
}
