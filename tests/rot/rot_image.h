/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_image.h - the files of a store in memory, to be put on disk again and again
 *
 * Hard links stay hard links, so that damage to a file shows under all of its names, as on a disk.
 * Blocks of zeros are left as holes.
 */
#ifndef VARVE_TESTS_ROT_ROT_IMAGE_H
#define VARVE_TESTS_ROT_ROT_IMAGE_H

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
};

struct rot_image {
    struct rot_file *files; /* a directory comes before what is in it */
    size_t count, capacity;
};

/* Everything below aborts on trouble. */
void rot_image_load(struct rot_image *image, const char *directory);
void rot_image_free(struct rot_image *image);

/* Replace `directory` by the image. */
void rot_image_store(const struct rot_image *image, const char *directory);

void rot_remove(const char *directory);

#endif
