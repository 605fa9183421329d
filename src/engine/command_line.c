/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See command_line.h. The parent may have many threads, so that between fork and exec the child makes
 * async-signal-safe calls only; everything that allocates is done before. How far the child got comes
 * back over a close-on-exec pipe.
 */
#include "engine/command_line.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/program.h"

/* Takes `word`, which may be NULL when memory ran out. */
static void append(struct command_line *line, char *word)
{
    char **bigger = word ? realloc(line->argv, (line->argc + 2) * sizeof(char *)) : NULL;
    if (!bigger) {
        free(word);
        line->failed = true;
        return;
    }
    line->argv = bigger;
    line->argv[line->argc++] = word;
    line->argv[line->argc] = NULL;
}

void command_line_add(struct command_line *line, const char *word)
{
    append(line, strdup(word));
}

void command_line_addf(struct command_line *line, const char *fmt, ...)
{
    char *word;
    va_list args;
    va_start(args, fmt);
    if (vasprintf(&word, fmt, args) < 0)
        word = NULL;
    va_end(args);
    append(line, word);
}

int command_line_pass(struct command_line *line, int fd)
{
    int *bigger = realloc(line->fds, (line->fd_count + 1) * sizeof(int));
    if (!bigger || fd < 0) {
        line->failed = true;
        if (bigger)
            line->fds = bigger;
        close_fd(&fd);
        return -1;
    }
    line->fds = bigger;
    line->fds[line->fd_count++] = fd;
    return fd;
}

void command_line_finish(struct command_line *line)
{
    for (size_t i = 0; i < line->argc; i++)
        free(line->argv[i]);
    for (size_t i = 0; i < line->fd_count; i++)
        close(line->fds[i]);
    free(line->argv);
    free(line->fds);
    *line = (struct command_line){0};
}

/* What the child says: once when it is locked up, and once more when it cannot become the program. */
struct word {
    struct dayfly_err err; /* code 0: all is well */
    unsigned applied;
};

static void say(int fd, struct word word)
{
    (void)!write(fd, &word, sizeof(word));
}

/* In the child. Never returns. */
static void become(const char *program, const struct command_line *line, int null_fd, int stderr_fd,
                   const struct confine *confine, int word_fd, pid_t parent)
{
    struct word word = {0};
    sigset_t none;
    sigemptyset(&none);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (confine && confine_enter(confine, &word.applied, &word.err) < 0) {
        say(word_fd, word);
        _exit(127);
    }
    say(word_fd, word);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the prctl */
        _exit(127);
    setpgid(0, 0); /* the terminal's Ctrl-C is for the parent to answer */
    if (dup2(null_fd, 0) >= 0 && dup2(null_fd, 1) >= 0 && dup2(stderr_fd, 2) >= 0) {
        for (size_t i = 0; i < line->fd_count; i++)
            fcntl(line->fds[i], F_SETFD, 0);
        execv(program, line->argv);
    }
    say(word_fd, (struct word){.err.code = errno});
    _exit(127);
}

pid_t command_line_spawn(struct command_line *line, int stderr_fd, const struct confine *confine,
                         unsigned *applied, struct dayfly_err *err)
{
    int failure[2] = {-1, -1};
    if (line->failed || line->argc == 0)
        return err_set(err, ENOMEM, "out of memory");
    _cleanup_free_ char *program = program_find(line->argv[0]);
    if (!program)
        return err_errno(err, errno, "%s", line->argv[0]);
    _cleanup_close_ int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0 || pipe2(failure, O_CLOEXEC) < 0)
        return err_errno(err, errno, "start %s", program);
    _cleanup_close_ int failure_read = failure[0], failure_write = failure[1];

    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return err_errno(err, errno, "start %s", program);
    if (pid == 0)
        become(program, line, null_fd, stderr_fd, confine, failure_write, parent);

    struct word word = {0}, failed = {0};
    close_fd(&failure_write);
    if (io_read_full(failure_read, &word, sizeof(word)) == sizeof(word) && word.err.code == 0 &&
        io_read_full(failure_read, &failed, sizeof(failed)) == 0) {
        if (applied)
            *applied = word.applied;
        return pid;
    }
    waitpid(pid, NULL, 0);
    if (word.err.code)
        return err_set(err, word.err.code, "start %s: %s", program, word.err.msg);
    return err_errno(err, failed.err.code ? failed.err.code : EIO, "start %s", program);
}
