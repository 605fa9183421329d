/* SPDX-License-Identifier: Apache-2.0 */
#include "image/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/image_impl.h"
#include "util/cleanup.h"
#include "util/err.h"

/* The files of an image, held open: they may be removed while they are read, but not changed. */
struct held {
    int fd;
    struct digest digest;
};

struct holding {
    struct held *files; /* the root, where there is one, is the last */
    size_t count;
    bool has_root;
};

static void let_go(struct holding *holding)
{
    for (size_t i = 0; i < holding->count; i++)
        close(holding->files[i].fd);
    free(holding->files);
    *holding = (struct holding){0};
}

/* Reading is not using: leave the root's time of access, by which prune goes. */
static int open_quietly(int dir_fd, const char *name)
{
    int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW;
    int fd = openat(dir_fd, name, flags | O_NOATIME);
    return fd < 0 && errno == EPERM ? openat(dir_fd, name, flags) : fd;
}

static int hold(struct holding *holding, int dir_fd, const char *name, const struct digest *digest,
                struct dayfly_err *err)
{
    int fd = open_quietly(dir_fd, name);
    if (fd < 0)
        return err_errno(err, errno == ENOENT ? EBADMSG : errno, "%.80s is missing", name);
    holding->files[holding->count++] = (struct held){fd, *digest};
    return 0;
}

/* Everything that needs the lock. */
static int hold_all(struct store *store, const struct store_entry *entry, struct holding *holding,
                    struct dayfly_err *err)
{
    struct oci_manifest manifest;
    struct oci_config config = {0};
    char hex[DIGEST_HEX_BYTES], root[STORE_ROOT_NAME_BYTES];
    int rc = image_read_manifest(store, entry, &manifest, err);
    if (rc)
        return rc;
    /* Its digest is compared by reading it. */
    rc = image_read_config(store, &manifest, &config, err);
    oci_config_finish(&config);
    holding->files = calloc(manifest.layer_count + 1, sizeof(*holding->files));
    if (!rc && !holding->files)
        rc = err_errno(err, ENOMEM, "image");
    for (size_t i = 0; !rc && i < manifest.layer_count; i++) {
        const struct digest *digest = &manifest.layers[i].digest;
        rc = hold(holding, store->blobs_fd, digest_hex(digest, hex), digest, err);
    }
    oci_manifest_finish(&manifest);
    store_root_name(&entry->manifest, root);
    /* Derived, so it may be missing. */
    if (!rc && entry->has_root && faccessat(store->roots_fd, root, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        rc = hold(holding, store->roots_fd, root, &entry->root, err);
        holding->has_root = !rc;
    }
    return rc;
}

int image_verify_entry(struct store *store, const struct store_entry *entry, struct dayfly_err *err)
{
    struct holding holding = {0};
    int rc = store_lock_shared(store, err);
    if (rc)
        return rc;
    rc = hold_all(store, entry, &holding, err);
    store_unlock(store);
    if (rc == -ENOENT || rc == -EINVAL)
        rc = -EBADMSG;
    for (size_t i = 0; !rc && i < holding.count; i++) {
        char text[DIGEST_STR_BYTES];
        struct digest found;
        int code = digest_of_fd(holding.files[i].fd, &found, NULL);
        bool is_root = holding.has_root && i + 1 == holding.count;
        if (code) {
            rc = err_errno(err, -code, "cannot read %.19s", digest_str(&holding.files[i].digest, text));
        } else if (!digest_equal(&found, &holding.files[i].digest) && is_root) {
            rc = store_drop_root(store, &entry->manifest, err);
            rc = rc ? err_wrap(err, "its root file system is damaged and cannot be removed")
                    : err_set(err, EBADMSG,
                              "its root file system was damaged and has been removed; "
                              "the next run makes it anew");
        } else if (!digest_equal(&found, &holding.files[i].digest)) {
            rc = err_set(err, EBADMSG,
                         "layer %zu, %.19s, is damaged; build, import or pull the image again", i + 1,
                         digest_str(&holding.files[i].digest, text));
        }
    }
    let_go(&holding);
    return rc;
}

int image_verify(struct store *store, const char *text, image_verify_fn *tell, void *opaque,
                 size_t *damaged, struct dayfly_err *err)
{
    _cleanup_free_ struct store_entry *entries = NULL;
    struct oci_ref ref;
    size_t count = 0;
    *damaged = 0;
    int rc = text ? oci_ref_parse(text, &ref, err) : 0;
    if (!rc)
        rc = store_lock_shared(store, err);
    if (rc)
        return rc;
    if (text) {
        entries = calloc(1, sizeof(*entries));
        rc = entries ? store_find(store, &ref, entries, err) : err_errno(err, ENOMEM, "image");
        count = 1;
    } else {
        rc = store_entries(store, &entries, &count, err);
    }
    store_unlock(store);
    for (size_t i = 0; !rc && i < count; i++) {
        struct dayfly_err fault = {0};
        int found = image_verify_entry(store, &entries[i], &fault);
        *damaged += found != 0;
        tell(opaque, entries[i].name, found ? &fault : NULL);
    }
    return rc;
}
