/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many jobs in one process, as a host program that lives for months has them: what they leave in the
 * process itself.
 *
 *   endurance ENGINE IMAGE JOBS [AT-ONCE]      ENGINE: user, tcg or kvm
 *
 * JOBS jobs in a row on each of AT-ONCE threads, in ten parts. After the first two, which bring what is
 * made once, descriptors, threads and children must not be more; mappings and memory not by more than
 * what belongs to the C library's own house. The heap is counted without its caches (tcache), which say
 * nothing of leaks and fill up for a long time. Prints a line for each part, and ends with 1 when
 * something grew or a job failed.
 */
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "job/job.h"
#include "util/arith.h"

#define PARTS       10
#define SLACK_KIB   2048
#define SLACK_BYTES 8192

struct figures {
    unsigned descriptors, threads, children, mappings;
    unsigned long rss_kib;
    size_t heap_bytes; /* allocated and not freed */
};

struct plan {
    const char *image;
    enum job_wall wall;
    enum dayfly_engine engine;
    unsigned jobs, failed;
};

/* -- one job ----------------------------------------------------------------------------------------
 */

static bool run_one(const struct plan *plan)
{
    static const char *const argv[] = {"/bin/sh", "-c", "echo x >/tmp/x; exit 7", NULL};
    struct job_result result;
    struct dayfly_err err = {0};
    const struct job_options options = {
        .image = plan->image,
        .argv = argv,
        .wall = plan->wall,
        .engine = plan->engine,
        .cpus = 1,
        .memory_bytes = UINT64_C(128) << 20,
        .disk_bytes = UINT64_C(64) << 20,
        .want_report = true,
        .in_fd = -1,
        .out_fd = STDERR_FILENO,
        .err_fd = STDERR_FILENO,
        .signal_fd = -1,
        .tty_fd = -1,
    };
    int r = job_run(&options, &result, &err);
    bool good = r == 0 && guest_result_status(&result.guest) == 7;
    if (r < 0)
        fprintf(stderr, "endurance: %s\n", err.msg);
    json_decref(result.artifacts.rows);
    json_decref(result.report);
    free(result.console);
    return good;
}

static void *run_some(void *opaque)
{
    struct plan *plan = opaque;
    for (unsigned i = 0; i < plan->jobs && !plan->failed; i++)
        plan->failed += !run_one(plan);
    return NULL;
}

/* Returns how many failed. */
static unsigned run_part(const struct plan *plan, unsigned at_once)
{
    pthread_t threads[64];
    struct plan plans[64];
    unsigned failed = 0;
    for (unsigned i = 0; i < at_once; i++) {
        plans[i] = *plan;
        if (at_once == 1)
            run_some(&plans[i]);
        else if (pthread_create(&threads[i], NULL, run_some, &plans[i]) != 0)
            exit(2);
    }
    for (unsigned i = 0; i < at_once; i++) {
        if (at_once > 1)
            pthread_join(threads[i], NULL);
        failed += plans[i].failed;
    }
    return failed;
}

/* -- what the process has ---------------------------------------------------------------------------
 */

static unsigned count_entries(const char *path)
{
    unsigned count = 0;
    struct dirent *entry;
    DIR *dir = opendir(path);
    while (dir && (entry = readdir(dir)))
        count += entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(dir);
    if (dir)
        closedir(dir);
    return count;
}

static unsigned count_lines(const char *path, const char *begin, unsigned long *value)
{
    char line[4096];
    unsigned count = 0;
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, begin, strlen(begin)) == 0) {
            count++;
            if (value)
                *value = strtoul(line + strlen(begin), NULL, 10);
        }
    if (file)
        fclose(file);
    return count;
}

static struct figures look(void)
{
    struct figures f = {
        .descriptors = count_entries("/proc/self/fd"),
        .threads = count_entries("/proc/self/task"),
        .mappings = count_lines("/proc/self/maps", "", NULL),
        .heap_bytes = mallinfo2().uordblks,
    };
    count_lines("/proc/self/status", "VmRSS:", &f.rss_kib);
    while (waitpid(-1, NULL, WNOHANG) >= 0)
        f.children++;
    return f;
}

static bool grew(const struct figures *from, const struct figures *to)
{
    return to->descriptors > from->descriptors || to->threads > from->threads || to->children > 0 ||
           to->mappings > from->mappings + PARTS || to->rss_kib > from->rss_kib + SLACK_KIB ||
           to->heap_bytes > from->heap_bytes + SLACK_BYTES;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        struct plan plan;
    } engines[] = {
        {"user", {.wall = JOB_AS_USER}},
        {"tcg", {.engine = DAYFLY_ENGINE_TCG}},
        {"kvm", {.engine = DAYFLY_ENGINE_KVM}},
    };
    struct plan plan = {.image = argc > 2 ? argv[2] : NULL};
    struct figures first = {0}, last;
    unsigned at_once = argc > 4 ? (unsigned)atoi(argv[4]) : 1,
             jobs = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
    unsigned failed = 0, known = 0;
    for (size_t i = 0; i < ARRAY_SIZE(engines) && argc > 1; i++)
        if (strcmp(argv[1], engines[i].name) == 0) {
            plan.wall = engines[i].plan.wall;
            plan.engine = engines[i].plan.engine;
            known = 1;
        }
    if (!known || jobs < PARTS || at_once < 1 || at_once > 64) {
        fputs("usage: endurance user|tcg|kvm IMAGE JOBS [AT-ONCE]\n", stderr);
        return 2;
    }
    if (!getenv("GLIBC_TUNABLES")) {
        setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 1);
        execv("/proc/self/exe", argv);
    }
    plan.jobs = jobs / PARTS;
    for (unsigned part = 0; part < PARTS && !failed; part++) {
        failed += run_part(&plan, at_once);
        last = look();
        printf("%u jobs: %u descriptors, %u threads, %u children, %u mappings, %lu KiB, %zu bytes "
               "allocated\n",
               (part + 1) * plan.jobs * at_once, last.descriptors, last.threads, last.children,
               last.mappings, last.rss_kib, last.heap_bytes);
        fflush(stdout);
        if (part == 1)
            first = last;
    }
    if (failed)
        fprintf(stderr, "endurance: %u jobs failed\n", failed);
    if (grew(&first, &last))
        fputs("endurance: the process has grown\n", stderr);
    return failed || grew(&first, &last);
}
