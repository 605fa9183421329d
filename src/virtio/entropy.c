/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entropy device (virtio 1.2, section 5.4). One queue; each chain is filled with bytes of getrandom(2).
 *
 * A kick is served in the caller's thread, maybe a vCPU's, so the work of one turn is bounded: at most
 * CHAIN_BYTES_MAX bytes a chain (the device may fill less than was asked, 5.4.6.1) and TURN_BYTES_MAX a
 * turn. What is left over is for the loop, which takes one such turn at a time.
 */
#include "virtio/entropy.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define QUEUE_SIZE      64
#define CHAIN_BYTES_MAX 4096u
#define TURN_BYTES_MAX  (16u * CHAIN_BYTES_MAX)

struct entropy {
    struct virtio_device dev;
    struct loop_source more; /* an eventfd: chains are left */
    struct iovec iov[RING_SIZE_MAX];
};

/* Never blocks: a host whose pool is not ready yet gives fewer bytes. */
static uint32_t fill(const struct ring_chain *chain)
{
    uint32_t written = 0;
    for (unsigned i = 0; i < chain->writable && written < CHAIN_BYTES_MAX; i++) {
        const struct iovec *iov = &chain->iov[chain->readable + i];
        size_t want = MIN(iov->iov_len, CHAIN_BYTES_MAX - written), got = 0;
        while (got < want) {
            ssize_t n = getrandom((uint8_t *)iov->iov_base + got, want - got, GRND_NONBLOCK);
            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                return written + (uint32_t)got;
            got += (size_t)n;
        }
        written += (uint32_t)got;
    }
    return written;
}

/* Serve one turn. Locked. */
static void kick(struct virtio_device *dev, unsigned queue)
{
    struct entropy *e = container_of(dev, struct entropy, dev);
    struct ring *ring = &dev->queues[queue].ring;
    struct ring_chain chain;
    unsigned turn_bytes = 0;
    bool left = false;
    do {
        ring_kicks_off(ring);
        while (!(left = turn_bytes >= TURN_BYTES_MAX) &&
               virtio_pop(dev, queue, &chain, e->iov, ARRAY_SIZE(e->iov))) {
            uint32_t written = fill(&chain);
            /* An empty chain is work too. */
            turn_bytes += MAX(written, CHAIN_BYTES_MAX / 16);
            ring_push(ring, chain.head, written);
        }
    } while (!left && ring_kicks_on(ring));
    virtio_interrupt(dev, queue);
    if (left)
        eventfd_write(e->more.fd, 1);
}

static void more(struct loop_source *source, uint32_t events)
{
    struct entropy *e = container_of(source, struct entropy, more);
    eventfd_t count;
    eventfd_read(source->fd, &count);
    virtio_kick(&e->dev, 0);
}

static const struct virtio_ops entropy_ops = {
    .name = "entropy",
    .id = VIRTIO_ID_ENTROPY,
    .kick = kick,
};

int virtio_entropy_new(struct virtio_device **out, struct loop *loop, const struct log *log,
                       struct dayfly_err *err)
{
    struct entropy *e = calloc(1, sizeof(*e));
    if (!e)
        return err_set(err, ENOMEM, "entropy device: out of memory");
    virtio_init(
        &e->dev,
        &(struct virtio_init){
            .ops = &entropy_ops, .queue_count = 1, .queue_size = QUEUE_SIZE, .loop = loop, .log = log});
    e->more.events = EPOLLIN;
    e->more.ready = more;
    e->more.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = e->more.fd < 0 ? -errno : loop_add(loop, &e->more);
    if (rc < 0) {
        virtio_entropy_free(&e->dev);
        return err_errno(err, -rc, "entropy device");
    }
    *out = &e->dev;
    return 0;
}

void virtio_entropy_free(struct virtio_device *dev)
{
    if (!dev)
        return;
    struct entropy *e = container_of(dev, struct entropy, dev);
    virtio_reset(dev);
    loop_remove(&e->more);
    close_fd(&e->more.fd);
    virtio_finish(dev);
    free(e);
}
