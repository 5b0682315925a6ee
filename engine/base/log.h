/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - the process's log: standard error, or syslog once daemonised
 *
 * Threads: every function may be called from any thread. Messages are single lines; lines of one
 * call are never interleaved with another's.
 */
#ifndef VARVE_ENGINE_BASE_LOG_H
#define VARVE_ENGINE_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Messages above `level` are dropped (default LOG_LEVEL_INFO). */
void log_set_level(enum log_level level);

/* Send messages to syslog under `identity` (static storage) instead of standard error. */
void log_use_syslog(const char *identity);

void log_message(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
