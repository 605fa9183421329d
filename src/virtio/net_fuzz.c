/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz the network device. The input is a program for both sides: frames of the driver with headers
 * near what is sensible and sometimes raw, chains of any shape, receive buffers of any size, commands,
 * resets with other features; and messages of the host. The back end is a toy with two queues, headers
 * and all offloads, or without any of that. No transport; the loop runs in this thread.
 *
 * Checked besides the sanitizers' findings: every frame that the back end is given keeps the promises
 * of net/net.h, and no buffer comes back with more than it holds.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/iov.h"
#include "util/testing_input.h"
#include "virtio/driver.h"
#include "virtio/net_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OPS_MAX   600
#define RAM_GPA   UINT64_C(0x10000)
#define RAM_BYTES UINT64_C(0x200000)
#define RINGS     5
#define RING_SIZE 64
#define SLOT      4096 /* bytes of guest memory for each descriptor */

static uint32_t u16(struct input *in)
{
    uint32_t high = u8(in);
    return high << 8 | u8(in);
}

struct run {
    struct input in;
    struct loop *loop;
    struct memory mem;
    struct driver_arena arena;
    struct driver_ring rings[RINGS];
    uint64_t slots[RINGS];
    struct virtio_device *dev;
    struct net net;
    size_t waiting[64]; /* messages of the host: their lengths */
    unsigned waiting_count;
    unsigned full; /* how often the back end has no room yet */
};

static const uint8_t zeroes[NET_HEADER_BYTES + NET_FRAME_MAX + 4096];

/* -- the back end ------------------------------------------------------------------------------ */

static void check(bool promise)
{
    if (!promise)
        abort();
}

static int toy_receive(struct net *net, unsigned queue, struct net_frame *frames, unsigned max)
{
    struct run *r = container_of(net, struct run, net);
    unsigned n = 0;
    check(queue < net->queues && max > 0);
    for (; n < max && n < r->waiting_count; n++) {
        check(frames[n].count <= IOV_MAX &&
              iov_bytes(frames[n].iov, frames[n].count) == frames[n].bytes);
        iov_copy_in(frames[n].iov, frames[n].count, 0, zeroes, r->waiting[n]);
        frames[n].bytes = r->waiting[n];
    }
    r->waiting_count -= n;
    memmove(r->waiting, r->waiting + n, r->waiting_count * sizeof(*r->waiting));
    return (int)n;
}

static void check_sent(const struct net *net, const struct net_frame *frame)
{
    size_t skip = net->headers ? NET_HEADER_BYTES : 0;
    struct net_header h = {0};
    check(frame->count <= IOV_MAX && iov_bytes(frame->iov, frame->count) == frame->bytes);
    check(frame->bytes >= skip + NET_FRAME_MIN && frame->bytes <= skip + NET_FRAME_MAX);
    if (net->headers)
        iov_copy_out(frame->iov, frame->count, 0, &h, sizeof(h));
    check(!(h.flags & ~NET_HEADER_NEEDS_CSUM) && h.num_buffers == 0);
    check(!h.flags ||
          (size_t)le16toh(h.csum_start) + le16toh(h.csum_offset) + 2 <= frame->bytes - skip);
    check(!h.gso_type || (h.flags && h.gso_size));
}

static int toy_send(struct net *net, unsigned queue, const struct net_frame *frames, unsigned count)
{
    struct run *r = container_of(net, struct run, net);
    check(queue < net->queues && count > 0);
    for (unsigned i = 0; i < count; i++) {
        if (r->full > 0) {
            r->full--;
            return (int)i;
        }
        check_sent(net, &frames[i]);
    }
    return (int)count;
}

static void toy_set_queues(struct net *net, unsigned queues)
{
    check(queues >= 1 && queues <= net->queues);
}

static void toy_destroy(struct net *net)
{
    for (unsigned i = 0; i < net->queues; i++)
        close(net->fds[i]);
}

static const struct net_ops toy_ops = {
    .name = "toy",
    .receive = toy_receive,
    .send = toy_send,
    .set_queues = toy_set_queues,
    .destroy = toy_destroy,
};

/* -- the driver -------------------------------------------------------------------------------- */

static void start(struct run *r)
{
    uint8_t without = u8(&r->in);
    uint64_t features = r->dev->offered;
    if (without & 1)
        features &= ~VIRTIO_NET_F_MRG_RXBUF;
    if (without & 2)
        features &= ~(VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 | VIRTIO_NET_F_GUEST_USO4);
    if (without & 4)
        features &= ~VIRTIO_NET_F_MQ;
    if (without & 8)
        features &= ~VIRTIO_RING_F_EVENT_IDX;
    if (without & 16)
        features &= ~VIRTIO_NET_F_CSUM;
    r->arena = (struct driver_arena){&r->mem, RAM_GPA, RAM_GPA + RAM_BYTES};
    virtio_set_features(r->dev, features);
    for (unsigned i = 0; i < r->dev->queue_count; i++) {
        driver_ring_init(&r->rings[i], &r->arena, RING_SIZE, features);
        virtio_queue_start(r->dev, i, &r->mem, &r->rings[i].setup);
        r->slots[i] = driver_alloc(&r->arena, RING_SIZE * SLOT, 16);
    }
    virtio_activate(r->dev);
}

/* Queue buffers, each in the slot of the descriptor that it will have. */
static void add(struct run *r, unsigned queue, const struct driver_buf *bufs, unsigned count)
{
    if (driver_add(&r->rings[queue], bufs, count) >= 0 && driver_publish(&r->rings[queue]))
        virtio_kick(r->dev, queue);
}

