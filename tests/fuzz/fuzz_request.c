/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_request.c - FUSE requests, served by the daemon's own loop, libfuse and all, without a
 * kernel
 *
 * One end of a socket pair stands for /dev/fuse. The fuzzer is the kernel: what the kernel
 * guarantees, and libfuse and the daemon rely on, holds for every request (sizes fit, names end,
 * handles were given out, no more lookups are forgotten than were made); all else is the input's.
 *
 * An input is a row of requests: opcode u8; node u8 (an index into those known; 255: the next 8
 * bytes); caller u8; size of the body u16; body. After each of them exactly one answer must come
 * (or none, where the protocol has none), and in the end the filesystem must be sound as fsck sees
 * it, also after the store was closed and opened again.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/endian.h"
#include "fuse/ll_internal.h"
#include "tests/lib/test_directory.h"

#define MESSAGE_MAX    (160 * 1024)
#define TRANSFER_MAX   (64 * 1024)
#define NODES_MAX      64
#define HANDLES_MAX    32
#define REQUESTS_MAX   64
#define ANSWER_WAIT_MS 60000
#define OPCODES        53
#define STATX          52

/* What the kernel puts behind the header: a fixed part and names. */
static const struct shape {
    uint8_t fixed, names;
    bool has_data, is_served;
} shapes[OPCODES] = {
    [FUSE_LOOKUP] = {0, 1, false, true},
    [FUSE_GETATTR] = {16, 0, false, true},
    [FUSE_SETATTR] = {88, 0, false, true},
    [FUSE_READLINK] = {0, 0, false, true},
    [FUSE_SYMLINK] = {0, 2, false, true},
    [FUSE_MKNOD] = {16, 1, false, true},
    [FUSE_MKDIR] = {8, 1, false, true},
    [FUSE_UNLINK] = {0, 1, false, true},
    [FUSE_RMDIR] = {0, 1, false, true},
    [FUSE_RENAME] = {8, 2, false, true},
    [FUSE_LINK] = {8, 1, false, true},
    [FUSE_OPEN] = {8, 0, false, true},
    [FUSE_READ] = {40, 0, false, true},
    [FUSE_WRITE] = {40, 0, true, true},
    [FUSE_STATFS] = {0, 0, false, true},
    [FUSE_RELEASE] = {24, 0, false, true},
    [FUSE_FSYNC] = {16, 0, false, true},
    [FUSE_SETXATTR] = {16, 1, true, true},
    [FUSE_GETXATTR] = {8, 1, false, true},
    [FUSE_LISTXATTR] = {8, 0, false, true},
    [FUSE_REMOVEXATTR] = {0, 1, false, true},
    [FUSE_FLUSH] = {24, 0, false, true},
    [FUSE_OPENDIR] = {8, 0, false, true},
    [FUSE_READDIR] = {40, 0, false, true},
    [FUSE_RELEASEDIR] = {24, 0, false, true},
    [FUSE_FSYNCDIR] = {16, 0, false, true},
    [FUSE_ACCESS] = {8, 0, false, true},
    [FUSE_CREATE] = {16, 1, false, true},
    [FUSE_IOCTL] = {32, 0, true, true},
    [FUSE_FALLOCATE] = {32, 0, false, true},
    [FUSE_READDIRPLUS] = {40, 0, false, true},
    [FUSE_RENAME2] = {16, 2, false, true},
    [FUSE_LSEEK] = {24, 0, false, true},
    [FUSE_COPY_FILE_RANGE] = {56, 0, false, true},
    [FUSE_SYNCFS] = {8, 0, false, true},
    [FUSE_TMPFILE] = {16, 1, false, true},
    [STATX] = {24, 0, false, true},
};

struct node {
    uint64_t number, lookups;
};

struct handle {
    uint64_t node, value;
    uint32_t flags;
    bool is_directory, used;
};

/* The daemon, which lives as long as the process, on a store that each input has for itself. */
static struct ll daemon_;
static struct ll_options options;
static int kernel_end;
static char *directory, *mount_point;
static uint64_t next_unique = 2;

static struct node nodes[NODES_MAX];
static size_t node_count;
static struct handle handles[HANDLES_MAX];
static uint8_t answer[MESSAGE_MAX];
static size_t answer_size;

/* ---- the daemon ---- */

static void on_ended(void *context)
{
    (void)context;
}

static void on_entry(void *context, uint64_t parent, const char *name)
{
    (void)context;
    ll_notify_entry(daemon_.notify, parent, name);
}

