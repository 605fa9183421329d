/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user back end for one device (contract in vhost_user.h).
 *
 * Rings. The front end names a ring's place piece by piece (NUM, BASE, ADDR) and starts it with KICK;
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
 *
 * Invariants
 *   - mem is replaced only while no ring is live (a live ring holds addresses in it).
 *   - The lock of the device is held wherever call_fd, err_fd or backend_fd changes: the device's
 *     interrupts come from under it.
 *   - A handler that fails has said why in vu->err; the connection is then closed, and nothing of vu is
 *     touched after the `closed` callback, which may have freed it.
 */
#include "transport/vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "transport/vhost_user_wire.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

/* How many messages are handled before other sources of the loop get their turn. */
#define MESSAGES_A_ROUND 32

struct vring {
    struct vhost_user *vu;
    struct loop_source kick; /* fd -1 while the ring is not started */
    int call_fd, err_fd;     /* -1: the front end polls */
    struct vhost_user_vring_addr addr;
    uint16_t num, base; /* base: the available index to begin with */
    bool enabled, live;

    /* What ran last on this device, to recognise a ring that continues. */
    bool ran;
    struct vhost_user_vring_addr last_addr;
    uint16_t last_num, last_base;
};

struct vhost_user {
    struct virtio_device *dev;
    struct loop_source source; /* the connection, or the listening socket */
    char *path;                /* of the listening socket, until someone has come */
    struct vhost_user_inbox inbox;
    struct vhost_user_message reply; /* header.size_bytes 0: the request has no answer of its own */
    struct dayfly_err err;
    vhost_user_closed *closed;
    void *opaque;

    uint64_t features;          /* acknowledged, with VHOST_USER_F_PROTOCOL_FEATURES */
    uint64_t protocol_features; /* acknowledged */
    uint8_t status;
    int backend_fd; /* our requests to the front end; -1: none */
    struct memory mem;
    struct vhost_user_mem_table table; /* where mem's regions are in the front end */
    struct vring rings[VIRTIO_QUEUES_MAX];
};

/* -- the device speaks: interrupts ------------------------------------------------------------ */

/*
 * O_NONBLOCK of an eventfd does not help: it is the open file's, which the front end shares and may
 * change. A write can only wait while the counter is full, and then there is nothing to be said. (What
 * remains is a front end that fills it between the two calls: it stops its own device, until it ends.)
 */
