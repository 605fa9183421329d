/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_HELD_DIR_H
#define UTIL_HELD_DIR_H

#include "util/sweep.h"

/*
 * A directory that is its maker's for as long as that lives, beside others of its kind: it is called a
 * prefix and twelve digits, and its maker holds a lock on it. One that nobody holds was left by
 * somebody who was killed.
 */

#define HELD_DIR_NAME_BYTES 64

/*
 * Make one in dir_fd, mode 0700; `name` is what it is called. Returns a descriptor of it, which has the
 * lock and is the caller's, or -errno; -ENAMETOOLONG for a prefix of more than 50 bytes.
 */
int held_dir_make(int dir_fd, const char *prefix, char name[HELD_DIR_NAME_BYTES]);

/* Remove those of this user in dir_fd that nobody holds, and tell of each as a `kind`; `path`: that of
 * dir_fd, for that. */
void held_dir_sweep(int dir_fd, const char *path, const char *prefix, const char *kind,
                    const struct sweep *sweep);

#endif
