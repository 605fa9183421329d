/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See cgroup.h. The hierarchies are found by /proc/self/mountinfo, not by where a distribution mounts
 * them. The groups stand at the top of each (below dayfly/), as container engines have theirs: where
 * version 2 forbids a group with processes to have limited children, below the runner's own group is no
 * place for them.
 */
#include "sandbox/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/program.h"

#define PARENT          "dayfly"
#define PREFIX          "job-"
#define MOUNTINFO_BYTES (4u << 20)
#define CPU_PERIOD_US   100000u
#define MAKE_TRIES      4 /* another run removes dayfly/ when it is the last */

static const char *const v1_names[CGROUP_CONTROLLERS] = {"memory", "pids", "cpu", "cpuacct"};

/* -- files -------------------------------------------------------------------------------------------
 */

static int put(int dir, const char *name, const char *text)
{
    _cleanup_close_ int fd = dir < 0 ? -1 : openat(dir, name, O_WRONLY | O_CLOEXEC);
    return fd < 0 ? -errno : io_write_full(fd, text, strlen(text));
}

static int put_number(int dir, const char *name, uint64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return put(dir, name, text);
}

/* A file of one number, or with `key` the number behind it on a line of its own; 0 for none. */
static uint64_t get(int dir, const char *name, const char *key)
{
    char text[4096];
    _cleanup_close_ int fd = dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    const char *at = text;
    if (key) {
        at = strstr(text, key);
        at = at ? at + strlen(key) : "";
    }
    return strtoull(at, NULL, 10);
}

/* -- where they are ----------------------------------------------------------------------------------
 */

static bool has_word(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += len)
        if ((p == list || p[-1] == ',') && (p[len] == ',' || p[len] == '\0' || p[len] == ' '))
            return true;
    return false;
}

static void take_mount(struct cgroup *group, char *line)
{
    /* ... (5) mount point ... - type source options */
    char *tail = strstr(line, " - "), *point = line;
    for (int field = 1; field < 5 && point; field++) {
        point = strchr(point, ' ');
        point += point != NULL;
    }
    char type[16], options[256];
    if (!tail || !point || sscanf(tail, " - %15s %*s %255s", type, options) != 2)
        return;
    bool v2 = strcmp(type, "cgroup2") == 0;
    if (!v2 && strcmp(type, "cgroup") != 0)
        return;
    point[strcspn(point, " ")] = '\0';
    _cleanup_close_ int top = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return;
    if (v2 && group->v2.top_fd < 0) {
        group->v2.top_fd = steal_fd(&top);
        group->delegates = has_word(options, "nsdelegate");
    }
    for (int c = 0; c < CGROUP_CONTROLLERS && !v2; c++)
        if (group->v1[c].top_fd < 0 && has_word(options, v1_names[c]))
            group->v1[c].top_fd = fcntl(top, F_DUPFD_CLOEXEC, 0);
}

void cgroup_init(struct cgroup *group)
{
    static const struct cgroup_tree none = {-1, -1, -1, -1};
    *group = (struct cgroup){.v2 = none, .ns_fd = -1};
    for (int c = 0; c < CGROUP_CONTROLLERS; c++)
        group->v1[c] = none;
}

static void find_hierarchies(struct cgroup *group)
{
    _cleanup_free_ char *text = NULL;
    cgroup_init(group);
    if (io_read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_BYTES, &text, NULL) < 0)
        return;
    for (char *rest = text, *line; (line = strtok_r(rest, "\n", &rest));)
        take_mount(group, line);
}

/* -- making ------------------------------------------------------------------------------------------
 */

