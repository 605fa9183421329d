/* SPDX-License-Identifier: Apache-2.0 */
#include "image/oci.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/json.h"
#include "util/text.h"

json_t *oci_json_load(const char *json, size_t len, struct dayfly_err *err)
{
    if (len > OCI_JSON_MAX_BYTES) {
        err_set(err, EFBIG, "%zu bytes of JSON where at most %u are allowed", len, OCI_JSON_MAX_BYTES);
        return NULL;
    }
    json_error_t where;
    json_t *doc = json_loadb(json, len, JSON_REJECT_DUPLICATES, &where);
    if (!doc) {
        err_set(err, EINVAL, "line %d: %s", where.line, where.text);
        return NULL;
    }
    if (!json_is_object(doc)) {
        json_decref(doc);
        err_set(err, EINVAL, "the document is not a JSON object");
        return NULL;
    }
    return doc;
}

int oci_descriptor_parse(const json_t *object, struct oci_descriptor *out, struct dayfly_err *err)
{
    const char *type = json_string_value(json_object_get(object, "mediaType"));
    const char *digest = json_string_value(json_object_get(object, "digest"));
    const json_t *size = json_object_get(object, "size");
    if (!digest || !digest_parse(digest, &out->digest))
        return err_set(err, EINVAL, "a descriptor has no sha256 digest");
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return err_set(err, EINVAL, "the descriptor of %.71s has no size", digest);
    if (!type || strlen(type) >= sizeof(out->media_type))
        return err_set(err, EINVAL, "the descriptor of %.71s has no media type", digest);
    memcpy(out->media_type, type, strlen(type) + 1);
    out->size = (uint64_t)json_integer_value(size);
    return 0;
}

bool oci_is_layer(const char *type)
{
    static const char *const known[] = {"application/vnd.oci.image.layer.v1.tar",
                                        "application/vnd.oci.image.layer.nondistributable.v1.tar",
                                        "application/vnd.docker.image.rootfs.diff.tar",
                                        "application/vnd.docker.image.rootfs.foreign.diff.tar"};
    static const char *const packed[] = {"", "+gzip", "+zstd", ".gzip", ".zstd"};
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        size_t len = strlen(known[i]);
        for (size_t p = 0; p < ARRAY_SIZE(packed) && !strncmp(type, known[i], len); p++) {
            if (!strcmp(type + len, packed[p]))
                return true;
        }
    }
    return false;
}

json_t *oci_descriptor_json(const char *media_type, const struct digest *digest, uint64_t size)
{
    char text[DIGEST_STR_BYTES];
    return json_pack("{s:s, s:s, s:I}", "mediaType", media_type, "digest", digest_str(digest, text),
                     "size", (json_int_t)size);
}

int oci_index_parse(const char *json, size_t len, struct oci_descriptor *out, struct dayfly_err *err)
{
    _cleanup_json_ json_t *doc = oci_json_load(json, len, err);
    if (!doc)
        return err_wrap(err, "image index");
    const json_t *list = json_object_get(doc, "manifests");
    if (!json_is_array(list) || json_array_size(list) != 1)
        return err_set(err, EINVAL, "image index: one manifest expected, not %zu",
                       json_array_size(list));
    int rc = oci_descriptor_parse(json_array_get(list, 0), out, err);
    if (rc)
        err_wrap(err, "image index");
    return rc;
}

int oci_manifest_parse(const char *json, size_t len, struct oci_manifest *out, struct dayfly_err *err)
{
    _cleanup_json_ json_t *doc = oci_json_load(json, len, err);
    if (!doc)
        return err_wrap(err, "image manifest");
    json_t *layers = json_object_get(doc, "layers");
    size_t count = json_array_size(layers);
    if (!json_is_array(layers) || count == 0 || count > OCI_MAX_LAYERS)
        return err_set(err, EINVAL, "image manifest: 1 to %u layers expected", OCI_MAX_LAYERS);

    struct oci_manifest m = {.layers = calloc(count, sizeof(*m.layers)), .layer_count = count};
    if (!m.layers)
        return err_errno(err, ENOMEM, "image manifest");
    int rc = oci_descriptor_parse(json_object_get(doc, "config"), &m.config, err);
    for (size_t i = 0; !rc && i < count; i++)
        rc = oci_descriptor_parse(json_array_get(layers, i), &m.layers[i], err);
    if (rc) {
        oci_manifest_finish(&m);
        return err_wrap(err, "image manifest");
    }
    *out = m;
    return 0;
}

void oci_manifest_finish(struct oci_manifest *manifest)
{
    free(manifest->layers);
    *manifest = (struct oci_manifest){0};
}

static void strings_free(char **strings)
{
    for (size_t i = 0; strings && strings[i]; i++)
        free(strings[i]);
    free(strings);
}

/* config[key] as a NULL-terminated list; absent and null are the empty one. */
static int strings_read(const json_t *config, const char *key, char ***out, struct dayfly_err *err)
{
    const json_t *array = json_object_get(config, key);
    if (array && !json_is_array(array) && !json_is_null(array))
        return err_set(err, EINVAL, "%s is not a list", key);
    size_t count = json_array_size(array);
    if (count > OCI_MAX_STRINGS)
        return err_set(err, EINVAL, "%s has %zu words; at most %u are allowed", key, count,
                       OCI_MAX_STRINGS);
    char **strings = calloc(count + 1, sizeof(*strings));
    if (!strings)
        return err_errno(err, ENOMEM, "%s", key);
    for (size_t i = 0; i < count; i++) {
        const char *word = json_string_value(json_array_get(array, i));
        if (!word || !(strings[i] = strdup(word))) {
            strings_free(strings);
            return word ? err_errno(err, ENOMEM, "%s", key)
                        : err_set(err, EINVAL, "%s holds something that is not a string", key);
        }
    }
    *out = strings;
    return 0;
}

