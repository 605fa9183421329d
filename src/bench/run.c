/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/run.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/process.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/io.h"
#include "util/text.h"

/* How long a run may take to end by itself after a signal, and what it started after it. */
#define GRACE_NS    (5 * NS_PER_S)
#define WORDS_BYTES 160

struct run {
    const struct run_request *request;
    struct run_figures *figures;
    pid_t pid;
    int in_fd;          /* the input that ends; -1: it has */
    int out_fd, log_fd; /* -1: at their ends */
    int children_fd;
    uint64_t start_ns, begun_ns, released_ns, last_ns; /* 0: not yet */
    uint64_t deadline_ns;
    int status; /* the program's, once `exited` */
    bool exited, gone, interrupted, late;
    char words[WORDS_BYTES + 1]; /* the last that it said on its standard error */
    size_t words_len;
};

/* -- the start -------------------------------------------------------------------------------- */

static void __attribute__((noreturn))
become(const struct run_request *request, int in, int out, int log)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0); /* a Ctrl-C is ours to pass on */
    if (dup2(in, 0) >= 0 && dup2(out, 1) >= 0 && dup2(log, 2) >= 0)
        execv(request->file, (char *const *)request->argv);
    dprintf(log, "%s: %s\n", request->file, strerror(errno));
    _exit(127);
}

/* A reader of its own, so that each run reads from the beginning. */
static int open_input(const struct run_request *request, int pair[2])
{
    char path[40];
    if (request->stdin_fd < 0)
        return pipe2(pair, O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", request->stdin_fd);
    pair[1] = -1;
    pair[0] = open(path, O_RDONLY | O_CLOEXEC);
    return pair[0];
}

static int start(struct run *run, struct dayfly_err *err)
{
    int in[2] = {-1, -1}, out[2], log[2];
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    run->children_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (run->children_fd < 0 || open_input(run->request, in) < 0)
        return err_errno(err, errno, "prepare a run");
    _cleanup_close_ int in_end = in[0];
    run->in_fd = in[1];
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_errno(err, errno, "prepare a run");
    _cleanup_close_ int out_end = out[1];
    run->out_fd = out[0];
    if (pipe2(log, O_CLOEXEC) < 0)
        return err_errno(err, errno, "prepare a run");
    _cleanup_close_ int log_end = log[1];
    run->log_fd = log[0];
    run->start_ns = clock_ns();
    run->deadline_ns = run->start_ns + run->request->limit_ns;
    run->pid = fork();
    if (run->pid == 0)
        become(run->request, in_end, out_end, log_end);
    return run->pid < 0 ? err_errno(err, errno, "start %s", run->request->file) : 0;
}

/* -- while it runs ---------------------------------------------------------------------------- */

/* What happens once the job has begun. */
static void begun(struct run *run, uint64_t now_ns)
{
    run->begun_ns = now_ns;
    run->figures->begin_ms = (double)(now_ns - run->start_ns) / 1e6;
    if (run->in_fd < 0)
        return;
    if (run->request->wants_memory)
        run->figures->overhead_bytes = process_overhead();
    run->released_ns = clock_ns();
    close_fd(&run->in_fd);
}

static void take_words(struct run *run)
{
    char bytes[4096];
    ssize_t n = read(run->log_fd, bytes, sizeof(bytes));
    if (n <= 0) {
        if (n == 0 || errno != EINTR)
            close_fd(&run->log_fd);
        return;
    }
    size_t len = MIN((size_t)n, WORDS_BYTES), kept = MIN(run->words_len, WORDS_BYTES - len);
    memmove(run->words, run->words + run->words_len - kept, kept);
    memcpy(run->words + kept, bytes + n - len, len);
    run->words_len = kept + len;
}

static void take_output(struct run *run)
{
    struct marks *marks = &run->figures->marks;
    char bytes[4096];
    bool had_ended = marks->ended;
    ssize_t n = read(run->out_fd, bytes, sizeof(bytes));
    uint64_t now_ns = clock_ns();
    if (n <= 0) {
        if (n == 0 || errno != EINTR)
            close_fd(&run->out_fd);
        return;
    }
    marks_take(marks, bytes, (size_t)n);
    if (marks->begun && !run->begun_ns)
        begun(run, now_ns);
    if (marks->ended && !had_ended && run->begun_ns) {
        run->figures->work_s = (double)(now_ns - run->begun_ns) / 1e9;
        run->released_ns = now_ns;
    }
}

static void reap(struct run *run)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    while (read(run->children_fd, &info, sizeof(info)) == sizeof(info))
        ;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        run->last_ns = clock_ns();
        if (pid == run->pid) {
            run->exited = true;
            run->status = status;
            run->deadline_ns = run->last_ns + GRACE_NS;
        }
    }
    run->gone = pid < 0 && errno == ECHILD;
}

