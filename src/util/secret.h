/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_SECRET_H
#define UTIL_SECRET_H

/*
 * Memory for a key or another secret: pages of its own that are not swapped out, not in core dumps and
 * not in children, and wiped before they are given back.
 */

#include <stddef.h>

#include "dayfly/error.h"
#include "util/log.h"

struct secret {
    void *bytes; /* zeroes at first; NULL: none */
    size_t mapped_bytes;
};

/* Where the host refuses to lock memory (RLIMIT_MEMLOCK) the pages can be swapped out: that is logged,
 * and no failure. Returns 0 or -errno. */
int secret_new(struct secret *secret, size_t bytes, const struct log *log, struct dayfly_err *err);

/* Wipe and unmap. Safe on a zeroed one and safe to call twice. */
void secret_finish(struct secret *secret);

#endif
