/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_OVERLAY_H
#define BLOCK_OVERLAY_H

#include "block/block.h"

/*
 * The measured choice. It is the block of ext4 and a page of the guest, so nearly every write is of
 * whole clusters, of which nothing has to be read before. With 64 KiB a random write of 4 KiB to a new
 * place copies fifteen times of what it writes (bench/layer).
 */
#define BLOCK_OVERLAY_CLUSTER_BYTES 4096u

struct block_overlay_options {
    /* Both taken, even on failure. */
    struct block *base;     /* what the disk begins as; only read, and may be shared by many */
    struct block *delta;    /* where what is written goes; its content at the beginning is nobody's */
    uint32_t cluster_bytes; /* a power of two from 4 KiB to 2 MiB; 0: BLOCK_OVERLAY_CLUSTER_BYTES */
};

/*
 * A disk of the base's size, copied on write to the delta, cluster N of one to cluster N of the other.
 * Which cluster is where stands in memory only, so the disk is gone with this back end. The delta is
 * read only where it was written to, so it may be a sparse file, and may read as noise (block/crypt.h).
 *
 *   what was never written   reads as the base
 *   DISCARD                  whole clusters that were written read as zeroes from then on, and their
 *                            space is given back; the rest of the range stays as it is
 *   WRITE_ZEROES             whole clusters take no space, unmap or not
 *
 * A request of two that overlap begins when the other has ended, unless both read. When the delta
 * fails (ENOSPC), so does the request, and the clusters that it would have moved stay in the base.
 */
int block_overlay_open(struct block **out, const struct block_overlay_options *options,
                       struct dayfly_err *err);

#endif
