/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_image.c - load and store
 */
#include "tests/rot/rot_image.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096

static void require(int condition, const char *what, const char *path)
{
    if (condition)
        return;
    perror(path);
    fprintf(stderr, "%s failed\n", what);
    abort();
}

/* nftw(3) has no context. */
static struct rot_image *loading;
static size_t prefix_size;

static struct rot_file *find_inode(struct rot_image *image, ino_t inode)
{
    for (size_t i = 0; i < image->count; i++)
        if (image->files[i].bytes != NULL && image->files[i].inode == inode)
            return &image->files[i];
    return NULL;
}

static void load_bytes(struct rot_file *file, const char *path)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);

    require(descriptor >= 0, "open", path);
    file->bytes = calloc(1, file->size + 1);
    require(file->bytes != NULL, "memory", path);
    require(pread(descriptor, file->bytes, file->size, 0) == (ssize_t)file->size, "read", path);
    close(descriptor);
}

static int load_one(const char *path, const struct stat *status, int type, struct FTW *position)
{
    struct rot_file *file;

    (void)position;
    if (path[prefix_size] == '\0')
        return 0;
    if (type == FTW_F && (file = find_inode(loading, status->st_ino)) != NULL) {
        file->links = realloc(file->links, (file->link_count + 1) * sizeof *file->links);
        file->links[file->link_count++] = strdup(path + prefix_size + 1);
        return 0;
    }
    if (loading->count == loading->capacity) {
        loading->capacity = loading->capacity * 2 + 64;
        loading->files = realloc(loading->files, loading->capacity * sizeof *loading->files);
        require(loading->files != NULL, "memory", path);
    }
    file = &loading->files[loading->count++];
    *file = (struct rot_file){
        .path = strdup(path + prefix_size + 1),
        .mode = status->st_mode & 07777,
        .inode = status->st_ino,
    };
    if (type == FTW_F) {
        file->size = (size_t)status->st_size;
        load_bytes(file, path);
    }
    return 0;
}

void rot_image_load(struct rot_image *image, const char *directory)
{
    *image = (struct rot_image){0};
    loading = image;
    prefix_size = strlen(directory);
    require(nftw(directory, load_one, 32, FTW_PHYS) == 0, "walk", directory);
}

void rot_image_free(struct rot_image *image)
{
    for (size_t i = 0; i < image->count; i++) {
        for (size_t j = 0; j < image->files[i].link_count; j++)
            free(image->files[i].links[j]);
        free(image->files[i].links);
        free(image->files[i].path);
        free(image->files[i].bytes);
    }
    free(image->files);
    *image = (struct rot_image){0};
}

static void store_bytes(const struct rot_file *file, int root)
{
    static const uint8_t zeros[BLOCK];
    int descriptor = openat(root, file->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    require(descriptor >= 0, "create", file->path);
    require(ftruncate(descriptor, (off_t)file->size) == 0, "truncate", file->path);
    for (size_t at = 0; at < file->size;) {
        size_t end = at;

        while (end < file->size && memcmp(file->bytes + end, zeros,
                                          file->size - end < BLOCK ? file->size - end : BLOCK) != 0)
            end += file->size - end < BLOCK ? file->size - end : BLOCK;
        if (end > at)
            require(pwrite(descriptor, file->bytes + at, end - at, (off_t)at) ==
                        (ssize_t)(end - at),
                    "write", file->path);
        at = end + BLOCK;
    }
    require(fchmod(descriptor, file->mode) == 0, "chmod", file->path);
    close(descriptor);
}

void rot_image_store(const struct rot_image *image, const char *directory)
{
    int root;

    rot_remove(directory);
    require(mkdir(directory, 0700) == 0, "mkdir", directory);
    root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    require(root >= 0, "open", directory);
    for (size_t i = 0; i < image->count; i++) {
        const struct rot_file *file = &image->files[i];

        if (file->bytes == NULL) {
            require(mkdirat(root, file->path, 0700) == 0, "mkdir", file->path);
            continue;
        }
        store_bytes(file, root);
        /* A name may lie in a directory that comes later. */
    }
    for (size_t i = 0; i < image->count; i++)
        for (size_t j = 0; j < image->files[i].link_count; j++)
            require(linkat(root, image->files[i].path, root, image->files[i].links[j], 0) == 0,
                    "link", image->files[i].links[j]);
    close(root);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *position)
{
    (void)status;
    (void)position;
    return type == FTW_DP ? rmdir(path) : unlink(path);
}

void rot_remove(const char *directory)
{
    if (access(directory, F_OK) == 0)
        require(nftw(directory, remove_one, 32, FTW_PHYS | FTW_DEPTH) == 0, "remove", directory);
}
