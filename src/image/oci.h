/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_OCI_H
#define IMAGE_OCI_H

/*
 * The documents of the OCI image specification (1.1) that Dayfly reads and writes: manifest, config,
 * reference. Text in, structs out, nothing touched on the way: the store brings the bytes and has
 * checked their digest. The text is hostile all the same (a digest proves identity, not good will):
 * counts, sizes and types are bounded here.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "dayfly/error.h"
#include "image/digest.h"

#define OCI_JSON_MAX_BYTES   (4u << 20) /* a manifest or a config */
#define OCI_MAX_LAYERS       512u
#define OCI_MAX_STRINGS      65536u /* of Env, Entrypoint or Cmd */
#define OCI_MEDIA_TYPE_BYTES 128
#define OCI_REF_BYTES        400 /* "name:tag", with the NUL */

#define OCI_TYPE_INDEX    "application/vnd.oci.image.index.v1+json"
#define OCI_TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_TYPE_CONFIG   "application/vnd.oci.image.config.v1+json"
#define OCI_TYPE_LAYER    "application/vnd.oci.image.layer.v1.tar+zstd"

#define OCI_ANNOTATION_REF "org.opencontainers.image.ref.name"

/* The architecture that this build of Dayfly runs, in OCI's (Go's) words. */
#if defined(__x86_64__)
#define OCI_ARCHITECTURE "amd64"
#elif defined(__aarch64__)
#define OCI_ARCHITECTURE "arm64"
#else
#error "name the architecture"
#endif

struct oci_descriptor {
    char media_type[OCI_MEDIA_TYPE_BYTES];
    struct digest digest;
    uint64_t size;
};

struct oci_manifest {
    struct oci_descriptor config;
    struct oci_descriptor *layers; /* lowest first */
    size_t layer_count;
};

/* What a container of the image runs with, and what its layers unpack to. Lists of words are
 * NULL-terminated and never NULL; user and working_dir are never NULL ("" when the image does not say).
 */
struct oci_config {
    char **env, **entrypoint, **cmd;
    char *user, *working_dir;
    char architecture[32], os[32], created[40];
    struct digest *diff_ids; /* of the uncompressed layers, lowest first */
    size_t diff_id_count;
};

/* Read a document of `len` bytes. On success the caller finishes *out; on failure nothing is left. */
int oci_manifest_parse(const char *json, size_t len, struct oci_manifest *out, struct dayfly_err *err);
void oci_manifest_finish(struct oci_manifest *manifest);
int oci_config_parse(const char *json, size_t len, struct oci_config *out, struct dayfly_err *err);
void oci_config_finish(struct oci_config *config);

/* As the parsers above do it: len bounded, duplicate keys refused, an object expected. The caller
 * drops the reference. NULL and *err on failure. */
json_t *oci_json_load(const char *json, size_t len, struct dayfly_err *err);

/* Read a descriptor object (of a manifest's layers or of an index). */
int oci_descriptor_parse(const json_t *object, struct oci_descriptor *out, struct dayfly_err *err);

/* True for the media types of OCI's and Docker's layers, in clear, however they are compressed. */
bool oci_is_layer(const char *media_type);

/* A new descriptor object, NULL when memory is out. */
json_t *oci_descriptor_json(const char *media_type, const struct digest *digest, uint64_t size);

/* The manifest that an index (an image layout's) of exactly one entry names. */
int oci_index_parse(const char *json, size_t len, struct oci_descriptor *out, struct dayfly_err *err);

/* What a person calls an image: NAME[:TAG] or sha256:HEX. */
struct oci_ref {
    bool by_digest;
    struct digest digest;     /* by_digest */
    char name[OCI_REF_BYTES]; /* else: with the tag, ":latest" when none was said */
};

int oci_ref_parse(const char *text, struct oci_ref *out, struct dayfly_err *err);

#endif
