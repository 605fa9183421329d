/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_TRANSFER_H
#define IMAGE_TRANSFER_H

/*
 * Images from elsewhere, and to elsewhere.
 *
 * A pull collects blobs in a directory of its own in the store's tmp/, "pull-HEX", named after the
 * source and locked while it works. Layers that the store has are linked in first, and not fetched
 * again. When all are there and the root file system is made of them, they enter the store together, as
 * an import's do. When the connection breaks off the rest is tried for again, twice. A pull that is
 * killed leaves that directory: the next pull of the same source goes on with it, prune removes it, and
 * so does any command that writes, when a day has passed.
 */

#include "image/digest.h"
#include "image/skopeo.h"
#include "image/store.h"
#include "util/log.h"

struct pull_options {
    const char *source; /* as a person writes it (skopeo_place_parse) */
    const char *name;   /* what to call it here; NULL: what the source says */
    struct skopeo_access access;
    int progress_fd; /* -1: none */
};

/*
 * Pull an image, for this machine's architecture where there are several, and make its root file
 * system. Replaces an image of that name. Errors as skopeo_run's, and
 *   -EINVAL   the source or the name is none; or what came is no image that can run here
 *   -EBADMSG  digests are wrong
 */
int image_pull(struct store *store, const struct pull_options *options,
               char out_digest[DIGEST_STR_BYTES], const struct log *log, struct dayfly_err *err);

struct push_options {
    const char *name;   /* of an image here */
    const char *target; /* as a person writes it */
    struct skopeo_access access;
    int progress_fd;
};

/* Push an image. The digest is that of the manifest at the target: the image's own, unless the target
 * wanted another format. */
int image_push(struct store *store, const struct push_options *options,
               char out_digest[DIGEST_STR_BYTES], struct dayfly_err *err);

#endif
