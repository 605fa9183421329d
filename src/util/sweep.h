/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_SWEEP_H
#define UTIL_SWEEP_H

#include <stdbool.h>

/*
 * How what killed processes left is removed: in silence by the next run, which only wants it gone, and
 * with every thing named by `dayfly prune`. Each part of the library sweeps its own, and takes one of
 * these; NULL stands for in silence.
 *
 * A part removes nothing that a living process may still use: it takes the lock that the living hold.
 */
struct sweep {
    bool dry_run; /* look, and change nothing */
    /* Told of each thing that was found: what it is, where, and 0 or the -errno for which it stays. */
    void (*tell)(void *opaque, const char *kind, const char *name, int error);
    void *opaque;
};

/* Whether what is found is to be removed. */
bool sweep_removes(const struct sweep *sweep);

/* Tell of a thing, its name by a format. */
void sweep_tell(const struct sweep *sweep, const char *kind, int error, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
