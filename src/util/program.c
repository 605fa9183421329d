/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See program.h. The parent may have threads: between fork and exec the child makes async-signal-safe
 * calls only, and the program is looked up before.
 */
#include "util/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

#define EXEC_FAILED 127

/* `name` in the first of the folders, separated by colons, that has it. NULL with errno. */
static char *find_in(const char *folders, const char *name)
{
    for (const char *p = folders; *p;) {
        size_t len = strcspn(p, ":");
        char *file = NULL;
        struct stat st;
        if (len && asprintf(&file, "%.*s/%s", (int)len, p, name) < 0) {
            errno = ENOMEM;
            return NULL;
        }
        /* A folder may be "executable" too. */
        if (file && access(file, X_OK) == 0 && stat(file, &st) == 0 && S_ISREG(st.st_mode))
            return file;
        free(file);
        p += len + (p[len] == ':');
    }
    errno = ENOENT;
    return NULL;
}

char *program_find(const char *name)
{
    if (strchr(name, '/'))
        return strdup(name);
    const char *path = getenv("PATH");
    char *file = find_in(path && *path ? path : "/usr/local/bin:/usr/bin:/bin", name);
    return file || errno != ENOENT ? file : find_in("/usr/sbin:/sbin", name);
}

int program_probe(const char *name, const char *package, struct dayfly_err *why)
{
    _cleanup_free_ char *file = program_find(name);
    return file ? 0 : err_set(why, ENOENT, "%s is not installed: apt-get install %s", name, package);
}

pid_t program_wait(pid_t pid, int *status)
{
    pid_t got;
    do
        got = waitpid(pid, status, 0);
    while (got < 0 && errno == EINTR);
    return got;
}

/* The last line of the file that is not empty, cut to the buffer. */
static void last_line(int fd, char *out, size_t size)
{
    char tail[2048];
    off_t end = lseek(fd, 0, SEEK_END);
    off_t from = end > (off_t)sizeof(tail) - 1 ? end - ((off_t)sizeof(tail) - 1) : 0;
    ssize_t n = io_pread_full(fd, tail, sizeof(tail) - 1, from);
    size_t len = n > 0 ? (size_t)n : 0;
    while (len && (tail[len - 1] == '\n' || tail[len - 1] == ' '))
        len--;
    tail[len] = '\0';
    const char *line = strrchr(tail, '\n');
    snprintf(out, size, "%.*s", (int)size - 1, line ? line + 1 : tail);
}

/* In the forked child. Gives exec's errno to the parent through a close-on-exec pipe. */
static void become(const struct program *program, const char *file, int log_fd, int error_fd,
                   pid_t parent)
{
    sigset_t none;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the prctl */
        _exit(EXEC_FAILED);
    if (dup2(program->stdin_fd >= 0 ? program->stdin_fd : null, 0) >= 0 &&
        dup2(program->stdout_fd >= 0 ? program->stdout_fd : null, 1) >= 0 &&
        dup2(program->stderr_fd >= 0 ? program->stderr_fd : log_fd, 2) >= 0)
        execve(file, (char *const *)program->argv,
               program->env ? (char *const *)program->env : environ);
    int code = errno;
    io_write_full(error_fd, &code, sizeof(code));
    _exit(EXEC_FAILED);
}

/* 0 with its wait status, or the errno for which it did not start. */
static int run_file(const struct program *program, const char *file, int log_fd, int *status)
{
    int error[2], code = 0;
    if (pipe2(error, O_CLOEXEC) < 0)
        return errno;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(program, file, log_fd, error[1], parent);
    if (pid < 0)
        code = errno;
    close(error[1]);
    if (pid > 0 && io_read_full(error[0], &code, sizeof(code)) != sizeof(code))
        code = 0;
    close(error[0]);
    if (pid > 0)
        program_wait(pid, status);
    return code;
}

int program_run(const struct program *program, struct dayfly_err *err)
{
    const char *name = program->argv[0];
    _cleanup_close_ int log = memfd_create("program's output", MFD_CLOEXEC);
    if (log < 0)
        return err_errno(err, errno, "cannot start %s", name);
    _cleanup_free_ char *file = program_find(name);
    int status = 0, code = file ? run_file(program, file, log, &status) : errno;
    if (code == ENOENT)
        return err_set(err, ENOENT, "the program %s is missing; install Debian's package %s", name,
                       program->package);
    if (code)
        return err_errno(err, code, "cannot start %s", name);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    char line[160];
    last_line(log, line, sizeof(line));
    const char *sep = line[0] ? ": " : "";
    if (WIFSIGNALED(status))
        return err_set(err, EIO, "%s was killed by signal %d%s%s", name, WTERMSIG(status), sep, line);
    return err_set(err, strstr(line, "No space left") ? ENOSPC : EIO, "%s failed with status %d%s%s",
                   name, WEXITSTATUS(status), sep, line);
}