static void on_inode(void *context, uint64_t node)
{
    (void)context;
    ll_notify_inode(daemon_.notify, node);
}

static void open_store(const char *path)
{
    struct engine_options engine_options = options.engine;
    struct fs_options fs_options = options.fs;
    const struct fs_notify notify = {.entry = on_entry, .inode = on_inode};

    engine_options.path = path;
    engine_options.io = daemon_.io;
    engine_options.memtable_bytes = 1 << 18;
    engine_options.wal_segment_bytes = 1 << 18;
    engine_options.blob_buffers = 2;
    engine_options.block_cache_bytes = 1 << 20;
    engine_options.sync_window_ms = 0;
    fuzz_require(engine_open(&engine_options, &daemon_.engine) == 0);
    fuzz_require(fs_open(daemon_.engine, &fs_options, &daemon_.fs) == 0);
    fs_set_notify(daemon_.fs, &notify);
}

static void report(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "fsck: %s\n", line);
}

static void check_store(void)
{
    struct engine_view *view = engine_view_acquire(daemon_.engine);
    uint64_t findings = 0;

    fuzz_require(view != NULL);
    fuzz_require(fs_check(view, true, report, NULL, &findings) == 0);
    fuzz_require(findings == 0);
    engine_view_release(view);
}

static void close_store(void)
{
    fs_close(daemon_.fs);
    fuzz_require(engine_close(daemon_.engine) == 0);
    daemon_.fs = NULL;
    daemon_.engine = NULL;
}

/* ---- requests ---- */

/* One message of the daemon: its answer to `unique`. Notifications are passed over. */
static bool receive(uint64_t unique, int wait_ms)
{
    struct pollfd end = {.fd = kernel_end, .events = POLLIN};
    struct fuse_out_header header;

    while (poll(&end, 1, wait_ms) > 0) {
        ssize_t size = recv(kernel_end, answer, sizeof answer, 0);

        fuzz_require(size >= (ssize_t)sizeof header);
        memcpy(&header, answer, sizeof header);
        fuzz_require(header.len == (size_t)size);
        if (header.unique == 0)
            continue;
        fuzz_require(header.unique == unique);
        fuzz_require(header.error <= 0 && header.error > -1000);
        answer_size = (size_t)size;
        return true;
    }
    return false;
}

static int answer_error(void)
{
    struct fuse_out_header header;

    memcpy(&header, answer, sizeof header);
    return header.error;
}

/* Send, and take the answer. */
static void call(uint32_t opcode, uint64_t node, uint32_t uid, const void *body, size_t size,
                 bool is_answered)
{
    uint8_t *message = malloc(sizeof(struct fuse_in_header) + size);
    struct fuse_in_header header = {
        .len = (uint32_t)(sizeof header + size),
        .opcode = opcode,
        .unique = next_unique,
        .nodeid = node,
        .uid = uid,
        .gid = uid,
        .pid = 1,
    };

    fuzz_require(message != NULL);
    next_unique += 2;
    memcpy(message, &header, sizeof header);
    if (size > 0)
        memcpy(message + sizeof header, body, size);
    fuzz_require(send(kernel_end, message, header.len, 0) == (ssize_t)header.len);
    free(message);
    if (is_answered)
        fuzz_require(receive(header.unique, ANSWER_WAIT_MS));
}

/* Everything that was sent has been dealt with, the unanswered too. */
static void settle(void)
{
    call(FUSE_STATFS, FS_ROOT, 0, NULL, 0, true);
}

/* ---- what the kernel remembers ---- */

static void remember_lookup(uint64_t node)
{
    fuzz_require(node != 0);
    for (size_t i = 0; i < node_count; i++) {
        if (nodes[i].number == node) {
            nodes[i].lookups++;
            return;
        }
    }
    if (node_count < NODES_MAX) {
        nodes[node_count++] = (struct node){node, 1};
    } else {
        const struct fuse_forget_in forget = {1};

        call(FUSE_FORGET, node, 0, &forget, sizeof forget, false);
    }
}

static void close_handle(struct handle *handle)
{
    struct fuse_release_in release = {.fh = handle->value, .flags = handle->flags};

    call(handle->is_directory ? FUSE_RELEASEDIR : FUSE_RELEASE, handle->node, 0, &release,
         sizeof release, true);
    fuzz_require(answer_error() == 0);
    handle->used = false;
}

static void remember_handle(uint64_t node, uint64_t value, uint32_t flags, bool is_directory)
{
    struct handle *slot = &handles[0];

    for (size_t i = 1; slot->used && i < HANDLES_MAX; i++)
        slot = &handles[i];
    if (slot->used)
        close_handle(slot);
    *slot = (struct handle){node, value, flags, is_directory, true};
}

