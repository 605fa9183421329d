/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_CLEANUP_H
#define UTIL_CLEANUP_H

/*
 * Scope-bound ownership for cold paths.
 *
 *     _cleanup_close_ int fd = open(...);
 *     _cleanup_free_ char *name = strdup(...);
 *     ...
 *     out->fd = steal_fd(&fd);     // success: ownership moves, nothing is closed here
 *
 * An fd that is not set is -1.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

/* Close *fd if it is set, set it to -1, keep errno. */
static inline void close_fd(int *fd)
{
    if (*fd >= 0) {
        int saved = errno;
        close(*fd);
        errno = saved;
        *fd = -1;
    }
}

static inline void cleanup_fclose(FILE **f)
{
    if (*f)
        fclose(*f);
}

static inline int steal_fd(int *fd)
{
    int out = *fd;
    *fd = -1;
    return out;
}

#define steal_ptr(p)                                                                                   \
    ({                                                                                                 \
        __typeof__(*(p)) _s = *(p);                                                                    \
        *(p) = NULL;                                                                                   \
        _s;                                                                                            \
    })

/* Declared for its end of scope alone: that is a use. */
#define _cleanup_(f)     __attribute__((cleanup(f), unused))
#define _cleanup_free_   _cleanup_(cleanup_free)
#define _cleanup_close_  _cleanup_(close_fd)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

#endif
