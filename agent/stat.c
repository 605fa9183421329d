/* SPDX-License-Identifier: Apache-2.0 */
#include "stat.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "util/cleanup.h"

#define FILE_BYTES 2048

static bool read_file(int dir, const char *name, char text[FILE_BYTES])
{
    _cleanup_close_ int fd = dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, FILE_BYTES - 1);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* A file of one number, or with `key` the number behind it on a line of its own. */
static uint64_t value(int dir, const char *name, const char *key)
{
    char text[FILE_BYTES];
    if (!read_file(dir, name, text))
        return 0;
    if (!key)
        return strtoull(text, NULL, 10);
    size_t len = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, len) == 0 && line[len] == ' ')
            return strtoull(line + len + 1, NULL, 10);
    }
    return 0;
}

void stat_read(const struct machine *m, struct proto_stat *out)
{
    struct sysinfo info = {0};
    struct statfs fs;
    sysinfo(&info);
    *out = (struct proto_stat){
        .memory_total_bytes = (uint64_t)info.totalram * info.mem_unit,
        .memory_bytes = value(m->jobs_fd, "memory.current", NULL),
        .memory_peak_bytes = value(m->jobs_fd, "memory.peak", NULL),
        .cpu_us = value(m->jobs_fd, "cpu.stat", "usage_usec"),
        .pids = value(m->jobs_fd, "pids.current", NULL),
        .pids_refused = value(m->jobs_fd, "pids.events", "max"),
        .oom_kills = value(m->jobs_fd, "memory.events", "oom_kill"),
    };
    if (m->scratch_fd >= 0 && fstatfs(m->scratch_fd, &fs) == 0) {
        out->disk_bytes = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
        out->disk_used_bytes = (uint64_t)(fs.f_blocks - fs.f_bfree) * (uint64_t)fs.f_bsize;
    }
}
