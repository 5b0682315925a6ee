/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - the process's log
 *
 * A line is formatted on the stack and leaves in one write(2) no longer than PIPE_BUF, which the
 * kernel never interleaves: no lock is needed, so logging works wherever a thread happens to be.
 */
#include "engine/base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#define LINE_SIZE 2048

_Static_assert(LINE_SIZE <= PIPE_BUF, "a line must be one atomic write");

static const struct {
    const char *prefix;
    int priority;
} level_words[] = {
    [LOG_LEVEL_ERROR] = {"varve: error: ", LOG_ERR},
    [LOG_LEVEL_WARNING] = {"varve: warning: ", LOG_WARNING},
    [LOG_LEVEL_INFO] = {"varve: ", LOG_INFO},
    [LOG_LEVEL_DEBUG] = {"varve: debug: ", LOG_DEBUG},
};

static atomic_int log_level_max = LOG_LEVEL_INFO;
static atomic_bool log_to_syslog;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level_max, (int)level, memory_order_relaxed);
}

void log_use_syslog(const char *identity)
{
    openlog(identity, LOG_PID, LOG_DAEMON);
    atomic_store(&log_to_syslog, true);
}

/* File names reach the log: what is not printable would break the line or fool a terminal. */
static void log_make_one_line(char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte < 0x20 || byte == 0x7f)
            *text = byte == '\n' || byte == '\t' ? ' ' : '?';
    }
}

static void log_write_line(const char *line, size_t size)
{
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, line, size);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return; /* there is nowhere left to say so */
        line += written;
        size -= (size_t)written;
    }
}

void log_message(enum log_level level, const char *format, ...)
{
    char line[LINE_SIZE];
    int saved_errno = errno;
    size_t prefix_size, size;
    va_list arguments;
    int length;

    if ((int)level > atomic_load_explicit(&log_level_max, memory_order_relaxed))
        return;

    prefix_size = strlen(level_words[level].prefix);
    memcpy(line, level_words[level].prefix, prefix_size);
    va_start(arguments, format);
    /* One byte stays free for the newline. */
    length = vsnprintf(line + prefix_size, sizeof line - prefix_size - 1, format, arguments);
    va_end(arguments);
    if (length < 0)
        line[prefix_size] = '\0';
    log_make_one_line(line + prefix_size);

    if (atomic_load_explicit(&log_to_syslog, memory_order_relaxed)) {
        syslog(level_words[level].priority, "%s", line + prefix_size);
    } else {
        size = strlen(line);
        line[size++] = '\n';
        log_write_line(line, size);
    }
    errno = saved_errno;
}
