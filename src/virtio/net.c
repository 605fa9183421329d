/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network device (virtio 1.2, section 5.1): its making, its thread, what a transport asks for.
 *
 * Theory of operation. One thread, that of the device's own loop, serves all queues; a kick or a reset
 * that comes from elsewhere leaves a note and wakes it. Each queue of the back end is a source of that
 * loop: readable, and the driver's buffers are filled (net_receive.c); writable, and what waits in the
 * driver's ring is sent (net_send.c). Where one side is slow, the other is not asked any more: a driver
 * without buffers makes us stop reading, and a back end without room leaves frames in the ring. So
 * nothing grows here, and what a sender cannot hold is the sender's to drop.
 *
 * Which pairs are in use is the driver's to say, on the control queue, where it has one. A front end of
 * vhost-user keeps that queue for itself, and starts the rings that are in use: then those count.
 *
 * Invariants
 *   - dev.lock guards everything here. It is held while the back end is called, which does not block.
 *   - Sources are touched in the loop's thread alone.
 *   - The sources of the first `attached` queues of the back end are in the loop, and no others, unless
 *     the back end is gone.
 *
 * Limits. No filters, VLANs, hashes or announcements (net_control.c). Over vhost-user the driver does
 * not learn that the cable was pulled.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "virtio/net_private.h"

static_assert(sizeof(struct net_header) == 12, "as in the specification");
static_assert(sizeof(struct virtio_net_config) == 12, "as in the specification");
static_assert(2 * NET_QUEUES_MAX + 1 <= 32, "a bit each in `noted`");

/* -- the back end's queues: in the loop's thread ----------------------------------------------- */

static unsigned wanted_queues(const struct virtio_net *n)
{
    const struct virtio_queue *queues = n->dev.queues;
    unsigned running = 0;
    if (!n->dev.active || !(n->dev.features & VIRTIO_NET_F_MQ))
        return 1;
    if (ring_running(&queues[virtio_net_control_queue(n)].ring))
        return n->pairs;
    while (running < n->net->queues && ring_running(&queues[2 * running].ring))
        running++;
    return MAX(running, 1);
}

/* Use as many of them as the driver does. */
static void attach(struct virtio_net *n)
{
    unsigned wanted = n->gone ? 0 : wanted_queues(n);
    if (wanted == n->attached)
        return;
    for (unsigned i = wanted; i < n->attached; i++)
        loop_remove(&n->pairs_all[i].source);
    if (n->net->ops->set_queues && !n->gone)
        n->net->ops->set_queues(n->net, wanted);
    for (unsigned i = n->attached; i < wanted; i++) {
        struct virtio_net_pair *p = &n->pairs_all[i];
        p->source.events = 0;
        p->blocked = false;
        if (loop_add(n->dev.loop, &p->source) < 0)
            log_limited(n->dev.log, &n->dev.limit, LOG_WARN, "network: queue %u cannot be watched", i);
        virtio_net_note(n, virtio_net_rx(p));
    }
    n->attached = wanted;
}

/* Wait for what there is to wait for. */
static void watch(struct virtio_net *n)
{
    bool serves = n->dev.active && !n->dev.needs_reset;
    for (unsigned i = 0; i < n->attached; i++) {
        struct virtio_net_pair *p = &n->pairs_all[i];
        bool reads = serves && !p->starved && ring_running(&n->dev.queues[virtio_net_rx(p)].ring);
        if (p->source.loop)
            loop_modify(&p->source, (reads ? EPOLLIN : 0u) | (p->blocked ? EPOLLOUT : 0u));
    }
}

/* What was noted, and then the back end as it should be. */
static void serve_noted(struct virtio_net *n)
{
    attach(n);
    uint32_t noted = n->noted;
    n->noted = 0;
    if (n->dev.active && noted & UINT32_C(1) << virtio_net_control_queue(n)) {
        noted &= ~(UINT32_C(1) << virtio_net_control_queue(n));
        virtio_net_control(n);
        attach(n);
    }
    if (!n->offloads_set && n->net->ops->set_offloads && !n->gone)
        n->net->ops->set_offloads(n->net, n->offloads);
    n->offloads_set = true;
    for (unsigned i = 0; i < n->net->queues; i++) {
        struct virtio_net_pair *p = &n->pairs_all[i];
        if (noted & UINT32_C(1) << virtio_net_rx(p) && i < n->attached)
            virtio_net_receive(p);
        if (noted & UINT32_C(1) << virtio_net_tx(p))
            virtio_net_send(p);
    }
    attach(n); /* it may be gone now */
    watch(n);
}

