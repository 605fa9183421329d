/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_TESTING_AGENT_H
#define JOB_TESTING_AGENT_H

/*
 * The agent's own engine in a forked child over a socket pair, for tests of the host's side: no
 * machine, no cgroups, this host's files. Included by *_test.c files only, behind the agent's own
 * secret.h and serve.h, which are above this folder.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "job/testing_guest.h"
#include "proto/link.h"
#include "proto/proto.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/io.h"

struct fixture {
    struct guest *g;
    pid_t agent;
    char dir[32]; /* for fifos and files; secrets come here as well */
};

/* Its exit status is how serve ended; 99 for a fault of the harness. */
static inline void run_agent(int fd, const char *dir)
{
    struct proto_link link;
    struct machine m = MACHINE_NONE;
    static struct secrets secrets;
    struct proto_hello hello = {PROTO_VERSION, 1, 5, 6, "test\033[2J\302\2331m\377"};
    struct proto_ready ready = {7, 8, 9};
    struct proto_frame f;
    bool sync_all;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    m.proc_fd = open("/proc", O_PATH | O_CLOEXEC);
    m.pts_fd = open("/dev/pts", O_PATH | O_CLOEXEC);
    m.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    secrets.files_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    m.secrets = &secrets;
    if (proto_link_init(&link, fd) < 0 ||
        proto_link_send_message(&link, PROTO_HELLO, 0, hello, &hello) < 0 ||
        proto_link_flush(&link) < 0)
        _exit(99);
    while (proto_link_next(&link, &f) == 0) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        poll(&p, 1, -1);
        if (proto_link_fill(&link) == 0)
            _exit(99);
    }
    if (f.type != PROTO_SETUP || proto_link_send_message(&link, PROTO_READY, 0, ready, &ready) < 0)
        _exit(99);
    enum serve_end end = serve(&link, &m, &sync_all);
    if (end == SERVE_SHUTDOWN) {
        proto_link_send(&link, PROTO_BYE, 0, 0, NULL, 0);
        proto_link_flush(&link);
    }
    proto_link_finish(&link);
    _exit((int)end);
}

static inline int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    int fds[2];
    struct proto_hello hello;
    struct proto_ready ready;
    struct guest_wait wait = soon();
    struct dayfly_err err = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    strcpy(x->dir, "/tmp/guest-test.XXXXXX");
    assert_non_null(mkdtemp(x->dir));
    x->agent = fork();
    if (x->agent == 0) {
        close(fds[0]);
        run_agent(fds[1], x->dir);
    }
    close(fds[1]);
    assert_int_equal(guest_new(fds[0], &x->g, &err), 0);
    if (guest_wait_hello(x->g, &wait, &hello, &err) < 0 ||
        guest_setup(x->g, &SETUP, &wait, &ready, &err) < 0)
        fail_msg("%s", err.msg);
    assert_string_equal(hello.release, "test?[2J??1m?");
    assert_int_equal(ready.setup_ns, 9);
    *state = x;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *x = *state;
    int status;
    guest_free(x->g);
    assert_int_equal(waitpid(x->agent, &status, 0), x->agent);
    assert_true(WIFEXITED(status));
    assert_int_not_equal(WEXITSTATUS(status), 99);
    DIR *dir = opendir(x->dir);
    for (struct dirent *e; (e = readdir(dir));)
        unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    rmdir(x->dir);
    free(x);
    return 0;
}

static inline char *in_dir(const struct fixture *x, const char *name)
{
    char *path;
    assert_true(asprintf(&path, "%s/%s", x->dir, name) > 0);
    return path;
}

static inline int memory_file(void)
{
    int fd = memfd_create("out", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* What stands in a file, as a string in a static buffer. */
static inline const char *text_of(int fd)
{
    static char text[65536];
    ssize_t n = io_pread_full(fd, text, sizeof(text) - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    return text;
}

/* As this process' user, who is root or can become nobody else. */
static inline uint32_t start(struct fixture *x, const struct guest_command *command)
{
    struct guest_command c = *command;
    char self[32];
    uint32_t session;
    struct dayfly_err err = {0};
    snprintf(self, sizeof(self), "%u:%u", getuid(), getgid());
    if (!c.user && geteuid() != 0)
        c.user = self;
    if (guest_exec(x->g, &c, &session, &err) < 0)
        fail_msg("%s", err.msg);
    return session;
}

static inline uint32_t start_sh(struct fixture *x, const char *script, int in, int out, int err_fd)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    return start(x,
                 &(struct guest_command){.argv = argv, .in_fd = in, .out_fd = out, .err_fd = err_fd});
}

/* To its end; a test that hangs is killed by its deadline and sees timed_out. */
static inline struct guest_result finish_with(struct fixture *x, uint32_t session,
                                              struct guest_pump opts)
{
    struct guest_result r;
    struct dayfly_err err = {0};
    if (!opts.deadline_ns)
        opts.deadline_ns = clock_ns() + TEST_WAIT_NS;
    if (guest_pump(x->g, session, &opts, &r, &err) < 0)
        fail_msg("%s", err.msg);
    return r;
}

static inline struct guest_result finish(struct fixture *x, uint32_t session)
{
    return finish_with(x, session, PUMP);
}

static inline void assert_exit(struct guest_result r, int code)
{
    if (r.outcome == GUEST_REFUSED)
        print_message("refused: %s (%u)\n", r.refused.text, r.refused.code);
    assert_int_equal(r.outcome, GUEST_EXITED);
    assert_int_equal(r.code, code);
    assert_int_equal(guest_result_status(&r), code);
}

#endif
