/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_STORE_IMPL_H
#define IMAGE_STORE_IMPL_H

/* What store.c, staging.c and index.c share; nobody else includes it. */

#include <time.h>

#include "image/store.h"

/* Call fn for each name in a directory that does not begin with a dot, until it returns non-zero.
 * Returns that, or -errno. fn may remove the name. */
int store_each_name(int dir_fd, int (*fn)(void *opaque, const char *name), void *opaque);

/* A name for tmp/ that store_sweep_temps knows. */
int store_temp_name(char name[40], struct dayfly_err *err);

/* How much goes, and who is told. */
struct store_sweeping {
    struct store *store;
    const struct sweep *sweep; /* NULL: in silence */
    time_t staging_age;        /* of pulls' collections: seconds since somebody began to use it */
};

/* Remove this name of tmp/ if it is a collection of a pull's that nobody holds, and of that age. True
 * when it was one (of a dry run: would be) that is removed. */
bool store_sweep_one_staging(const struct store_sweeping *how, const char *name);

/* Remove the temporaries that nobody holds. The exclusive lock is held. */
void store_sweep_temps(const struct store_sweeping *how);

#endif
