/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_content.h - the bytes of a file of the disk model, in pages that copies share
 *
 * A copy of a whole disk is made at every cut: pages are reference-counted and copied at the first
 * change. A page that is missing holds zeros. Running out of memory aborts.
 *
 * Threads: one content belongs to one thread at a time; pages may be shared by contents of several.
 */
#ifndef VARVE_TESTS_LIB_DISK_CONTENT_H
#define VARVE_TESTS_LIB_DISK_CONTENT_H

#include <stddef.h>
#include <stdint.h>

#define DISK_PAGE_SIZE 4096

struct disk_page;

struct disk_content {
    struct disk_page **pages;
    size_t page_room;  /* of the array */
    size_t page_count; /* that are not NULL */
    uint64_t size_bytes;
};

void disk_content_free(struct disk_content *content);

/* `to` is empty or garbage that owns nothing. */
void disk_content_copy(const struct disk_content *from, struct disk_content *to);

/* Grows the file where need be. */
void disk_content_write(struct disk_content *content, const void *data, size_t size,
                        uint64_t offset);

/* The bytes up to `size`, or to the end. */
size_t disk_content_read(const struct disk_content *content, void *data, size_t size,
                         uint64_t offset);

/* The whole of it; pages that stay as they are stay shared. */
void disk_content_set(struct disk_content *content, const void *data, size_t size);

/* What is cut off reads as zeros when the file grows again. */
void disk_content_resize(struct disk_content *content, uint64_t size_bytes);

#endif