static int string_read(const json_t *config, const char *key, char **out, struct dayfly_err *err)
{
    const json_t *value = json_object_get(config, key);
    if (value && !json_is_string(value) && !json_is_null(value))
        return err_set(err, EINVAL, "%s is not a string", key);
    *out = strdup(json_is_string(value) ? json_string_value(value) : "");
    return *out ? 0 : err_errno(err, ENOMEM, "%s", key);
}

/* rootfs.diff_ids; absent, there are none. */
static int diff_ids_read(const json_t *doc, struct oci_config *out, struct dayfly_err *err)
{
    const json_t *list = json_object_get(json_object_get(doc, "rootfs"), "diff_ids");
    size_t count = json_array_size(list);
    if (count > OCI_MAX_LAYERS)
        return err_set(err, EINVAL, "%zu diff_ids; at most %u are allowed", count, OCI_MAX_LAYERS);
    out->diff_ids = calloc(count + 1, sizeof(*out->diff_ids));
    if (!out->diff_ids)
        return err_errno(err, ENOMEM, "diff_ids");
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text || !digest_parse(text, &out->diff_ids[i]))
            return err_set(err, EINVAL, "a diff_id is no sha256 digest");
    }
    out->diff_id_count = count;
    return 0;
}

/* Facts for people and for one comparison: what does not fit is cut. */
static void copy_cut(const json_t *doc, const char *key, char *out, size_t size)
{
    const char *value = json_string_value(json_object_get(doc, key));
    snprintf(out, size, "%s", value ? value : "");
    text_make_printable(out);
}

int oci_config_parse(const char *json, size_t len, struct oci_config *out, struct dayfly_err *err)
{
    _cleanup_json_ json_t *doc = oci_json_load(json, len, err);
    if (!doc)
        return err_wrap(err, "image config");
    const json_t *config = json_object_get(doc, "config");
    struct oci_config c = {0};
    int rc = strings_read(config, "Env", &c.env, err);
    if (!rc)
        rc = strings_read(config, "Entrypoint", &c.entrypoint, err);
    if (!rc)
        rc = strings_read(config, "Cmd", &c.cmd, err);
    if (!rc)
        rc = string_read(config, "User", &c.user, err);
    if (!rc)
        rc = string_read(config, "WorkingDir", &c.working_dir, err);
    if (!rc)
        rc = diff_ids_read(doc, &c, err);
    if (rc) {
        oci_config_finish(&c);
        return err_wrap(err, "image config");
    }
    copy_cut(doc, "architecture", c.architecture, sizeof(c.architecture));
    copy_cut(doc, "os", c.os, sizeof(c.os));
    copy_cut(doc, "created", c.created, sizeof(c.created));
    *out = c;
    return 0;
}

void oci_config_finish(struct oci_config *config)
{
    strings_free(config->env);
    strings_free(config->entrypoint);
    strings_free(config->cmd);
    free(config->user);
    free(config->working_dir);
    free(config->diff_ids);
    *config = (struct oci_config){0};
}

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_tag_char(char c)
{
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' || c == '-';
}

/* Lower-case words joined by '.', '_', '-' or '/'; a port behind the first word ("host:5000/x"). A
 * word neither begins nor ends with a joint, so "..", "//" and a leading '-' or '/' cannot occur. */
static bool is_name(const char *name, size_t len)
{
    bool joint = true; /* the character before */
    for (size_t i = 0; i < len; i++) {
        if (is_lower_or_digit(name[i])) {
            joint = false;
        } else if (name[i] == '.' || name[i] == '/' || name[i] == ':') {
            if (joint)
                return false;
            joint = true;
        } else if (name[i] == '_' || name[i] == '-') {
            if (joint && (i == 0 || name[i - 1] != name[i]))
                return false;
            joint = true;
        } else {
            return false;
        }
    }
    return !joint;
}

int oci_ref_parse(const char *text, struct oci_ref *out, struct dayfly_err *err)
{
    static const char rule[] = "write NAME or NAME:TAG in lower case, or sha256: and 64 hex digits";
    *out = (struct oci_ref){0};
    if (!strncmp(text, "sha256:", 7)) {
        out->by_digest = true;
        return digest_parse(text, &out->digest)
                   ? 0
                   : err_set(err, EINVAL, "\"%.80s\" is not a digest: %s", text, rule);
    }
    const char *slash = strrchr(text, '/');
    const char *colon = strchr(slash ? slash : text, ':');
    size_t name_len = colon ? (size_t)(colon - text) : strlen(text);
    const char *tag = colon ? colon + 1 : "latest";
    size_t tag_len = strlen(tag);
    /* The name "sha256" would turn into a digest as soon as it has its tag. */
    bool good = name_len > 0 && !(name_len == 6 && !memcmp(text, "sha256", 6)) && name_len <= 255 &&
                is_name(text, name_len) && tag_len > 0 && tag_len <= 128 && tag[0] != '.' &&
                tag[0] != '-';
    for (size_t i = 0; good && i < tag_len; i++)
        good = is_tag_char(tag[i]);
    if (!good)
        return err_set(err, EINVAL, "\"%.80s\" does not name an image: %s", text, rule);
    snprintf(out->name, sizeof(out->name), "%.*s:%s", (int)name_len, text, tag);
    return 0;
}
