/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_LOCKS_H
#define FS_LOCKS_H

/*
 * POSIX record locks of the guest, as open file description locks of the host (fcntl(2)).
 *
 * A POSIX lock belongs to a process and a file, whichever descriptor it was set by; the protocol calls
 * the process a lock owner. An OFD lock belongs to an open file description. So each pair of inode and
 * owner that holds locks has a description of its own here, made at its first lock. It goes, and its
 * locks with it, when the owner closes any descriptor of the file (FLUSH), and when the handle that
 * made it is released: that ends the guest's own OFD locks, whose owner is one open file of the guest.
 *
 * Limits: deadlocks are not detected (OFD locks have no owner to look for); a process of the host that
 * holds a lock is told as process 0.
 *
 * Threads: any. One lock is held around fcntl calls, none of which waits.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/lock_ranges.h"
#include "fs/open_table.h"
#include "util/list.h"

/* Pairs of inode and owner at once, and ranges of them all; above it ENOLCK. The host's kernel keeps
 * ranges in lists and walks them at each request, so that setting n of them costs it n * n. */
#define LOCK_PAIRS_MAX  4096
#define LOCK_RANGES_MAX 2048

struct lock_table {
    bool made;
    pthread_mutex_t lock;
    struct list pairs;
    uint32_t count;
    uint32_t max;
    uint32_t ranges;
};

int lock_table_init(struct lock_table *t, uint32_t max);
/* Safe on a zeroed table. */
void lock_table_finish(struct lock_table *t);

/* What stands in the way of *range, written there; type F_UNLCK when nothing does. */
int lock_get(struct lock_table *t, struct open_file *file, uint64_t owner, struct lock_range *range);

/* Set or release. -EAGAIN when another holds it. As the thread that may open the file. `read_only`: the
 * file is opened for reading alone, and F_WRLCK gets -EBADF. */
int lock_set(struct lock_table *t, struct open_file *file, bool read_only, uint64_t owner,
             const struct lock_range *range);

/* Drop all of an owner's locks on an inode; all that came by a handle. True when there were some. */
bool lock_drop_owner(struct lock_table *t, uint64_t nodeid, uint64_t owner);
bool lock_drop_handle(struct lock_table *t, uint64_t fh);
void lock_drop_all(struct lock_table *t);

#endif
