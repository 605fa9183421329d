/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

/*
 * The content store: what images and kernels are kept in, below the data directory.
 *
 *   images/           an OCI image layout: oci-layout, index.json, blobs/sha256/HEX
 *   roots/sha256/     HEX.erofs, the root file system made from the manifest HEX
 *   kernels/NAME/     an imported kernel (image/kernel.h)
 *   tmp/              what is being made or fetched; whoever does holds a flock on it
 *   lock              flock: shared to look at the index and open what it names, exclusive to change
 *
 * A file is written without a name (O_TMPFILE), synced, and linked and renamed into its place under the
 * exclusive lock, in the order blobs, roots, index. So at any moment, whoever is killed, every name in
 * the index leads to whole files. What a killed process can leave is (a) a name in tmp/ that nobody
 * holds a lock on and (b) a blob or root that no index entry leads to; store_sweep removes both, and
 * opening for writing begins with it.
 *
 * A root file system in use is held by a shared flock on its open file: sweep leaves such a file alone.
 *
 * A `struct store` belongs to one thread; two of them on one directory, in one process or two, are
 * fine.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "dayfly/error.h"
#include "image/digest.h"
#include "image/oci.h"
#include "util/sweep.h"

struct store {
    char path[PATH_MAX / 2]; /* of the data directory, absolute */
    int home_fd, images_fd, blobs_fd, roots_fd, kernels_fd, tmp_fd, lock_fd;
};

enum store_mode {
    STORE_READ,  /* look; the directories are made if they can be, nothing is swept */
    STORE_WRITE, /* as above, then sweep what killed processes left */
};

/* Open the store in `home` (NULL: util/home.h's data directory). On success store_close it. */
int store_open(struct store *store, const char *home, enum store_mode mode, struct dayfly_err *err);
void store_close(struct store *store); /* safe on a zeroed or closed one */

/* Take the lock, waiting for it. Not recursive. */
int store_lock_shared(struct store *store, struct dayfly_err *err);
int store_lock_exclusive(struct store *store, struct dayfly_err *err);
void store_unlock(struct store *store);

/* ---- files that have no name yet ---- */

struct store_file {
    int fd;
    char name[40]; /* in tmp/, for file systems without O_TMPFILE; else "" */
    struct hasher hasher;
    struct digest digest; /* valid after store_file_finish */
    uint64_t size;
};

/* After begin the caller either commits or discards; discard is safe on a zeroed one and after
 * commit. Do not hold the lock in begin. */
int store_file_begin(struct store *store, struct store_file *file, struct dayfly_err *err);
int store_file_write(struct store_file *file, const void *data, size_t len, struct dayfly_err *err);
/* The bytes are all there: compute digest and size, fsync. `rehash`: they were written by somebody else
 * through fd, read them back. */
int store_file_finish(struct store_file *file, bool rehash, struct dayfly_err *err);
/* Give it the name `name` in dir_fd, over whatever has it. The exclusive lock is held. */
int store_file_commit(struct store *store, struct store_file *file, int dir_fd, const char *name,
                      struct dayfly_err *err);
void store_file_discard(struct store *store, struct store_file *file);

/* A new directory in tmp/, its name in `name`, locked by the returned fd until that is closed. The
 * caller renames it into its place, or removes it by tree_remove. Do not hold the lock. */
int store_temp_dir(struct store *store, char name[40], struct dayfly_err *err);

/* ---- collecting what comes from elsewhere ---- */

#define STORE_STAGING_BYTES   24
#define STORE_STAGING_BLOBS   "blobs/sha256"
#define STORE_STAGING_SECONDS (24 * 60 * 60)

/* A directory in tmp/ for what `key` identifies, its name in `name`. One that a killed process left is
 * taken over with what it fetched, all of which may be written to; else it is made. One that a live
 * process holds is waited for (`waiting`, which may be NULL, is called first). Locked until the
 * returned fd is closed. The caller removes it by tree_remove before that, or leaves it for the next
 * one (below): store_sweep removes those that nobody holds and nobody has begun to use for
 * STORE_STAGING_SECONDS. Do not hold the lock. */
int store_staging_open(struct store *store, const struct digest *key, char name[STORE_STAGING_BYTES],
                       void (*waiting)(void *opaque), void *opaque, struct dayfly_err *err);

/* How many bytes the files in STORE_STAGING_BLOBS have. */
uint64_t store_staging_bytes(int dir_fd);

/* Leave what was collected in STORE_STAGING_BLOBS for the next one, but for what the store has as well;
 * when that is all, remove the directory. store_sweep does the same for a killed process. */
