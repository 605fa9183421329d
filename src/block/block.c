/* SPDX-License-Identifier: Apache-2.0 */
/* What is alike for every block back end: a request is checked here, before a format sees it. */
#include "block/block.h"

#include <errno.h>
#include <limits.h>

#include "block/raw_sync.h"
#include "block/workers.h"
#include "util/arith.h"

#define SECTOR 512u

/* True when the segments hold exactly length bytes. */
static bool iov_holds(const struct block_request *request)
{
    uint64_t sum = 0;
    if (request->iov_count > IOV_MAX)
        return false;
    for (unsigned i = 0; i < request->iov_count; i++)
        if (add_overflows(sum, request->iov[i].iov_len, &sum))
            return false;
    return sum == request->length_bytes;
}

static int check(const struct block *block, const struct block_request *request)
{
    uint64_t unit = block->unit_bytes;
    switch (request->op) {
    case BLOCK_FLUSH:
        return 0;
    case BLOCK_READ:
        unit = SECTOR;
        break;
    case BLOCK_WRITE:
    case BLOCK_DISCARD:
    case BLOCK_WRITE_ZEROES:
        if (block->read_only)
            return -EROFS;
        break;
    default:
        return -EINVAL;
    }
    if (!range_within(request->offset_bytes, request->length_bytes, block->size_bytes))
        return -EINVAL;
    if (!is_aligned(request->offset_bytes | request->length_bytes, unit))
        return -EINVAL;
    if ((request->op == BLOCK_READ || request->op == BLOCK_WRITE) && !iov_holds(request))
        return -EINVAL;
    return 0;
}

int block_submit(struct block *block, struct block_request *request)
{
    int rc = check(block, request);
    return rc < 0 ? rc : block->ops->submit(block, request);
}

int block_transfer(struct block *block, const struct block_request *request)
{
    if (!block->ops->transfer || (request->op != BLOCK_READ && request->op != BLOCK_WRITE))
        return -EAGAIN;
    int rc = check(block, request);
    return rc < 0 ? rc : block->ops->transfer(block, request);
}

int block_kick(struct block *block)
{
    return block->ops->kick(block);
}

unsigned block_reap(struct block *block)
{
    return block->ops->reap(block);
}

void block_drain(struct block *block)
{
    block->ops->drain(block);
}

void block_destroy(struct block *block)
{
    if (!block)
        return;
    block->ops->drain(block);
    block->ops->destroy(block);
}

const struct isolate_calls *const block_calls[] = {&block_raw_calls,
                                                   &raw_sync_calls,
                                                   &block_patient_calls,
                                                   &workers_calls,
                                                   &isolate_thread_calls,
                                                   &isolate_tighten_calls,
                                                   NULL};
