/* SPDX-License-Identifier: Apache-2.0 */
/* What comes into the store from elsewhere, until it is whole: see store.h. */
#include "image/store_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/tree.h"

#define PREFIX "pull-"

/* One attempt: the directory, opened and perhaps not locked (*busy). */
static int open_once(struct store *store, const char *name, bool *busy, struct dayfly_err *err)
{
    int fd = -1;
    int rc = store_lock_exclusive(store, err);
    if (rc)
        return rc;
    if (mkdirat(store->tmp_fd, name, 0700) < 0 && errno != EEXIST)
        rc = err_errno(err, errno, "cannot create a directory in %s/tmp", store->path);
    else if ((fd = openat(store->tmp_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
        rc = err_errno(err, errno, "cannot open a directory in %s/tmp", store->path);
    else
        *busy = flock(fd, LOCK_EX | LOCK_NB) < 0;
    store_unlock(store);
    return rc ? rc : fd;
}

/* What the store has as well (a blob's second link) need not be kept, and would keep its space taken
 * when the store lets go of it. */
static int drop_if_linked(void *opaque, const char *name)
{
    const int *dir_fd = opaque;
    struct stat st;
    if (fstatat(*dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_nlink > 1)
        unlinkat(*dir_fd, name, 0);
    return 0;
}

/* A killed process may have made it ready for the store: then it cannot be written to, or is the
 * store's. */
static int make_own(void *opaque, const char *name)
{
    const int *dir_fd = opaque;
    drop_if_linked(opaque, name);
    (void)!fchmodat(*dir_fd, name, 0600, 0);
    return 0;
}

static void take_over(int dir_fd)
{
    _cleanup_close_ int blobs =
        openat(dir_fd, STORE_STAGING_BLOBS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    futimens(dir_fd, NULL);
    if (blobs >= 0)
        store_each_name(blobs, make_own, &blobs);
}

int store_staging_open(struct store *store, const struct digest *key, char name[STORE_STAGING_BYTES],
                       void (*waiting)(void *opaque), void *opaque, struct dayfly_err *err)
{
    char hex[DIGEST_HEX_BYTES];
    snprintf(name, STORE_STAGING_BYTES, PREFIX "%.16s", digest_hex(key, hex));
    for (bool told = false;;) {
        bool busy = false;
        _cleanup_close_ int fd = open_once(store, name, &busy, err);
        if (fd < 0)
            return fd;
        if (busy && !told && waiting)
            waiting(opaque);
        told |= busy;
        while (busy && flock(fd, LOCK_EX) < 0) {
            if (errno != EINTR)
                return err_errno(err, errno, "cannot lock a directory of %s/tmp", store->path);
        }
        /* Whoever had it may have finished and removed it. */
        struct stat st;
        if (fstat(fd, &st) == 0 && st.st_nlink > 0) {
            take_over(fd);
            return steal_fd(&fd);
        }
    }
}

struct sum {
    int dir_fd;
    uint64_t bytes;
};

static int add_size(void *opaque, const char *name)
{
    struct sum *sum = opaque;
    struct stat st;
    if (fstatat(sum->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        sum->bytes += (uint64_t)st.st_size;
    return 0;
}

uint64_t store_staging_bytes(int dir_fd)
{
    struct sum sum = {0};
    _cleanup_close_ int blobs =
        openat(dir_fd, STORE_STAGING_BLOBS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    sum.dir_fd = blobs;
    if (blobs >= 0)
        store_each_name(blobs, add_size, &sum);
    return sum.bytes;
}

/* ---- leaving and sweeping ---- */

void store_staging_leave(struct store *store, int dir_fd, const char *name)
{
    _cleanup_close_ int blobs =
        openat(dir_fd, STORE_STAGING_BLOBS, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (blobs >= 0)
        store_each_name(blobs, drop_if_linked, &blobs);
    if (blobs < 0 || unlinkat(dir_fd, STORE_STAGING_BLOBS, AT_REMOVEDIR) == 0)
        tree_remove(store->tmp_fd, name);
}

bool store_sweep_one_staging(const struct store_sweeping *how, const char *name)
{
    struct store *store = how->store;
    struct stat st;
    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
        return false;
    _cleanup_close_ int fd =
        openat(store->tmp_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0)
        return false;
    if (st.st_mtime <= time(NULL) - how->staging_age) {
        int rc = sweep_removes(how->sweep) ? tree_remove(store->tmp_fd, name) : 0;
        sweep_tell(how->sweep, "download", rc, "%s/tmp/%s", store->path, name);
        return rc == 0;
    }
    if (sweep_removes(how->sweep))
        store_staging_leave(store, fd, name);
    return false;
}

struct count {
    struct store_sweeping how;
    unsigned removed;
};

static int sweep_any_staging(void *opaque, const char *name)
{
    struct count *count = opaque;
    count->removed += store_sweep_one_staging(&count->how, name);
    return 0;
}

unsigned store_sweep_staging(struct store *store)
{
    struct count count = {.how = {.store = store}};
    store_each_name(store->tmp_fd, sweep_any_staging, &count);
    return count.removed;
}

/* ---- links ---- */

int store_blob_link(struct store *store, const struct digest *digest, int dir_fd,
                    struct dayfly_err *err)
{
    char hex[DIGEST_HEX_BYTES];
    digest_hex(digest, hex);
    if (linkat(store->blobs_fd, hex, dir_fd, hex, 0) < 0 && errno != EEXIST)
        return err_errno(err, errno, "blob sha256:%s", hex);
    return 0;
}

static void link_layers_of(struct store *store, const struct store_entry *entry, int dir_fd)
{
    struct oci_manifest manifest;
    _cleanup_free_ char *text = NULL;
    size_t len;
    if (store_blob_read(store, &entry->manifest, &text, &len, NULL) ||
        oci_manifest_parse(text, len, &manifest, NULL))
        return;
    for (size_t i = 0; i < manifest.layer_count; i++)
        store_blob_link(store, &manifest.layers[i].digest, dir_fd, NULL);
    oci_manifest_finish(&manifest);
}

int store_layers_link(struct store *store, int dir_fd, struct dayfly_err *err)
{
    _cleanup_free_ struct store_entry *entries = NULL;
    size_t count = 0;
    int rc = store_lock_shared(store, err);
    if (rc)
        return rc;
    rc = store_entries(store, &entries, &count, err);
    for (size_t i = 0; !rc && i < count; i++)
        link_layers_of(store, &entries[i], dir_fd);
    store_unlock(store);
    return rc;
}

int store_file_adopt(struct store *store, struct store_file *file, int dir_fd, const char *name,
                     const struct digest *digest, struct dayfly_err *err)
{
    char temp[40];
    struct stat st;
    *file = (struct store_file){.fd = -1, .digest = *digest};
    int rc = store_temp_name(temp, err);
    if (rc)
        return rc;
    file->fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (file->fd < 0 || fstat(file->fd, &st) < 0)
        return err_errno(err, errno, "cannot open %.80s", name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%.80s is no file", name);
    file->size = (uint64_t)st.st_size;
    if (fchmod(file->fd, 0444) < 0 || fsync(file->fd) < 0)
        return err_errno(err, errno, "cannot write to the store");
    /* Linked and locked under the store's lock, so that no sweep sees it in between. */
    if ((rc = store_lock_exclusive(store, err)))
        return rc;
    if (linkat(dir_fd, name, store->tmp_fd, temp, 0) < 0) {
        rc = err_errno(err, errno, "cannot link a file into %s/tmp", store->path);
    } else {
        /* Shared: a blob that the store has may be on its way in another pull, as the same file. */
        flock(file->fd, LOCK_SH | LOCK_NB);
        memcpy(file->name, temp, sizeof(temp));
    }
    store_unlock(store);
    return rc;
}
