/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See transfer.h. What a pull's directory holds:
 *
 *   blobs/sha256/   blobs by their digits: kept, and the reason for the directory
 *   layout/         the image layout that skopeo writes: made anew each time
 *   temp/           skopeo's own: made anew each time
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
#include "image/verify.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/tree.h"

/* One second and then two lie between them. */
#define FETCH_TRIES 3

struct pull {
    struct store *store;
    const struct pull_options *options;
    const struct log *log;
    struct skopeo_place place;
    char name[OCI_REF_BYTES];
    char dir_name[STORE_STAGING_BYTES];
    int dir_fd, blobs_fd;
    /* the image, when it is there */
    struct oci_descriptor descriptor;
    struct oci_manifest manifest;
    struct oci_config config;
};

/* ---- the directory ---- */

static void say_waiting(void *opaque)
{
    const struct pull *pull = opaque;
    log_line(pull->log, LOG_INFO, "waiting for another pull of %s", pull->options->source);
}

static int fresh_dir(const struct pull *pull, const char *name, struct dayfly_err *err)
{
    int rc = tree_remove(pull->dir_fd, name);
    if (rc && rc != -ENOENT)
        return err_errno(err, -rc, "cannot remove what an earlier pull left");
    if (mkdirat(pull->dir_fd, name, 0700) < 0)
        return err_errno(err, errno, "cannot create a directory in %s/tmp", pull->store->path);
    return 0;
}

