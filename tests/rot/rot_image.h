/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_image.h - the files of a store in memory, to be put on disk again and again
 *
 * Hard links stay hard links, so that damage to a file shows under all of its names, as on a disk.
 * Blocks of zeros are left as holes. Putting an image back where it was is cheap: sealed chunks, which
 * nobody may write to, are left where they are unless their inode says that something happened to
 * them; all else is written anew, and what was added is removed.
 */
#ifndef VARVE_TESTS_ROT_ROT_IMAGE_H
#define VARVE_TESTS_ROT_ROT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct rot_file {
    char *path;   /* relative; of the first name */
    char **links; /* further names */
    size_t link_count;
    mode_t mode;
    uint8_t *bytes; /* NULL: a directory */
    size_t size;
    ino_t inode;
    struct stat stored; /* as it was put on disk; st_ino 0: is to be put there */
};

struct rot_image {
    struct rot_file *files; /* a directory comes before what is in it */
    size_t count, capacity;
};

/* Its bytes have changed, or its size: the file on disk is not the image's any more. (All that are not
 * sealed are taken to have changed anyway.) */
static inline void rot_file_changed(struct rot_file *file)
{
    if ((file->mode & 0222) == 0)
        file->stored.st_ino = 0;
}
static inline bool rot_file_is_sealed(const struct rot_file *file)
{
    return (file->mode & 0222) == 0;
}

/* Everything below aborts on trouble. */
void rot_image_load(struct rot_image *image, const char *directory);
void rot_image_free(struct rot_image *image);

/* Replace `directory`, whatever it is, by the image. */
void rot_image_store(struct rot_image *image, const char *directory);

/* The same of one that the image was stored in before, by this process. */
void rot_image_restore(struct rot_image *image, const char *directory);

/* Do all sealed files in `directory` that the image left there have its bytes? */
bool rot_image_matches(const struct rot_image *image, const char *directory);

void rot_remove(const char *directory);

#endif
