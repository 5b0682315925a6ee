/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_options.c - the comma list of -o
 */
#include "fuse/ll_options.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MEBIBYTE (UINT64_C(1) << 20)

void ll_options_default(struct ll_options *options)
{
    *options = (struct ll_options){
        .allow_other = geteuid() == 0,
        .threads_max = LL_THREADS_DEFAULT,
        .read_ahead_kb = LL_READ_AHEAD_KB_DEFAULT,
        .io_backend = IO_BACKEND_URING,
    };
    engine_options_default(&options->engine);
    fs_options_default(&options->fs);
    options->fs.owner_uid = getuid();
}

void ll_options_free(struct ll_options *options)
{
    free(options->store);
    free(options->mount_point);
    free(options->fsname);
    free(options->snapdir_name);
    free(options->kernel_options);
    *options = (struct ll_options){0};
}

enum option_kind {
    OPTION_FLAG,     /* sets a bool to true */
    OPTION_FLAG_OFF, /* sets a bool to false */
    OPTION_U32,
    OPTION_MEBIBYTES, /* a size_t in bytes */
    OPTION_STRING,
    OPTION_CHOICE, /* a bool: the first word is false, the second true */
    OPTION_BACKEND,
    OPTION_TRANSPORT,
    OPTION_KERNEL, /* passed on to mount(2) */
    OPTION_ATIME,  /* the minimum is the bits to set, the maximum those to clear first */
    OPTION_SYNC,   /* the minimum is the bits to set; passed on to mount(2) */
    OPTION_OWNER,  /* a user, by number or name */
    OPTION_IGNORED,
};

struct option {
    const char *name;
    enum option_kind kind;
    size_t offset;
    uint32_t minimum, maximum;
    const char *choices[2];
};

#define OFFSET(member) offsetof(struct ll_options, member)
#define ATIME_MODES    (FS_ATIME_STRICT | FS_ATIME_NONE)

