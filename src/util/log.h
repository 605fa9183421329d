/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

/*
 * Diagnostics of a running machine. A log hangs off its machine: there is no global one. Where the
 * lines go is the owner's choice. A NULL log, or one without `write`, is silent. Any thread may log;
 * `write` must be thread-safe.
 *
 * Whatever a guest can trigger goes through log_limited: at most LOG_BURST lines a second for each
 * `struct log_limit`, and one line that counts those it swallowed.
 */

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log {
    void (*write)(void *opaque, enum log_level level, const char *line);
    void *opaque;
    enum log_level level; /* lines above it are dropped */
};

#define LOG_BURST 5

/* Zero-initialised is ready; give it the lifetime of what it speaks of. Not shared between threads
 * without the owner's lock. */
struct log_limit {
    uint64_t window_start_ns;
    unsigned in_window;
    unsigned swallowed;
};

void log_line(const struct log *log, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

void log_limited(const struct log *log, struct log_limit *limit, enum log_level level, const char *fmt,
                 ...) __attribute__((format(printf, 4, 5)));

/* A `write` that prints "dayfly: <line>" to stderr. */
void log_to_stderr(void *opaque, enum log_level level, const char *line);

#endif
