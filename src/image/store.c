/* SPDX-License-Identifier: Apache-2.0 */
/* Directories, locks and nameless files of the store; index.c has what the names mean. */
#include "image/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/store_impl.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/home.h"
#include "util/io.h"
#include "util/tree.h"

#define DIR_MODE 0700

/* ---- opening ---- */

/* Open the directory `name` below `at`, making it first if it is missing and may be made. */
static int open_dir(const struct store *store, int at, const char *name, int *out,
                    struct dayfly_err *err)
{
    if (mkdirat(at, name, DIR_MODE) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
        return err_errno(err, errno, "cannot create the directory %s in %s", name, store->path);
    *out = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*out < 0)
        return err_errno(err, errno, "cannot open the directory %s in %s", name, store->path);
    return 0;
}

/* The version file of an image layout. Two writers at once write the same bytes. */
static int write_layout_file(struct store *store, struct dayfly_err *err)
{
    static const char layout[] = "{\"imageLayoutVersion\":\"1.0.0\"}\n";
    if (faccessat(store->images_fd, "oci-layout", F_OK, 0) == 0)
        return 0;
    struct store_file file = {0};
    int rc = store_file_begin(store, &file, err);
    if (!rc)
        rc = store_file_write(&file, layout, sizeof(layout) - 1, err);
    if (!rc)
        rc = store_file_finish(&file, false, err);
    if (!rc)
        rc = store_lock_exclusive(store, err);
    if (!rc) {
        rc = store_file_commit(store, &file, store->images_fd, "oci-layout", err);
        store_unlock(store);
    }
    store_file_discard(store, &file);
    return rc;
}

