/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_FIRM_H
#define UTIL_FIRM_H

#include <sys/types.h>

#include "dayfly/error.h"

/*
 * The path of a directory that is said before a job runs and opened when it has run: what the job has
 * changed meanwhile, in directories that are shared with it, must not lead elsewhere. Symbolic links
 * that are there before are the person's, and followed; none is afterwards.
 */

/* The same path without links, for the caller to free. What is missing of it may be missing still when
 * it is opened. -EINVAL where ".." leads out of what is missing. */
int firm_path(const char *path, char **out, struct dayfly_err *err);

/* The same of one that is to be written to: the nearest directory that is there has to let us.
 * `path` is not empty. */
int firm_path_writable(const char *path, char **out, struct dayfly_err *err);

/* Open the directory, made with this mode where it is missing (0: it is not); no component may be a
 * link: -ENOTDIR. Returns the descriptor or -errno. */
int firm_open(const char *firm, mode_t mode, struct dayfly_err *err);

#endif
