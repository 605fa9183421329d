/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_NAMELESS_H
#define UTIL_NAMELESS_H

#include "dayfly/error.h"
#include "util/sweep.h"

/*
 * Make a file without a name, for reading and writing by this user, in `dir` (NULL: none is preferred),
 * or, where that is missing, foreign, or on a file system without such files, in $TMPDIR, /var/tmp or
 * /tmp. It is gone with its last descriptor, however the process ends. `what` it is, is for the
 * message. Returns the descriptor or -errno.
 */
int nameless_file_open(const char *dir, const char *what, struct dayfly_err *err);

/* What the folder below is called: the pid of who made it follows, and letters. */
#define NAMELESS_DOOR "dayfly-door-"

/*
 * For a program that insists on connecting to a socket by its path: bind `fd`, of AF_UNIX, to a path
 * that is gone when this returns. connect(2) goes by the file's inode, and the links of /proc/self/fd
 * lead to it without asking for a name: who has the descriptor *door connects to /proc/self/fd/N. The
 * path was in a folder that nobody else may enter; one that somebody left who was killed at that moment
 * is removed by the next, or by nameless_sweep. Returns 0 or -errno; *door is the caller's to close.
 */
int nameless_socket_bind(int fd, int *door, struct dayfly_err *err);

/* Remove what killed processes of this user left of such folders. */
void nameless_sweep(const struct sweep *sweep);

#endif
