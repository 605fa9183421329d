/* SPDX-License-Identifier: Apache-2.0 */
#include "image/image_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/root.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/json.h"

/* ---- looking ---- */

int image_damaged(const char *name, struct dayfly_err *err)
{
    if (err && err->code == ENOENT)
        err->code = EBADMSG;
    err_wrap(err, "the image %.60s cannot be used; build, import or pull it again under the same name",
             name);
    return -EBADMSG;
}

int image_read_manifest(struct store *store, const struct store_entry *entry, struct oci_manifest *out,
                        struct dayfly_err *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len;
    int rc = store_blob_read(store, &entry->manifest, &text, &len, err);
    return rc ? rc : oci_manifest_parse(text, len, out, err);
}

int image_read_config(struct store *store, const struct oci_manifest *manifest, struct oci_config *out,
                      struct dayfly_err *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len;
    int rc = store_blob_read(store, &manifest->config.digest, &text, &len, err);
    return rc ? rc : oci_config_parse(text, len, out, err);
}

/* Everything that needs the lock: find the entry and hold what it names. root_fd stays -1 when the root
 * has to be derived (again). */
static int open_locked(struct store *store, const struct oci_ref *ref, struct store_entry *entry,
                       struct oci_manifest *manifest, struct image *image, struct dayfly_err *err)
{
    char name[STORE_ROOT_NAME_BYTES];
    int rc = store_find_to_start(store, ref, entry, err);
    if (rc)
        return rc;
    rc = image_read_manifest(store, entry, manifest, err);
    if (!rc)
        rc = image_read_config(store, manifest, &image->config, err);
    if (rc)
        return image_damaged(entry->name, err);
    if (!entry->has_root)
        return 0;
    int fd = openat(store->roots_fd, store_root_name(&entry->manifest, name),
                    O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno != ENOENT) {
        err_errno(err, errno, "root file system");
        return image_damaged(entry->name, err);
    }
    image->root_fd = fd;
    if (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0)
        return err_errno(err, errno, "cannot lock the root file system of %.80s", entry->name);
    if (fd >= 0 && root_check(fd, entry->root_bytes, err))
        return image_damaged(entry->name, err);
    return 0;
}

static int64_t parse_created(const char *created)
{
    struct tm tm = {0};
    const char *end = strptime(created, "%Y-%m-%dT%H:%M:%S", &tm);
    return end ? (int64_t)timegm(&tm) : 0;
}

struct open_layers {
    struct layer_source *sources;
    size_t count;
};

static void close_layers(struct open_layers *layers)
{
    for (size_t i = 0; i < layers->count; i++)
        close(layers->sources[i].fd);
    free(layers->sources);
    *layers = (struct open_layers){0};
}

/* The layers' blobs, with the digests that they must have: what is derived from them carries the
 * image's name. Borrows manifest and config. */
