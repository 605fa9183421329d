/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_PRUNE_H
#define IMAGE_PRUNE_H

/*
 * Making room. Images go whole (all names of a manifest), the one that was used longest ago first; one
 * that a sandbox runs on stays. An image is used when it is made, pulled or opened.
 */

#include "image/store.h"

struct prune_options {
    bool by_age, by_size;
    uint64_t older_than_ns; /* by_age: remove what was not used for so long */
    uint64_t keep_bytes;    /* by_size: then remove until no more than this is taken */
    bool dry_run;           /* say it, do nothing */
    /* Told of each image before it goes: one of its names, and what its going makes free. */
    void (*tell)(void *opaque, const char *name, uint64_t freed_bytes);
    void *opaque;
};

struct prune_result {
    uint64_t freed_bytes, kept_bytes; /* of images */
    unsigned staging;                 /* collections of killed pulls that were removed */
};

/* Without by_age and by_size only what killed processes left goes. */
int image_prune(struct store *store, const struct prune_options *options, struct prune_result *result,
                struct dayfly_err *err);

/* Remove what killed processes left in the store of the data directory, if there is one. */
int image_sweep(const struct sweep *sweep, struct dayfly_err *err);

#endif