static int open_dir(int dir, const char *name)
{
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* It is there already where two controllers are mounted together. */
static int make_dir(int dir, const char *name)
{
    if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
        return -1;
    return open_dir(dir, name);
}

/* Each by itself: one that is not there must not keep the others out. */
static void pass_down(int dir)
{
    static const char *const controllers[] = {"+memory", "+pids", "+cpu"};
    for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
        put(dir, "cgroup.subtree_control", controllers[i]);
}

/*
 * A namespace whose root is this group of version 2. With `nsdelegate`, as systemd mounts it, nobody
 * moves a process to a group that is not below the root of its own namespace. So init's must begin
 * above both its own group and the job's, where no process can be once the group below it has limits:
 * hence before that, by a process that is in there for a moment. It shares our descriptors, and puts
 * the namespace in the place of one of them.
 */
static int make_namespace(int dir)
{
    struct clone_args args = {.flags = CLONE_INTO_CGROUP | CLONE_FILES | CLONE_VFORK,
                              .exit_signal = SIGCHLD,
                              .cgroup = (uint64_t)dir};
    _cleanup_close_ int place = fcntl(dir, F_DUPFD_CLOEXEC, 0);
    pid_t pid = place < 0 ? -1 : (pid_t)syscall(SYS_clone3, &args, sizeof(args));
    if (pid == 0) {
        int fd = unshare(CLONE_NEWCGROUP) < 0 ? -1 : open("/proc/self/ns/cgroup", O_RDONLY | O_CLOEXEC);
        int r = fd < 0 ? -1 : dup3(fd, place, O_CLOEXEC);
        close(fd);
        _exit(r < 0);
    }
    int status = -1;
    if (pid > 0)
        program_wait(pid, &status);
    return status == 0 ? steal_fd(&place) : -1;
}

static void make_in(struct cgroup *group, struct cgroup_tree *tree)
{
    const char *name = group->name;
    bool v2 = tree == &group->v2;
    _cleanup_close_ int job = -1;
    for (int tries = 0; tree->top_fd >= 0 && job < 0 && tries < MAKE_TRIES; tries++) {
        close_fd(&tree->parent_fd);
        if ((tree->parent_fd = make_dir(tree->top_fd, PARENT)) >= 0)
            job = make_dir(tree->parent_fd, name);
        else if (errno != ENOENT)
            return;
    }
    if (job < 0)
        return;
    if (v2) {
        pass_down(tree->top_fd);
        pass_down(tree->parent_fd);
        group->ns_fd = group->delegates ? make_namespace(job) : -1;
        pass_down(job);
        tree->home_fd = make_dir(job, "agent");
    }
    tree->run_fd = make_dir(job, "run");
    if (!v2)
        tree->home_fd = steal_fd(&job);
}

static bool limit_v2(struct cgroup *group, enum cgroup_controller c, const struct cgroup_limits *limits)
{
    char text[48];
    int fd = group->v2.run_fd;
    switch (c) {
    case CGROUP_MEMORY:
        if (faccessat(fd, "memory.max", F_OK, 0) < 0)
            return false;
        if (!limits->memory_bytes)
            return true;
        put(fd, "memory.swap.max", "0"); /* what a job knows goes to no disk */
        return put_number(fd, "memory.max", limits->memory_bytes) == 0;
    case CGROUP_PIDS:
        return put_number(fd, "pids.max", limits->pids) == 0;
    case CGROUP_CPU:
        if (!limits->cpus)
            return true;
        snprintf(text, sizeof(text), "%llu %u", (unsigned long long)limits->cpus * CPU_PERIOD_US,
                 CPU_PERIOD_US);
        return put(fd, "cpu.max", text) == 0;
    default:
        return faccessat(fd, "cpu.stat", F_OK, 0) == 0;
    }
}

static bool limit_v1(struct cgroup *group, enum cgroup_controller c, const struct cgroup_limits *limits)
{
    int fd = group->v1[c].run_fd;
    switch (c) {
    case CGROUP_MEMORY:
        return !limits->memory_bytes ||
               put_number(fd, "memory.limit_in_bytes", limits->memory_bytes) == 0;
    case CGROUP_PIDS:
        return put_number(fd, "pids.max", limits->pids) == 0;
    case CGROUP_CPU:
        return !limits->cpus ||
               (put_number(fd, "cpu.cfs_period_us", CPU_PERIOD_US) == 0 &&
                put_number(fd, "cpu.cfs_quota_us", (uint64_t)limits->cpus * CPU_PERIOD_US) == 0);
    default:
        return true;
    }
}

void cgroup_make(struct cgroup *group, uid_t uid, const struct cgroup_limits *limits)
{
    find_hierarchies(group);
    snprintf(group->name, sizeof(group->name), PREFIX "%u", uid);
    make_in(group, &group->v2);
    for (int c = 0; c < CGROUP_CONTROLLERS; c++) {
        /* A group without a limit would only cost its making. */
        bool wanted = c != CGROUP_CPU || limits->cpus;
        if (group->v2.run_fd >= 0 && limit_v2(group, (enum cgroup_controller)c, limits)) {
            group->limited[c] = true;
            continue;
        }
        if (wanted)
            make_in(group, &group->v1[c]);
        group->limited[c] =
            group->v1[c].run_fd >= 0 && limit_v1(group, (enum cgroup_controller)c, limits);
    }
}

void cgroup_lacks(const struct cgroup *group, const struct cgroup_limits *limits, char *out,
                  size_t size)
{
    const char *const words[] = {limits->memory_bytes ? "memory" : NULL, "processes",
                                 limits->cpus ? "processors" : NULL};
    size_t at = 0;
    out[0] = '\0';
    for (size_t c = 0; c < ARRAY_SIZE(words) && at < size; c++)
        if (words[c] && !group->limited[c])
            at += (size_t)snprintf(out + at, size - at, "%s%s", at ? ", " : "", words[c]);
}

int cgroup_enter(const struct cgroup *group, struct dayfly_err *err)
{
    for (int c = 0; c < CGROUP_CONTROLLERS; c++) {
        /* A thread that moves itself, and it alone, is moved at once. For any other the kernel stops
         * all forks on the machine first, for as long as a grace period takes: some 10 ms. */
        int r = group->v1[c].home_fd < 0 ? 0 : put(group->v1[c].home_fd, "tasks", "0");
        if (r < 0)
            return err_errno(err, -r, "enter the sandbox's cgroup (%s)", v1_names[c]);
    }
    return 0;
}

void cgroup_hide(const struct cgroup *group)
{
    if (group->ns_fd < 0 || setns(group->ns_fd, CLONE_NEWCGROUP) < 0)
        unshare(CLONE_NEWCGROUP);
}

void cgroup_measure(const struct cgroup *group, struct cgroup_figures *out)
{
    const int memory = group->v1[CGROUP_MEMORY].run_fd, cpu = group->v1[CGROUP_CPUACCT].run_fd;
    *out = (struct cgroup_figures){0};
    out->memory_peak_bytes = get(group->v2.run_fd, "memory.peak", NULL);
    if (!out->memory_peak_bytes)
        out->memory_peak_bytes = get(memory, "memory.max_usage_in_bytes", NULL);
    out->cpu_us = get(group->v2.run_fd, "cpu.stat", "usage_usec ");
    if (!out->cpu_us)
        out->cpu_us = get(cpu, "cpuacct.usage", NULL) / 1000;
}

/* -- removing ----------------------------------------------------------------------------------------
 */

/* A group, and those that its sessions had below it. */
static void remove_group(int parent, const char *name)
{
    int fd = unlinkat(parent, name, AT_REMOVEDIR) == 0 ? -1 : open_dir(parent, name);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        close_fd(&fd);
        return;
    }
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_type == DT_DIR && e->d_name[0] != '.')
            remove_group(fd, e->d_name);
    unlinkat(parent, name, AT_REMOVEDIR);
    closedir(dir);
}

