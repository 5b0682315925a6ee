/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mountinfo.c - read /proc/self/mountinfo, see proc_pid_mountinfo(5)
 *
 *   36 35 98:0 /root /mount/point rw,noatime master:1 - type source rw,options
 *
 * The kernel writes space, tab, newline and backslash in paths as \ooo.
 */
#include "fuse/mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_octal(char digit)
{
    return digit >= '0' && digit <= '7';
}

static void mountinfo_unescape(char *text)
{
    char *to = text;

    for (; *text != '\0'; to++) {
        if (text[0] == '\\' && is_octal(text[1]) && is_octal(text[2]) && is_octal(text[3])) {
            *to = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text += 4;
        } else {
            *to = *text++;
        }
    }
    *to = '\0';
}

/* The kernel puts it first. */
static bool begins_read_only(const char *options)
{
    return strncmp(options, "ro", 2) == 0 && strchr(",", options[2]) != NULL;
}

bool mountinfo_parse_line(char *line, struct mountinfo *ret_mount)
{
    enum { FIELD_ID, FIELD_PARENT, FIELD_DEVICE, FIELD_ROOT, FIELD_POINT, FIELD_OPTIONS, FIELDS };
    struct mountinfo mount = {0};
    char *fields[FIELDS], *position = line, *word;

    line[strcspn(line, "\n")] = '\0';
    for (int i = 0; i < FIELDS; i++) {
        fields[i] = strsep(&position, " ");
        if (fields[i] == NULL || position == NULL)
            return false;
    }
    /* Optional fields end with a single dash. */
    do {
        word = strsep(&position, " ");
    } while (word != NULL && strcmp(word, "-") != 0);
    if (word == NULL)
        return false;
    mount.type = strsep(&position, " ");
    mount.source = strsep(&position, " ");
    if (mount.type == NULL || mount.source == NULL)
        return false;

    if (sscanf(fields[FIELD_DEVICE], "%u:%u", &mount.device_major, &mount.device_minor) != 2)
        return false;
    mount.id = strtoull(fields[FIELD_ID], NULL, 10);
    mount.parent_id = strtoull(fields[FIELD_PARENT], NULL, 10);
    mount.mount_point = fields[FIELD_POINT];
    mount.read_only = position != NULL && begins_read_only(position);
    mountinfo_unescape(mount.mount_point);
    mountinfo_unescape(mount.source);
    *ret_mount = mount;
    return true;
}

/* Called for each mount, in the order of the table; the strings live during the call. Stops at the
 * first non-zero return, which it returns. */
typedef int mountinfo_callback(void *context, const struct mountinfo *mount);

static int mountinfo_each_of(const char *process, mountinfo_callback *callback, void *context)
{
    char path[64], *line = NULL;
    struct mountinfo mount;
    size_t capacity = 0;
    int result = 0;
    FILE *table;

    (void)snprintf(path, sizeof path, "/proc/%s/mountinfo", process);
    table = fopen(path, "re");
    if (table == NULL)
        return -errno;
    while (result == 0 && getline(&line, &capacity, table) >= 0) {
        if (mountinfo_parse_line(line, &mount))
            result = callback(context, &mount);
    }
    if (result == 0 && ferror(table))
        result = -EIO;
    free(line);
    (void)fclose(table);
    return result;
}

static int mountinfo_each(mountinfo_callback *callback, void *context)
{
    return mountinfo_each_of("self", callback, context);
}

static int mountinfo_copy(const struct mountinfo *mount, struct mountinfo *ret_copy)
{
    struct mountinfo copy = *mount;

    copy.mount_point = strdup(mount->mount_point);
    copy.type = strdup(mount->type);
    copy.source = strdup(mount->source);
    if (copy.mount_point == NULL || copy.type == NULL || copy.source == NULL) {
        mountinfo_free(&copy);
        return -ENOMEM;
    }
    mountinfo_free(ret_copy);
    *ret_copy = copy;
    return 0;
}

struct mountinfo_search {
    const char *path;
    bool exact;
    size_t best_size; /* of the mount point found, plus one; 0: none yet */
    struct mountinfo found;
};

