/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_FIT_H
#define BLOCK_FIT_H

#include "block/block.h"
#include "config/disk_file.h"

#define BLOCK_FIT_UNIT_MAX (64u * 1024)

/*
 * Any request, on a disk that wants memory, offsets and lengths aligned: what suits it is passed on as
 * it is, with no copy, and the rest goes through a buffer, in pieces. Where the guest's units are
 * smaller than those of the disk below, a write of a part reads the rest first, and requests that
 * change the same units come one after the other.
 *
 * `lower` is taken, even on failure; its unit_bytes are what the guest is shown. Requests to it are all
 * of `want`, and of those units too.
 */
int block_fit_open(struct block **out, struct block *lower, const struct disk_direct *want,
                   struct dayfly_err *err);

#endif