static void back_end_ready(struct loop_source *source, uint32_t events)
{
    struct virtio_net_pair *p = container_of(source, struct virtio_net_pair, source);
    struct virtio_net *n = p->owner;
    pthread_mutex_lock(&n->dev.lock);
    if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN))
        virtio_net_end(n, EPIPE);
    if (events & EPOLLOUT) {
        p->blocked = false;
        virtio_net_send(p);
    }
    if (events & EPOLLIN)
        virtio_net_receive(p);
    attach(n);
    watch(n);
    pthread_mutex_unlock(&n->dev.lock);
}

static void woken(struct loop_source *source, uint32_t events)
{
    struct virtio_net *n = container_of(source, struct virtio_net, wake);
    eventfd_t count;
    eventfd_read(source->fd, &count);
    pthread_mutex_lock(&n->dev.lock);
    serve_noted(n);
    pthread_mutex_unlock(&n->dev.lock);
}

void virtio_net_note(struct virtio_net *n, unsigned queue)
{
    n->noted |= UINT32_C(1) << queue;
    eventfd_write(n->wake.fd, 1);
}

/* -- the cable --------------------------------------------------------------------------------- */

static void set_link(struct virtio_net *n, bool up)
{
    if (n->up == up)
        return;
    n->up = up;
    n->config.status = htole16(up ? VIRTIO_NET_S_LINK_UP : 0);
    if (n->dev.features & VIRTIO_NET_F_STATUS)
        virtio_config_changed(&n->dev);
}

void virtio_net_end(struct virtio_net *n, int error)
{
    if (n->gone)
        return;
    log_line(n->dev.log, LOG_INFO, "network: the other end has gone (%s)", strerrordesc_np(error));
    n->gone = true;
    for (unsigned i = 0; i < n->net->queues; i++)
        if (n->pairs_all[i].blocked) {
            n->pairs_all[i].blocked = false;
            virtio_net_note(n, virtio_net_tx(&n->pairs_all[i]));
        }
    set_link(n, false);
}

void virtio_net_set_link(struct virtio_device *dev, bool up)
{
    struct virtio_net *n = virtio_net_of(dev);
    pthread_mutex_lock(&dev->lock);
    set_link(n, up && !n->gone);
    pthread_mutex_unlock(&dev->lock);
}

/* -- what the transport asks for --------------------------------------------------------------- */

static void activate(struct virtio_device *dev)
{
    struct virtio_net *n = virtio_net_of(dev);
    n->offloads = virtio_net_guest_offloads(dev->features);
    n->offloads_set = false;
}

static void kick(struct virtio_device *dev, unsigned queue)
{
    struct virtio_net *n = virtio_net_of(dev);
    if (!loop_is_mine(dev->loop)) {
        virtio_net_note(n, queue);
        return;
    }
    n->noted |= UINT32_C(1) << queue;
    serve_noted(n);
}

static void drain(struct virtio_device *dev, unsigned queue)
{
    struct virtio_net *n = virtio_net_of(dev);
    for (unsigned i = 0; i < n->net->queues; i++)
        if (virtio_net_rx(&n->pairs_all[i]) == queue)
            virtio_net_unstock(&n->pairs_all[i]);
}

/* The loop sees to its sources, and to the back end, when it comes to it. */
static void reset(struct virtio_device *dev)
{
    struct virtio_net *n = virtio_net_of(dev);
    for (unsigned i = 0; i < n->net->queues; i++) {
        virtio_net_unstock(&n->pairs_all[i]);
        n->pairs_all[i].starved = false;
    }
    n->noted = 0;
    n->pairs = 1;
    n->offloads = 0;
    n->offloads_set = false;
    eventfd_write(n->wake.fd, 1);
}

static const struct virtio_ops net_ops = {
    .name = "network",
    .id = VIRTIO_ID_NET,
    .front_end_config = true,
    .activate = activate,
    .kick = kick,
    .reset = reset,
    .drain = drain,
};

void virtio_net_count(struct virtio_device *dev, struct virtio_net_counters *out)
{
    pthread_mutex_lock(&dev->lock);
    *out = virtio_net_of(dev)->counters;
    pthread_mutex_unlock(&dev->lock);
}

/* -- making ------------------------------------------------------------------------------------ */

static uint64_t features_of(const struct net *net)
{
    uint64_t features = VIRTIO_NET_F_MTU | VIRTIO_NET_F_MAC | VIRTIO_NET_F_MRG_RXBUF |
                        VIRTIO_NET_F_STATUS | VIRTIO_NET_F_CTRL_VQ | VIRTIO_NET_F_CTRL_RX |
                        VIRTIO_NET_F_CTRL_MAC_ADDR;
    if (net->queues > 1)
        features |= VIRTIO_NET_F_MQ;
    if (net->offloads & NET_OFFLOAD_CSUM)
        features |= VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_CTRL_GUEST_OFFLOADS;
    if (net->offloads & NET_OFFLOAD_TSO4)
        features |= VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_HOST_TSO4;
    if (net->offloads & NET_OFFLOAD_TSO6)
        features |= VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_HOST_TSO6;
    if (net->offloads & NET_OFFLOAD_ECN)
        features |= VIRTIO_NET_F_GUEST_ECN | VIRTIO_NET_F_HOST_ECN;
    if (net->offloads & NET_OFFLOAD_USO)
        features |= VIRTIO_NET_F_GUEST_USO4 | VIRTIO_NET_F_GUEST_USO6 | VIRTIO_NET_F_HOST_USO;
    return features;
}

