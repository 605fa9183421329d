/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_IMAGE_IMPL_H
#define IMAGE_IMAGE_IMPL_H

/* What image.c shares with the files beside it that work on whole images; nobody else includes it. */

#include "image/image.h"
#include "image/layer.h"

/* Read and check the documents of an image. The caller finishes *out. */
int image_read_manifest(struct store *store, const struct store_entry *entry, struct oci_manifest *out,
                        struct dayfly_err *err);
int image_read_config(struct store *store, const struct oci_manifest *manifest, struct oci_config *out,
                      struct dayfly_err *err);

/* Put the name and the way out in front of what is wrong with an image that is there. -EBADMSG. */
int image_damaged(const char *name, struct dayfly_err *err);

/* -EINVAL unless this machine can run it. */
int image_check_platform(const char *name, const struct oci_config *config, struct dayfly_err *err);

/*
 * Make the root file system of the manifest `identity` in `root`, which is begun here and finished on
 * success (the caller discards it in any case), from the blobs that lie in blobs_fd by their hex
 * digits. All digests are checked. -EBADMSG: they are wrong; -EINVAL: its layers are none, or do not
 * fit its config.
 */
int image_derive(struct store *store, int blobs_fd, const struct digest *identity,
                 const struct oci_manifest *manifest, const struct oci_config *config,
                 struct store_file *root, const struct log *log, struct dayfly_err *err);

#endif
