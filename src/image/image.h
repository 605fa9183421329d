/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_IMAGE_H
#define IMAGE_IMAGE_H

/*
 * Images: making one from a tree, opening one for a sandbox.
 */

#include "image/oci.h"
#include "image/store.h"
#include "util/log.h"

/* An image that is open. The root file system cannot be removed while root_fd, or a duplicate of it in
 * any process, is open. */
struct image {
    char name[OCI_REF_BYTES];               /* canonical, with its tag */
    char manifest_digest[DIGEST_STR_BYTES]; /* "sha256:...": what the image is */
    char root_digest[DIGEST_STR_BYTES];     /* of the EROFS file's bytes */
    uint64_t root_bytes;
    int root_fd; /* O_RDONLY, shared flock */
    struct oci_config config;
};

/*
 * Open an image by NAME[:TAG] or sha256:HEX. A root file system that is missing (it is derived) is made
 * anew, which takes a moment. On success the caller finishes *out.
 *   -ENOENT   no such image; the message names the nearest one, or how to make one
 *   -EINVAL   the name is none, or the image is for another architecture
 *   -EBADMSG  the image is damaged; the message says how to replace it
 */
int image_open(struct store *store, const char *ref, struct image *out, const struct log *log,
               struct dayfly_err *err);
void image_finish(struct image *image); /* safe on a zeroed one */

/* What an image made here runs with. */
struct image_config {
    const char *const *cmd; /* NULL-terminated; NULL: no Cmd */
    const char *comment;    /* goes into the history, "dayfly image import" */
    int64_t epoch;          /* the creation time, seconds */
};

/* The epoch to stamp things with: $SOURCE_DATE_EPOCH, else `otherwise`. */
int image_epoch(int64_t otherwise, int64_t *out, struct dayfly_err *err);

/* Make the image `name` from a directory, or from an archive (a file or a pipe; by its fd when fd >= 0,
 * `path` is then what messages call it). Replaces an image of that name. out_digest may be NULL. */
int image_import(struct store *store, const char *name, const char *path, int fd,
                 const struct image_config *config, char out_digest[DIGEST_STR_BYTES],
                 const struct log *log, struct dayfly_err *err);

/* For `image inspect`: everything known of an image, as one JSON object. NULL and *err on failure. */
json_t *image_describe(struct store *store, const char *ref, struct dayfly_err *err);

/* For `image ls`: an array of objects name, digest, created, layers_bytes, root_bytes, and how much of
 * the store it takes: own_bytes, which would be free without it, and shared_bytes, which other names
 * need as well. */
json_t *image_list(struct store *store, struct dayfly_err *err);

#endif
