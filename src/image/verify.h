/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_VERIFY_H
#define IMAGE_VERIFY_H

/* Whether images are what their digests say. */

#include "image/store.h"

/* Told of each image; `fault` is NULL for one that is whole. */
typedef void image_verify_fn(void *opaque, const char *name, const struct dayfly_err *fault);

/*
 * Read every byte of one image, or of all (ref NULL), and compare the digests. A root file system that
 * is not what it was is removed, for it is derived and will be made anew. Others may work on the store
 * meanwhile. *damaged is how many images are not whole.
 */
int image_verify(struct store *store, const char *ref, image_verify_fn *tell, void *opaque,
                 size_t *damaged, struct dayfly_err *err);

/* The same for one entry: 0, -EBADMSG with what is wrong, or another -errno. */
int image_verify_entry(struct store *store, const struct store_entry *entry, struct dayfly_err *err);

#endif
