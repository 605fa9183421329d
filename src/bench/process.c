/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "job/overhead.h"
#include "util/cleanup.h"
#include "util/io.h"

#define ENVIRON_MAX_BYTES (1u << 20)

struct entry {
    pid_t pid, parent;
    bool ours;
};

struct entries {
    struct entry *list;
    size_t count;
};

int process_adopt(void)
{
    return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}

/* 0 for a process that is gone, or is a zombie: it has nothing any more. */
static pid_t parent_of(pid_t pid)
{
    char path[40], stat[512];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : io_read_full(fd, stat, sizeof(stat) - 1);
    if (n <= 0)
        return 0;
    stat[n] = '\0';
    /* The name stands in brackets and may contain any. */
    const char *behind = strrchr(stat, ')');
    char state;
    int parent;
    return behind && sscanf(behind, ") %c %d", &state, &parent) == 2 && state != 'Z' ? parent : 0;
}

static void list_processes(struct entries *out)
{
    size_t room = 0;
    DIR *proc = opendir("/proc");
    *out = (struct entries){0};
    for (struct dirent *d; proc && (d = readdir(proc));) {
        if (!isdigit((unsigned char)d->d_name[0]))
            continue;
        if (out->count == room) {
            room = room ? room * 2 : 256;
            void *bigger = realloc(out->list, room * sizeof(*out->list));
            if (!bigger)
                break;
            out->list = bigger;
        }
        pid_t pid = (pid_t)atoi(d->d_name), parent = parent_of(pid);
        if (parent > 0)
            out->list[out->count++] = (struct entry){.pid = pid, .parent = parent};
    }
    if (proc)
        closedir(proc);
}

/* Mark the descendants. Generation by generation, since a parent may have the higher number. */
static size_t find_ours(struct entries *all)
{
    size_t found = 0;
    pid_t self = getpid();
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < all->count; i++) {
            struct entry *entry = &all->list[i];
            bool child = entry->parent == self;
            for (size_t k = 0; k < all->count && !child && !entry->ours; k++)
                child = all->list[k].ours && all->list[k].pid == entry->parent;
            if (child && !entry->ours) {
                entry->ours = more = true;
                found++;
            }
        }
    }
    return found;
}

static bool is_job(pid_t pid)
{
    char path[40];
    _cleanup_free_ char *text = NULL;
    size_t len = 0;
    snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
    if (io_read_file(AT_FDCWD, path, ENVIRON_MAX_BYTES, &text, &len) < 0)
        return false;
    for (const char *word = text; word < text + len; word += strlen(word) + 1)
        if (strcmp(word, PROCESS_JOB_MARK) == 0)
            return true;
    return false;
}

int64_t process_overhead(void)
{
    struct entries all;
    int64_t total = 0;
    bool any = false;
    list_processes(&all);
    find_ours(&all);
    for (size_t i = 0; i < all.count; i++) {
        int64_t bytes =
            all.list[i].ours && !is_job(all.list[i].pid) ? overhead_of_process(all.list[i].pid) : -1;
        if (bytes >= 0) {
            total += bytes;
            any = true;
        }
    }
    free(all.list);
    return any ? total : -ESRCH;
}

void process_kill_all(void)
{
    struct entries all;
    size_t found;
    do {
        list_processes(&all);
        found = find_ours(&all);
        for (size_t i = 0; i < all.count; i++)
            if (all.list[i].ours)
                kill(all.list[i].pid, SIGKILL);
        free(all.list);
    } while (found && waitpid(-1, NULL, 0) > 0);
    /* The others have ended, and wait for that to be noticed. */
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}