static uint64_t slot_of(struct run *r, unsigned queue)
{
    return r->slots[queue] + (uint64_t)r->rings[queue].free_head % RING_SIZE * SLOT;
}

static void give_buffers(struct run *r, unsigned queue)
{
    uint32_t bytes = u8(&r->in) * 16u;
    struct driver_buf bufs[2] = {{slot_of(r, queue), MIN(bytes, 7u), true},
                                 {slot_of(r, queue) + 7, bytes > 7 ? bytes - 7 : 0, true}};
    for (unsigned i = 1 + u8(&r->in) % 16; i > 0; i--)
        add(r, queue, bufs, bytes > 7 ? 2 : 1);
}

static void send_frame(struct run *r, unsigned queue)
{
    uint8_t shape = u8(&r->in), kind = u8(&r->in);
    struct net_header h = {
        .flags = shape & 3,
        .gso_type = kind & 0x87,
        .hdr_len = htole16(kind),
        .gso_size = htole16(u8(&r->in)),
        .csum_start = htole16(u8(&r->in)),
        .csum_offset = htole16(kind % 32),
    };
    if (shape >> 4 == 1)
        ((uint8_t *)&h)[u8(&r->in) % sizeof(h)] = u8(&r->in);
    if (shape >> 4 == 2)
        h.csum_start = htole16((uint16_t)u16(&r->in));
    uint64_t gpa = slot_of(r, queue);
    memcpy(driver_hva(&r->arena, gpa, sizeof(h)), &h, sizeof(h));
    uint32_t bytes = u16(&r->in) % 2048;
    struct driver_buf bufs[20] = {{gpa, sizeof(h), false}};
    unsigned count = 1;
    for (unsigned pieces = 1 + (shape >> 4 == 3 ? u8(&r->in) % 19 : 0); pieces > 0; pieces--)
        bufs[count++] = (struct driver_buf){gpa, bytes, shape >> 4 == 4};
    if (shape >> 4 == 5)
        bufs[0].len = u8(&r->in);
    if (shape >> 4 == 6)
        count = 1;
    add(r, queue, bufs, count);
}

static void command(struct run *r)
{
    unsigned queue = virtio_net_control_queue(virtio_net_of(r->dev));
    uint64_t gpa = slot_of(r, queue);
    uint8_t *at = driver_hva(&r->arena, gpa, 16);
    uint8_t bytes = u8(&r->in) % 12;
    for (unsigned i = 0; i < 10; i++)
        at[i] = i < 2 ? u8(&r->in) % 6 : u8(&r->in);
    const struct driver_buf bufs[2] = {{gpa, bytes, false}, {gpa + 15, 1, true}};
    add(r, queue, bufs, 2);
}

static void take_used(struct run *r)
{
    uint16_t head;
    uint32_t written;
    for (unsigned queue = 0; queue < r->dev->queue_count; queue++) {
        bool receives = queue % 2 == 0 && queue != virtio_net_control_queue(virtio_net_of(r->dev));
        while (driver_used(&r->rings[queue], &head, &written))
            check(written <= SLOT && (receives || written <= 1));
    }
}

/* -- the host ---------------------------------------------------------------------------------- */

static void host_acts(struct run *r)
{
    uint8_t what = u8(&r->in);
    if (what < 16) {
        r->full = what;
        return;
    }
    if (what < 20) {
        virtio_net_set_link(r->dev, what & 1);
        return;
    }
    if (r->waiting_count == ARRAY_SIZE(r->waiting))
        return;
    size_t bytes = u16(&r->in);
    if (what < 160)
        bytes %= 2000;
    r->waiting[r->waiting_count++] = bytes + (r->net.headers ? NET_HEADER_BYTES : 0);
}

static void step(struct run *r)
{
    uint8_t op = u8(&r->in);
    unsigned pair = op & 1 && r->dev->queue_count == RINGS ? 2 : 0;
    if (op < 80)
        send_frame(r, pair + 1);
    else if (op < 130)
        give_buffers(r, pair);
    else if (op < 190)
        host_acts(r);
    else if (op < 210)
        command(r);
    else if (op < 240)
        take_used(r);
    else if (op < 250)
        virtio_queue_stop(r->dev, pair); /* as a front end of vhost-user may */
    else {
        virtio_reset(r->dev);
        start(r);
    }
    loop_run_once(r->loop, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct memory_layout layout = {RAM_GPA, RAM_BYTES};
    struct run r = {.in = {data, size}};
    struct virtio_net_options options = {.mac = {2}};
    struct dayfly_err err;
    bool plain = u8(&r.in) & 1;
    r.net = (struct net){.ops = &toy_ops, .queues = plain ? 1 : 2, .headers = !plain, .mtu = 1500};
    if (!plain)
        r.net.offloads =
            NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN | NET_OFFLOAD_USO;
    /* An eventfd is always writable, and readable as long as it is not read: as is a busy cable. */
    for (unsigned i = 0; i < r.net.queues; i++)
        r.net.fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop_new(&r.loop) < 0 || memory_create(&r.mem, &layout, 1, &err) < 0)
        abort();
    options.loop = r.loop;
    if (virtio_net_new(&r.dev, &r.net, &options, NULL, &err) < 0)
        abort();
    start(&r);
    for (unsigned i = 0; i < OPS_MAX && r.in.left > 0; i++)
        step(&r);
    virtio_net_free(r.dev);
    memory_finish(&r.mem);
    loop_free(r.loop);
    return 0;
}
