/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_COMMAND_LINE_H
#define ENGINE_COMMAND_LINE_H

/*
 * The argument vector and the descriptors of a program that is about to be started. An allocation that
 * fails is remembered, and reported by the spawn.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "dayfly/error.h"
#include "engine/confine.h"

struct command_line {
    char **argv; /* NULL-terminated */
    size_t argc;
    int *fds; /* what the program inherits, under the same numbers; owned */
    size_t fd_count;
    bool failed; /* ENOMEM on the way */
};

void command_line_add(struct command_line *line, const char *word);
void command_line_addf(struct command_line *line, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The program inherits fd (taken, even on failure) under its number, which is returned. */
int command_line_pass(struct command_line *line, int fd);

void command_line_finish(struct command_line *line);

/*
 * Start argv[0], looked for in PATH. stdin and stdout are /dev/null, stderr is stderr_fd. The program
 * gets SIGKILL when the calling *thread* ends, so call it from one that lives as long as it shall. All
 * signals are at their defaults there. Returns the pid or -errno; -ENOENT when there is no such
 * program. `confine`: locked up (confine.h, prepared with the line's descriptors), with the mask of
 * stages that were applied; NULL, or both: not.
 */
pid_t command_line_spawn(struct command_line *line, int stderr_fd, const struct confine *confine,
                         unsigned *applied, struct dayfly_err *err);

#endif