static void end_early(struct run *run)
{
    close_fd(&run->in_fd);
    if (!run->exited)
        kill(run->pid, SIGTERM);
    run->deadline_ns = clock_ns() + GRACE_NS;
}

/* Until all of it is gone, or its time is over. */
static void serve(struct run *run)
{
    while (!run->gone) {
        struct pollfd fds[] = {{run->out_fd, POLLIN, 0},
                               {run->children_fd, POLLIN, 0},
                               {run->interrupted ? -1 : run->request->signal_fd, POLLIN, 0},
                               {run->log_fd, POLLIN, 0}};
        uint64_t now_ns = clock_ns();
        int64_t left_ms = (int64_t)((run->deadline_ns - MIN(now_ns, run->deadline_ns)) / NS_PER_MS) + 1;
        int n = poll(fds, ARRAY_SIZE(fds), (int)MIN(left_ms, 1000000));
        if (n < 0 && errno != EINTR)
            return;
        if (fds[0].revents)
            take_output(run);
        if (fds[3].revents)
            take_words(run);
        if (fds[1].revents)
            reap(run);
        if (fds[2].revents) {
            run->interrupted = true;
            end_early(run);
        }
        if (clock_ns() < run->deadline_ns)
            continue;
        if (run->exited || run->interrupted || run->late)
            return;
        run->late = true;
        end_early(run);
    }
}

/* -- the end ---------------------------------------------------------------------------------- */

static void last_words(const struct run *run, char out[WORDS_BYTES + 1])
{
    memcpy(out, run->words, run->words_len);
    out[run->words_len] = '\0';
    for (char *p = out + strlen(out); p > out && p[-1] == '\n';)
        *--p = '\0';
    for (char *p = out; (p = strchr(p, '\n'));)
        *p = ' ';
    text_make_printable(out);
}

static int judge(const struct run *run, struct dayfly_err *err)
{
    char words[WORDS_BYTES + 1];
    last_words(run, words);
    if (run->interrupted)
        return err_set(err, EINTR, "interrupted");
    if (run->late)
        return err_set(err, ETIME, "it took longer than %g s (--timeout): %s",
                       (double)run->request->limit_ns / 1e9, words);
    if (!run->exited || !WIFEXITED(run->status))
        return err_set(err, EIO, "it was killed: %s", words);
    if (WEXITSTATUS(run->status))
        return err_set(err, EIO, "status %d: %s", WEXITSTATUS(run->status), words);
    if (!run->begun_ns)
        return err_set(err, EIO, "it said nothing");
    return 0;
}

int run_measure(const struct run_request *request, struct run_figures *out, struct dayfly_err *err)
{
    struct run run = {
        .request = request,
        .figures = out,
        .in_fd = -1,
        .out_fd = -1,
        .log_fd = -1,
        .children_fd = -1,
    };
    *out = (struct run_figures){.begin_ms = NAN, .work_s = NAN, .end_ms = NAN, .overhead_bytes = -1};
    marks_start(&out->marks);
    int r = start(&run, err);
    if (r == 0) {
        serve(&run);
        while (run.out_fd >= 0 && run.gone) /* what is still in the pipes */
            take_output(&run);
        while (run.log_fd >= 0 && run.gone)
            take_words(&run);
        r = judge(&run, err);
        if (r < 0)
            process_kill_all();
        else if (run.released_ns && run.last_ns > run.released_ns)
            out->end_ms = (double)(run.last_ns - run.released_ns) / 1e6;
        out->start_ns = run.start_ns;
        out->begun_ns = run.begun_ns;
        out->released_ns = run.released_ns;
        out->gone_ns = run.last_ns;
    }
    close_fd(&run.in_fd);
    close_fd(&run.out_fd);
    close_fd(&run.log_fd);
    close_fd(&run.children_fd);
    return r;
}
