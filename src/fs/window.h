/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_WINDOW_H
#define FS_WINDOW_H

/*
 * The DAX window: address space of this process that the guest sees (virtio 1.2, 5.11.6.4), into which
 * the server maps files where the guest asks it to. Reads and writes of the guest then go straight to
 * the host's page cache. Nobody in this process ever touches the window's bytes.
 *
 * It is divided into ranges of WINDOW_RANGE bytes, one piece of one file each. What is not mapped is
 * reserved and cannot be accessed: a guest that does ends its machine.
 *
 * A file may become shorter on the host while it is mapped. A guest that touches a page behind its end
 * would end its machine, through no fault of its own; window_mend puts pages of zeroes there, whose
 * contents are nobody's. They go as soon as the guest is told of a larger file (window_told), or makes
 * it larger itself, or asks for the mapping again; there are never more than WINDOW_ZEROES_MAX of them,
 * beyond which its machine does end. So what a guest reads below the size it was last
 * told is the file, unless the file became shorter since.
 *
 * Threads: any; a lock of its own, a leaf but for the kernel's.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dayfly/error.h"

/* What Linux asks for at a time; its logarithm is announced as the alignment. */
#define WINDOW_RANGE_SHIFT 21
#define WINDOW_RANGE       (UINT64_C(1) << WINDOW_RANGE_SHIFT)
#define WINDOW_ZEROES_MAX  (UINT64_C(64) << 20)

struct window {
    uint8_t *hva;
    uint64_t bytes; /* a power of two; 0: there is no window */
    void *reserved; /* with what was needed to align it */
    size_t reserved_bytes;

    pthread_mutex_t lock;
    struct window_range *ranges;
    struct window_file **files; /* by node id, as many buckets as ranges */
    unsigned range_count;       /* a power of two */
    unsigned used;              /* ranges in which something is mapped */
    unsigned file_count, files_max;
    uint64_t zeroes_bytes; /* mapped in the place of files that ended, at most WINDOW_ZEROES_MAX */
    atomic_uint mended; /* ranges with pages of zeroes; for a moment one more while there may be some */
};

/* `bytes` a power of two, at least WINDOW_RANGE; or 0. Returns 0 or -errno. */
int window_init(struct window *w, uint64_t bytes, struct dayfly_err *err);
/* Safe on a zeroed one. The guest does not see it any more. */
void window_finish(struct window *w);

/* A piece of a file: in whole pages, but for its offset and place, which are in whole ranges. */
struct window_piece {
    uint64_t nodeid;
    uint64_t offset; /* in the file */
    uint64_t bytes;
    uint64_t at; /* in the window */
    bool writable;
};

/*
 * Map a piece, in place of what was in its ranges; on failure some of them may be empty. `fd` is open
 * in the mode that it takes, and stays the caller's; -1: use the descriptor that the window has kept of
 * this file. -ENOENT when it has none; -EINVAL for a piece that is not aligned, is empty, or leaves the
 * window or what a file may have.
 */
int window_map(struct window *w, const struct window_piece *piece, int fd);

/* Take out whatever is in the ranges that [at, at + bytes) touches. -EINVAL as above. */
int window_unmap(struct window *w, uint64_t at, uint64_t bytes);

/* Take everything out. */
void window_clear(struct window *w);

/* A guest touched what is not there. True when some range got pages of zeroes by this. */
bool window_mend(struct window *w);

/* The guest is about to learn that the file is this large. */
void window_heal(struct window *w, uint64_t nodeid);
static inline void window_told(struct window *w, uint64_t nodeid)
{
    if (atomic_load(&w->mended) > 0)
        window_heal(w, nodeid);
}

unsigned window_used(struct window *w);

#endif