static const struct option option_table[] = {
    {"ro", OPTION_FLAG, OFFSET(read_only), 0, 0, {0}},
    {"rw", OPTION_FLAG_OFF, OFFSET(read_only), 0, 0, {0}},
    {"norecovery", OPTION_FLAG, OFFSET(no_recovery), 0, 0, {0}},
    {"remount", OPTION_FLAG, OFFSET(remount), 0, 0, {0}},
    {"allow_other", OPTION_FLAG, OFFSET(allow_other), 0, 0, {0}},
    {"noallow_other", OPTION_FLAG_OFF, OFFSET(allow_other), 0, 0, {0}},
    {"writeback", OPTION_FLAG, OFFSET(writeback), 0, 0, {0}},
    {"nowriteback", OPTION_FLAG_OFF, OFFSET(writeback), 0, 0, {0}},
    {"nodev", OPTION_FLAG, OFFSET(nodev), 0, 0, {0}},
    {"dev", OPTION_FLAG_OFF, OFFSET(nodev), 0, 0, {0}},
    {"nosuid", OPTION_FLAG, OFFSET(nosuid), 0, 0, {0}},
    {"suid", OPTION_FLAG_OFF, OFFSET(nosuid), 0, 0, {0}},
    {"shutdown_ioctl", OPTION_FLAG, OFFSET(shutdown_ioctl), 0, 0, {0}},
    {"noshutdown_ioctl", OPTION_FLAG_OFF, OFFSET(shutdown_ioctl), 0, 0, {0}},
    {"snapdir", OPTION_CHOICE, OFFSET(fs.snapdir_visible), 0, 0, {"hidden", "visible"}},
    {"snapdir_name", OPTION_STRING, OFFSET(snapdir_name), 0, 0, {0}},
    {"snapdirs", OPTION_CHOICE, OFFSET(fs.snapdir_everywhere), 0, 0, {"root", "everywhere"}},
    {"snaplinks", OPTION_CHOICE, OFFSET(fs.snaplinks), 0, 0, {"off", "on"}},
    {"snapshot_views", OPTION_U32, OFFSET(fs.snapshot_views_max), 1, 4096, {0}},
    {"handle_versions", OPTION_U32, OFFSET(fs.versions_max), 0, UINT32_MAX, {0}},
    {"sync_window", OPTION_U32, OFFSET(engine.sync_window_ms), 0, 3600000, {0}},
    {"io_deadline", OPTION_U32, OFFSET(engine.io_deadline_ms), 0, 3600000, {0}},
    {"memtable_mb", OPTION_MEBIBYTES, OFFSET(engine.memtable_bytes), 1, 4096, {0}},
    {"cache_mb", OPTION_MEBIBYTES, OFFSET(engine.block_cache_bytes), 1, 1 << 20, {0}},
    {"threads", OPTION_U32, OFFSET(threads_max), 2, LL_THREADS_LIMIT, {0}},
    {"readahead_kb", OPTION_U32, OFFSET(read_ahead_kb), 0, 65536, {0}},
    {"fsname", OPTION_STRING, OFFSET(fsname), 0, 0, {0}},
    {"transport", OPTION_TRANSPORT, OFFSET(transport), 0, 0, {0}},
    {"io", OPTION_BACKEND, OFFSET(io_backend), 0, 0, {0}},
    {"noexec", OPTION_KERNEL, 0, 0, 0, {0}},
    {"exec", OPTION_KERNEL, 0, 0, 0, {0}},
    {"sync", OPTION_SYNC, 0, FS_SYNC_ALL, 0, {0}},
    {"dirsync", OPTION_SYNC, 0, FS_SYNC_DIRECTORIES, 0, {0}},
    {"uid", OPTION_OWNER, 0, 0, 0, {0}},
    {"noatime", OPTION_ATIME, 0, FS_ATIME_NONE, ATIME_MODES, {0}},
    {"atime", OPTION_ATIME, 0, FS_ATIME_RELATIVE, ATIME_MODES, {0}},
    {"relatime", OPTION_ATIME, 0, FS_ATIME_RELATIVE, ATIME_MODES, {0}},
    {"strictatime", OPTION_ATIME, 0, FS_ATIME_STRICT, ATIME_MODES, {0}},
    {"nostrictatime", OPTION_ATIME, 0, FS_ATIME_RELATIVE, ATIME_MODES, {0}},
    {"nodiratime", OPTION_ATIME, 0, FS_ATIME_NO_DIRECTORIES, FS_ATIME_NO_DIRECTORIES, {0}},
    {"diratime", OPTION_ATIME, 0, 0, FS_ATIME_NO_DIRECTORIES, {0}},
    /* What is always so, and what only mount(8) and fstab read. */
    {"default_permissions", OPTION_IGNORED, 0, 0, 0, {0}},
    {"subtype", OPTION_IGNORED, 0, 0, 0, {0}},
    {"defaults", OPTION_IGNORED, 0, 0, 0, {0}},
    {"async", OPTION_IGNORED, 0, 0, 0, {0}},
    {"norelatime", OPTION_IGNORED, 0, 0, 0, {0}},
    {"lazytime", OPTION_IGNORED, 0, 0, 0, {0}},
    {"nolazytime", OPTION_IGNORED, 0, 0, 0, {0}},
    {"auto", OPTION_IGNORED, 0, 0, 0, {0}},
    {"noauto", OPTION_IGNORED, 0, 0, 0, {0}},
    {"user", OPTION_IGNORED, 0, 0, 0, {0}},
    {"nouser", OPTION_IGNORED, 0, 0, 0, {0}},
    {"users", OPTION_IGNORED, 0, 0, 0, {0}},
    {"owner", OPTION_IGNORED, 0, 0, 0, {0}},
    {"group", OPTION_IGNORED, 0, 0, 0, {0}},
    {"nofail", OPTION_IGNORED, 0, 0, 0, {0}},
    {"_netdev", OPTION_IGNORED, 0, 0, 0, {0}},
    {"comment", OPTION_IGNORED, 0, 0, 0, {0}},
    {"nonempty", OPTION_IGNORED, 0, 0, 0, {0}},
    /* What the kernel shows of a FUSE mount: mount -o remount repeats it. */
    {"gid", OPTION_IGNORED, 0, 0, 0, {0}},
    {"user_id", OPTION_IGNORED, 0, 0, 0, {0}},
    {"group_id", OPTION_IGNORED, 0, 0, 0, {0}},
    {"max_read", OPTION_IGNORED, 0, 0, 0, {0}},
    {"blksize", OPTION_IGNORED, 0, 0, 0, {0}},
};

