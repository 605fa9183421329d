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
 * Behind a file's end there is a void, which begins as zeroes and whose contents are nobody's: a guest
 * that goes there, because the host has made the file shorter meanwhile, would otherwise never come
 * back from its access. As the file grows the void makes way for it, at the latest when the guest is
 * told of the new size (window_told). So below the size that it was last told a guest reads the file,
 * unless the host has made it shorter since; then it reads zeroes, and what it writes is lost, at any
 * later time. All of the void together is WINDOW_VOID_MAX of the host's memory at most.
 *
 * Threads: any; a lock of its own, a leaf but for the kernel's. What may follow a new file (window_map
 * with a descriptor) is for serving threads (thread.h), who have the descriptors' names.
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
#define WINDOW_VOID_MAX    (UINT64_C(64) << 20)

struct window {
    uint8_t *hva;
    uint64_t bytes; /* a power of two; 0: there is no window */
    void *reserved; /* with what was needed to align it */
    size_t reserved_bytes;
    int events;  /* inotify: a file was written to or cut; -1 without a window */
    int nowhere; /* memory for the void; -1 likewise */

    pthread_mutex_t lock;
    struct window_range *ranges;
    struct window_file **files; /* by node id, as many buckets as ranges */
    unsigned range_count;       /* a power of two */
    atomic_uint used;           /* ranges in which something is mapped */
    unsigned file_count, files_max;
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

/* w->events is readable. */
void window_heed(struct window *w);

/* A guest touched what is not there, and its processor came back from it. True when some file had
 * become shorter: the access may succeed now. */
bool window_mend(struct window *w);

/* The guest is about to learn that the file is this large, or that what it wrote up to there is in it.
 */
void window_grown(struct window *w, uint64_t nodeid, uint64_t size);
static inline void window_told(struct window *w, uint64_t nodeid, uint64_t size)
{
    if (atomic_load(&w->used) > 0)
        window_grown(w, nodeid, size);
}

#endif