static struct handle *find_handle(uint64_t hint, bool is_directory)
{
    for (size_t i = 0; i < HANDLES_MAX; i++) {
        struct handle *handle = &handles[(hint + i) % HANDLES_MAX];

        if (handle->used && handle->is_directory == is_directory)
            return handle;
    }
    return NULL;
}

static void forget_everything(void)
{
    for (size_t i = 0; i < HANDLES_MAX; i++)
        if (handles[i].used)
            close_handle(&handles[i]);
    for (size_t i = 1; i < node_count; i++) {
        const struct fuse_forget_in forget = {nodes[i].lookups};

        call(FUSE_FORGET, nodes[i].number, 0, &forget, sizeof forget, false);
    }
    node_count = 1;
    nodes[0] = (struct node){FS_ROOT, 1};
    settle();
}

/* ---- one request of the input ---- */

struct request {
    uint32_t opcode;
    uint64_t node;
    uint32_t uid;
    uint8_t body[MESSAGE_MAX / 2];
    size_t size;
};

static uint64_t known_node(uint64_t hint)
{
    return nodes[hint % node_count].number;
}

static bool is_name(const uint8_t *name, size_t size)
{
    return size >= 1 && size <= 255 && memchr(name, '/', size) == NULL;
}

/* The body as the kernel would send it: false when it would not send such a request. */
static bool shape_body(struct request *request, const uint8_t *bytes, size_t size)
{
    const struct shape *shape = &shapes[request->opcode];
    size_t at = shape->fixed, used = shape->fixed < size ? shape->fixed : size;

    memset(request->body, 0, shape->fixed);
    memcpy(request->body, bytes, used);
    for (unsigned i = 0; i < shape->names; i++) {
        size_t length = strnlen((const char *)bytes + used, size - used);
        /* A symbolic link's target may have slashes, and so may an xattr's name. */
        bool is_plain = (request->opcode == FUSE_SYMLINK && i == 1) ||
                        request->opcode == FUSE_SETXATTR || request->opcode == FUSE_GETXATTR ||
                        request->opcode == FUSE_REMOVEXATTR;

        if (is_plain ? length == 0 || length > 255 : !is_name(bytes + used, length))
            return false;
        if (!is_plain && request->opcode != FUSE_LOOKUP &&
            (strcmp((const char *)bytes + used, ".") == 0 ||
             (length == 2 && memcmp(bytes + used, "..", 2) == 0) ||
             (length == 1 && bytes[used] == '.')))
            return false;
        memcpy(request->body + at, bytes + used, length);
        request->body[at + length] = '\0';
        at += length + 1;
        used += length < size - used ? length + 1 : length;
    }
    if (shape->has_data) {
        memcpy(request->body + at, bytes + used, size - used);
        if (request->opcode == FUSE_WRITE || request->opcode == FUSE_SETXATTR)
            put_le32(request->body + (request->opcode == FUSE_WRITE ? 16 : 0),
                     (uint32_t)(size - used));
        if (request->opcode == FUSE_IOCTL) {
            put_le32(request->body + 24, (uint32_t)(size - used));
            put_le32(request->body + 28, get_le32(request->body + 28) % TRANSFER_MAX);
        }
        at += size - used;
    }
    request->size = at;
    return true;
}

static void put_handle(struct request *request, const struct handle *handle)
{
    put_le64(request->body, handle->value);
    request->node = handle->node;
}

