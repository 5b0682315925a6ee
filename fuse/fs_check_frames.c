/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_check_frames.c - fsck: read file data, so that the engine checks it
 */
#include "fuse/fs_check_internal.h"

#include <errno.h>

static uint8_t *frame_bytes(const struct check_frames *frames, unsigned index)
{
    return frames->bytes + (size_t)index * BLOB_FRAME_SIZE_MAX;
}

static void report_unreadable(struct check *check, unsigned index, int error)
{
    const struct check_frames *frames = check->frames;
    char path[CHECK_PATH_SIZE];

    if (++check->unreadable > CHECK_UNREADABLE_MAX) {
        check->findings++;
        return;
    }
    check_describe(check, frames->inos[index], path);
    check_find(check, "inode %llu: %u bytes at offset %llu in chunk %016llx cannot be read: %s: %s",
               (unsigned long long)frames->inos[index], frames->refs[index].length,
               (unsigned long long)frames->starts[index],
               (unsigned long long)frames->refs[index].chunk_id, error_text(error), path);
}

/* One of them is bad: find which. */
static int read_singly(struct check *check)
{
    struct check_frames *frames = check->frames;

    for (unsigned i = 0; i < frames->count; i++) {
        struct engine_blob_read read = {.ref = &frames->refs[i], .to = frame_bytes(frames, i)};
        int result = engine_blob_read(check->view, &read, 1);

        if (result == -ENOMEM)
            return result;
        if (result < 0)
            report_unreadable(check, i, result);
    }
    return 0;
}

int check_frames_flush(struct check *check)
{
    struct check_frames *frames = check->frames;
    struct engine_blob_read reads[CHECK_FRAMES];
    int result;

    if (frames->count == 0)
        return 0;
    for (unsigned i = 0; i < frames->count; i++)
        reads[i] = (struct engine_blob_read){.ref = &frames->refs[i], .to = frame_bytes(frames, i)};
    result = engine_blob_read(check->view, reads, frames->count);
    if (result < 0)
        result = read_singly(check);
    frames->count = 0;
    return result;
}

static bool is_wanted(const struct check *check, uint64_t chunk_id)
{
    bool found = check->chunk_ids == NULL;

    for (size_t i = 0; !found && i < check->chunk_count; i++)
        found = check->chunk_ids[i] == chunk_id;
    return found;
}

int check_frames_add(struct check *check, uint64_t ino, const struct fs_extent *extent)
{
    struct check_frames *frames = check->frames;

    if (!is_wanted(check, extent->ref.chunk_id))
        return 0;
    frames->refs[frames->count] = extent->ref;
    frames->inos[frames->count] = ino;
    frames->starts[frames->count] = extent->start;
    frames->count++;
    return frames->count == CHECK_FRAMES ? check_frames_flush(check) : 0;
}
