/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holders.c - which processes keep a mount busy
 */
#include "tools/holders.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PATH_SIZE 640

/* Is what the link names in that mount? The kernel knows without asking the filesystem. */
static bool link_is_in_mount(const char *link, uint64_t mount_id)
{
    struct statx status;

    if (statx(AT_FDCWD, link, AT_STATX_DONT_SYNC, STATX_MNT_ID, &status) != 0)
        return false;
    return (status.stx_mask & STATX_MNT_ID) != 0 && status.stx_mnt_id == mount_id;
}

/* The first open file of the process that is in the mount: its descriptor, or -1. */
static int holder_descriptor(const char *process, uint64_t mount_id)
{
    char path[PATH_SIZE];
    struct dirent *entry;
    int found = -1;
    DIR *directory;

    (void)snprintf(path, sizeof path, "/proc/%s/fd", process);
    directory = opendir(path);
    if (directory == NULL)
        return -1;
    while (found < 0 && (entry = readdir(directory)) != NULL) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        (void)snprintf(path, sizeof path, "/proc/%s/fd/%s", process, entry->d_name);
        if (link_is_in_mount(path, mount_id))
            found = atoi(entry->d_name);
    }
    (void)closedir(directory);
    return found;
}

/* address permissions offset major:minor inode path */
static bool holder_maps(const char *process, const struct mountinfo *mount)
{
    char path[PATH_SIZE], *line = NULL;
    unsigned device_major, device_minor;
    size_t capacity = 0;
    bool found = false;
    FILE *maps;

    (void)snprintf(path, sizeof path, "/proc/%s/maps", process);
    maps = fopen(path, "re");
    if (maps == NULL)
        return false;
    while (!found && getline(&line, &capacity, maps) >= 0) {
        found = sscanf(line, "%*s %*s %*s %x:%x", &device_major, &device_minor) == 2 &&
                device_major == mount->device_major && device_minor == mount->device_minor;
    }
    free(line);
    (void)fclose(maps);
    return found;
}

/* How the process holds the mount, in words; false when it does not. */
static bool holder_describe(const char *process, const struct mountinfo *mount, char *words,
                            size_t size)
{
    static const struct {
        const char *link, *words;
    } links[] = {
        {"cwd", "its working directory is there"},
        {"root", "its root is there"},
        {"exe", "its program is there"},
    };
    char path[PATH_SIZE];
    int descriptor;

    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++) {
        (void)snprintf(path, sizeof path, "/proc/%s/%s", process, links[i].link);
        if (link_is_in_mount(path, mount->id)) {
            (void)snprintf(words, size, "%s", links[i].words);
            return true;
        }
    }
    descriptor = holder_descriptor(process, mount->id);
    if (descriptor >= 0) {
        (void)snprintf(words, size, "has a file open there (descriptor %d)", descriptor);
        return true;
    }
    if (holder_maps(process, mount)) {
        (void)snprintf(words, size, "has a file mapped there");
        return true;
    }
    return false;
}

static void holder_name(const char *process, char *name, size_t size)
{
    char path[PATH_SIZE];
    FILE *file;

    (void)snprintf(name, size, "?");
    (void)snprintf(path, sizeof path, "/proc/%s/comm", process);
    file = fopen(path, "re");
    if (file == NULL)
        return;
    if (fgets(name, (int)size, file) != NULL)
        name[strcspn(name, "\n")] = '\0';
    (void)fclose(file);
}

unsigned holders_print(const struct mountinfo *mount)
{
    DIR *processes = opendir("/proc");
    char words[128], name[64];
    struct dirent *entry;
    unsigned count = 0;

    if (processes == NULL)
        return 0;
    while ((entry = readdir(processes)) != NULL) {
        if (!isdigit((unsigned char)entry->d_name[0]) ||
            !holder_describe(entry->d_name, mount, words, sizeof words))
            continue;
        holder_name(entry->d_name, name, sizeof name);
        (void)fprintf(stderr, "  %s (process %s): %s\n", name, entry->d_name, words);
        count++;
    }
    (void)closedir(processes);
    return count;
}

/* ---- other mounts of the same filesystem ---- */

struct namespaces {
    ino_t *seen;
    size_t count;
};

/* True once for each namespace of mounts, also when there is no memory to remember it. */
static bool is_new_namespace(struct namespaces *namespaces, const char *process)
{
    char path[PATH_SIZE];
    struct stat status;
    ino_t *grown;

    (void)snprintf(path, sizeof path, "/proc/%s/ns/mnt", process);
    if (stat(path, &status) != 0)
        return false;
    for (size_t i = 0; i < namespaces->count; i++)
        if (namespaces->seen[i] == status.st_ino)
            return false;
    grown = reallocarray(namespaces->seen, namespaces->count + 1, sizeof *grown);
    if (grown != NULL) {
        namespaces->seen = grown;
        namespaces->seen[namespaces->count++] = status.st_ino;
    }
    return true;
}

static bool shows_elsewhere(const char *process, const struct mountinfo *mount, bool print)
{
    struct mountinfo other = {0};
    char name[64];

    if (mountinfo_find_device(process, mount->device_major, mount->device_minor, &other) < 0)
        return false;
    if (print) {
        holder_name(process, name, sizeof name);
        (void)fprintf(stderr, "  %s (process %s) has it mounted on %s\n", name, process,
                      other.mount_point);
    }
    mountinfo_free(&other);
    return true;
}

unsigned holders_elsewhere(const struct mountinfo *mount, bool print)
{
    struct namespaces namespaces = {0};
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    unsigned count = 0;

    if (processes == NULL)
        return 0;
    while ((entry = readdir(processes)) != NULL)
        if (isdigit((unsigned char)entry->d_name[0]) &&
            is_new_namespace(&namespaces, entry->d_name))
            count += shows_elsewhere(entry->d_name, mount, print);
    (void)closedir(processes);
    free(namespaces.seen);
    return count;
}
