/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_RAW_SYNC_H
#define BLOCK_RAW_SYNC_H

#include "block/block.h"

/*
 * Carry out a request on a file, from its byte `from` on (what lies before was transferred already),
 * blocking until it is done. EINTR and short transfers are gone on with. `is_device`: fd is a block
 * device. Returns 0 or -errno; -EIO when the file ends too early. Any thread.
 */
int raw_sync(int fd, bool is_device, const struct block_request *request, uint64_t from);

#endif