/* Is `prefix` the path itself or one of its ancestors? */
static bool path_is_below(const char *prefix, const char *path)
{
    size_t size = strlen(prefix);

    if (strncmp(prefix, path, size) != 0)
        return false;
    return path[size] == '\0' || path[size] == '/' || (size > 0 && prefix[size - 1] == '/');
}

static int mountinfo_consider(void *context, const struct mountinfo *mount)
{
    struct mountinfo_search *search = context;
    size_t size = strlen(mount->mount_point) + 1;
    bool fits = search->exact ? strcmp(mount->mount_point, search->path) == 0
                              : path_is_below(mount->mount_point, search->path);

    /* Of several on one point the last in the table lies on top. */
    if (!fits || size < search->best_size)
        return 0;
    search->best_size = size;
    return mountinfo_copy(mount, &search->found);
}

static int mountinfo_find(const char *path, bool exact, struct mountinfo *ret_mount)
{
    struct mountinfo_search search = {.path = path, .exact = exact};
    int error = mountinfo_each(mountinfo_consider, &search);

    if (error == 0 && search.best_size == 0)
        error = -ENOENT;
    if (error < 0) {
        mountinfo_free(&search.found);
        return error;
    }
    *ret_mount = search.found;
    return 0;
}

int mountinfo_find_exact(const char *path, struct mountinfo *ret_mount)
{
    return mountinfo_find(path, true, ret_mount);
}

int mountinfo_find_holding(const char *path, struct mountinfo *ret_mount)
{
    return mountinfo_find(path, false, ret_mount);
}

struct mountinfo_count {
    uint64_t id;
    int children, mounts;
};

static int mountinfo_count(void *context, const struct mountinfo *mount)
{
    struct mountinfo_count *count = context;

    count->children += mount->parent_id == count->id && mount->id != count->id;
    count->mounts += mount->id == count->id;
    return 0;
}

int mountinfo_count_children(uint64_t id)
{
    struct mountinfo_count count = {.id = id};
    int error = mountinfo_each(mountinfo_count, &count);

    return error < 0 ? error : count.children;
}

int mountinfo_is_mounted(uint64_t id)
{
    struct mountinfo_count count = {.id = id};
    int error = mountinfo_each(mountinfo_count, &count);

    return error < 0 ? error : count.mounts > 0;
}

struct mountinfo_device {
    unsigned major, minor;
    struct mountinfo found;
};

static int mountinfo_match_first(void *context, const struct mountinfo *mount)
{
    struct mountinfo_device *device = context;
    int error;

    if (mount->device_major != device->major || mount->device_minor != device->minor)
        return 0;
    error = mountinfo_copy(mount, &device->found);
    return error < 0 ? error : 1;
}

int mountinfo_find_device(const char *process, unsigned device_major, unsigned device_minor,
                          struct mountinfo *ret_mount)
{
    struct mountinfo_device device = {.major = device_major, .minor = device_minor};
    int found = mountinfo_each_of(process, mountinfo_match_first, &device);

    if (found > 0)
        *ret_mount = device.found;
    return found > 0 ? 0 : found == 0 ? -ENOENT : found;
}

/* All mounts of one filesystem say the same. */
static int mountinfo_match_device(void *context, const struct mountinfo *mount)
{
    struct mountinfo *wanted = context;

    if (mount->device_major != wanted->device_major || mount->device_minor != wanted->device_minor)
        return 0;
    wanted->read_only = mount->read_only;
    return 1;
}

int mountinfo_is_writable(unsigned device_major, unsigned device_minor)
{
    struct mountinfo wanted = {.device_major = device_major, .device_minor = device_minor};
    int found = mountinfo_each(mountinfo_match_device, &wanted);

    return found < 0 ? found : found == 0 ? -ENOENT : !wanted.read_only;
}

static int mountinfo_match_source(void *context, const struct mountinfo *mount)
{
    return strcmp(mount->type, MOUNTINFO_TYPE) == 0 && strcmp(mount->source, context) == 0;
}

int mountinfo_has_source(const char *source)
{
    char *copy = strdup(source);
    int result = copy != NULL ? mountinfo_each(mountinfo_match_source, copy) : -ENOMEM;

    free(copy);
    return result;
}

void mountinfo_free(struct mountinfo *mount)
{
    free(mount->mount_point);
    free(mount->type);
    free(mount->source);
    *mount = (struct mountinfo){0};
}
