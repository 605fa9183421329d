/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_ROOT_H
#define IMAGE_ROOT_H

/*
 * From layers to the root file system: a read-only EROFS that all sandboxes of an image share.
 *
 * The layers are extracted (layer.h) in a scratch place (scratch.h) and packed by mkfs.erofs with a
 * fixed UUID and time, so that the same layers give the same bytes with the same mkfs.erofs.
 *
 * Uncompressed, by measurement: doc/images.md.
 */

#include "image/layer.h"
#include "image/store.h"
#include "util/log.h"

struct root_source {
    const struct layer_source *layers; /* lowest first */
    size_t layer_count;
    struct digest identity; /* what the UUID is made from: the manifest's */
    int64_t epoch;          /* seconds: the file system's own time, and a root's that no layer has */
};

/* Make the EROFS in `out`, which store_file_begin has begun; finished on success. -EBADMSG when a layer
 * has not the digests that it should. */
int root_derive(struct store *store, const struct root_source *source, struct store_file *out,
                const struct log *log, struct dayfly_err *err);

/* Check that fd is an EROFS image of exactly `bytes` bytes (0: any). A cheap look at the superblock,
 * not a proof of the content. */
int root_check(int fd, uint64_t bytes, struct dayfly_err *err);

#endif
