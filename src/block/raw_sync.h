/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_RAW_SYNC_H
#define BLOCK_RAW_SYNC_H

#include "block/block.h"
#include "isolate/isolate.h"

/*
 * Carry out a request on a file, from its byte `from` on (what lies before was transferred already),
 * blocking until it is done. EINTR and short transfers are gone on with. `is_device`: fd is a block
 * device. Returns 0 or -errno; -EIO when the file ends too early. Any thread.
 */
int raw_sync(int fd, bool is_device, const struct block_request *request, uint64_t from);

/* A read of what is in the page cache, likewise. -EAGAIN: not all of it is, or something is wrong. */
int raw_read_cached(int fd, const struct block_request *request);

extern const struct isolate_calls raw_sync_calls; /* the system calls that these make */

#endif
