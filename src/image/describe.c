/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of images: `image inspect` and `image ls`. */
#include "image/image_impl.h"

#include <stdlib.h>

#include "image/usage.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/json.h"

static json_t *load_blob_json(struct store *store, const struct digest *digest, struct dayfly_err *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len;
    return store_blob_read(store, digest, &text, &len, err) ? NULL : oci_json_load(text, len, err);
}

static json_t *describe_entry(struct store *store, const struct store_entry *entry,
                              struct dayfly_err *err)
{
    char digest[DIGEST_STR_BYTES];
    struct oci_manifest m;
    if (image_read_manifest(store, entry, &m, err))
        return NULL;
    _cleanup_json_ json_t *manifest = load_blob_json(store, &entry->manifest, err);
    _cleanup_json_ json_t *config = manifest ? load_blob_json(store, &m.config.digest, err) : NULL;
    oci_manifest_finish(&m);
    if (!config)
        return NULL;
    json_t *out =
        json_pack("{s:s, s:s, s:O, s:O}", "name", entry->name, "digest",
                  digest_str(&entry->manifest, digest), "manifest", manifest, "config", config);
    if (out && entry->has_root) {
        char path[STORE_ROOT_NAME_BYTES];
        json_object_set_new(out, "root",
                            json_pack("{s:s+++, s:s, s:I}", "path", store->path, "/", "roots/sha256/",
                                      store_root_name(&entry->manifest, path), "digest",
                                      digest_str(&entry->root, digest), "bytes",
                                      (json_int_t)entry->root_bytes));
    }
    if (!out)
        err_errno(err, ENOMEM, "image");
    return out;
}

json_t *image_describe(struct store *store, const char *text, struct dayfly_err *err)
{
    struct oci_ref ref;
    struct store_entry entry;
    json_t *out = NULL;
    if (oci_ref_parse(text, &ref, err) || store_lock_shared(store, err))
        return NULL;
    if (store_find(store, &ref, &entry, err) == 0) {
        out = describe_entry(store, &entry, err);
        if (!out)
            image_damaged(entry.name, err);
    }
    store_unlock(store);
    return out;
}

/* A damaged image is listed as what is known of it: `ls` is where one looks when something is wrong. */
static json_t *list_entry(struct store *store, const struct usage *usage, size_t i)
{
    const struct store_entry *entry = &usage->entries[i];
    uint64_t own, shared;
    char digest[DIGEST_STR_BYTES];
    struct oci_manifest m;
    struct oci_config c;
    uint64_t bytes = 0;
    json_t *out =
        json_pack("{s:s, s:s}", "name", entry->name, "digest", digest_str(&entry->manifest, digest));
    if (!out)
        return NULL;
    usage_of(usage, i, &own, &shared);
    json_object_set_new(out, "own_bytes", json_integer((json_int_t)own));
    json_object_set_new(out, "shared_bytes", json_integer((json_int_t)shared));
    if (entry->has_root)
        json_object_set_new(out, "root_bytes", json_integer((json_int_t)entry->root_bytes));
    if (image_read_manifest(store, entry, &m, NULL)) {
        json_object_set_new(out, "damaged", json_true());
        return out;
    }
    for (size_t layer = 0; layer < m.layer_count; layer++)
        bytes += m.layers[layer].size;
    json_object_set_new(out, "layers_bytes", json_integer((json_int_t)bytes));
    if (image_read_config(store, &m, &c, NULL)) {
        json_object_set_new(out, "damaged", json_true());
    } else {
        json_object_set_new(out, "created", json_string(c.created));
        oci_config_finish(&c);
    }
    oci_manifest_finish(&m);
    return out;
}

json_t *image_list(struct store *store, struct dayfly_err *err)
{
    _cleanup_free_ struct store_entry *entries = NULL;
    size_t count = 0;
    if (store_lock_shared(store, err))
        return NULL;
    json_t *out = NULL;
    struct usage usage = {0};
    if (store_entries(store, &entries, &count, err) == 0 &&
        usage_read(&usage, store, entries, count, err) == 0) {
        out = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(out, list_entry(store, &usage, i));
    }
    usage_finish(&usage);
    store_unlock(store);
    return out;
}