static int open_blobs(struct pull *pull, struct dayfly_err *err)
{
    if ((mkdirat(pull->dir_fd, "blobs", 0700) < 0 && errno != EEXIST) ||
        (mkdirat(pull->dir_fd, STORE_STAGING_BLOBS, 0700) < 0 && errno != EEXIST) ||
        (pull->blobs_fd = openat(pull->dir_fd, STORE_STAGING_BLOBS,
                                 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        return err_errno(err, errno, "cannot create a directory in %s/tmp", pull->store->path);
    return 0;
}

static int open_dir(struct pull *pull, struct dayfly_err *err)
{
    struct digest key;
    const char *source = pull->place.text;
    digest_of(source, strlen(source), &key);
    pull->dir_fd = store_staging_open(pull->store, &key, pull->dir_name, say_waiting, pull, err);
    int rc = pull->dir_fd < 0 ? pull->dir_fd : open_blobs(pull, err);
    uint64_t bytes = rc ? 0 : store_staging_bytes(pull->dir_fd);
    if (bytes)
        log_line(pull->log, LOG_INFO, "going on behind %.1f MiB that an earlier pull has fetched",
                 (double)bytes / (1 << 20));
    return rc;
}

/* ---- fetching ---- */

static int fetch(struct pull *pull, struct dayfly_err *err)
{
    char to[PATH_MAX], blobs[PATH_MAX], temp[PATH_MAX];
    const char *home = pull->store->path, *name = pull->dir_name;
    if (strchr(home, ':'))
        return err_set(err, EINVAL, "skopeo cannot work in %.120s: the path has a colon", home);
    snprintf(to, sizeof(to), "oci:%s/tmp/%s/layout:image", home, name);
    snprintf(blobs, sizeof(blobs), "%s/tmp/%s/blobs", home, name);
    snprintf(temp, sizeof(temp), "%s/tmp/%s/temp", home, name);
    const struct skopeo_copy copy = {.from = pull->place.text,
                                     .to = to,
                                     .shared_blobs = blobs,
                                     .temp_dir = temp,
                                     .access = pull->options->access,
                                     .shown = pull->options->source,
                                     .progress_fd = pull->options->progress_fd};
    int rc = fresh_dir(pull, "layout", err);
    if (!rc)
        rc = fresh_dir(pull, "temp", err);
    return rc ? rc : skopeo_run(&copy, err);
}

/* Of what is broken off the layers that are whole stay, so that another try has less to do. */
static int fetch_all(struct pull *pull, struct dayfly_err *err)
{
    for (unsigned tries = 1;; tries++) {
        struct dayfly_err why = {0};
        int rc = fetch(pull, &why);
        if (rc != -ECONNRESET || tries == FETCH_TRIES) {
            if (rc && err)
                *err = why;
            return rc;
        }
        log_line(pull->log, LOG_WARN, "%s; trying again", why.msg);
        sleep(tries);
    }
}

/* A document from the collected blobs, its digest proved. The caller frees *out. */
static int read_document(const struct pull *pull, const struct digest *digest, char **out, size_t *len,
                         struct dayfly_err *err)
{
    char hex[DIGEST_HEX_BYTES];
    struct digest found;
    _cleanup_free_ char *text = NULL;
    int rc = io_read_file(pull->blobs_fd, digest_hex(digest, hex), OCI_JSON_MAX_BYTES, &text, len);
    if (rc)
        return err_errno(err, -rc, "sha256:%s", hex);
    digest_of(text, *len, &found);
    if (!digest_equal(&found, digest))
        return err_set(err, EBADMSG, "sha256:%s is damaged: its content has another digest", hex);
    *out = steal_ptr(&text);
    return 0;
}

static int read_image(struct pull *pull, struct dayfly_err *err)
{
    _cleanup_free_ char *index = NULL, *manifest = NULL, *config = NULL;
    size_t len;
    int rc = io_read_file(pull->dir_fd, "layout/index.json", OCI_JSON_MAX_BYTES, &index, &len);
    if (rc)
        return err_errno(err, -rc, "cannot read what skopeo wrote");
    rc = oci_index_parse(index, len, &pull->descriptor, err);
    if (!rc)
        rc = read_document(pull, &pull->descriptor.digest, &manifest, &len, err);
    if (!rc)
        rc = oci_manifest_parse(manifest, len, &pull->manifest, err);
    if (!rc)
        rc = read_document(pull, &pull->manifest.config.digest, &config, &len, err);
    if (!rc)
        rc = oci_config_parse(config, len, &pull->config, err);
    return rc ? rc : image_check_platform(pull->options->source, &pull->config, err);
}

static void forget_image(struct pull *pull)
{
    oci_manifest_finish(&pull->manifest);
    oci_config_finish(&pull->config);
}

/* ---- into the store ---- */

/* Returns 1 when the store has the image already, whole; then it only gets the name. */
static int only_tag(struct pull *pull, struct dayfly_err *err)
{
    const struct oci_ref ref = {.by_digest = true, .digest = pull->descriptor.digest};
    struct store_entry entry;
    int rc = store_lock_shared(pull->store, err);
    if (rc)
        return rc;
    bool known = store_find(pull->store, &ref, &entry, NULL) == 0;
    store_unlock(pull->store);
    if (!known)
        return 0;
    /* To pull again is how damage is repaired. */
    rc = image_verify_entry(pull->store, &entry, err);
    if (rc)
        return rc == -EBADMSG ? 0 : rc;
    rc = store_tag(pull->store, &ref, pull->name, err);
    if (!rc)
        log_line(pull->log, LOG_INFO, "%s is up to date", pull->name);
    return rc ? rc : 1;
}

static int adopt(struct pull *pull, const struct digest *digest, struct store_file *file,
                 struct dayfly_err *err)
{
    char hex[DIGEST_HEX_BYTES];
    return store_file_adopt(pull->store, file, pull->blobs_fd, digest_hex(digest, hex), digest, err);
}

static int add(struct pull *pull, struct store_file *root, struct dayfly_err *err)
{
    const struct oci_manifest *manifest = &pull->manifest;
    size_t count = manifest->layer_count + 1;
    struct store_file manifest_file = {0};
    _cleanup_free_ struct store_file *files = calloc(count, sizeof(*files));
    _cleanup_free_ struct store_file **blobs = calloc(count, sizeof(*blobs));
    if (!files || !blobs)
        return err_errno(err, ENOMEM, "image");
    int rc = adopt(pull, &pull->descriptor.digest, &manifest_file, err);
    for (size_t i = 0; i < count; i++) {
        blobs[i] = &files[i];
        if (!rc)
            rc = adopt(pull, i ? &manifest->layers[i - 1].digest : &manifest->config.digest, &files[i],
                       err);
    }
    const struct store_addition addition = {.name = pull->name,
                                            .manifest = &manifest_file,
                                            .blobs = blobs,
                                            .blob_count = count,
                                            .root = root};
    if (!rc)
        rc = store_add(pull->store, &addition, err);
    store_file_discard(pull->store, &manifest_file);
    for (size_t i = 0; i < count; i++)
        store_file_discard(pull->store, &files[i]);
    return rc;
}

static int take_in(struct pull *pull, struct dayfly_err *err)
{
    int rc = only_tag(pull, err);
    if (rc)
        return rc < 0 ? rc : 0;
    struct store_file root = {0};
    log_line(pull->log, LOG_INFO, "making the root file system of %s, layers: %zu", pull->name,
             pull->manifest.layer_count);
    rc = image_derive(pull->store, pull->blobs_fd, &pull->descriptor.digest, &pull->manifest,
                      &pull->config, &root, pull->log, err);
    if (!rc)
        rc = add(pull, &root, err);
    store_file_discard(pull->store, &root);
    return rc;
}

/* ---- */

static int attempt(struct pull *pull, bool with_our_layers, struct dayfly_err *err)
{
    int rc = with_our_layers ? store_layers_link(pull->store, pull->blobs_fd, err) : 0;
    if (!rc)
        rc = fetch_all(pull, err);
    if (rc)
        return rc;
    rc = read_image(pull, err);
    if (!rc)
        rc = take_in(pull, err);
    if (rc)
        err_wrap(err, "cannot pull %.60s", pull->options->source);
    return rc;
}

/* Something that was collected, or that the store had, is not what it should be: fetch all of it. */
static int begin_again(struct pull *pull, struct dayfly_err *err)
{
    log_line(pull->log, LOG_WARN, "what was there already is damaged; fetching all of %s",
             pull->options->source);
    forget_image(pull);
    close_fd(&pull->blobs_fd);
    int rc = tree_remove(pull->dir_fd, "blobs");
    if (rc)
        return err_errno(err, -rc, "cannot remove what an earlier pull left");
    rc = open_blobs(pull, err);
    return rc ? rc : attempt(pull, false, err);
}

static int name_it(struct pull *pull, struct dayfly_err *err)
{
    struct oci_ref ref;
    const char *name = pull->options->name;
    if (!name && !pull->place.name[0])
        return err_set(err, EINVAL, "\"%.80s\" does not say what to call the image: use --name",
                       pull->options->source);
    int rc = oci_ref_parse(name ? name : pull->place.name, &ref, err);
    if (!rc && ref.by_digest)
        rc = err_set(err, EINVAL, "an image is pulled under a name, not a digest");
    if (!rc)
        memcpy(pull->name, ref.name, sizeof(pull->name));
    return rc;
}

int image_pull(struct store *store, const struct pull_options *options,
               char out_digest[DIGEST_STR_BYTES], const struct log *log, struct dayfly_err *err)
{
    struct pull pull = {.store = store, .options = options, .log = log, .dir_fd = -1, .blobs_fd = -1};
    int rc = skopeo_place_parse(options->source, &pull.place, err);
    if (!rc)
        rc = name_it(&pull, err);
    if (!rc)
        rc = open_dir(&pull, err);
    if (!rc)
        rc = attempt(&pull, true, err);
    if (rc == -EBADMSG)
        rc = begin_again(&pull, err);
    if (!rc) {
        digest_str(&pull.descriptor.digest, out_digest);
        tree_remove(store->tmp_fd, pull.dir_name);
    } else if (pull.dir_fd >= 0) {
        store_staging_leave(store, pull.dir_fd, pull.dir_name);
    }
    forget_image(&pull);
    close_fd(&pull.blobs_fd);
    close_fd(&pull.dir_fd);
    return rc;
}
