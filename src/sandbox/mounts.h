/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_MOUNTS_H
#define SANDBOX_MOUNTS_H

/*
 * Mounts as descriptors, and files below a root that is not ours yet. Private to src/sandbox; for a
 * process that may not allocate (setup.h).
 *
 * A path here is resolved within `root` as if that were the process's root: links of a hostile image
 * lead nowhere else. It may begin with a slash.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/types.h>

#include "dayfly/error.h"

/* Of what a job sees but for its own files. */
#define MOUNTS_STRICT (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

#define MOUNTS_PATH_BYTES 512

/* A setting of a file system: a flag where the value is NULL. */
struct mounts_setting {
    const char *key, *value;
};

/* A new file system, mounted nowhere yet. `settings` end with a NULL key; NULL: none. A descriptor, or
 * -errno. */
int mounts_make(const char *type, const struct mounts_setting *settings, uint64_t attributes,
                struct dayfly_err *err);

/* What `path` of the host shows, with all that is mounted below it, as a mount of its own that is
 * mounted nowhere. A descriptor, or -errno without a message. */
int mounts_copy(const char *path);

/* The directory `name` of `dir`, made now, as a mount of its own that is mounted nowhere: the same file
 * system, so its size is shared, by another root. A descriptor, or -errno. */
int mounts_part(int dir, const char *name, mode_t mode);

/* Change a mount, and all below it, that is mounted nowhere yet. */
int mounts_restrict(int mount, uint64_t attributes);

/* Mount it on a file or directory. */
int mounts_attach(int mount, int target);

/* openat2 within root. A descriptor, or -errno. */
int mounts_open(int root, const char *path, int flags, mode_t mode);

/* The directory `path`, O_PATH, made with its parents where it is missing. */
int mounts_directory(int root, const char *path, mode_t mode, struct dayfly_err *err);

/* Mount it on the directory `path`, made where it is missing. The mount is closed, also on failure. */
int mounts_place(int mount, int root, const char *path, struct dayfly_err *err);

#endif
