/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_STORE_IMPL_H
#define IMAGE_STORE_IMPL_H

/* What store.c, staging.c and index.c share; nobody else includes it. */

#include "image/store.h"

/* Call fn for each name in a directory that does not begin with a dot, until it returns non-zero.
 * Returns that, or -errno. fn may remove the name. */
int store_each_name(int dir_fd, int (*fn)(void *opaque, const char *name), void *opaque);

/* A name for tmp/ that store_sweep_temps knows. */
int store_temp_name(char name[40], struct dayfly_err *err);

/* Remove this name of tmp/ if it is a collection of a pull's that nobody holds, and old. */
void store_sweep_old_staging(struct store *store, const char *name);

/* Remove the temporaries that nobody holds. The exclusive lock is held. */
void store_sweep_temps(struct store *store);

#endif