void store_staging_leave(struct store *store, int dir_fd, const char *name);

/* Remove those that nobody holds, however new. Returns how many. The exclusive lock is held. */
unsigned store_sweep_staging(struct store *store);

/* Give a blob of the store a second name, its hex digits, in the directory dir_fd. Hold the lock. */
int store_blob_link(struct store *store, const struct digest *digest, int dir_fd,
                    struct dayfly_err *err);

/* The same with all layers that there are; what cannot be linked is left out. No other blobs: the
 * linked ones are the store's own files, and skopeo writes a manifest to the file that has its name. Do
 * not hold the lock. */
int store_layers_link(struct store *store, int dir_fd, struct dayfly_err *err);

/* Turn a file that is in the directory dir_fd (of the store's file system) into a finished one. Its
 * content is not looked at: the caller says the digest. The name in dir_fd stays. Do not hold the lock.
 */
int store_file_adopt(struct store *store, struct store_file *file, int dir_fd, const char *name,
                     const struct digest *digest, struct dayfly_err *err);

/* ---- blobs ---- */

/* Read a blob of at most OCI_JSON_MAX_BYTES whole, its digest verified. The caller frees *out. */
int store_blob_read(struct store *store, const struct digest *digest, char **out, size_t *len,
                    struct dayfly_err *err);

/* ---- the index ---- */

/* Annotations of ours on an index entry: the derived root, for checks when it is opened. */
#define STORE_ANNOTATION_ROOT_DIGEST "dayfly.root.digest"
#define STORE_ANNOTATION_ROOT_SIZE   "dayfly.root.size"

/* One name in the index. */
struct store_entry {
    char name[OCI_REF_BYTES];
    struct digest manifest;
    uint64_t manifest_bytes;
    bool has_root; /* the two below are known */
    struct digest root;
    uint64_t root_bytes;
};

/* All names, sorted; foreign entries without a usable name or digest are left out. The caller frees
 * *out. The lock is held, shared or exclusive. */
int store_entries(struct store *store, struct store_entry **out, size_t *count, struct dayfly_err *err);

/* Look one up. -ENOENT names the nearest known one, or how to see all. The lock is held. */
int store_find(struct store *store, const struct oci_ref *ref, struct store_entry *out,
               struct dayfly_err *err);
/* The same where one that is made now would do as well: -ENOENT names how. */
int store_find_to_start(struct store *store, const struct oci_ref *ref, struct store_entry *out,
                        struct dayfly_err *err);

/* An image about to enter the store: finished files. They stay the caller's to discard. */
struct store_addition {
    const char *name; /* canonical, with its tag */
    struct store_file *manifest;
    struct store_file **blobs; /* config and layers */
    size_t blob_count;
    struct store_file *root; /* the EROFS */
};

/* Commit the files and point the name at the manifest, atomically; what the name pointed at before is
 * swept unless another name or a running sandbox has it. */
int store_add(struct store *store, const struct store_addition *addition, struct dayfly_err *err);

/* Replace the root of a manifest that is in the index (derived anew). */
int store_add_root(struct store *store, const struct digest *manifest, struct store_file *root,
                   struct dayfly_err *err);

/* Give an image one more name, in place of an image that has it. */
int store_tag(struct store *store, const struct oci_ref *ref, const char *name, struct dayfly_err *err);

/* Remove all names of these manifests, and sweep. The exclusive lock is held. */
int store_forget(struct store *store, const struct digest *manifests, size_t count,
                 struct dayfly_err *err);

/* Remove the root file system of a manifest, to be derived anew. -EBUSY while a sandbox runs on it. */
int store_drop_root(struct store *store, const struct digest *manifest, struct dayfly_err *err);

/* True when a sandbox holds the manifest's root. The lock is held. */
bool store_root_in_use(struct store *store, const struct digest *manifest);

/* Remove a name (or, by digest, all of a manifest's names) and what only it needed. -EBUSY while a
 * sandbox runs on it. */
int store_remove(struct store *store, const struct oci_ref *ref, struct dayfly_err *err);

/* Remove what killed processes left and what no name leads to. The exclusive lock is held. When the
 * index or a manifest cannot be read nothing but dead temporaries is removed. */
void store_sweep(struct store *store);

/* The same, and all that was fetched by nobody who lives, however new. */
void store_sweep_all(struct store *store, const struct sweep *sweep);

#define STORE_ROOT_NAME_BYTES (DIGEST_HEX_BYTES + 6)
const char *store_root_name(const struct digest *manifest, char out[STORE_ROOT_NAME_BYTES]);

#endif
