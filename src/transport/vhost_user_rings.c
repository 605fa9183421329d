/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end names a ring's place piece by piece (NUM, BASE, ADDR) and starts it with KICK;
 * with protocol features it must also be enabled. A ring that is started and enabled is *live*: the
 * device serves it, and nothing about it can change but its eventfds. GET_VRING_BASE or disabling stops
 * it, after what is in flight has been completed. Addresses of rings are the front end's own virtual
 * ones and are translated, by the memory table, when the ring goes live.
 *
 * One driver or the next? The front end stops all rings both when the guest pauses and when its driver
 * resets the device, and QEMU 7.2 sends SET_STATUS 0 for either. To drop a guest's vsock connections
 * because it was paused would be wrong. So a stop, or status 0, leaves the device as it is, and the
 * next start decides: a ring that comes back exactly as it left (same place, same index) continues; one
 * that does not belongs to a new driver, and the device is reset first. RESET_DEVICE resets at once.
 *
 * DRIVER_OK is not waited for: QEMU 7.2 sends it only for some devices. The device is activated when
 * its first ring goes live.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "transport/vhost_user_state.h"
#include "util/cleanup.h"
#include "util/err.h"

static bool negotiated(const struct vhost_user *vu)
{
    return (vu->features & VHOST_USER_F_PROTOCOL_FEATURES) != 0;
}

static bool should_live(const struct vhost_user *vu, const struct vring *ring)
{
    return ring->kick.fd >= 0 && (ring->enabled || !negotiated(vu));
}

void vhost_user_ring_pause(struct vring *ring)
{
    struct vhost_user *vu = ring->vu;
    if (!ring->live)
        return;
    ring->live = false;
    ring->base = virtio_queue_stop(vu->dev, (unsigned)(ring - vu->rings));
    ring->ran = true;
    ring->last_addr = ring->addr;
    ring->last_num = ring->num;
    ring->last_base = ring->base;
}

void vhost_user_rings_pause(struct vhost_user *vu)
{
    for (unsigned i = 0; i < vu->dev->queue_count; i++)
        vhost_user_ring_pause(&vu->rings[i]);
}

void vhost_user_ring_unwatch(struct vring *ring)
{
    loop_remove(&ring->kick);
    close_fd(&ring->kick.fd);
}

void vhost_user_reset(struct vhost_user *vu)
{
    struct virtio_device *dev = vu->dev;
    vhost_user_rings_pause(vu);
    virtio_reset(dev);
    pthread_mutex_lock(&dev->lock);
    for (unsigned i = 0; i < dev->queue_count; i++) {
        struct vring *ring = &vu->rings[i];
        vhost_user_ring_unwatch(ring);
        close_fd(&ring->call_fd);
        close_fd(&ring->err_fd);
        *ring = (struct vring){.vu = vu, .kick.fd = -1, .call_fd = -1, .err_fd = -1};
    }
    pthread_mutex_unlock(&dev->lock);
    vu->features = 0;
    vu->status = 0;
}

void vhost_user_forget_driver(struct vhost_user *vu)
{
    vhost_user_rings_pause(vu);
    virtio_reset(vu->dev);
    for (unsigned i = 0; i < vu->dev->queue_count; i++)
        vu->rings[i].ran = false;
}

/* True when the ring was live under this driver and comes back as it left. */
static bool continues(const struct vring *ring)
{
    return ring->base == ring->last_base && ring->num == ring->last_num &&
           memcmp(&ring->addr, &ring->last_addr, sizeof(ring->addr)) == 0;
}

/* The guest-physical address of a front end's address, or UINT64_MAX, which is no ring's. */
static uint64_t to_gpa(const struct vhost_user *vu, uint64_t uva)
{
    for (uint32_t i = 0; i < vu->table.count; i++) {
        const struct vhost_user_region *r = &vu->table.regions[i];
        if (uva >= r->uva && uva - r->uva < r->size_bytes)
            return r->gpa + (uva - r->uva);
    }
    return UINT64_MAX;
}

static int ring_run(struct vring *ring)
{
    struct vhost_user *vu = ring->vu;
    unsigned index = (unsigned)(ring - vu->rings);
    struct ring_setup setup = {
        .size = ring->num,
        .desc_gpa = to_gpa(vu, ring->addr.desc_uva),
        .avail_gpa = to_gpa(vu, ring->addr.avail_uva),
        .used_gpa = to_gpa(vu, ring->addr.used_uva),
        .next_avail = ring->base,
    };
    /* Set before: what waits in the ring is served, and answered, from within the start. */
    ring->live = true;
    int r = virtio_queue_start(vu->dev, index, &vu->mem, &setup);
    if (r < 0) {
        ring->live = false;
        return err_set(&vu->err, EPROTO, "ring %u of %u entries does not lie in the memory table",
                       index, ring->num);
    }
    return 0;
}

int vhost_user_rings_run(struct vhost_user *vu)
{
    struct virtio_device *dev = vu->dev;
    bool any = false;

    for (unsigned i = 0; i < dev->queue_count; i++) {
        struct vring *ring = &vu->rings[i];
        if (ring->live || !should_live(vu, ring))
            continue;
        any = true;
        if (dev->active && (virtio_needs_reset(dev) || (ring->ran && !continues(ring))))
            vhost_user_forget_driver(vu);
    }
    if (!any)
        return 0;
    if (!dev->active && !virtio_set_features(dev, vu->features & ~VHOST_USER_F_PROTOCOL_FEATURES))
        return err_set(&vu->err, EPROTO, "rings start before features were agreed on");
    for (unsigned i = 0; i < dev->queue_count; i++) {
        struct vring *ring = &vu->rings[i];
        int r = ring->live || !should_live(vu, ring) ? 0 : ring_run(ring);
        if (r < 0)
            return r;
    }
    virtio_activate(dev);
    return 0;
}

static void kicked(struct loop_source *source, uint32_t events)
{
    struct vring *ring = container_of(source, struct vring, kick);
    uint64_t count;
    struct iovec iov = {&count, sizeof(count)};
    /* Not to wait is said here, and not left to the file's flags: see vhost_user_signal. */
    if (preadv2(source->fd, &iov, 1, -1, RWF_NOWAIT) < 0 && errno != EAGAIN && errno != EINTR)
        loop_remove(source); /* no eventfd, and readable for ever */
    else if (ring->live)
        virtio_kick(ring->vu->dev, (unsigned)(ring - ring->vu->rings));
}

int vhost_user_ring_watch(struct vring *ring, int fd)
{
    struct vhost_user *vu = ring->vu;
    vhost_user_ring_unwatch(ring);
    ring->kick = (struct loop_source){.fd = fd, .events = EPOLLIN, .ready = kicked};
    int r = loop_add(vu->dev->loop, &ring->kick);
    return r < 0 ? err_errno(&vu->err, -r, "watch a ring's eventfd") : vhost_user_rings_run(vu);
}

int vhost_user_ring_enable(struct vring *ring, bool on)
{
    ring->enabled = on;
    if (!should_live(ring->vu, ring))
        vhost_user_ring_pause(ring);
    return vhost_user_rings_run(ring->vu);
}