static const struct option *option_find(const char *name)
{
    for (size_t i = 0; i < sizeof option_table / sizeof option_table[0]; i++) {
        if (strcmp(option_table[i].name, name) == 0)
            return &option_table[i];
    }
    return NULL;
}

static bool option_takes_value(const struct option *option)
{
    return option->kind == OPTION_U32 || option->kind == OPTION_MEBIBYTES ||
           option->kind == OPTION_STRING || option->kind == OPTION_CHOICE ||
           option->kind == OPTION_BACKEND || option->kind == OPTION_TRANSPORT ||
           option->kind == OPTION_OWNER;
}

static int option_complain(char error[LL_OPTIONS_ERROR_SIZE], const char *format, const char *name,
                           const char *value)
{
    (void)snprintf(error, LL_OPTIONS_ERROR_SIZE, format, name, value);
    return -EINVAL;
}

static int option_parse_number(const struct option *option, const char *value, uint32_t *ret_number,
                               char error[LL_OPTIONS_ERROR_SIZE])
{
    unsigned long long number;
    char *end;

    errno = 0;
    number = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 ||
        number < option->minimum || number > option->maximum) {
        (void)snprintf(error, LL_OPTIONS_ERROR_SIZE,
                       "option %s must be a number from %" PRIu32 " to %" PRIu32, option->name,
                       option->minimum, option->maximum);
        return -EINVAL;
    }
    *ret_number = (uint32_t)number;
    return 0;
}

static int option_set_string(char **target, const char *value)
{
    char *copy = strdup(value);

    if (copy == NULL)
        return -ENOMEM;
    free(*target);
    *target = copy;
    return 0;
}

static int option_add_kernel(struct ll_options *options, const char *name)
{
    char *list = NULL;

    if (options->kernel_options == NULL)
        return option_set_string(&options->kernel_options, name);
    if (asprintf(&list, "%s,%s", options->kernel_options, name) < 0)
        return -ENOMEM;
    free(options->kernel_options);
    options->kernel_options = list;
    return 0;
}

static int option_set_choice(const struct option *option, const char *value, bool *target,
                             char error[LL_OPTIONS_ERROR_SIZE])
{
    for (int i = 0; i < 2; i++) {
        if (strcmp(option->choices[i], value) == 0) {
            *target = i == 1;
            return 0;
        }
    }
    (void)snprintf(error, LL_OPTIONS_ERROR_SIZE, "option %s is %s or %s, not '%s'", option->name,
                   option->choices[0], option->choices[1], value);
    return -EINVAL;
}

/* Whose mount it is, when root makes it for somebody: he may make and delete snapshots. */
static int option_set_owner(struct ll_options *options, const char *value,
                            char error[LL_OPTIONS_ERROR_SIZE])
{
    const struct passwd *user = getpwnam(value);
    unsigned long number;
    char *end;

    if (geteuid() != 0)
        return option_complain(error, "only root may say whose mount it is (%s=%s)", "uid", value);
    errno = 0;
    number = strtoul(value, &end, 10);
    if (user != NULL)
        number = user->pw_uid;
    else if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || number >= UINT32_MAX)
        return option_complain(error, "there is no user for %s=%s", "uid", value);
    options->fs.owner_uid = (uid_t)number;
    return 0;
}

