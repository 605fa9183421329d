/* SPDX-License-Identifier: Apache-2.0 */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "confine.h"
#include "fail.h"
#include "net.h"
#include "serve.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define KILL_DEADLINE_NS (5 * NS_PER_S)
#define CHILDREN_BYTES   4096

struct words {
    bool sandbox;
    int link_fd, filter_fd, group_fd, etc_fd, secrets_fd;
    struct confine confine;
};

static bool number(const char *word, const char *key, uint64_t *out)
{
    size_t len = strlen(key);
    if (strncmp(word, key, len) != 0 || word[len] != '=')
        return false;
    *out = strtoull(word + len + 1, NULL, 10);
    return true;
}

static struct words read_words(char **words, struct machine *m)
{
    struct words w = {.sandbox = strcmp(words[0], "sandbox") == 0, -1, -1, -1, -1, -1};
    uint64_t value;
    while (*++words) {
        if (number(*words, "link", &value))
            w.link_fd = (int)value;
        else if (number(*words, "group", &value))
            w.group_fd = (int)value;
        else if (number(*words, "join", &value) && m->join_count < MACHINE_JOINS)
            m->join_fds[m->join_count++] = (int)value;
        else if (number(*words, "filter", &value))
            w.filter_fd = (int)value;
        else if (number(*words, "etc", &value))
            w.etc_fd = (int)value;
        else if (number(*words, "secrets", &value))
            w.secrets_fd = (int)value;
        else if (number(*words, "user", &value))
            w.confine.uid = (uid_t)value;
        else if (number(*words, "pids", &value))
            w.confine.pids = value;
    }
    return w;
}

static int open_machine(struct machine *m, int group_fd, struct proto_fail *why)
{
    m->proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    m->pts_fd = open("/dev/pts", O_PATH | O_DIRECTORY | O_CLOEXEC);
    m->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    m->scratch_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    m->jobs_fd = group_fd;
    if (m->proc_fd < 0 || m->pts_fd < 0 || m->null_fd < 0 || m->scratch_fd < 0)
        return fail(why, errno, "opening /proc and /dev");
    return 0;
}

/* ping needs no privilege where the kernel is told so. */
static void allow_ping(gid_t gid)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%u %u", gid, gid);
    _cleanup_close_ int fd = open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!write(fd, text, (size_t)n);
}

/* What SETUP says that is not the host's already, and the locks. */
static int become_sandbox(struct agent *a, struct words *w)
{
    /* Mounted already: nothing is mounted from here on. */
    a->secrets.files_fd = w->secrets_fd;
    net_set_names(w->etc_fd, a->setup.hostname);
    allow_ping(w->confine.uid);
    int r = net_raise(w->etc_fd, &a->setup, &a->why);
    close_fd(&w->etc_fd);
    if (r == 0)
        r = confine_load(&w->confine, w->filter_fd, &a->why);
    if (r == 0)
        r = confine_agent(&a->why);
    a->machine.confine = &w->confine;
    return r;
}

/* -- the end ------------------------------------------------------------------------------------------
 */

/* SIGKILL for the children that it has at this moment; orphans become its own. */
static void kill_children(void)
{
    char path[64], text[CHILDREN_BYTES];
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    /* A number that was cut off at the end belongs to some other process. */
    char *last = strrchr(text, ' ');
    if (last)
        *last = '\0';
    for (char *p = text, *end; last; p = end) {
        long pid = strtol(p, &end, 10);
        if (end == p)
            break;
        kill((pid_t)pid, SIGKILL);
    }
}

static void kill_all(bool sandbox)
{
    uint64_t deadline_ns = clock_ns() + KILL_DEADLINE_NS;
    struct timespec pause = {.tv_nsec = 1000 * 1000};
    while (clock_ns() < deadline_ns) {
        pid_t pid;
        if (sandbox)
            kill(-1, SIGKILL);
        else
            kill_children();
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (pid < 0)
            return; /* no child is left, and every orphan becomes one */
        nanosleep(&pause, NULL);
    }
}

int inside(struct agent *a, char **words)
{
    struct words w = read_words(words, &a->machine);
    bool sync_all;
    prctl(PR_SET_NAME, INSIDE_NAME, 0, 0, 0);
    /* What ends a sandbox would end this host. */
    if (w.sandbox && getpid() != 1)
        return 1;
    if (w.link_fd < 0 || fcntl(w.link_fd, F_SETFD, FD_CLOEXEC) < 0)
        return 1;
    const int given[] = {w.group_fd, w.etc_fd, w.secrets_fd};
    for (size_t i = 0; i < ARRAY_SIZE(given); i++)
        fcntl(given[i], F_SETFD, FD_CLOEXEC);
    for (size_t i = 0; i < a->machine.join_count; i++)
        fcntl(a->machine.join_fds[i], F_SETFD, FD_CLOEXEC);
    if (!w.sandbox)
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    int r = host_hello(a, w.link_fd);
    if (r == 0)
        r = host_receive_setup(a);
    if (r == 0)
        r = open_machine(&a->machine, w.group_fd, &a->why);
    if (r == 0 && w.sandbox)
        r = become_sandbox(a, &w);
    if (r == 0)
        r = host_ready(a);
    if (r < 0) {
        host_fail(a, r);
        return 1;
    }
    enum serve_end end = serve(&a->link, &a->machine, &sync_all);
    kill_all(w.sandbox);
    if (end != SERVE_LOST)
        host_bye(a);
    return 0;
}
