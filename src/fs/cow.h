/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_COW_H
#define FS_COW_H

/*
 * Copy on write for a shared directory: what a guest changes lies elsewhere, and the directory stays as
 * it is. An overlay mount (overlayfs) that exists only as a descriptor: it is mounted nowhere, no other
 * process sees it, and it is gone when the last descriptor on it is closed, however the process ends.
 * Making it copies nothing and looks at nothing, whatever the directory's size.
 *
 * The changes lie in memory (a tmpfs without a name, gone with the mount), or in a directory given for
 * them, where changes.h lists, promotes or drops them later:
 *
 *     CHANGES/upper   what was added or changed, in overlayfs's own form
 *     CHANGES/work    overlayfs's
 *     CHANGES/origin  the path of the directory they are changes of
 *
 * A process that is not root makes the mount in a user namespace of its own, where overlayfs keeps its
 * marks in user.* attributes; files of other owners are then readable, and changing one fails with
 * EOVERFLOW.
 *
 * Limits, which are overlayfs's: a file that was opened for reading before it was first changed goes on
 * showing the old content through that descriptor; the directory must not be changed by others while
 * it is the base (nothing breaks, but what is seen is not defined); renaming a directory of the base
 * fails with EXDEV, as in containers, which mv and others know how to go round (the mark with which
 * overlayfs could do it would make promotion a matter of several steps that belong together).
 */

#include <stdint.h>

#include "dayfly/error.h"

struct cow {
    int fd;      /* the merged directory: what to share */
    int lock_fd; /* the changes' directory, locked for this mount; -1: in memory */
};
#define COW_INIT                                                                                       \
    {                                                                                                  \
        .fd = -1, .lock_fd = -1                                                                        \
    }

struct cow_options {
    const char *dir;     /* the directory that is to stay as it is */
    const char *changes; /* an empty directory, made if it is missing, or one that holds earlier changes
                            of the same `dir`; NULL: in memory */
    uint64_t memory_bytes; /* bound of the changes in memory; 0: half of what is available now */
    int idmap_fd; /* a user namespace whose ids the files of `dir` are shown with (mount_setattr(2)),
                     root's alone, borrowed; what is changed has those ids in the changes as well. 0:
                     none */
};

/*
 * Make the mount. Returns 0 or -errno: -EBUSY when a mount uses these changes already, -EEXIST when the
 * directory holds something else, -EPERM where the host forbids it (with the remedy).
 */
int cow_open(struct cow *cow, const struct cow_options *options, struct dayfly_err *err);

/* Safe on COW_INIT and safe to call twice. */
void cow_close(struct cow *cow);

#endif
