/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_image.c - load and store
 */
#include "tests/rot/rot_image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
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

static void store_file(struct rot_file *file, int root)
{
    store_bytes(file, root);
    for (size_t i = 0; i < file->link_count; i++)
        require(linkat(root, file->path, root, file->links[i], 0) == 0, "link", file->links[i]);
    require(fstatat(root, file->path, &file->stored, AT_SYMLINK_NOFOLLOW) == 0, "stat", file->path);
}

static int open_directory(const char *path)
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    require(descriptor >= 0, "open", path);
    return descriptor;
}

void rot_image_store(struct rot_image *image, const char *directory)
{
    int root;

    rot_remove(directory);
    require(mkdir(directory, 0700) == 0, "mkdir", directory);
    root = open_directory(directory);
    for (size_t i = 0; i < image->count; i++)
        if (image->files[i].bytes == NULL)
            require(mkdirat(root, image->files[i].path, 0700) == 0, "mkdir", image->files[i].path);
    for (size_t i = 0; i < image->count; i++)
        if (image->files[i].bytes != NULL)
            store_file(&image->files[i], root);
    close(root);
}

/* ---- putting it back ---- */

static bool is_name_of(const struct rot_file *file, const char *path)
{
    if (strcmp(file->path, path) == 0)
        return true;
    for (size_t i = 0; i < file->link_count; i++)
        if (strcmp(file->links[i], path) == 0)
            return true;
    return false;
}

static const struct rot_file *find_path(const struct rot_image *image, const char *path)
{
    for (size_t i = 0; i < image->count; i++)
        if (is_name_of(&image->files[i], path))
            return &image->files[i];
    return NULL;
}

static void remove_at(int root, const char *path)
{
    char full[PATH_MAX];

    if (unlinkat(root, path, 0) == 0 || errno == ENOENT)
        return;
    require(errno == EISDIR, "unlink", path);
    require(snprintf(full, sizeof full, "/proc/self/fd/%d/%s", root, path) < PATH_MAX, "path",
            path);
    rot_remove(full);
}

/* What the image does not know. */
static void remove_additions(const struct rot_image *image, int root, const char *path)
{
    int descriptor = openat(root, path[0] == '\0' ? "." : path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent *entry;
    DIR *directory;

    require(descriptor >= 0 && (directory = fdopendir(descriptor)) != NULL, "open", path);
    while ((entry = readdir(directory)) != NULL) {
        char name[PATH_MAX];

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        require(snprintf(name, sizeof name, "%s%s%s", path, path[0] == '\0' ? "" : "/",
                         entry->d_name) < PATH_MAX,
                "path", path);
        if (find_path(image, name) == NULL)
            remove_at(root, name);
    }
    closedir(directory);
}

static bool is_same_inode(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mode == b->st_mode &&
           a->st_nlink == b->st_nlink && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool is_untouched(const struct rot_file *file, int root)
{
    struct stat now;

    return rot_file_is_sealed(file) && file->stored.st_ino != 0 &&
           fstatat(root, file->path, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
           is_same_inode(&file->stored, &now);
}

/* Into the inode that is there, when it is still the file's and has no other name: cheaper. */
static bool store_into(struct rot_file *file, int root)
{
    int descriptor;
    struct stat now;

    if (file->link_count > 0 || rot_file_is_sealed(file) || file->stored.st_ino == 0)
        return false;
    descriptor = openat(root, file->path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    if (fstat(descriptor, &now) != 0 || now.st_ino != file->stored.st_ino || now.st_nlink != 1 ||
        now.st_mode != file->stored.st_mode) {
        close(descriptor);
        return false;
    }
    require(ftruncate(descriptor, (off_t)file->size) == 0 &&
                pwrite(descriptor, file->bytes, file->size, 0) == (ssize_t)file->size,
            "write", file->path);
    close(descriptor);
    return true;
}

void rot_image_restore(struct rot_image *image, const char *directory)
{
    int root = open_directory(directory);

    for (size_t i = 0; i < image->count; i++) {
        struct stat now;

        if (image->files[i].bytes != NULL)
            continue;
        if (fstatat(root, image->files[i].path, &now, AT_SYMLINK_NOFOLLOW) != 0)
            require(mkdirat(root, image->files[i].path, 0700) == 0, "mkdir", image->files[i].path);
        remove_additions(image, root, image->files[i].path);
    }
    remove_additions(image, root, "");
    for (size_t i = 0; i < image->count; i++) {
        struct rot_file *file = &image->files[i];

        if (file->bytes == NULL || is_untouched(file, root) || store_into(file, root))
            continue;
        remove_at(root, file->path);
        for (size_t j = 0; j < file->link_count; j++)
            remove_at(root, file->links[j]);
        store_file(file, root);
    }
    close(root);
}

bool rot_image_matches(const struct rot_image *image, const char *directory)
{
    int root = open_directory(directory);
    bool matches = true;

    for (size_t i = 0; matches && i < image->count; i++) {
        const struct rot_file *file = &image->files[i];
        int descriptor;
        uint8_t *bytes;

        if (file->bytes == NULL || !is_untouched(file, root))
            continue;
        descriptor = openat(root, file->path, O_RDONLY | O_CLOEXEC);
        bytes = malloc(file->size + 1);
        require(descriptor >= 0 && bytes != NULL, "open", file->path);
        matches = pread(descriptor, bytes, file->size + 1, 0) == (ssize_t)file->size &&
                  memcmp(bytes, file->bytes, file->size) == 0;
        free(bytes);
        close(descriptor);
    }
    close(root);
    return matches;
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
