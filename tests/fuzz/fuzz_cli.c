/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_cli.c - what the command line and the daemon parse of what people and other programs write
 *
 * The options byte says what the rest is: a list for -o, a line of mountinfo, a message of the
 * control channel, the name of a snapshot.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>

#include "fuse/control_json.h"
#include "fuse/ll_options.h"
#include "fuse/mountinfo.h"
#include "snapshot/snapshot.h"

enum input { OPTIONS, SLOPPY_OPTIONS, MOUNTINFO, JSON, NAME, INPUTS };

static void check_options(const char *text, bool sloppy)
{
    char error[LL_OPTIONS_ERROR_SIZE] = "";
    struct ll_options options;
    int result;

    ll_options_default(&options);
    result = ll_options_parse(&options, text, sloppy, error);
    fuzz_require(result == 0 || result == -EINVAL || result == -ENOMEM);
    /* Whoever is refused is told why. */
    fuzz_require((result == -EINVAL) == (error[0] != '\0'));
    fuzz_require(memchr(error, '\0', sizeof error) != NULL);
    if (result == 0)
        fuzz_require(options.threads_max >= 1 && options.engine.memtable_bytes > 0);
    ll_options_free(&options);
}

static void check_mountinfo(char *line)
{
    struct mountinfo mount;

    if (!mountinfo_parse_line(line, &mount))
        return;
    fuzz_require(mount.mount_point != NULL && mount.type != NULL && mount.source != NULL);
    fuzz_require(strlen(mount.mount_point) + strlen(mount.type) + strlen(mount.source) < 1u << 20);
}

static void check_json(const char *text, size_t size)
{
    json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL), *copy;
    char bytes[64], again[64];
    int count;

    if (object == NULL)
        return;
    count = control_json_get_bytes(object, "name", bytes, sizeof bytes);
    fuzz_require(count < (int)sizeof bytes);
    if (count >= 0) {
        fuzz_require(bytes[count] == '\0' && strlen(bytes) == (size_t)count);
        copy = json_object();
        fuzz_require(control_json_set_bytes(copy, "name", bytes, (size_t)count) == 0);
        fuzz_require(control_json_get_bytes(copy, "name", again, sizeof again) == count);
        fuzz_require(memcmp(bytes, again, (size_t)count) == 0);
        json_decref(copy);
    }
    json_decref(object);
}

int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
    (void)argument_count;
    (void)arguments;
    log_set_level(LOG_LEVEL_ERROR);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size < 1)
        return 0;
    text = malloc(size);
    fuzz_require(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch ((enum input)(data[0] % INPUTS)) {
    case OPTIONS:
        check_options(text, false);
        break;
    case SLOPPY_OPTIONS:
        check_options(text, true);
        break;
    case MOUNTINFO:
        check_mountinfo(text);
        break;
    case JSON:
        check_json(text, size - 1);
        break;
    default:
        (void)snapshot_name_check(slice_of(text, size - 1));
        break;
    }
    free(text);
    return 0;
}