static void signal_fd(int fd)
{
    const uint64_t one = 1;
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    if (fd < 0 || poll(&room, 1, 0) != 1 || !(room.revents & POLLOUT))
        return;
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void interrupt(void *opaque, unsigned queue)
{
    struct vhost_user *vu = opaque;
    signal_fd(vu->rings[queue].call_fd);
}

static bool has_config(const struct vhost_user *vu)
{
    return vu->dev->config_bytes > 0 && !vu->dev->ops->front_end_config;
}

static void config_changed(void *opaque)
{
    struct vhost_user *vu = opaque;
    if (vu->dev->needs_reset)
        for (unsigned i = 0; i < vu->dev->queue_count; i++)
            signal_fd(vu->rings[i].err_fd);
    if (vu->backend_fd < 0 || !has_config(vu))
        return;
    struct vhost_user_message note = {
        .header = {.request = VHOST_USER_BACKEND_CONFIG_CHANGE, .flags = VHOST_USER_VERSION}};
    if (vhost_user_send(vu->backend_fd, &note, NULL, 0) < 0)
        log_limited(vu->dev->log, &vu->dev->limit, LOG_WARN,
                    "%s: the vhost-user front end does not take requests", vu->dev->ops->name);
}

static const struct virtio_carrier carrier = {
    .interrupt = interrupt,
    .config_changed = config_changed,
};

/* -- rings ------------------------------------------------------------------------------------ */

static bool negotiated(const struct vhost_user *vu)
{
    return (vu->features & VHOST_USER_F_PROTOCOL_FEATURES) != 0;
}

static bool should_live(const struct vhost_user *vu, const struct vring *ring)
{
    return ring->kick.fd >= 0 && (ring->enabled || !negotiated(vu));
}

/* Stop serving a ring; it can go on from base. */
static void ring_pause(struct vring *ring)
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

static void pause_all(struct vhost_user *vu)
{
    for (unsigned i = 0; i < vu->dev->queue_count; i++)
        ring_pause(&vu->rings[i]);
}

static void forget_kick(struct vring *ring)
{
    loop_remove(&ring->kick);
    close_fd(&ring->kick.fd);
}

/* No driver any more: the device as new, no ring started or enabled. Memory stays. */
static void reset_device(struct vhost_user *vu)
{
    struct virtio_device *dev = vu->dev;
    pause_all(vu);
    virtio_reset(dev);
    pthread_mutex_lock(&dev->lock);
    for (unsigned i = 0; i < dev->queue_count; i++) {
        struct vring *ring = &vu->rings[i];
        forget_kick(ring);
        close_fd(&ring->call_fd);
        close_fd(&ring->err_fd);
        *ring = (struct vring){.vu = vu, .kick.fd = -1, .call_fd = -1, .err_fd = -1};
    }
    pthread_mutex_unlock(&dev->lock);
    vu->features = 0;
    vu->status = 0;
}

/* A new driver came without a word: reset the device, keep what the driver has set up so far. */
static void forget_driver(struct vhost_user *vu)
{
    pause_all(vu);
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

/* Make live what should be. */
static int run_rings(struct vhost_user *vu)
{
    struct virtio_device *dev = vu->dev;
    bool any = false;

    for (unsigned i = 0; i < dev->queue_count; i++) {
        struct vring *ring = &vu->rings[i];
        if (ring->live || !should_live(vu, ring))
            continue;
        any = true;
        if (dev->active && (virtio_needs_reset(dev) || (ring->ran && !continues(ring))))
            forget_driver(vu);
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
    /* Not to wait is said here, and not left to the file's flags: see signal_fd. */
    if (preadv2(source->fd, &iov, 1, -1, RWF_NOWAIT) < 0 && errno != EAGAIN && errno != EINTR)
        loop_remove(source); /* no eventfd, and readable for ever */
    else if (ring->live)
        virtio_kick(ring->vu->dev, (unsigned)(ring - ring->vu->rings));
}

/* -- requests --------------------------------------------------------------------------------- */

static int reply_u64(struct vhost_user *vu, uint64_t value)
{
    vu->reply.header.size_bytes = sizeof(value);
    vu->reply.payload.u64 = value;
    return 0;
}

static int get_features(struct vhost_user *vu)
{
    return reply_u64(vu, vu->dev->offered | VHOST_USER_F_PROTOCOL_FEATURES);
}

static int set_features(struct vhost_user *vu)
{
    uint64_t features = vu->inbox.message.payload.u64;
    struct virtio_device *dev = vu->dev;
    if (features == vu->features)
        return 0;
    for (unsigned i = 0; i < dev->queue_count; i++)
        if (vu->rings[i].live)
            return err_set(&vu->err, EPROTO, "features change while ring %u runs", i);
    if (dev->active)
        forget_driver(vu);
    if (!virtio_set_features(dev, features & ~VHOST_USER_F_PROTOCOL_FEATURES))
        return err_set(&vu->err, EPROTO, "features %#llx of %#llx are not acceptable",
                       (unsigned long long)features, (unsigned long long)dev->offered);
    vu->features = features;
    return 0;
}

static uint64_t offered_protocol_features(const struct vhost_user *vu)
{
    /* QEMU complains of CONFIG from a device whose configuration it does not read. */
    return VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_REPLY_ACK |
           VHOST_USER_PROTOCOL_F_BACKEND_REQ | VHOST_USER_PROTOCOL_F_RESET_DEVICE |
           VHOST_USER_PROTOCOL_F_STATUS | (has_config(vu) ? VHOST_USER_PROTOCOL_F_CONFIG : 0);
}

static int get_protocol_features(struct vhost_user *vu)
{
    return reply_u64(vu, offered_protocol_features(vu));
}

static int set_protocol_features(struct vhost_user *vu)
{
    uint64_t features = vu->inbox.message.payload.u64;
    if (features & ~offered_protocol_features(vu))
        return err_set(&vu->err, EPROTO, "protocol features %#llx were not offered",
                       (unsigned long long)features);
    vu->protocol_features = features;
    return 0;
}

static int set_owner(struct vhost_user *vu)
{
    return 0;
}

static int reset_request(struct vhost_user *vu)
{
    reset_device(vu);
    return 0;
}

static int get_queue_num(struct vhost_user *vu)
{
    return reply_u64(vu, vu->dev->queue_count);
}

/* A region as the front end says, checked as far as the message goes. */
static int check_region(struct vhost_user *vu, const struct vhost_user_mem_table *table, uint32_t index)
{
    const struct vhost_user_region *r = &table->regions[index];
    uint64_t end;
    if (add_overflows(r->uva, r->size_bytes, &end))
        return err_set(&vu->err, EPROTO, "memory region %u wraps around the address space", index);
    for (uint32_t i = 0; i < index; i++) {
        const struct vhost_user_region *other = &table->regions[i];
        if (r->uva < other->uva + other->size_bytes && other->uva < end)
            return err_set(&vu->err, EPROTO, "memory regions %u and %u overlap", i, index);
    }
    int seals = fcntl(vu->inbox.fds[index], F_GET_SEALS);
    if (seals < 0 || !(seals & F_SEAL_SHRINK))
        return err_set(&vu->err, EPROTO,
                       "memory region %u is no memfd sealed against shrinking (QEMU: use "
                       "memory-backend-memfd,share=on)",
                       index);
    /* Huge pages come out of a pool of the host's, and can be given back to it by the front end: where
     * it is empty an access is SIGBUS, here. */
    struct statfs fs;
    if (fstatfs(vu->inbox.fds[index], &fs) < 0 || fs.f_type == HUGETLBFS_MAGIC)
        return err_set(&vu->err, EPROTO, "memory region %u is of hugetlb pages", index);
    return 0;
}

static int set_mem_table(struct vhost_user *vu)
{
    const struct vhost_user_message *m = &vu->inbox.message;
    struct vhost_user_mem_table table = m->payload.mem;
    struct memory mem = {0};

    if (table.count == 0 || table.count > VHOST_USER_REGIONS_MAX ||
        m->header.size_bytes < offsetof(struct vhost_user_mem_table, regions[table.count]) ||
        vu->inbox.fd_count != table.count)
        return err_set(&vu->err, EPROTO, "memory table of %u regions with %u descriptors", table.count,
                       vu->inbox.fd_count);
    for (uint32_t i = 0; i < table.count; i++) {
        const struct vhost_user_region *r = &table.regions[i];
        int error = check_region(vu, &table, i);
        if (error == 0)
            error = memory_add_fd(&mem, r->gpa, r->size_bytes, steal_fd(&vu->inbox.fds[i]),
                                  r->mmap_offset, &vu->err);
        if (error < 0) {
            memory_finish(&mem);
            return error;
        }
    }
    pause_all(vu);
    memory_finish(&vu->mem);
    vu->mem = mem;
    vu->table = table;
    return run_rings(vu);
}

/* The ring that a request names, or NULL with the error set. Not live, when `still` is asked for: a
 * live ring's place cannot be changed. */
static struct vring *named_ring(struct vhost_user *vu, uint32_t index, bool still)
{
    if (index >= vu->dev->queue_count) {
        err_set(&vu->err, EPROTO, "ring %u of %u", index, vu->dev->queue_count);
        return NULL;
    }
    if (still && vu->rings[index].live) {
        err_set(&vu->err, EPROTO, "ring %u is changed while it runs", index);
        return NULL;
    }
    return &vu->rings[index];
}

static int set_vring_num(struct vhost_user *vu)
{
    struct vhost_user_vring_state state = vu->inbox.message.payload.state;
    struct vring *ring = named_ring(vu, state.index, true);
    if (!ring)
        return -EPROTO;
    if (state.num == 0 || state.num > vu->dev->queues[state.index].size_max ||
        (state.num & (state.num - 1)) != 0)
        return err_set(&vu->err, EPROTO, "ring %u of %u entries", state.index, state.num);
    ring->num = (uint16_t)state.num;
    return 0;
}

static int set_vring_addr(struct vhost_user *vu)
{
    struct vhost_user_vring_addr addr = vu->inbox.message.payload.addr;
    struct vring *ring = named_ring(vu, addr.index, false);
    if (!ring)
        return -EPROTO;
    if (addr.flags != 0)
        return err_set(&vu->err, EPROTO, "ring %u asks for dirty logging", addr.index);
    addr.log_gpa = 0;
    if (!named_ring(vu, addr.index, memcmp(&addr, &ring->addr, sizeof(addr)) != 0))
        return -EPROTO;
    ring->addr = addr;
    return 0;
}

static int set_vring_base(struct vhost_user *vu)
{
    struct vhost_user_vring_state state = vu->inbox.message.payload.state;
    struct vring *ring = named_ring(vu, state.index, true);
    if (!ring)
        return -EPROTO;
    if (state.num > UINT16_MAX)
        return err_set(&vu->err, EPROTO, "ring %u begins at %u", state.index, state.num);
    ring->base = (uint16_t)state.num;
    return 0;
}

static int get_vring_base(struct vhost_user *vu)
{
    struct vhost_user_vring_state state = vu->inbox.message.payload.state;
    struct vring *ring = named_ring(vu, state.index, false);
    if (!ring)
        return -EPROTO;
    ring_pause(ring);
    forget_kick(ring);
    vu->reply.header.size_bytes = sizeof(state);
    vu->reply.payload.state = (struct vhost_user_vring_state){state.index, ring->base};
    return 0;
}

/*
 * The descriptor of KICK, CALL or ERR into *fd: -1 where the message says that there is none. Only an
 * anonymous inode is taken, which is what an eventfd is: a file or pipe could block us, and a pipe's
 * reader could raise SIGPIPE.
 */
static struct vring *vring_fd(struct vhost_user *vu, int *fd)
{
    uint64_t value = vu->inbox.message.payload.u64;
    bool none = (value & VHOST_USER_VRING_NOFD) != 0;
    struct vring *ring = named_ring(vu, value & VHOST_USER_VRING_INDEX_MASK, false);
    struct stat st;
    *fd = -1;
    if (!ring)
        return NULL;
    if ((value & ~(uint64_t)(VHOST_USER_VRING_INDEX_MASK | VHOST_USER_VRING_NOFD)) ||
        vu->inbox.fd_count != (none ? 0 : 1)) {
        err_set(&vu->err, EPROTO, "ring descriptor message %#llx with %u descriptors",
                (unsigned long long)value, vu->inbox.fd_count);
        return NULL;
    }
    if (none)
        return ring;
    int got = vu->inbox.fds[0], flags = fcntl(got, F_GETFL);
    if (fstat(got, &st) < 0 || (st.st_mode & S_IFMT) != 0 || flags < 0 ||
        fcntl(got, F_SETFL, flags | O_NONBLOCK) < 0) {
        err_set(&vu->err, EPROTO, "a ring's descriptor is no eventfd");
        return NULL;
    }
    *fd = steal_fd(&vu->inbox.fds[0]);
    return ring;
}

static int set_vring_kick(struct vhost_user *vu)
{
    int fd;
    struct vring *ring = vring_fd(vu, &fd);
    if (!ring)
        return -EPROTO;
    if (fd < 0)
        return err_set(&vu->err, EPROTO, "polled rings are not supported");
    forget_kick(ring);
    ring->kick = (struct loop_source){.fd = fd, .events = EPOLLIN, .ready = kicked};
    int r = loop_add(vu->dev->loop, &ring->kick);
    if (r < 0)
        return err_errno(&vu->err, -r, "watch a ring's eventfd");
    return run_rings(vu);
}

static int set_vring_call(struct vhost_user *vu)
{
    int fd;
    struct vring *ring = vring_fd(vu, &fd);
    if (!ring)
        return -EPROTO;
    pthread_mutex_lock(&vu->dev->lock);
    close_fd(&ring->call_fd);
    ring->call_fd = fd;
    /* The front end exchanges eventfds to mask and unmask. It does not wait for us to follow, so a
     * signal may have gone to the old one after it looked there for the last time. */
    if (ring->live)
        signal_fd(fd);
    pthread_mutex_unlock(&vu->dev->lock);
    return 0;
}

static int set_vring_err(struct vhost_user *vu)
{
    int fd;
    struct vring *ring = vring_fd(vu, &fd);
    if (!ring)
        return -EPROTO;
    pthread_mutex_lock(&vu->dev->lock);
    close_fd(&ring->err_fd);
    ring->err_fd = fd;
    pthread_mutex_unlock(&vu->dev->lock);
    return 0;
}

static int set_vring_enable(struct vhost_user *vu)
{
    struct vhost_user_vring_state state = vu->inbox.message.payload.state;
    struct vring *ring = named_ring(vu, state.index, false);
    if (!ring)
        return -EPROTO;
    if (state.num > 1)
        return err_set(&vu->err, EPROTO, "ring %u: enable %u", state.index, state.num);
    ring->enabled = state.num == 1;
    if (!should_live(vu, ring))
        ring_pause(ring);
    return run_rings(vu);
}

static int set_backend_req_fd(struct vhost_user *vu)
{
    struct stat st;
    if (fstat(vu->inbox.fds[0], &st) < 0 || !S_ISSOCK(st.st_mode) ||
        fcntl(vu->inbox.fds[0], F_SETFL, O_NONBLOCK) < 0)
        return err_set(&vu->err, EPROTO, "the back end's channel is no socket");
    pthread_mutex_lock(&vu->dev->lock);
    close_fd(&vu->backend_fd);
    vu->backend_fd = steal_fd(&vu->inbox.fds[0]);
    pthread_mutex_unlock(&vu->dev->lock);
    return 0;
}

/* The configuration message's own header, when its sizes agree with each other and the limit. */
static int config_request(struct vhost_user *vu, struct vhost_user_config *config)
{
    const struct vhost_user_message *m = &vu->inbox.message;
    *config = m->payload.config;
    if (m->header.size_bytes < VHOST_USER_CONFIG_HEADER_BYTES ||
        m->header.size_bytes - VHOST_USER_CONFIG_HEADER_BYTES != config->size_bytes ||
        !range_within(config->offset, config->size_bytes, VHOST_USER_CONFIG_BYTES_MAX))
        return err_set(&vu->err, EPROTO, "configuration of %u bytes at %u", config->size_bytes,
                       config->offset);
    return 0;
}

static int get_config(struct vhost_user *vu)
{
    struct vhost_user_config config;
    int r = config_request(vu, &config);
    if (r < 0)
        return r;
    virtio_config_read(vu->dev, config.offset, config.bytes, config.size_bytes);
    vu->reply.header.size_bytes = VHOST_USER_CONFIG_HEADER_BYTES + config.size_bytes;
    vu->reply.payload.config = config;
    return 0;
}

static int set_config(struct vhost_user *vu)
{
    struct vhost_user_config config;
    int r = config_request(vu, &config);
    if (r == 0)
        virtio_config_write(vu->dev, config.offset, config.bytes, config.size_bytes);
    return r;
}

static int set_status(struct vhost_user *vu)
{
    uint64_t status = vu->inbox.message.payload.u64;
    if (status > UINT8_MAX)
        return err_set(&vu->err, EPROTO, "device status %#llx", (unsigned long long)status);
    vu->status = (uint8_t)status;
    if (status == 0)
        pause_all(vu);
    return 0;
}

static int get_status(struct vhost_user *vu)
{
    bool needs_reset = vu->status != 0 && virtio_needs_reset(vu->dev);
    return reply_u64(vu, vu->status | (needs_reset ? VIRTIO_STATUS_NEEDS_RESET : 0));
}

/* One row for each request that is known: what it must bring, and who handles it. */
static const struct request {
    const char *name;
    uint32_t bytes_min, bytes_max; /* of the payload */
    unsigned fds_max;              /* what is there besides is closed unused */
    uint64_t needs;                /* a protocol feature */
    int (*handle)(struct vhost_user *vu);
} requests[VHOST_USER_REQUEST_MAX + 1] = {
/* clang-format off */
#define NO_BYTES    0, 0
#define U64         sizeof(uint64_t), sizeof(uint64_t)
#define VRING_STATE sizeof(struct vhost_user_vring_state), sizeof(struct vhost_user_vring_state)
#define VRING_ADDR  sizeof(struct vhost_user_vring_addr), sizeof(struct vhost_user_vring_addr)
#define MEM_TABLE   8, sizeof(struct vhost_user_mem_table)
#define CONFIG      VHOST_USER_CONFIG_HEADER_BYTES, sizeof(struct vhost_user_config)
    [VHOST_USER_GET_FEATURES] = {"GET_FEATURES", NO_BYTES, 0, 0, get_features},
    [VHOST_USER_SET_FEATURES] = {"SET_FEATURES", U64, 0, 0, set_features},
    [VHOST_USER_SET_OWNER] = {"SET_OWNER", NO_BYTES, 0, 0, set_owner},
    [VHOST_USER_RESET_OWNER] = {"RESET_OWNER", NO_BYTES, 0, 0, reset_request},
    [VHOST_USER_SET_MEM_TABLE] = {"SET_MEM_TABLE", MEM_TABLE, VHOST_USER_REGIONS_MAX, 0, set_mem_table},
    [VHOST_USER_SET_VRING_NUM] = {"SET_VRING_NUM", VRING_STATE, 0, 0, set_vring_num},
    [VHOST_USER_SET_VRING_ADDR] = {"SET_VRING_ADDR", VRING_ADDR, 0, 0, set_vring_addr},
    [VHOST_USER_SET_VRING_BASE] = {"SET_VRING_BASE", VRING_STATE, 0, 0, set_vring_base},
    [VHOST_USER_GET_VRING_BASE] = {"GET_VRING_BASE", VRING_STATE, 0, 0, get_vring_base},
    [VHOST_USER_SET_VRING_KICK] = {"SET_VRING_KICK", U64, 1, 0, set_vring_kick},
    [VHOST_USER_SET_VRING_CALL] = {"SET_VRING_CALL", U64, 1, 0, set_vring_call},
    [VHOST_USER_SET_VRING_ERR] = {"SET_VRING_ERR", U64, 1, 0, set_vring_err},
    [VHOST_USER_GET_PROTOCOL_FEATURES] = {"GET_PROTOCOL_FEATURES", NO_BYTES, 0, 0,
                                          get_protocol_features},
    [VHOST_USER_SET_PROTOCOL_FEATURES] = {"SET_PROTOCOL_FEATURES", U64, 0, 0, set_protocol_features},
    [VHOST_USER_GET_QUEUE_NUM] = {"GET_QUEUE_NUM", NO_BYTES, 0, VHOST_USER_PROTOCOL_F_MQ,
                                  get_queue_num},
    [VHOST_USER_SET_VRING_ENABLE] = {"SET_VRING_ENABLE", VRING_STATE, 0, 0, set_vring_enable},
    [VHOST_USER_SET_BACKEND_REQ_FD] = {"SET_BACKEND_REQ_FD", NO_BYTES, 1,
                                       VHOST_USER_PROTOCOL_F_BACKEND_REQ, set_backend_req_fd},
    [VHOST_USER_GET_CONFIG] = {"GET_CONFIG", CONFIG, 0, VHOST_USER_PROTOCOL_F_CONFIG, get_config},
    [VHOST_USER_SET_CONFIG] = {"SET_CONFIG", CONFIG, 0, VHOST_USER_PROTOCOL_F_CONFIG, set_config},
    [VHOST_USER_RESET_DEVICE] = {"RESET_DEVICE", NO_BYTES, 0, VHOST_USER_PROTOCOL_F_RESET_DEVICE,
                                 reset_request},
    [VHOST_USER_SET_STATUS] = {"SET_STATUS", U64, 0, VHOST_USER_PROTOCOL_F_STATUS, set_status},
    [VHOST_USER_GET_STATUS] = {"GET_STATUS", NO_BYTES, 0, VHOST_USER_PROTOCOL_F_STATUS, get_status},
    /* clang-format on */
};

/* Check the request in the inbox against its row, and handle it. */
static int handle(struct vhost_user *vu)
{
    const struct vhost_user_header *h = &vu->inbox.message.header;
    const struct request *row = h->request < ARRAY_SIZE(requests) ? &requests[h->request] : NULL;
    if (!row || !row->handle)
        return err_set(&vu->err, EPROTO, "vhost-user request %u is not known", h->request);
    if (h->size_bytes < row->bytes_min || h->size_bytes > row->bytes_max ||
        (h->flags & VHOST_USER_REPLY))
        return err_set(&vu->err, EPROTO, "vhost-user %s of %u bytes, flags %#x", row->name,
                       h->size_bytes, h->flags);
    if (vu->inbox.fd_count > row->fds_max)
        return err_set(&vu->err, EPROTO, "vhost-user %s with %u descriptors", row->name,
                       vu->inbox.fd_count);
    if (row->needs & ~vu->protocol_features)
        return err_set(&vu->err, EPROTO, "vhost-user %s was not negotiated", row->name);
    if (h->request == VHOST_USER_SET_BACKEND_REQ_FD && vu->inbox.fd_count != 1)
        return err_set(&vu->err, EPROTO, "vhost-user %s without a descriptor", row->name);
    int r = row->handle(vu);
    return r < 0 ? err_wrap(&vu->err, "vhost-user %s", row->name) : 0;
}

/* Send the request's own answer, or the acknowledgement it asks for. */
static int answer(struct vhost_user *vu, int result)
{
    const struct vhost_user_header *h = &vu->inbox.message.header;
    bool wanted =
        (h->flags & VHOST_USER_NEED_REPLY) && (vu->protocol_features & VHOST_USER_PROTOCOL_F_REPLY_ACK);
    if (result < 0)
        vu->reply.header.size_bytes = 0;
    if (vu->reply.header.size_bytes == 0) {
        if (!wanted)
            return 0;
        reply_u64(vu, result < 0);
    }
    vu->reply.header.request = h->request;
    vu->reply.header.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
    int r = vhost_user_send(vu->source.fd, &vu->reply, NULL, 0);
    return r < 0 ? err_errno(&vu->err, -r, "answer the vhost-user front end") : 0;
}

/* -- the connection --------------------------------------------------------------------------- */

/* Let go of the front end: safe on half-built state, and safe to call twice. */
static void hang_up(struct vhost_user *vu)
{
    loop_remove(&vu->source);
    close_fd(&vu->source.fd);
    vhost_user_inbox_clear(&vu->inbox);
    reset_device(vu);
    pthread_mutex_lock(&vu->dev->lock);
    close_fd(&vu->backend_fd);
    pthread_mutex_unlock(&vu->dev->lock);
    memory_finish(&vu->mem);
    vu->table = (struct vhost_user_mem_table){0};
    vu->protocol_features = 0;
    if (vu->path)
        unlink(vu->path);
    free(steal_ptr(&vu->path));
}

static void closed(struct vhost_user *vu)
{
    struct dayfly_err why = vu->err;
    log_line(vu->dev->log, why.code == ECONNRESET ? LOG_DEBUG : LOG_WARN, "%s: %s", vu->dev->ops->name,
             why.msg);
    hang_up(vu);
    if (vu->closed)
        vu->closed(vu->opaque, &why);
}

static void readable(struct loop_source *source, uint32_t events)
{
    struct vhost_user *vu = container_of(source, struct vhost_user, source);
    for (unsigned i = 0; i < MESSAGES_A_ROUND; i++) {
        int r = vhost_user_receive(source->fd, &vu->inbox, &vu->err);
        if (r == 0)
            return;
        if (r > 0) {
            vu->reply.header.size_bytes = 0;
            r = handle(vu);
            int sent = answer(vu, r);
            r = r < 0 ? r : sent;
        }
        if (r < 0) {
            closed(vu);
            return;
        }
        vhost_user_inbox_clear(&vu->inbox);
    }
}

static void arrived(struct loop_source *source, uint32_t events)
{
    struct vhost_user *vu = container_of(source, struct vhost_user, source);
    int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return; /* gone again: wait for the next */
    loop_remove(source);
    close_fd(&source->fd);
    unlink(vu->path);
    free(steal_ptr(&vu->path));
    *source = (struct loop_source){.fd = fd, .events = EPOLLIN, .ready = readable};
    int r = loop_add(vu->dev->loop, source);
    if (r < 0) {
        err_errno(&vu->err, -r, "watch a vhost-user connection");
        closed(vu);
    }
}

struct setup {
    struct vhost_user *vu;
    int result;
};

static void watch(void *arg)
{
    struct setup *setup = arg;
    setup->result = loop_add(setup->vu->dev->loop, &setup->vu->source);
}

/* Takes fd and path. */
static int create(struct vhost_user **out, struct virtio_device *dev, int fd, char *path,
                  void (*ready)(struct loop_source *, uint32_t), vhost_user_closed *on_closed,
                  void *opaque, struct dayfly_err *err)
{
    struct vhost_user *vu = calloc(1, sizeof(*vu));
    int flags = fcntl(fd, F_GETFL);
    if (!vu || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        int code = vu ? errno : ENOMEM;
        free(vu);
        free(path);
        close_fd(&fd);
        return err_errno(err, code, "set up a vhost-user socket");
    }
    vu->dev = dev;
    vu->path = path;
    vu->closed = on_closed;
    vu->opaque = opaque;
    vu->backend_fd = -1;
    vu->source = (struct loop_source){.fd = fd, .events = EPOLLIN, .ready = ready};
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        vu->rings[i] = (struct vring){.vu = vu, .kick.fd = -1, .call_fd = -1, .err_fd = -1};
    virtio_carry(dev, &carrier, vu);

    struct setup setup = {.vu = vu};
    int r = loop_call(dev->loop, watch, &setup);
    if (r == 0)
        r = setup.result;
    if (r < 0) {
        vhost_user_free(vu);
        return err_errno(err, -r, "watch a vhost-user socket");
    }
    *out = vu;
    return 0;
}

int vhost_user_new(struct vhost_user **out, struct virtio_device *dev, int fd,
                   vhost_user_closed *on_closed, void *opaque, struct dayfly_err *err)
{
    return create(out, dev, fd, NULL, readable, on_closed, opaque, err);
}

/*
 * No process has the socket behind that file any more. Asked with a socket of another type, which a
 * living one refuses without noticing: a connection would be a front end to it.
 */
static bool is_abandoned(const struct sockaddr_un *address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct stat st;
    return fd >= 0 && lstat(address->sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
           connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 && errno == ECONNREFUSED;
}

int vhost_user_bind(const char *path, struct dayfly_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return err_set(err, ENAMETOOLONG, "socket %s: longer than the %zu bytes a path may have", path,
                       sizeof(address.sun_path) - 1);
    strcpy(address.sun_path, path);
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* fchmod before bind gives the file its mode: there is no moment when others may connect. */
    if (fd < 0 || fchmod(fd, 0600) < 0)
        return err_errno(err, errno, "socket %s", path);
    int r = bind(fd, (struct sockaddr *)&address, sizeof(address));
    if (r < 0 && errno == EADDRINUSE) {
        if (!is_abandoned(&address))
            return err_set(err, EADDRINUSE,
                           "socket %s: there is such a file, and it is in use or no socket: choose "
                           "another path, or remove it",
                           path);
        unlink(path);
        r = bind(fd, (struct sockaddr *)&address, sizeof(address));
    }
    if (r < 0)
        return err_errno(err, errno, "socket %s", path);
    if (listen(fd, 1) < 0) {
        err_errno(err, errno, "socket %s", path);
        unlink(path);
        return -EIO;
    }
    return steal_fd(&fd);
}

int vhost_user_listen(struct vhost_user **out, struct virtio_device *dev, const char *path,
                      vhost_user_closed *on_closed, void *opaque, struct dayfly_err *err)
{
    int fd = vhost_user_bind(path, err);
    if (fd < 0)
        return fd;
    char *copy = strdup(path);
    if (!copy) {
        close_fd(&fd);
        unlink(path);
        return err_set(err, ENOMEM, "socket %s: out of memory", path);
    }
    return create(out, dev, fd, copy, arrived, on_closed, opaque, err);
}

static void hang_up_call(void *arg)
{
    hang_up(arg);
}

void vhost_user_free(struct vhost_user *vu)
{
    if (!vu)
        return;
    loop_call(vu->dev->loop, hang_up_call, vu);
    virtio_carry(vu->dev, NULL, NULL);
    free(vu);
}

/* Guest memory is a file that is mapped; everything else comes and goes through the socket. */
static const struct isolate_call calls[] = {
    ISOLATE_CALL(recvmsg),
    ISOLATE_CALL(sendmsg),
    ISOLATE_CALL(poll),
    ISOLATE_CALL(fstatfs),
};

const struct isolate_calls vhost_user_calls = ISOLATE_CALLS(calls);
