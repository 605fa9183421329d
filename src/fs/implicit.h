/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_IMPLICIT_H
#define FS_IMPLICIT_H

/*
 * Files and directories that a guest reads without having opened them.
 *
 * Where nobody changes anything (all directories read-only, cache=always) an OPEN has nothing to say:
 * the guest's kernel checks permissions by itself, what it has cached stays valid, and there is nothing
 * to lock against others or to flush. FUSE_OPEN and FUSE_OPENDIR are then answered ENOSYS, once, and
 * from there on the guest sends no OPEN, FLUSH and RELEASE (FUSE_NO_OPEN_SUPPORT,
 * FUSE_NO_OPENDIR_SUPPORT); on virtio-fs it would wait for each. READ and READDIR come with handle 0,
 * and get a descriptor from here, which stays until its place is needed for another.
 *
 * Limits: a place in a directory has to mean the same to a descriptor that was opened later, which it
 * does while the directory does not change.
 *
 * Threads: any.
 */

#include <stdatomic.h>
#include <stdint.h>

#include "fs/open_table.h"

struct request;

#define IMPLICIT_MAX 256

/* Zeroed: empty. What it names the open table owns, and may have closed. */
struct implicit_opens {
    atomic_uint_least64_t handles[IMPLICIT_MAX]; /* by inode */
};

/* in.nodeid's, opened to be read, with a reference for the caller. Fills r->node. */
int implicit_get(struct request *r, struct open_file **file);

#endif