struct setup {
    struct virtio_net *n;
    int result;
    struct dayfly_err *err;
};

static int lock_up(struct virtio_net *n, const struct virtio_net_options *options,
                   struct dayfly_err *err)
{
    const struct isolate_calls *const calls[] = {&n->net->ops->calls, options->carrier_calls, NULL};
    struct isolate_options isolate = {0};
    if (!isolate_add_calls(&isolate, calls))
        return err_set(err, E2BIG, "too many lists of system calls");
    return loop_lock_up(n->own_loop, options->jail, "network", &isolate, err);
}

/* In the loop's thread, as the next. */
static void enter(void *arg)
{
    struct setup *setup = arg;
    struct virtio_net *n = setup->n;
    setup->result = loop_add(n->dev.loop, &n->wake);
    if (setup->result < 0) {
        err_errno(setup->err, -setup->result, "network device");
        return;
    }
    pthread_mutex_lock(&n->dev.lock);
    attach(n);
    pthread_mutex_unlock(&n->dev.lock);
}

static void leave(void *arg)
{
    struct virtio_net *n = arg;
    loop_remove(&n->wake);
    for (unsigned i = 0; i < n->net->queues; i++)
        loop_remove(&n->pairs_all[i].source);
}

static int prepare(struct virtio_net *n, const struct virtio_net_options *options,
                   const struct log *log)
{
    struct net *net = n->net;
    memcpy(n->config.mac, options->mac, MAC_BYTES);
    n->config.status = htole16(VIRTIO_NET_S_LINK_UP);
    n->config.max_virtqueue_pairs = htole16((uint16_t)net->queues);
    n->config.mtu = htole16(net->mtu);
    n->up = true;
    n->pairs = 1;
    n->wake = (struct loop_source){.fd = -1, .events = EPOLLIN, .ready = woken};
    virtio_init(&n->dev, &(struct virtio_init){.ops = &net_ops,
                                               .features = features_of(net),
                                               .queue_count = 2 * net->queues + 1,
                                               .queue_size = NET_QUEUE_SIZE,
                                               .config = &n->config,
                                               .config_bytes = sizeof(n->config),
                                               .log = log});
    for (unsigned i = 0; i < net->queues; i++) {
        struct virtio_net_pair *p = &n->pairs_all[i];
        p->owner = n;
        p->index = i;
        p->source = (struct loop_source){.fd = net->fds[i], .ready = back_end_ready};
        if (!(p->spill = malloc(NET_HEADER_BYTES + NET_FRAME_MAX)))
            return -ENOMEM;
    }
    return 0;
}

static int start(struct virtio_net *n, const struct virtio_net_options *options, struct dayfly_err *err)
{
    struct setup setup = {.n = n, .err = err};
    int r = options->loop ? 0 : loop_new(&n->own_loop);
    n->dev.loop = n->own_loop ? n->own_loop : options->loop;
    if (r == 0 && (n->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        r = -errno;
    if (r == 0 && n->own_loop)
        r = loop_start(n->own_loop, "dayfly net");
    if (r < 0)
        return err_errno(err, -r, "network device");
    if (n->own_loop && (r = lock_up(n, options, err)) < 0)
        return r;
    loop_call(n->dev.loop, enter, &setup);
    return setup.result;
}

int virtio_net_new(struct virtio_device **out, struct net *net,
                   const struct virtio_net_options *options, const struct log *log,
                   struct dayfly_err *err)
{
    struct virtio_net *n = calloc(1, sizeof(*n));
    if (!n) {
        net_destroy(net);
        return err_set(err, ENOMEM, "network device: out of memory");
    }
    n->net = net;
    int r = prepare(n, options, log);
    r = r < 0 ? err_errno(err, -r, "network device") : start(n, options, err);
    if (r < 0) {
        virtio_net_free(&n->dev);
        return r;
    }
    *out = &n->dev;
    return 0;
}

void virtio_net_free(struct virtio_device *dev)
{
    if (!dev)
        return;
    struct virtio_net *n = virtio_net_of(dev);
    virtio_reset(dev);
    if (dev->loop)
        loop_call(dev->loop, leave, n);
    loop_free(n->own_loop);
    close_fd(&n->wake.fd);
    for (unsigned i = 0; i < NET_QUEUES_MAX; i++)
        free(n->pairs_all[i].spill);
    net_destroy(n->net);
    virtio_finish(dev);
    free(n);
}