static int open_parts(struct store *store, enum store_mode mode, struct dayfly_err *err)
{
    _cleanup_close_ int blobs = -1, roots = -1;
    int rc;
    store->home_fd = open(store->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->home_fd < 0)
        return err_errno(err, errno, "cannot open the data directory %s", store->path);
    if ((rc = open_dir(store, store->home_fd, "images", &store->images_fd, err)) ||
        (rc = open_dir(store, store->images_fd, "blobs", &blobs, err)) ||
        (rc = open_dir(store, blobs, "sha256", &store->blobs_fd, err)) ||
        (rc = open_dir(store, store->home_fd, "roots", &roots, err)) ||
        (rc = open_dir(store, roots, "sha256", &store->roots_fd, err)) ||
        (rc = open_dir(store, store->home_fd, "kernels", &store->kernels_fd, err)) ||
        (rc = open_dir(store, store->home_fd, "tmp", &store->tmp_fd, err)))
        return rc;
    /* Somebody else's store can be looked at with a lock file opened for reading. */
    store->lock_fd = openat(store->home_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (store->lock_fd < 0 && mode == STORE_READ)
        store->lock_fd = openat(store->home_fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (store->lock_fd < 0)
        return err_errno(err, errno, "cannot open the lock file %s/lock", store->path);
    if (mode == STORE_READ)
        return 0;

    if ((rc = store_lock_exclusive(store, err)))
        return rc;
    store_sweep(store);
    store_unlock(store);
    return write_layout_file(store, err);
}

int store_open(struct store *store, const char *home, enum store_mode mode, struct dayfly_err *err)
{
    char path[PATH_MAX];
    *store = (struct store){.home_fd = -1,
                            .images_fd = -1,
                            .blobs_fd = -1,
                            .roots_fd = -1,
                            .kernels_fd = -1,
                            .tmp_fd = -1,
                            .lock_fd = -1};
    int rc = home ? 0 : home_data_dir(path, sizeof(path), err);
    if (rc)
        return rc;
    if (!home)
        home = path;
    if (home[0] != '/' || strlen(home) >= sizeof(store->path))
        return err_set(err, EINVAL,
                       "\"%.80s\" cannot be the data directory: an absolute path of at "
                       "most %zu bytes is needed",
                       home, sizeof(store->path) - 1);
    strcpy(store->path, home);
    rc = home_make_dirs(home, DIR_MODE, err);
    if (!rc)
        rc = open_parts(store, mode, err);
    if (rc)
        store_close(store);
    return rc;
}

void store_close(struct store *store)
{
    if (!store->path[0])
        return;
    close_fd(&store->home_fd);
    close_fd(&store->images_fd);
    close_fd(&store->blobs_fd);
    close_fd(&store->roots_fd);
    close_fd(&store->kernels_fd);
    close_fd(&store->tmp_fd);
    close_fd(&store->lock_fd);
    store->path[0] = '\0';
}

static int lock(struct store *store, int how, struct dayfly_err *err)
{
    while (flock(store->lock_fd, how) < 0) {
        if (errno != EINTR)
            return err_errno(err, errno, "cannot lock %s/lock", store->path);
    }
    return 0;
}

int store_lock_shared(struct store *store, struct dayfly_err *err)
{
    return lock(store, LOCK_SH, err);
}

int store_lock_exclusive(struct store *store, struct dayfly_err *err)
{
    return lock(store, LOCK_EX, err);
}

void store_unlock(struct store *store)
{
    flock(store->lock_fd, LOCK_UN);
}

/* ---- temporaries ---- */

int store_temp_name(char name[40], struct dayfly_err *err)
{
    uint64_t random;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return err_errno(err, errno, "getrandom");
    snprintf(name, 40, "tmp-%016llx", (unsigned long long)random);
    return 0;
}

/* Without O_TMPFILE (NFS, old overlayfs) the file has a name from the start. It is made and locked
 * under the store's lock, so that no sweep sees it in between. */
static int begin_named(struct store *store, struct store_file *file, struct dayfly_err *err)
{
    char name[40];
    int rc = store_temp_name(name, err);
    if (!rc)
        rc = store_lock_exclusive(store, err);
    if (rc)
        return rc;
    file->fd = openat(store->tmp_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file->fd < 0) {
        rc = err_errno(err, errno, "cannot create a file in %s/tmp", store->path);
    } else {
        flock(file->fd, LOCK_EX | LOCK_NB);
        memcpy(file->name, name, sizeof(name));
    }
    store_unlock(store);
    return rc;
}

int store_file_begin(struct store *store, struct store_file *file, struct dayfly_err *err)
{
    *file = (struct store_file){.fd = -1};
    int rc = 0;
    file->fd = openat(store->tmp_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file->fd < 0) {
        if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)
            return err_errno(err, errno, "cannot create a file in %s/tmp", store->path);
        rc = begin_named(store, file, err);
    }
    hasher_begin(&file->hasher);
    if (rc)
        store_file_discard(store, file);
    return rc;
}

int store_file_write(struct store_file *file, const void *data, size_t len, struct dayfly_err *err)
{
    int rc = io_write_full(file->fd, data, len);
    if (rc)
        return err_errno(err, -rc, "cannot write to the store");
    hasher_add(&file->hasher, data, len);
    file->size += len;
    return 0;
}

int store_file_finish(struct store_file *file, bool rehash, struct dayfly_err *err)
{
    int rc = rehash ? digest_of_fd(file->fd, &file->digest, &file->size) : 0;
    if (!rehash)
        hasher_digest(&file->hasher, &file->digest);
    if (rc)
        return err_errno(err, -rc, "cannot read back what was written to the store");
    if (fchmod(file->fd, 0444) < 0 || fsync(file->fd) < 0)
        return err_errno(err, errno, "cannot write to the store");
    return 0;
}

int store_file_commit(struct store *store, struct store_file *file, int dir_fd, const char *name,
                      struct dayfly_err *err)
{
    char proc[40];
    int rc;
    if (!file->name[0]) {
        /* Link and rename instead of linking into place: what is there already may be damaged, and
         * is to be replaced without a moment when it is missing. */
        char temp[40];
        if ((rc = store_temp_name(temp, err)))
            return rc;
        snprintf(proc, sizeof(proc), "/proc/self/fd/%d", file->fd);
        if (linkat(AT_FDCWD, proc, store->tmp_fd, temp, AT_SYMLINK_FOLLOW) < 0)
            return err_errno(err, errno, "cannot link a file into %s/tmp", store->path);
        memcpy(file->name, temp, sizeof(temp));
    }
    if (renameat(store->tmp_fd, file->name, dir_fd, name) < 0)
        return err_errno(err, errno, "cannot rename a file of %s to %.80s", store->path, name);
    file->name[0] = '\0';
    /* Whoever opens it from now on locks it for itself. */
    flock(file->fd, LOCK_UN);
    close_fd(&file->fd);
    if (fsync(dir_fd) < 0)
        return err_errno(err, errno, "cannot sync a directory of %s", store->path);
    return 0;
}

void store_file_discard(struct store *store, struct store_file *file)
{
    if (file->name[0])
        unlinkat(store->tmp_fd, file->name, 0);
    file->name[0] = '\0';
    /* A zeroed one has fd 0, which is never ours: descriptors 0 to 2 are open in any program. */
    if (file->fd > 0)
        close_fd(&file->fd);
    file->fd = -1;
}

int store_temp_dir(struct store *store, char name[40], struct dayfly_err *err)
{
    int rc = store_temp_name(name, err);
    if (!rc)
        rc = store_lock_exclusive(store, err);
    if (rc)
        return rc;
    int fd = -1;
    if (mkdirat(store->tmp_fd, name, DIR_MODE) < 0)
        rc = err_errno(err, errno, "cannot create a directory in %s/tmp", store->path);
    else if ((fd = openat(store->tmp_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        rc = err_errno(err, errno, "cannot open a directory in %s/tmp", store->path);
    else
        flock(fd, LOCK_EX | LOCK_NB);
    store_unlock(store);
    return rc ? rc : fd;
}

int store_each_name(int dir_fd, int (*fn)(void *opaque, const char *name), void *opaque)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return -ENOMEM;
    }
    struct dirent *entry;
    int rc = 0;
    while (!rc && (entry = readdir(dir))) {
        if (entry->d_name[0] != '.')
            rc = fn(opaque, entry->d_name);
    }
    closedir(dir);
    return rc;
}

static int sweep_temp(void *opaque, const char *name)
{
    const struct store_sweeping *how = opaque;
    struct store *store = how->store;
    store_sweep_one_staging(how, name);
    if (strncmp(name, "tmp-", 4) != 0)
        return 0;
    _cleanup_close_ int fd =
        openat(store->tmp_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
        return 0;
    int rc = sweep_removes(how->sweep) ? tree_remove(store->tmp_fd, name) : 0;
    sweep_tell(how->sweep, "file", rc, "%s/tmp/%s", store->path, name);
    return 0;
}

void store_sweep_temps(const struct store_sweeping *how)
{
    store_each_name(how->store->tmp_fd, sweep_temp, (void *)how);
}

/* ---- blobs ---- */

int store_blob_read(struct store *store, const struct digest *digest, char **out, size_t *len,
                    struct dayfly_err *err)
{
    char hex[DIGEST_HEX_BYTES];
    _cleanup_free_ char *data = NULL;
    struct digest found;
    int rc = io_read_file(store->blobs_fd, digest_hex(digest, hex), OCI_JSON_MAX_BYTES, &data, len);
    if (rc)
        return err_errno(err, -rc, "blob sha256:%s", hex);
    digest_of(data, *len, &found);
    if (!digest_equal(&found, digest))
        return err_set(err, EBADMSG, "blob sha256:%s is damaged: its content has another digest", hex);
    *out = steal_ptr(&data);
    return 0;
}
