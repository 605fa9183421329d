/* SPDX-License-Identifier: Apache-2.0 */
#include "block/walk.h"

#include <errno.h>

#include "util/arith.h"

void walk_finish(struct walk *walk, int result)
{
    struct walk_stack *owner = walk->owner;
    owner->ops->ended(walk);
    if (walk->lock.held)
        range_unlock(&owner->locks, &walk->lock);
    stack_complete(&owner->stack, &walk->base, result);
}

static void answered(struct block_request *io, int result)
{
    struct walk *walk = container_of(io, struct walk, lower.io);
    if (io->op == BLOCK_FLUSH)
        walk_finish(walk, result);
    else
        walk->owner->ops->answered(walk, result);
}

void walk_send(struct walk *walk, unsigned layer)
{
    walk->lower.io.done = answered;
    int rc = stack_send(&walk->owner->stack, layer, &walk->lower);
    if (rc < 0)
        walk_finish(walk, rc);
}

int walk_submit(struct block *block, struct block_request *request)
{
    struct walk_stack *owner = container_of(block, struct walk_stack, stack.block);
    struct stack_job *base = stack_take(&owner->stack, request);
    if (!base)
        return -EBUSY;
    struct walk *walk = container_of(base, struct walk, base);
    bool reads = request->op == BLOCK_READ;
    walk->at = request->offset_bytes;
    walk->end = request->offset_bytes + request->length_bytes;
    if (request->op == BLOCK_FLUSH) {
        walk->lower.io = (struct block_request){.op = BLOCK_FLUSH};
        walk_send(walk, owner->flush_layer);
        return 0;
    }
    if (walk->at < walk->end && owner->held_bytes && (!reads || owner->reads_hold)) {
        walk->lock.first = walk->at / owner->held_bytes;
        walk->lock.last = (walk->end - 1) / owner->held_bytes;
        walk->lock.shared = reads;
        if (!range_lock(&owner->locks, &walk->lock))
            return 0;
    }
    owner->ops->advance(walk);
    return 0;
}

/* Begin those whose range has become free. */
static void begin_the_waiting(struct stack *stack)
{
    struct walk_stack *owner = container_of(stack, struct walk_stack, stack);
    struct range_lock *lock;
    while ((lock = range_lock_next(&owner->locks)))
        owner->ops->advance(container_of(lock, struct walk, lock));
}

int walk_init(struct walk_stack *walks, struct block *const *below, unsigned count)
{
    walks->stack.block.event_fd = -1;
    walks->stack.wake_fd = -1;
    walks->stack.resume = begin_the_waiting;
    range_locks_init(&walks->locks);
    return stack_init(&walks->stack, below, count);
}

void walk_add(struct walk_stack *walks, struct walk *walk)
{
    walk->owner = walks;
    list_append(&walks->stack.idle, &walk->base.node);
}
