/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_STORE_IMPL_H
#define IMAGE_STORE_IMPL_H

/* What store.c and index.c share; nobody else includes it. */

#include "image/store.h"

/* Call fn for each name in a directory that does not begin with a dot, until it returns non-zero.
 * Returns that, or -errno. fn may remove the name. */
int store_each_name(int dir_fd, int (*fn)(void *opaque, const char *name), void *opaque);

/* Remove the temporaries that nobody holds. The exclusive lock is held. */
void store_sweep_temps(struct store *store);

#endif
