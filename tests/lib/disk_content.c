/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_content.c - pages shared until they are written
 */
#include "tests/lib/disk_content.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct disk_page {
    atomic_uint references;
    uint8_t data[DISK_PAGE_SIZE];
};

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static struct disk_page *page_new(void)
{
    struct disk_page *page = must(calloc(1, sizeof *page));

    atomic_init(&page->references, 1);
    return page;
}

static void page_unref(struct disk_page *page)
{
    if (page != NULL && atomic_fetch_sub_explicit(&page->references, 1, memory_order_acq_rel) == 1)
        free(page);
}

/* A page that nobody else sees. */
static struct disk_page *page_own(struct disk_content *content, size_t index)
{
    struct disk_page **slot = &content->pages[index];
    struct disk_page *fresh;

    if (*slot == NULL) {
        *slot = page_new();
        content->page_count++;
    } else if (atomic_load_explicit(&(*slot)->references, memory_order_acquire) > 1) {
        fresh = page_new();
        memcpy(fresh->data, (*slot)->data, DISK_PAGE_SIZE);
        page_unref(*slot);
        *slot = fresh;
    }
    return *slot;
}

static void pages_reserve(struct disk_content *content, size_t count)
{
    size_t room = content->page_room;

    if (count <= room)
        return;
    room = room * 2 > count ? room * 2 : count;
    content->pages = must(realloc(content->pages, room * sizeof *content->pages));
    memset(content->pages + content->page_room, 0,
           (room - content->page_room) * sizeof *content->pages);
    content->page_room = room;
}

void disk_content_free(struct disk_content *content)
{
    for (size_t i = 0; i < content->page_room; i++)
        page_unref(content->pages[i]);
    free(content->pages);
    *content = (struct disk_content){0};
}

void disk_content_copy(const struct disk_content *from, struct disk_content *to)
{
    *to = (struct disk_content){.page_count = from->page_count, .size_bytes = from->size_bytes};
    pages_reserve(to, (size_t)((from->size_bytes + DISK_PAGE_SIZE - 1) / DISK_PAGE_SIZE));
    for (size_t i = 0; i < to->page_room && i < from->page_room; i++) {
        to->pages[i] = from->pages[i];
        if (to->pages[i] != NULL)
            atomic_fetch_add_explicit(&to->pages[i]->references, 1, memory_order_relaxed);
    }
}

void disk_content_write(struct disk_content *content, const void *data, size_t size,
                        uint64_t offset)
{
    const uint8_t *from = data;

    if (size == 0)
        return;
    pages_reserve(content, (size_t)((offset + size + DISK_PAGE_SIZE - 1) / DISK_PAGE_SIZE));
    if (content->size_bytes < offset + size)
        content->size_bytes = offset + size;
    while (size > 0) {
        size_t at = (size_t)(offset % DISK_PAGE_SIZE);
        size_t part = DISK_PAGE_SIZE - at < size ? DISK_PAGE_SIZE - at : size;

        memcpy(page_own(content, (size_t)(offset / DISK_PAGE_SIZE))->data + at, from, part);
        from += part;
        offset += part;
        size -= part;
    }
}

size_t disk_content_read(const struct disk_content *content, void *data, size_t size,
                         uint64_t offset)
{
    uint8_t *to = data;
    size_t done = 0;

    if (offset >= content->size_bytes)
        return 0;
    if (size > content->size_bytes - offset)
        size = (size_t)(content->size_bytes - offset);
    while (done < size) {
        size_t index = (size_t)((offset + done) / DISK_PAGE_SIZE);
        size_t at = (size_t)((offset + done) % DISK_PAGE_SIZE);
        size_t part = DISK_PAGE_SIZE - at < size - done ? DISK_PAGE_SIZE - at : size - done;
        const struct disk_page *page = index < content->page_room ? content->pages[index] : NULL;

        if (page != NULL)
            memcpy(to + done, page->data + at, part);
        else
            memset(to + done, 0, part);
        done += part;
    }
    return size;
}

void disk_content_resize(struct disk_content *content, uint64_t size_bytes)
{
    size_t kept = (size_t)((size_bytes + DISK_PAGE_SIZE - 1) / DISK_PAGE_SIZE);
    size_t at = (size_t)(size_bytes % DISK_PAGE_SIZE);

    if (size_bytes < content->size_bytes) {
        for (size_t i = kept; i < content->page_room; i++) {
            if (content->pages[i] == NULL)
                continue;
            page_unref(content->pages[i]);
            content->pages[i] = NULL;
            content->page_count--;
        }
        if (at > 0 && kept - 1 < content->page_room && content->pages[kept - 1] != NULL)
            memset(page_own(content, kept - 1)->data + at, 0, DISK_PAGE_SIZE - at);
    }
    pages_reserve(content, kept);
    content->size_bytes = size_bytes;
}

void disk_content_set(struct disk_content *content, const void *data, size_t size)
{
    const uint8_t *from = data;

    disk_content_resize(content, size);
    for (size_t at = 0; at < size; at += DISK_PAGE_SIZE) {
        size_t part = size - at < DISK_PAGE_SIZE ? size - at : DISK_PAGE_SIZE;
        const struct disk_page *page = content->pages[at / DISK_PAGE_SIZE];

        if (page == NULL || memcmp(page->data, from + at, part) != 0)
            disk_content_write(content, from + at, part, at);
    }
}
