/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests of a vhost-user front end: one handler each, and one table that says what a request must
 * bring before its handler sees it. A handler that fails has said why in vu->err.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "transport/vhost_user_state.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

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
        vhost_user_forget_driver(vu);
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
           VHOST_USER_PROTOCOL_F_STATUS |
           (vhost_user_has_config(vu) ? VHOST_USER_PROTOCOL_F_CONFIG : 0);
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
    vhost_user_reset(vu);
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
    vhost_user_rings_pause(vu);
    memory_finish(&vu->mem);
    vu->mem = mem;
    vu->table = table;
    return vhost_user_rings_run(vu);
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
    vhost_user_ring_pause(ring);
    vhost_user_ring_unwatch(ring);
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
    return vhost_user_ring_watch(ring, fd);
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
        vhost_user_signal(fd);
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
    return vhost_user_ring_enable(ring, state.num == 1);
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
        vhost_user_rings_pause(vu);
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

int vhost_user_serve(struct vhost_user *vu)
{
    vu->reply.header.size_bytes = 0;
    int r = handle(vu);
    int sent = answer(vu, r);
    return r < 0 ? r : sent;
}
