/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See transfer.h. skopeo is given an image layout of its own, with links to the image's blobs, so that
 * the image may be replaced or removed meanwhile.
 */
#include "image/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image_impl.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/json.h"
#include "util/tree.h"

static int write_file(int dir_fd, const char *name, const char *text, struct dayfly_err *err)
{
    _cleanup_close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : io_write_full(fd, text, strlen(text));
    return rc ? err_errno(err, -rc, "cannot write to the store") : 0;
}

/* Everything that needs the lock: link what the image consists of. */
static int link_blobs(struct store *store, const struct oci_ref *ref, int blobs_fd,
                      struct store_entry *entry, struct dayfly_err *err)
{
    struct oci_manifest manifest;
    int rc = store_find(store, ref, entry, err);
    if (rc)
        return rc;
    rc = image_read_manifest(store, entry, &manifest, err);
    if (rc)
        return image_damaged(entry->name, err);
    rc = store_blob_link(store, &entry->manifest, blobs_fd, err);
    if (!rc)
        rc = store_blob_link(store, &manifest.config.digest, blobs_fd, err);
    for (size_t i = 0; !rc && i < manifest.layer_count; i++)
        rc = store_blob_link(store, &manifest.layers[i].digest, blobs_fd, err);
    oci_manifest_finish(&manifest);
    return rc ? image_damaged(entry->name, err) : 0;
}

static int make_layout(struct store *store, const struct oci_ref *ref, int dir_fd,
                       struct dayfly_err *err)
{
    struct store_entry entry;
    if (mkdirat(dir_fd, "blobs", 0700) < 0 || mkdirat(dir_fd, "blobs/sha256", 0700) < 0 ||
        mkdirat(dir_fd, "temp", 0700) < 0)
        return err_errno(err, errno, "cannot create a directory in %s/tmp", store->path);
    _cleanup_close_ int blobs_fd =
        openat(dir_fd, "blobs/sha256", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (blobs_fd < 0)
        return err_errno(err, errno, "cannot open a directory in %s/tmp", store->path);
    int rc = store_lock_shared(store, err);
    if (rc)
        return rc;
    rc = link_blobs(store, ref, blobs_fd, &entry, err);
    store_unlock(store);
    if (rc)
        return rc;
    json_t *descriptor = oci_descriptor_json(OCI_TYPE_MANIFEST, &entry.manifest, entry.manifest_bytes);
    _cleanup_json_ json_t *index = json_pack("{s:i, s:s, s:[o]}", "schemaVersion", 2, "mediaType",
                                             OCI_TYPE_INDEX, "manifests", descriptor);
    _cleanup_free_ char *text = index ? json_dumps(index, JSON_COMPACT) : NULL;
    if (!text)
        return err_errno(err, ENOMEM, "image");
    rc = write_file(dir_fd, "index.json", text, err);
    return rc ? rc : write_file(dir_fd, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}\n", err);
}

/* Docker's own format knows no zstd, which layers of ours have, and skopeo takes offence at it before
 * it would compress them otherwise. Plain ones suit it. */
static int make_plain(const struct skopeo_copy *copy, const char *plain, struct dayfly_err *err)
{
    struct skopeo_copy first = *copy;
    first.to = plain;
    first.decompress = true;
    first.digest_file = NULL;
    first.progress_fd = -1;
    first.access = (struct skopeo_access){0};
    return skopeo_run(&first, err);
}

static int push(struct store *store, const struct push_options *options, const char *target,
                const char *dir_name, int dir_fd, char out_digest[DIGEST_STR_BYTES],
                struct dayfly_err *err)
{
    char from[PATH_MAX], plain[PATH_MAX], temp[PATH_MAX], digest_file[PATH_MAX];
    struct digest digest;
    int rc = 0;
    if (strchr(store->path, ':'))
        return err_set(err, EINVAL, "skopeo cannot work in %.120s: the path has a colon", store->path);
    snprintf(from, sizeof(from), "oci:%s/tmp/%s", store->path, dir_name);
    snprintf(plain, sizeof(plain), "dir:%s/tmp/%s/plain", store->path, dir_name);
    snprintf(temp, sizeof(temp), "%s/tmp/%s/temp", store->path, dir_name);
    snprintf(digest_file, sizeof(digest_file), "%s/tmp/%s/digest", store->path, dir_name);
    struct skopeo_copy copy = {.from = from,
                               .to = target,
                               .temp_dir = temp,
                               .digest_file = digest_file,
                               .ours_is_source = true,
                               .access = options->access,
                               .shown = options->target,
                               .progress_fd = options->progress_fd};
    if (!strncmp(target, "docker-archive:", strlen("docker-archive:")) ||
        !strncmp(target, "docker-daemon:", strlen("docker-daemon:"))) {
        rc = make_plain(&copy, plain, err);
        copy.from = plain;
    }
    if (!rc)
        rc = skopeo_run(&copy, err);
    if (rc)
        return rc;
    _cleanup_free_ char *text = NULL;
    rc = io_read_file(dir_fd, "digest", DIGEST_STR_BYTES, &text, NULL);
    if (rc)
        return err_errno(err, -rc, "cannot read the digest that skopeo wrote");
    text[strcspn(text, "\n")] = '\0';
    if (!digest_parse(text, &digest))
        return err_set(err, EIO, "skopeo wrote no digest");
    digest_str(&digest, out_digest);
    return 0;
}

int image_push(struct store *store, const struct push_options *options,
               char out_digest[DIGEST_STR_BYTES], struct dayfly_err *err)
{
    struct skopeo_place place;
    struct oci_ref ref;
    char dir_name[40];
    int rc = oci_ref_parse(options->name, &ref, err);
    if (!rc)
        rc = skopeo_place_parse(options->target, &place, err);
    if (rc)
        return rc;
    _cleanup_close_ int dir_fd = store_temp_dir(store, dir_name, err);
    if (dir_fd < 0)
        return dir_fd;
    rc = make_layout(store, &ref, dir_fd, err);
    if (!rc)
        rc = push(store, options, place.text, dir_name, dir_fd, out_digest, err);
    tree_remove(store->tmp_fd, dir_name);
    return rc;
}