/* What a request refers to must be there. */
static bool shape_references(struct request *request)
{
    uint64_t hint = request->size > 0 ? request->body[0] : 0;
    struct handle *handle;

    switch (request->opcode) {
    case FUSE_LINK:
    case FUSE_RENAME:
    case FUSE_RENAME2:
        put_le64(request->body, known_node(hint));
        return true;
    case FUSE_READ:
    case FUSE_WRITE:
    case FUSE_FALLOCATE:
    case FUSE_LSEEK:
    case FUSE_FSYNC:
    case FUSE_FLUSH:
    case FUSE_COPY_FILE_RANGE:
        handle = find_handle(hint, false);
        if (handle == NULL)
            return false;
        put_handle(request, handle);
        if (request->opcode == FUSE_READ)
            put_le32(request->body + 16, get_le32(request->body + 16) % TRANSFER_MAX);
        if (request->opcode == FUSE_COPY_FILE_RANGE) {
            handle = find_handle(request->body[16], false);
            put_le64(request->body + 16, handle->node);
            put_le64(request->body + 24, handle->value);
        }
        return true;
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
    case FUSE_FSYNCDIR:
        handle = find_handle(hint, true);
        if (handle == NULL)
            return false;
        put_handle(request, handle);
        if (request->opcode != FUSE_FSYNCDIR)
            put_le32(request->body + 16, get_le32(request->body + 16) % TRANSFER_MAX);
        return true;
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        handle = find_handle(hint, request->opcode == FUSE_RELEASEDIR);
        if (handle != NULL)
            close_handle(handle);
        return false;
    case FUSE_GETXATTR:
    case FUSE_LISTXATTR:
        put_le32(request->body, get_le32(request->body) % TRANSFER_MAX);
        return true;
    case FUSE_SETATTR:
        /* FATTR_FH is not sent for what has no handle. */
        put_le32(request->body, get_le32(request->body) & ~(uint32_t)FATTR_FH);
        return true;
    default:
        return true;
    }
}

static void learn_listing(void)
{
    size_t at = sizeof(struct fuse_out_header);

    while (at + FUSE_NAME_OFFSET_DIRENTPLUS <= answer_size) {
        struct fuse_direntplus entry;
        size_t size;

        memcpy(&entry, answer + at, FUSE_NAME_OFFSET_DIRENTPLUS);
        size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + (size_t)entry.dirent.namelen);
        fuzz_require(entry.dirent.namelen >= 1 && entry.dirent.namelen <= 255);
        fuzz_require(size <= answer_size - at);
        if (entry.entry_out.nodeid != 0)
            remember_lookup(entry.entry_out.nodeid);
        at += size;
    }
}

static void learn(const struct request *request)
{
    const uint8_t *body = answer + sizeof(struct fuse_out_header);
    struct fuse_entry_out entry;
    struct fuse_open_out opened;

    if (answer_error() != 0) {
        fuzz_require(answer_size == sizeof(struct fuse_out_header));
        return;
    }
    switch (request->opcode) {
    case FUSE_LOOKUP:
    case FUSE_SYMLINK:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_LINK:
    case FUSE_CREATE:
    case FUSE_TMPFILE:
        fuzz_require(answer_size >= sizeof(struct fuse_out_header) + sizeof entry);
        memcpy(&entry, body, sizeof entry);
        if (request->opcode == FUSE_CREATE || request->opcode == FUSE_TMPFILE) {
            memcpy(&opened, body + sizeof entry, sizeof opened);
            remember_handle(entry.nodeid, opened.fh, get_le32(request->body), false);
        }
        if (entry.nodeid != 0) /* a negative entry */
            remember_lookup(entry.nodeid);
        break;
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        fuzz_require(answer_size == sizeof(struct fuse_out_header) + sizeof opened);
        memcpy(&opened, body, sizeof opened);
        remember_handle(request->node, opened.fh, get_le32(request->body),
                        request->opcode == FUSE_OPENDIR);
        break;
    case FUSE_READDIRPLUS:
        learn_listing();
        break;
    case FUSE_READ:
        fuzz_require(answer_size - sizeof(struct fuse_out_header) <= get_le32(request->body + 16));
        break;
    default:
        break;
    }
}

/* The number of bytes used. */
static size_t serve_one(struct request *request, const uint8_t *data, size_t size)
{
    size_t body_size, used = 5;

    request->opcode = data[0] % OPCODES;
    request->node = known_node(data[1]);
    request->uid = data[2] % 2 == 0 ? 0 : 1000;
    body_size = (size_t)data[3] | (size_t)data[4] << 8;
    if (data[1] == 255 && size >= used + 8) {
        /* Only of a file handle that came over the network may a node be unknown. */
        request->opcode = FUSE_LOOKUP;
        request->node = get_le64(data + used);
        used += 8;
        if (request->node == 0)
            request->node = FS_ROOT;
    }
    if (body_size > size - used)
        body_size = size - used;
    if (shapes[request->opcode].is_served && shape_body(request, data + used, body_size) &&
        shape_references(request)) {
        call(request->opcode, request->node, request->uid, request->body, request->size, true);
        learn(request);
    }
    return used + body_size;
}

/* ---- the fuzzer's side ---- */

