/* SPDX-License-Identifier: Apache-2.0 */
#include "util/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "util/clock.h"

#define LOG_LINE_BYTES 512

static void emit(const struct log *log, enum log_level level, const char *fmt, va_list args)
{
    char line[LOG_LINE_BYTES];
    vsnprintf(line, sizeof(line), fmt, args);
    log->write(log->opaque, level, line);
}

static int wanted(const struct log *log, enum log_level level)
{
    return log && log->write && level <= log->level;
}

void log_line(const struct log *log, enum log_level level, const char *fmt, ...)
{
    if (!wanted(log, level))
        return;
    va_list args;
    va_start(args, fmt);
    emit(log, level, fmt, args);
    va_end(args);
}

void log_limited(const struct log *log, struct log_limit *limit, enum log_level level, const char *fmt,
                 ...)
{
    if (!wanted(log, level))
        return;
    uint64_t now = clock_ns();
    if (now - limit->window_start_ns >= NS_PER_S) {
        if (limit->swallowed)
            log_line(log, level, "%u more lines like it in the last second", limit->swallowed);
        *limit = (struct log_limit){.window_start_ns = now};
    }
    if (limit->in_window++ >= LOG_BURST) {
        limit->swallowed++;
        return;
    }
    va_list args;
    va_start(args, fmt);
    emit(log, level, fmt, args);
    va_end(args);
}

void log_to_stderr(void *opaque, enum log_level level, const char *line)
{
    (void)opaque;
    (void)level;
    fprintf(stderr, "dayfly: %s\n", line);
}