static void remove_from(struct cgroup_tree *tree, const char *name)
{
    static const char *const ours[] = {"run", "agent"};
    char path[64];
    close_fd(&tree->home_fd);
    close_fd(&tree->run_fd);
    if (tree->parent_fd >= 0) {
        /* Without a look at what is there, which takes memory: that may be what the job ended for. */
        for (size_t i = 0; i < ARRAY_SIZE(ours); i++) {
            snprintf(path, sizeof(path), "%s/%s", name, ours[i]);
            unlinkat(tree->parent_fd, path, AT_REMOVEDIR);
        }
        remove_group(tree->parent_fd, name);
        /* Refused while other jobs have theirs in it. */
        unlinkat(tree->top_fd, PARENT, AT_REMOVEDIR);
    }
    close_fd(&tree->parent_fd);
    close_fd(&tree->top_fd);
}

void cgroup_remove(struct cgroup *group)
{
    if (!group->name[0])
        return;
    close_fd(&group->ns_fd);
    remove_from(&group->v2, group->name);
    for (int c = 0; c < CGROUP_CONTROLLERS; c++)
        remove_from(&group->v1[c], group->name);
    group->name[0] = '\0';
}

/* Kill what runs in a group of nobody's. With its init dead there is hardly anything, and where version
 * 2 is not there to kill it there is nothing that could outlive its init. */
static void kill_group(int parent, const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "%.40s/cgroup.kill", name);
    put(parent, path, "1");
}

static void sweep_group(int parent, const char *name, const struct sweep *sweep)
{
    char proc[32], path[PATH_MAX];
    int r = 0;
    if (sweep_removes(sweep)) {
        kill_group(parent, name);
        remove_group(parent, name);
        r = faccessat(parent, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? -EBUSY : 0;
    }
    if (!sweep)
        return;
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", parent);
    ssize_t n = readlink(proc, path, sizeof(path));
    sweep_tell(sweep, "cgroup", r, "%.*s/%s", (int)(n > 0 ? n : 0), path, name);
}

static void sweep_in(int top, const struct uids *uids, const struct sweep *sweep)
{
    int fd = top < 0 ? -1 : open_dir(top, PARENT);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        close_fd(&fd);
        return;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        unsigned uid;
        char end;
        /* Whose ids are in another range may have leases where we do not see them. */
        if (sscanf(e->d_name, PREFIX "%u%c", &uid, &end) != 1 || uid < uids->first || uid > uids->last)
            continue;
        /* With the lease in our hands nobody begins to use the id meanwhile. */
        _cleanup_close_ int lease = uids_take_this(uids, uid);
        if (lease >= 0)
            sweep_group(fd, e->d_name, sweep);
    }
    closedir(dir);
    if (sweep_removes(sweep))
        unlinkat(top, PARENT, AT_REMOVEDIR);
}

/* Controllers that are mounted together have one hierarchy, which was found for each of them. */
static bool is_same(int a, int b)
{
    struct stat x, y;
    return a >= 0 && b >= 0 && fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev;
}

void cgroup_sweep(const struct uids *uids, const struct sweep *sweep)
{
    struct cgroup found;
    find_hierarchies(&found);
    sweep_in(found.v2.top_fd, uids, sweep);
    for (int c = 0; c < CGROUP_CONTROLLERS; c++) {
        bool done = false;
        for (int before = 0; before < c; before++)
            done = done || is_same(found.v1[before].top_fd, found.v1[c].top_fd);
        if (!done)
            sweep_in(found.v1[c].top_fd, uids, sweep);
    }
    for (int c = 0; c < CGROUP_CONTROLLERS; c++)
        close_fd(&found.v1[c].top_fd);
    close_fd(&found.v2.top_fd);
}
