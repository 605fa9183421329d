/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_SCRATCH_H
#define IMAGE_SCRATCH_H

/*
 * Work on a big temporary tree in a child process that leaves nothing behind.
 *
 * The child has a mount namespace of its own with a tmpfs on the mount point, and a PID namespace: when
 * it, or the process that started it, ends in whatever way, every process in it is killed and the tree
 * is gone with its memory. A caller that is not root gets a user namespace as well, with its
 * subordinate ids when /etc/subuid and newuidmap give it some, so that files can have their owners.
 *
 * Where namespaces are refused, or memory is too small (`on_disk`), the tree is the directory itself,
 * and it is the caller's to remove.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "dayfly/error.h"

struct scratch_place {
    const char *dir; /* absolute */
    bool in_memory;  /* dir is a tmpfs of the child's own */
    bool whole;      /* any owner and any device node can be made in it */
};

#define SCRATCH_RESULT_BYTES 64

/* Runs in the child. Returns 0 or -errno with *err; `result` (SCRATCH_RESULT_BYTES, zeroed) is carried
 * to the parent. Descriptors are inherited; memory is a copy. */
typedef int scratch_fn(void *opaque, const struct scratch_place *place, void *result,
                       struct dayfly_err *err);

struct scratch {
    pid_t pid;
    int report_fd;
};

struct scratch_options {
    const char *dir; /* an existing directory, absolute: the mount point */
    bool on_disk;    /* no tmpfs, use the directory */
    bool own_ids;    /* not root: no user namespace, the program brings its own; implies on_disk */
};

/* Start fn. The process must not rely on other threads in the child (fork). */
int scratch_start(struct scratch *scratch, const struct scratch_options *options, scratch_fn *fn,
                  void *opaque, struct dayfly_err *err);

/* Whether a tree can have files of any owner: 0 for root, and for who has subordinate ids and the means
 * to use them, else -errno with the cause and the remedy. */
int scratch_probe_ids(struct dayfly_err *why);

/* Wait for it. Returns fn's result; -ECHILD when the child was killed (out of memory, most likely).
 * `result` may be NULL. */
int scratch_wait(struct scratch *scratch, void *result, struct dayfly_err *err);

#endif
