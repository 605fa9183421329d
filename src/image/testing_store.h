/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_TESTING_STORE_H
#define IMAGE_TESTING_STORE_H

/* A store in a temporary directory, and images whose content does not matter. Included by *_test.c
 * files only, behind util/testing.h. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/store.h"
#include "util/tree.h"

struct testing_home {
    char path[64];
};

static inline struct testing_home testing_home_make(void)
{
    struct testing_home home = {"/tmp/unit-store-test.XXXXXX"};
    assert_non_null(mkdtemp(home.path));
    return home;
}

static inline void testing_home_remove(struct testing_home *home)
{
    int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(tree_remove(tmp, home->path + strlen("/tmp/")), 0);
    close(tmp);
}

/* A finished file of these bytes. Returns 0 or what failed; asserts nothing, so that children may use
 * it. */
static inline int testing_file(struct store *store, struct store_file *file, const void *data,
                               size_t len)
{
    int rc = store_file_begin(store, file, NULL);
    if (!rc)
        rc = store_file_write(file, data, len, NULL);
    return rc ? rc : store_file_finish(file, false, NULL);
}

/* Add an image whose layer is `content` and whose root looks like an EROFS. */
static inline int testing_image(struct store *store, const char *name, const char *content,
                                struct digest *manifest_digest)
{
    struct store_file layer = {0}, config = {0}, manifest = {0}, root = {0};
    char text[1024], layer_digest[DIGEST_STR_BYTES], config_digest[DIGEST_STR_BYTES];
    char erofs[4096] = {0};
    static const unsigned char magic[4] = {0xe2, 0xe1, 0xf5, 0xe0};
    memcpy(erofs + 1024, magic, sizeof(magic));
    snprintf(erofs + 2048, 1024, "%s", content);
    snprintf(text, sizeof(text),
             "{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{\"Env\":[\"A=%s\"],"
             "\"Cmd\":[\"/bin/sh\",\"-l\"],\"User\":\"me\"},\"rootfs\":{}}",
             OCI_ARCHITECTURE, content);
    int rc = testing_file(store, &layer, content, strlen(content));
    if (!rc)
        rc = testing_file(store, &config, text, strlen(text));
    if (!rc) {
        snprintf(text, sizeof(text),
                 "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" OCI_TYPE_CONFIG
                 "\",\"digest\":\"%s\",\"size\":%llu},\"layers\":[{\"mediaType\":\"" OCI_TYPE_LAYER
                 "\",\"digest\":\"%s\",\"size\":%llu}]}",
                 digest_str(&config.digest, config_digest), (unsigned long long)config.size,
                 digest_str(&layer.digest, layer_digest), (unsigned long long)layer.size);
        rc = testing_file(store, &manifest, text, strlen(text));
    }
    if (!rc)
        rc = testing_file(store, &root, erofs, sizeof(erofs));
    if (!rc && manifest_digest)
        *manifest_digest = manifest.digest;
    struct store_file *blobs[] = {&layer, &config};
    const struct store_addition addition = {
        .name = name, .manifest = &manifest, .blobs = blobs, .blob_count = 2, .root = &root};
    if (!rc)
        rc = store_add(store, &addition, NULL);
    store_file_discard(store, &layer);
    store_file_discard(store, &config);
    store_file_discard(store, &manifest);
    store_file_discard(store, &root);
    return rc;
}

#endif
