/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_PROGRAM_H
#define UTIL_PROGRAM_H

/*
 * Other programs: where they are, and running one to its end. A long-lived child with descriptors of
 * its own is engine/command_line.h's.
 */

#include <sys/types.h>

#include "dayfly/error.h"

/*
 * The file of a program: in the folders of PATH, then in /usr/sbin and /sbin, where a user's PATH does
 * not lead and mke2fs lives. An empty folder in PATH, which would be the working directory, is passed
 * over. A name with a slash is its own answer, looked at or not. NULL with errno (ENOENT, ENOMEM) when
 * there is none; the caller frees it.
 */
char *program_find(const char *name);

/* 0 when there is such a program, else -ENOENT with how to install Debian's package of it. */
int program_probe(const char *name, const char *package, struct dayfly_err *why);

struct program {
    const char *const *argv; /* argv[0] is looked up as by program_find */
    const char *const *env;  /* its whole environment; NULL: the caller's */
    const char *package;     /* Debian's, to install when argv[0] is missing */
    int stdin_fd, stdout_fd, stderr_fd;
};

/* Run a program and wait for it. It dies with its parent. A descriptor of -1 is /dev/null for stdin and
 * stdout; for stderr it is an anonymous file, whose last line *err quotes when the program fails.
 * -ENOENT with the name of the package when there is no such program; -EIO when it fails; -ENOSPC when
 * it says that this is why. */
int program_run(const struct program *program, struct dayfly_err *err);

/* waitpid for a child of any kind, through signals. */
pid_t program_wait(pid_t pid, int *status);

#endif
