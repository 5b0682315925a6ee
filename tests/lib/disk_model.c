/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_model.c - disks as such: the list of them, watching, LMDB's commits
 */
#include "tests/lib/disk_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/disk_model_internal.h"

/* ---- the list of disks ---- */

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct disk_model *list;

void disk_model_enlist(struct disk_model *disk)
{
    disk->io = (struct io){.ops = &disk_ops};
    pthread_mutex_init(&disk->lock, NULL);
    pthread_mutex_lock(&list_lock);
    disk->next = list;
    list = disk;
    pthread_mutex_unlock(&list_lock);
}

static void delist(struct disk_model *disk)
{
    pthread_mutex_lock(&list_lock);
    for (struct disk_model **link = &list; *link != NULL; link = &(*link)->next) {
        if (*link != disk)
            continue;
        *link = disk->next;
        break;
    }
    pthread_mutex_unlock(&list_lock);
}

struct disk_model *disk_model_of_path(const char *path)
{
    struct disk_model *found = NULL;

    pthread_mutex_lock(&list_lock);
    for (struct disk_model *disk = list; disk != NULL && found == NULL; disk = disk->next) {
        size_t size = strlen(disk->base);

        if (size > 0 && strncmp(path, disk->base, size) == 0 && path[size] == '/')
            found = disk;
    }
    pthread_mutex_unlock(&list_lock);
    return found;
}

struct disk_model *disk_model_new(const char *base)
{
    struct disk_model *disk = disk_must(calloc(1, sizeof *disk));
    size_t root;

    disk_trace = getenv("VARVE_DISK_TRACE") != NULL;
    disk->base = disk_must(strdup(base));
    disk->next_number = 1;
    disk_model_enlist(disk);
    (void)disk_inode_new(disk, true, 0755, "", &root);
    return disk;
}

void disk_model_free(struct disk_model *disk)
{
    if (disk == NULL)
        return;
    delist(disk);
    for (size_t i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i] != NULL && disk->inodes[i]->handles > 0) {
            fprintf(stderr, "disk model: %s is still open\n", disk->inodes[i]->label);
            abort();
        }
        disk_inode_free(disk->inodes[i]);
    }
    pthread_mutex_destroy(&disk->lock);
    free(disk->inodes);
    free(disk->base);
    free(disk);
}

struct io *disk_model_io(struct disk_model *disk)
{
    return &disk->io;
}

const char *disk_model_base(const struct disk_model *disk)
{
    return disk->base;
}

void disk_model_set_base(struct disk_model *disk, const char *base)
{
    pthread_mutex_lock(&list_lock);
    free(disk->base);
    disk->base = disk_must(strdup(base));
    pthread_mutex_unlock(&list_lock);
}

void disk_model_set_options(struct disk_model *disk, const struct disk_model_options *options)
{
    pthread_mutex_lock(&disk->lock);
    disk->options = *options;
    pthread_mutex_unlock(&disk->lock);
}

/* ---- watching ---- */

void disk_model_observe(struct disk_model *disk, disk_model_observer *observer, void *context)
{
    pthread_mutex_lock(&disk->lock);
    disk->observer = observer;
    disk->observer_context = context;
    pthread_mutex_unlock(&disk->lock);
}

uint64_t disk_model_count(struct disk_model *disk, unsigned calls)
{
    uint64_t count = 0;

    pthread_mutex_lock(&disk->lock);
    for (unsigned i = 0; i < DISK_CALL_KINDS; i++)
        if ((calls & (1u << i)) != 0)
            count += disk->counts[i];
    pthread_mutex_unlock(&disk->lock);
    return count;
}

const char *disk_model_pending_rename(struct disk_model *disk, const char *except)
{
    const char *found = "";

    pthread_mutex_lock(&disk->lock);
    for (size_t i = 0; i < disk->inode_count; i++) {
        const struct disk_inode *inode = disk->inodes[i];

        for (size_t j = 0; inode != NULL && j < inode->half_count; j++)
            if (inode->halves[j].group != 0 && inode->halves[j].inode != DISK_NOTHING &&
                (except == NULL || strstr(inode->halves[j].text, except) == NULL))
                found = inode->halves[j].text;
    }
    pthread_mutex_unlock(&disk->lock);
    return found;
}

void disk_model_skip_syncs(struct disk_model *disk, uint64_t site)
{
    pthread_mutex_lock(&disk->lock);
    disk->skipped_site = site;
    pthread_mutex_unlock(&disk->lock);
}

void disk_model_observe_sites(struct disk_model *disk, disk_model_site_observer *observer,
                              void *context)
{
    pthread_mutex_lock(&disk->lock);
    disk->site_observer = observer;
    disk->site_context = context;
    pthread_mutex_unlock(&disk->lock);
}

/* ---- LMDB's commits ---- */

void disk_model_commit_begin(struct disk_model *disk)
{
    disk_enter(disk, DISK_COMMIT, "manifest");
}

void disk_model_commit_end(struct disk_model *disk, struct io_file *file, const void *data,
                           size_t size)
{
    if (data != NULL)
        disk_inode_set_durable(file->inode, data, size);
    pthread_mutex_unlock(&disk->lock);
}