static void start_session(void)
{
    char name[] = "fuzz";
    char *words[] = {name, NULL};
    struct fuse_args arguments = FUSE_ARGS_INIT(1, words);
    struct fuse_init_in init = {
        .major = 7,
        .minor = 36,
        .max_readahead = 1 << 20,
        /* what Linux 6.1 offers, but for splicing and the extension */
        .flags = 0x3fffffff & ~(uint32_t)(FUSE_SPLICE_WRITE | FUSE_SPLICE_MOVE | FUSE_SPLICE_READ),
    };
    int ends[2], size = 4 << 20;

    /* What wakes the daemon's main thread would end libFuzzer, which has a handler for it by now.
     */
    (void)signal(SIGUSR2, SIG_IGN);
    fuzz_require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    for (int i = 0; i < 2; i++)
        (void)setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    kernel_end = ends[0];
    daemon_.session = fuse_session_new(&arguments, &ll_operations, sizeof ll_operations, &daemon_);
    fuse_opt_free_args(&arguments);
    fuzz_require(daemon_.session != NULL);
    fuzz_require(ll_transport_new(&daemon_) == 0);
    /* libfuse takes the descriptor from here. */
    fuzz_require(ll_transport_install(&daemon_, ends[1]) == 0);
    daemon_.dirty_files = ll_handles_new();
    daemon_.directories = ll_handles_new();
    fuzz_require(ll_control_new(&daemon_.control) == 0);
    fuzz_require(ll_loop_new(&daemon_, 4, NULL, &daemon_.loop) == 0);
    fuzz_require(ll_notify_start(daemon_.session, &daemon_.notify) == 0);
    fuzz_require(ll_pages_start(&daemon_, &daemon_.pages) == 0);
    fuzz_require(ll_flusher_start(&daemon_, true, &daemon_.flusher) == 0);
    fuzz_require(ll_flusher_start(&daemon_, false, &daemon_.seeker) == 0);
    fuzz_require(ll_loop_start(daemon_.loop, on_ended, NULL) == 0);
    call(FUSE_INIT, 0, 0, &init, sizeof init, true);
    fuzz_require(answer_error() == 0);
}

/* As ll_session.c ends, so that what a serving thread leaves behind is seen as a leak. */
static void stop_session(void)
{
    ll_flusher_stop(daemon_.flusher);
    ll_flusher_stop(daemon_.seeker);
    ll_pages_stop(daemon_.pages);
    ll_notify_stop(daemon_.notify);
    ll_loop_stop(daemon_.loop);
    fuse_session_destroy(daemon_.session);
    ll_loop_free(daemon_.loop);
    ll_transport_free(daemon_.transport);
    ll_flusher_free(daemon_.flusher);
    ll_flusher_free(daemon_.seeker);
    ll_notify_free(daemon_.notify);
    ll_control_free(daemon_.control);
    ll_handles_free(daemon_.dirty_files);
    ll_handles_free(daemon_.directories);
}

static void on_exit_of_fuzzer(void)
{
    if (daemon_.session != NULL)
        stop_session();
    test_directory_remove(directory);
    free(mount_point);
    ll_options_free(&options);
}

int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
    (void)argument_count;
    (void)arguments;
    log_set_level(LOG_LEVEL_ERROR);
    directory = test_directory_make();
    mount_point = test_path(directory, "mnt");
    fuzz_require(mkdir(mount_point, 0755) == 0);
    (void)atexit(on_exit_of_fuzzer);
    ll_options_default(&options);
    options.mount_point = strdup(mount_point);
    options.store = strdup(directory);
    options.transport = LL_TRANSPORT_DEVICE;
    daemon_.options = &options;
    daemon_.main_thread = pthread_self();
    fuzz_require(io_open_backend(IO_BACKEND_SYNC, &daemon_.io) == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct request request;
    const struct store_format format = {.chunk_size_bytes = 1 << 20, .compression_level = 1};
    char *path = test_path(directory, "store");
    size_t count = 0;

    fuzz_require(store_create(daemon_.io, path, &format) == 0);
    open_store(path);
    if (daemon_.session == NULL)
        start_session();
    nodes[0] = (struct node){FS_ROOT, 1};
    node_count = 1;
    while (size >= 5 && count++ < REQUESTS_MAX) {
        size_t used = serve_one(&request, data, size);

        data += used;
        size -= used;
    }
    forget_everything();
    fuzz_require(!receive(0, 0)); /* no answer that nobody asked for */
    check_store();
    close_store();
    open_store(path);
    check_store();
    close_store();
    {
        struct io_file *root;

        fuzz_require(io_open_root(daemon_.io, directory, &root) == 0);
        fuzz_require(store_remove_tree(daemon_.io, root, "store") == 0);
        io_close(daemon_.io, root);
    }
    free(path);
    return 0;
}
