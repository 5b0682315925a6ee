/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_directory.c - temporary directories and whole files for tests
 */
#include "tests/lib/test_directory.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static _Noreturn void fail(const char *what, const char *path)
{
    fprintf(stderr, "test directory: %s: ", path);
    perror(what);
    abort();
}

char *test_path(const char *directory, const char *name)
{
    char *path;

    if (asprintf(&path, "%s/%s", directory, name) < 0)
        fail("asprintf", name);
    return path;
}

char *test_directory_make_in(const char *parent)
{
    char *path = test_path(parent, "varve-test-XXXXXX");

    if (mkdtemp(path) == NULL)
        fail("mkdtemp", path);
    return path;
}

char *test_directory_make(void)
{
    const char *parent = getenv("TMPDIR");

    return test_directory_make_in(parent != NULL && parent[0] != '\0' ? parent : "/tmp");
}

/* A directory without write permission would keep its entries: open it up on the way down. */
static int open_up(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)where;
    if ((kind == FTW_D || kind == FTW_DNR) && (status->st_mode & S_IRWXU) != S_IRWXU)
        (void)chmod(path, S_IRWXU);
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

void test_directory_remove(char *path)
{
    if (path == NULL)
        return;
    (void)nftw(path, open_up, 16, FTW_PHYS);
    if (nftw(path, remove_one, 16, FTW_PHYS | FTW_DEPTH) != 0)
        fail("remove", path);
    free(path);
}

uint8_t *test_file_read(const char *path, size_t *ret_size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    uint8_t *data;
    size_t done = 0;

    if (descriptor < 0 || fstat(descriptor, &status) != 0)
        fail("open", path);
    data = malloc((size_t)status.st_size + 1);
    if (data == NULL)
        fail("malloc", path);
    while (done < (size_t)status.st_size) {
        ssize_t count = read(descriptor, data + done, (size_t)status.st_size - done);

        if (count <= 0)
            fail("read", path);
        done += (size_t)count;
    }
    close(descriptor);
    *ret_size = done;
    return data;
}

void test_file_write(const char *path, const void *data, size_t size)
{
    FILE *file;

    if (unlink(path) != 0 && access(path, F_OK) == 0)
        fail("unlink", path);
    file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        fail("write", path);
}