static int option_apply(struct ll_options *options, const struct option *option, const char *value,
                        char error[LL_OPTIONS_ERROR_SIZE])
{
    char *target = (char *)options + option->offset;
    uint32_t number;
    int result = 0;

    switch (option->kind) {
    case OPTION_FLAG:
    case OPTION_FLAG_OFF:
        *(bool *)target = option->kind == OPTION_FLAG;
        break;
    case OPTION_U32:
        result = option_parse_number(option, value, (uint32_t *)(void *)target, error);
        break;
    case OPTION_MEBIBYTES:
        result = option_parse_number(option, value, &number, error);
        if (result == 0)
            *(size_t *)(void *)target = number * MEBIBYTE;
        break;
    case OPTION_STRING:
        result = option_set_string((char **)(void *)target, value);
        break;
    case OPTION_CHOICE:
        result = option_set_choice(option, value, (bool *)target, error);
        break;
    case OPTION_BACKEND:
        if (strcmp(value, "uring") == 0)
            options->io_backend = IO_BACKEND_URING;
        else if (strcmp(value, "sync") == 0)
            options->io_backend = IO_BACKEND_SYNC;
        else
            result = option_complain(error, "option %s is uring or sync, not '%s'", "io", value);
        break;
    case OPTION_TRANSPORT:
        if (strcmp(value, "dev") == 0)
            options->transport = LL_TRANSPORT_DEVICE;
        else if (strcmp(value, "auto") == 0)
            options->transport = LL_TRANSPORT_AUTO;
        else if (strcmp(value, "io_uring") == 0)
            options->transport = LL_TRANSPORT_RINGS;
        else
            result = option_complain(error, "option %s is auto, dev or io_uring, not '%s'",
                                     "transport", value);
        break;
    case OPTION_ATIME:
        options->fs.atime = (options->fs.atime & ~option->maximum) | option->minimum;
        break;
    case OPTION_SYNC:
        options->fs.sync |= option->minimum;
        result = option_add_kernel(options, option->name);
        break;
    case OPTION_OWNER:
        result = option_set_owner(options, value, error);
        break;
    case OPTION_KERNEL:
        result = option_add_kernel(options, option->name);
        break;
    case OPTION_IGNORED:
        break;
    }
    return result;
}

static int option_parse_word(struct ll_options *options, char *word, bool sloppy,
                             char error[LL_OPTIONS_ERROR_SIZE])
{
    char *value = strchr(word, '=');
    const struct option *option;

    if (word[0] == '\0' || strncmp(word, "x-", 2) == 0)
        return 0;
    if (value != NULL)
        *value++ = '\0';

    option = option_find(word);
    if (option == NULL)
        return sloppy ? 0 : option_complain(error, "unknown mount option '%s'%s", word, "");
    if (option->kind != OPTION_IGNORED && option_takes_value(option) != (value != NULL))
        return option_complain(
            error, value != NULL ? "option %s takes no value (%s)" : "option %s needs a value%s",
            word, value != NULL ? value : "");
    return option_apply(options, option, value, error);
}

/* Cut the next word off *list, with `\,` and `\\` taken literally; false at the end. */
static bool option_next_word(const char **list, char *word)
{
    const char *from = *list;

    if (*from == '\0')
        return false;
    while (*from != '\0' && *from != ',') {
        if (*from == '\\' && (from[1] == ',' || from[1] == '\\'))
            from++;
        *word++ = *from++;
    }
    *word = '\0';
    *list = *from == ',' ? from + 1 : from;
    return true;
}

int ll_options_parse(struct ll_options *options, const char *list, bool sloppy,
                     char error[LL_OPTIONS_ERROR_SIZE])
{
    char *word = malloc(strlen(list) + 1);
    int result = word == NULL ? -ENOMEM : 0;

    error[0] = '\0';
    while (result == 0 && option_next_word(&list, word))
        result = option_parse_word(options, word, sloppy, error);
    free(word);
    return result;
}
