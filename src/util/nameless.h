/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_NAMELESS_H
#define UTIL_NAMELESS_H

#include "dayfly/error.h"

/*
 * Make a file without a name, for reading and writing by this user, in `dir` (NULL: none is preferred),
 * or, where that is missing, foreign, or on a file system without such files, in $TMPDIR, /var/tmp or
 * /tmp. It is gone with its last descriptor, however the process ends. `what` it is, is for the
 * message. Returns the descriptor or -errno.
 */
int nameless_file_open(const char *dir, const char *what, struct dayfly_err *err);

#endif
