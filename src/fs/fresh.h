/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_FRESH_H
#define FS_FRESH_H

/*
 * Whether a file is still what it was when the guest last opened it, so that the guest may keep the
 * pages of it that it has: with FS_CACHE_AUTO a header that each compiler run opens anew is then read
 * once, and what the host changed in between is nevertheless seen at the next open.
 *
 * A file is the same when size, mtime and ctime are. Times of files are as coarse as the kernel's tick
 * (10 ms at worst), so one that was changed a moment before it was looked at is not remembered: a
 * second change could leave the same times.
 *
 * A fixed number of slots, direct mapped by node id; losing one costs the guest a read.
 *
 * Threads: any.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define FRESH_SLOTS      16384
#define FRESH_SETTLED_NS UINT64_C(50000000)

struct fresh {
    pthread_mutex_t lock;
    struct fresh_slot *slots; /* NULL: nothing is ever the same */
};

/* With `keep` false it remembers nothing and takes no memory. */
int fresh_init(struct fresh *f, bool keep);
/* Safe on a zeroed struct. */
void fresh_finish(struct fresh *f);

/* True when the file is as it was at the last call for this inode. Remembers it for the next. */
bool fresh_since_last(struct fresh *f, uint64_t nodeid, const struct stat *st);

#endif