static int open_layers(int blobs_fd, const struct oci_manifest *manifest,
                       const struct oci_config *config, struct open_layers *out, struct dayfly_err *err)
{
    *out = (struct open_layers){0};
    if (config->diff_id_count != manifest->layer_count)
        return err_set(err, EINVAL, "its config names %zu layers and its manifest %zu",
                       config->diff_id_count, manifest->layer_count);
    out->sources = calloc(manifest->layer_count, sizeof(*out->sources));
    if (!out->sources)
        return err_errno(err, ENOMEM, "image");
    for (size_t i = 0; i < manifest->layer_count; i++) {
        const struct oci_descriptor *layer = &manifest->layers[i];
        char hex[DIGEST_HEX_BYTES];
        digest_hex(&layer->digest, hex);
        int fd = -1, rc = 0;
        if (!oci_is_layer(layer->media_type))
            rc = err_set(err, EINVAL, "it holds no layers of files but \"%.80s\"", layer->media_type);
        else if ((fd = openat(blobs_fd, hex, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0)
            rc = err_errno(err, errno, "blob sha256:%s", hex);
        if (rc) {
            close_layers(out);
            return rc;
        }
        out->sources[out->count++] =
            (struct layer_source){.fd = fd, .blob = &layer->digest, .diff_id = &config->diff_ids[i]};
    }
    return 0;
}

int image_derive(struct store *store, int blobs_fd, const struct digest *identity,
                 const struct oci_manifest *manifest, const struct oci_config *config,
                 struct store_file *root, const struct log *log, struct dayfly_err *err)
{
    struct open_layers layers;
    int rc = open_layers(blobs_fd, manifest, config, &layers, err);
    if (rc)
        return rc;
    const struct root_source source = {.layers = layers.sources,
                                       .layer_count = layers.count,
                                       .identity = *identity,
                                       .epoch = parse_created(config->created)};
    rc = store_file_begin(store, root, err);
    if (!rc)
        rc = root_derive(store, &source, root, log, err);
    close_layers(&layers);
    return rc;
}

static int derive_again(struct store *store, const struct store_entry *entry,
                        const struct oci_manifest *manifest, const struct oci_config *config,
                        const struct log *log, struct dayfly_err *err)
{
    struct store_file root = {0};
    log_line(log, LOG_INFO, "making the root file system of %s", entry->name);
    int rc = image_derive(store, store->blobs_fd, &entry->manifest, manifest, config, &root, log, err);
    if (!rc)
        rc = store_add_root(store, &entry->manifest, &root, err);
    else if (rc == -EBADMSG || rc == -EINVAL || rc == -ENOENT)
        rc = image_damaged(entry->name, err);
    store_file_discard(store, &root);
    return rc;
}

int image_check_platform(const char *name, const struct oci_config *config, struct dayfly_err *err)
{
    if (config->os[0] && strcmp(config->os, "linux") != 0)
        return err_set(err, EINVAL, "the image %.80s is for %s, not for Linux", name, config->os);
    if (config->architecture[0] && strcmp(config->architecture, OCI_ARCHITECTURE) != 0)
        return err_set(err, EINVAL, "the image %.80s is for %s; this machine runs " OCI_ARCHITECTURE,
                       name, config->architecture);
    return 0;
}

int image_open(struct store *store, const char *text, struct image *out, const struct log *log,
               struct dayfly_err *err)
{
    struct oci_ref ref;
    int rc = oci_ref_parse(text, &ref, err);
    for (unsigned attempt = 0; !rc; attempt++) {
        struct store_entry entry;
        struct oci_manifest manifest = {0};
        *out = (struct image){.root_fd = -1};
        rc = store_lock_shared(store, err);
        if (!rc) {
            rc = open_locked(store, &ref, &entry, &manifest, out, err);
            store_unlock(store);
        }
        if (!rc)
            rc = image_check_platform(entry.name, &out->config, err);
        if (!rc && out->root_fd >= 0) {
            /* When it was last used, for prune; not ours, it stays unknown. */
            const struct timespec used[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
            futimens(out->root_fd, used);
            memcpy(out->name, entry.name, sizeof(out->name));
            digest_str(&entry.manifest, out->manifest_digest);
            digest_str(&entry.root, out->root_digest);
            out->root_bytes = entry.root_bytes;
            oci_manifest_finish(&manifest);
            return 0;
        }
        if (!rc && attempt)
            rc = err_set(err, EAGAIN, "the root file system of %.80s vanishes as soon as it is made",
                         entry.name);
        if (!rc)
            rc = derive_again(store, &entry, &manifest, &out->config, log, err);
        oci_manifest_finish(&manifest);
        image_finish(out);
    }
    return rc;
}

void image_finish(struct image *image)
{
    oci_config_finish(&image->config);
    if (image->root_fd > 0)
        close_fd(&image->root_fd);
    image->root_fd = -1;
}

/* ---- making ---- */

int image_epoch(int64_t otherwise, int64_t *out, struct dayfly_err *err)
{
    const char *text = getenv("SOURCE_DATE_EPOCH");
    if (!text || !text[0]) {
        *out = otherwise;
        return 0;
    }
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || *end || value < 0 || value > INT64_C(253402300799)) /* the year 9999 */
        return err_set(err, EINVAL, "SOURCE_DATE_EPOCH is \"%.40s\": set it to a number of seconds",
                       text);
    *out = value;
    return 0;
}

static json_t *config_json(const struct image_config *config, const struct digest *diff_id)
{
    char created[40], diff[DIGEST_STR_BYTES];
    time_t epoch = (time_t)config->epoch;
    struct tm tm;
    strftime(created, sizeof(created), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&epoch, &tm));
    json_t *run = json_pack("{s:[s]}", "Env",
                            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    if (run && config->cmd) {
        json_t *cmd = json_array();
        for (size_t i = 0; config->cmd[i]; i++)
            json_array_append_new(cmd, json_string(config->cmd[i]));
        json_object_set_new(run, "Cmd", cmd);
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:{s:s, s:[s]}, s:[{s:s, s:s}]}", "created", created,
                     "architecture", OCI_ARCHITECTURE, "os", "linux", "config", run, "rootfs", "type",
                     "layers", "diff_ids", digest_str(diff_id, diff), "history", "created", created,
                     "created_by", config->comment);
}

/* Put a JSON document into a blob of its own, finished. */
static int write_json(struct store *store, json_t *json, struct store_file *out, struct dayfly_err *err)
{
    _cleanup_free_ char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (!text)
        return err_errno(err, ENOMEM, "image");
    int rc = store_file_begin(store, out, err);
    if (!rc)
        rc = store_file_write(out, text, strlen(text), err);
    return rc ? rc : store_file_finish(out, false, err);
}

struct making {
    struct store_file layer, config, manifest, root;
};

static int write_layer(const char *path, int fd, struct making *m, struct layer_facts *facts,
                       const struct log *log, struct dayfly_err *err)
{
    _cleanup_close_ int opened = -1;
    struct stat st;
    if (fd < 0) {
        fd = opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
            return err_errno(err, errno, "cannot read %.120s", path);
        if (S_ISDIR(st.st_mode))
            return layer_write_from_dir(path, &LAYER_LIMITS, &m->layer, facts, log, err);
    }
    return layer_write_from_archive(fd, &LAYER_LIMITS, &m->layer, facts, log, err);
}

static int make(struct store *store, const char *name, const char *path, int fd,
                const struct image_config *config, struct making *m, const struct log *log,
                struct dayfly_err *err)
{
    struct layer_facts facts;
    int rc = store_file_begin(store, &m->layer, err);
    if (!rc)
        rc = write_layer(path, fd, m, &facts, log, err);
    if (!rc)
        rc = store_file_finish(&m->layer, false, err);
    if (rc)
        return rc;
    log_line(log, LOG_INFO, "%llu files, %llu MiB; making the root file system",
             (unsigned long long)facts.entries, (unsigned long long)(facts.bytes >> 20));

    _cleanup_json_ json_t *config_doc = config_json(config, &facts.diff_id);
    rc = write_json(store, config_doc, &m->config, err);
    if (rc)
        return rc;
    _cleanup_json_ json_t *manifest_doc =
        json_pack("{s:i, s:s, s:o, s:[o]}", "schemaVersion", 2, "mediaType", OCI_TYPE_MANIFEST,
                  "config", oci_descriptor_json(OCI_TYPE_CONFIG, &m->config.digest, m->config.size),
                  "layers", oci_descriptor_json(OCI_TYPE_LAYER, &m->layer.digest, m->layer.size));
    rc = write_json(store, manifest_doc, &m->manifest, err);
    if (rc)
        return rc;

    /* What we have just written needs no proof but that it can be read again. */
    const struct layer_source layer = {.fd = m->layer.fd, .diff_id = &facts.diff_id};
    const struct root_source source = {
        .layers = &layer, .layer_count = 1, .identity = m->manifest.digest, .epoch = config->epoch};
    rc = store_file_begin(store, &m->root, err);
    if (!rc)
        rc = root_derive(store, &source, &m->root, log, err);
    if (rc)
        return rc;
    struct store_file *blobs[] = {&m->layer, &m->config};
    const struct store_addition addition = {
        .name = name, .manifest = &m->manifest, .blobs = blobs, .blob_count = 2, .root = &m->root};
    return store_add(store, &addition, err);
}

int image_import(struct store *store, const char *name, const char *path, int fd,
                 const struct image_config *config, char out_digest[DIGEST_STR_BYTES],
                 const struct log *log, struct dayfly_err *err)
{
    struct oci_ref ref;
    int rc = oci_ref_parse(name, &ref, err);
    if (!rc && ref.by_digest)
        rc = err_set(err, EINVAL, "an image is imported under a name, not a digest");
    if (rc)
        return rc;
    struct making m = {0};
    rc = make(store, ref.name, path, fd, config, &m, log, err);
    if (!rc && out_digest)
        digest_str(&m.manifest.digest, out_digest);
    store_file_discard(store, &m.layer);
    store_file_discard(store, &m.config);
    store_file_discard(store, &m.manifest);
    store_file_discard(store, &m.root);
    return rc;
}
