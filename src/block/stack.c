/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See stack.h.
 *
 * The event descriptor is an epoll instance over those of the layers and an eventfd: it is readable as
 * long as one of them is, and nobody has to read it.
 */
#include "block/stack.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "util/cleanup.h"

/* How often one reap looks at the layers for requests that it sent itself. What is left then keeps the
 * event descriptor readable, so the loop comes back after it has looked after others. */
#define ROUNDS 16

int stack_watch(struct stack *stack, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(stack->block.event_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int stack_init(struct stack *stack, struct block *const *below, unsigned count)
{
    list_init(&stack->idle);
    list_init(&stack->finished);
    stack->layer_count = count;
    for (unsigned i = 0; i < count; i++) {
        stack->layers[i].block = below[i];
        list_init(&stack->layers[i].full);
    }
    stack->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    stack->block.event_fd = epoll_create1(EPOLL_CLOEXEC);
    if (stack->wake_fd < 0 || stack->block.event_fd < 0)
        return -errno;
    int rc = stack_watch(stack, stack->wake_fd);
    for (unsigned i = 0; i < count && rc == 0; i++)
        rc = stack_watch(stack, below[i]->event_fd);
    return rc;
}

void stack_finish(struct stack *stack)
{
    close_fd(&stack->block.event_fd);
    close_fd(&stack->wake_fd);
    for (unsigned i = 0; i < stack->layer_count; i++)
        block_destroy(stack->layers[i].block);
    stack->layer_count = 0;
}

struct stack_job *stack_take(struct stack *stack, struct block_request *request)
{
    if (list_empty(&stack->idle))
        return NULL;
    /* The one freed last: a quiet disk touches little memory. */
    struct stack_job *job = list_entry(stack->idle.prev, struct stack_job, node);
    list_remove(&job->node);
    job->request = request;
    stack->in_flight++;
    return job;
}

void stack_complete(struct stack *stack, struct stack_job *job, int result)
{
    job->result = result;
    list_append(&stack->finished, &job->node);
    /* Not by `woken`, which another thread may set when what it wrote has been read already. */
    if (!stack->reaping && !stack->told)
        eventfd_write(stack->wake_fd, 1);
    stack->told |= !stack->reaping;
}

void stack_wake(struct stack *stack)
{
    /* In this order: a reap in between leaves the descriptor readable, and the next one reads it. */
    eventfd_write(stack->wake_fd, 1);
    stack->woken = true;
}

int stack_send(struct stack *stack, unsigned layer, struct stack_request *request)
{
    struct stack_layer *l = &stack->layers[layer];
    /* Not past those that wait. */
    int rc = list_empty(&l->full) ? block_submit(l->block, &request->io) : -EBUSY;
    if (rc == -EBUSY) {
        list_append(&l->full, &request->node);
        return 0;
    }
    stack->moved |= rc == 0;
    return rc;
}

int stack_kick(struct block *block)
{
    struct stack *stack = container_of(block, struct stack, block);
    int result = 0;
    stack->moved = false;
    for (unsigned i = 0; i < stack->layer_count; i++) {
        int rc = block_kick(stack->layers[i].block);
        result = result < 0 ? result : rc;
    }
    return result;
}

/* Take what the layer has completed, and send it what it had no room for. */
static void look_at(struct stack *stack, struct stack_layer *layer)
{
    block_reap(layer->block);
    while (!list_empty(&layer->full)) {
        struct stack_request *request = list_entry(layer->full.next, struct stack_request, node);
        int rc = block_submit(layer->block, &request->io);
        if (rc == -EBUSY)
            return;
        list_remove(&request->node);
        stack->moved = true;
        if (rc < 0)
            request->io.done(&request->io, rc);
    }
}

/* A callback may submit again, so the job goes back first. */
static unsigned deliver(struct stack *stack)
{
    unsigned delivered = 0;
    struct list mine;
    list_init(&mine);
    list_move_all(&mine, &stack->finished);
    while (!list_empty(&mine)) {
        struct stack_job *job = list_entry(mine.next, struct stack_job, node);
        struct block_request *request = job->request;
        int result = job->result;
        list_remove(&job->node);
        job->request = NULL;
        list_append(&stack->idle, &job->node);
        stack->in_flight--;
        request->done(request, result);
        delivered++;
    }
    return delivered;
}

unsigned stack_reap(struct block *block)
{
    struct stack *stack = container_of(block, struct stack, block);
    bool woken = atomic_exchange(&stack->woken, false);
    if (woken || stack->told) {
        eventfd_t count;
        stack->told = false;
        eventfd_read(stack->wake_fd, &count);
    }
    stack->reaping = true;
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < stack->layer_count; i++)
            look_at(stack, &stack->layers[i]);
        if (stack->resume)
            stack->resume(stack);
        if (!stack->moved)
            break;
        stack_kick(block);
    }
    stack->reaping = false;
    return deliver(stack);
}

void stack_drain(struct block *block)
{
    struct stack *stack = container_of(block, struct stack, block);
    stack_kick(block);
    stack_reap(block);
    while (stack->in_flight > 0) {
        struct pollfd p = {.fd = block->event_fd, .events = POLLIN};
        poll(&p, 1, -1);
        stack_reap(block);
    }
}
