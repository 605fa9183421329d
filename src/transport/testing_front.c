/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/testing_front.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#include "util/cleanup.h"

#define ANSWER_MS 20000

void front_init(struct vhost_user_front *front)
{
    *front = (struct vhost_user_front){.fd = -1};
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        front->rings[i].kick = front->rings[i].call = front->rings[i].err = -1;
}

void front_close(struct vhost_user_front *front)
{
    close_fd(&front->fd);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
        close_fd(&front->rings[i].kick);
        close_fd(&front->rings[i].call);
        close_fd(&front->rings[i].err);
    }
}

static int wait_reply(struct vhost_user_front *front, uint32_t request,
                      struct vhost_user_message *reply)
{
    struct vhost_user_inbox inbox = {0};
    int r;
    while ((r = vhost_user_receive(front->fd, &inbox, NULL)) == 0) {
        struct pollfd wait = {.fd = front->fd, .events = POLLIN};
        if (poll(&wait, 1, ANSWER_MS) == 0)
            return -ETIMEDOUT;
    }
    if (r > 0 && (inbox.message.header.request != request ||
                  inbox.message.header.flags != (VHOST_USER_VERSION | VHOST_USER_REPLY)))
        r = -EPROTO;
    *reply = inbox.message;
    vhost_user_inbox_clear(&inbox);
    return r < 0 ? r : 0;
}

int front_request(struct vhost_user_front *front, uint32_t request, const void *payload, uint32_t bytes,
                  const int *fds, unsigned fd_count, struct vhost_user_message *reply)
{
    bool ack = !reply && (front->protocol_features & VHOST_USER_PROTOCOL_F_REPLY_ACK);
    struct vhost_user_message message = {
        .header = {request, VHOST_USER_VERSION | (ack ? VHOST_USER_NEED_REPLY : 0), bytes}};
    if (bytes > 0)
        memcpy(&message.payload, payload, bytes);
    int r = vhost_user_send(front->fd, &message, fds, fd_count);
    if (r == -EPIPE)
        return -ECONNRESET;
    if (r < 0)
        return r;
    if (!ack && !reply)
        return 0;
    struct vhost_user_message answer;
    r = wait_reply(front, request, &answer);
    if (r < 0)
        return r;
    if (reply)
        *reply = answer;
    return !reply && answer.payload.u64 != 0 ? -EINVAL : 0;
}

int front_u64(struct vhost_user_front *front, uint32_t request, uint64_t value)
{
    return front_request(front, request, &value, sizeof(value), NULL, 0, NULL);
}

int front_get_u64(struct vhost_user_front *front, uint32_t request, uint64_t *value)
{
    struct vhost_user_message reply;
    int r = front_request(front, request, NULL, 0, NULL, 0, &reply);
    *value = r < 0 ? 0 : reply.payload.u64;
    return r;
}

int front_vring(struct vhost_user_front *front, uint32_t request, uint32_t index, uint32_t num)
{
    struct vhost_user_vring_state state = {index, num};
    return front_request(front, request, &state, sizeof(state), NULL, 0, NULL);
}

int front_connect(struct vhost_user_front *front, int fd, uint64_t without)
{
    uint64_t protocol = 0, queues = 0;
    front->fd = fd;
    front->protocol_features = 0;
    int r = front_get_u64(front, VHOST_USER_GET_FEATURES, &front->offered);
    if (r == 0)
        r = front_get_u64(front, VHOST_USER_GET_PROTOCOL_FEATURES, &protocol);
    if (r == 0)
        r = front_u64(front, VHOST_USER_SET_PROTOCOL_FEATURES, protocol & ~without);
    if (r < 0)
        return r;
    front->protocol_features = protocol & ~without;
    r = front_request(front, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0, NULL);
    if (r == 0)
        r = front_get_u64(front, VHOST_USER_GET_QUEUE_NUM, &queues);
    front->queue_count = (unsigned)queues;
    return r;
}

int front_set_memory(struct vhost_user_front *front, const struct memory *mem)
{
    struct vhost_user_mem_table table = {.count = mem->count};
    int fds[VHOST_USER_REGIONS_MAX];
    if (mem->count > VHOST_USER_REGIONS_MAX)
        return -EINVAL;
    for (unsigned i = 0; i < mem->count; i++) {
        const struct memory_region *r = &mem->regions[i];
        table.regions[i] = (struct vhost_user_region){.gpa = r->gpa,
                                                      .size_bytes = r->size_bytes,
                                                      .uva = (uintptr_t)r->hva,
                                                      .mmap_offset = r->fd_offset};
        fds[i] = r->fd;
    }
    return front_request(front, VHOST_USER_SET_MEM_TABLE, &table, 8 + 32 * mem->count, fds, mem->count,
                         NULL);
}

/* A ring's address as the front end sees it; one outside RAM stays outside. */
static uint64_t to_uva(const struct memory *mem, uint64_t gpa)
{
    uint8_t *hva;
    return memory_contiguous(mem, gpa, &hva) ? (uintptr_t)hva : gpa;
}

static int send_eventfd(struct vhost_user_front *front, uint32_t request, unsigned index, int *fd)
{
    uint64_t number = index;
    close_fd(fd);
    *fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return *fd < 0 ? -errno : front_request(front, request, &number, sizeof(number), fd, 1, NULL);
}

int front_start_ring(struct vhost_user_front *front, unsigned index, const struct memory *mem,
                     const struct ring_setup *setup)
{
    struct vhost_user_vring_addr addr = {
        .index = index,
        .desc_uva = to_uva(mem, setup->desc_gpa),
        .used_uva = to_uva(mem, setup->used_gpa),
        .avail_uva = to_uva(mem, setup->avail_gpa),
    };
    int r = front_vring(front, VHOST_USER_SET_VRING_NUM, index, setup->size);
    if (r == 0)
        r = front_vring(front, VHOST_USER_SET_VRING_BASE, index, setup->next_avail);
    if (r == 0)
        r = front_request(front, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0, NULL);
    if (r == 0)
        r = send_eventfd(front, VHOST_USER_SET_VRING_KICK, index, &front->rings[index].kick);
    if (r == 0)
        r = send_eventfd(front, VHOST_USER_SET_VRING_CALL, index, &front->rings[index].call);
    if (r == 0)
        r = send_eventfd(front, VHOST_USER_SET_VRING_ERR, index, &front->rings[index].err);
    return r;
}

int front_stop_ring(struct vhost_user_front *front, unsigned index, uint16_t *base)
{
    struct vhost_user_vring_state state = {index, 0};
    struct vhost_user_message reply;
    int r = front_request(front, VHOST_USER_GET_VRING_BASE, &state, sizeof(state), NULL, 0, &reply);
    *base = r < 0 ? 0 : (uint16_t)reply.payload.state.num;
    return r;
}

void front_kick(struct vhost_user_front *front, unsigned index)
{
    if (front->rings[index].kick >= 0)
        eventfd_write(front->rings[index].kick, 1);
}

bool front_wait(int fd, int timeout_ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    eventfd_t count;
    return fd >= 0 && poll(&wait, 1, timeout_ms) == 1 && eventfd_read(fd, &count) == 0;
}
