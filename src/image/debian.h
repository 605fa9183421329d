/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_DEBIAN_H
#define IMAGE_DEBIAN_H

/*
 * An image built from Debian's packages by mmdebstrap.
 *
 * The packages come from where the host's own do (apt_sources.h), with the host's apt settings for
 * fetching (proxies and the like) while it is built; neither those nor the host's name and resolver
 * stay in the image. The tree is made in memory when there is room. mmdebstrap's tar stream goes
 * straight into the store.
 *
 * Times later than the epoch are set to it. With the same packages and the same epoch
 * ($SOURCE_DATE_EPOCH, else the beginning of the day, UTC) the image has the same digest.
 */

#include <stdbool.h>

#include "image/image.h"

struct debian_options {
    const char *name;    /* of the image */
    const char *suite;   /* "bookworm" */
    const char *include; /* packages, separated by commas; or NULL */
    bool show_progress;  /* mmdebstrap's own messages go to stderr */
};

int debian_build(struct store *store, const struct debian_options *options,
                 char out_digest[DIGEST_STR_BYTES], const struct log *log, struct dayfly_err *err);

#endif
