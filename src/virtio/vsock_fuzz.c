/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz the vsock device. The input is a program for both sides: packets of the guest with fields near
 * what is sensible and sometimes raw, receive buffers, resets; and what the host's programs do with
 * their sockets. No transport; the loop runs in this thread.
 *
 * Checked besides the sanitizers' findings: every packet for the guest fits its buffer and is addressed
 * rightly.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing_input.h"
#include "virtio/driver.h"
#include "virtio/vsock.h"
#include "virtio/vsock_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OPS_MAX   600
#define RAM_GPA   UINT64_C(0x10000)
#define RAM_BYTES UINT64_C(0x80000)
#define CID       3
#define SOCKETS   8
#define BUF_BYTES 600

static uint32_t u32(struct input *in)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v = v << 8 | u8(in);
    return v;
}

struct run {
    struct input in;
    struct loop *loop;
    struct memory mem;
    struct driver_arena arena;
    struct driver_ring rings[3];
    uint64_t buffers; /* receive buffers, one for each descriptor */
    uint64_t packets;
    struct virtio_device *dev;
    int sockets[SOCKETS];
    uint32_t connect_port; /* the last port that the host connected from */
};

static void keep_socket(struct run *r, int fd)
{
    for (unsigned i = 0; i < SOCKETS; i++)
        if (r->sockets[i] < 0) {
            r->sockets[i] = fd;
            return;
        }
    close(fd);
}

static void accepted(void *opaque, int fd, uint32_t guest_port)
{
    keep_socket(opaque, fd);
}

static void start(struct run *r)
{
    const uint64_t features = VIRTIO_F_VERSION_1 | VIRTIO_RING_F_EVENT_IDX;
    r->arena = (struct driver_arena){&r->mem, RAM_GPA, RAM_GPA + RAM_BYTES};
    virtio_set_features(r->dev, features);
    for (unsigned i = 0; i < 3; i++) {
        driver_ring_init(&r->rings[i], &r->arena, 64, features);
        virtio_queue_start(r->dev, i, &r->mem, &r->rings[i].setup);
    }
    r->buffers = driver_alloc(&r->arena, 64 * BUF_BYTES, 16);
    r->packets = driver_alloc(&r->arena, 64 * 4096, 16);
    virtio_activate(r->dev);
}

static void give_buffer(struct run *r)
{
    uint16_t slot = r->rings[VSOCK_RX].free_head;
    struct driver_buf buf = {r->buffers + (uint64_t)slot % 64 * BUF_BYTES, BUF_BYTES, true};
    if (u8(&r->in) == 0)
        buf.len = u8(&r->in);
    if (buf.len > 0 && driver_add(&r->rings[VSOCK_RX], &buf, 1) >= 0 &&
        driver_publish(&r->rings[VSOCK_RX]))
        virtio_kick(r->dev, VSOCK_RX);
}

static void send_packet(struct run *r)
{
    static const uint32_t ports[] = {1024, 1025, 1026, 7};
    uint8_t shape = u8(&r->in), op = u8(&r->in), which = u8(&r->in);
    uint32_t len = op % 9 == VSOCK_OP_RW ? u8(&r->in) * 16u : 0;
    struct vsock_header h = {
        .src_cid = htole64(CID),
        .dst_cid = htole64(VSOCK_HOST_CID),
        .src_port = htole32(which % 4),
        .dst_port = htole32(which & 64 ? r->connect_port : ports[which / 4 % 4]),
        .len = htole32(len),
        .type = htole16(VSOCK_TYPE_STREAM),
        .op = htole16(op % 9),
        .flags = htole32(shape & 3),
        .buf_alloc = htole32(u8(&r->in) * 64u),
        .fwd_cnt = htole32(u8(&r->in) * 4u),
    };
    if (shape >> 2 == 1)
        h.len = htole32(u32(&r->in));
    if (shape >> 2 == 2)
        h.fwd_cnt = htole32(u32(&r->in));
    if (shape >> 2 == 3)
        h.buf_alloc = htole32(u32(&r->in));
    if (shape >> 2 == 4)
        ((uint8_t *)&h)[u8(&r->in) % sizeof(h)] = u8(&r->in);
    uint64_t gpa = r->packets + (uint64_t)r->rings[VSOCK_TX].free_head % 64 * 4096;
    memcpy(driver_hva(&r->arena, gpa, sizeof(h)), &h, sizeof(h));
    struct driver_buf bufs[2] = {{gpa, sizeof(h), false}, {gpa, MIN(len, 4000u), false}};
    if (shape >> 2 == 5)
        bufs[0].len = 1 + u8(&r->in) % 60;
    if (driver_add(&r->rings[VSOCK_TX], bufs, len > 0 ? 2 : 1) >= 0 &&
        driver_publish(&r->rings[VSOCK_TX]))
        virtio_kick(r->dev, VSOCK_TX);
}

static void take_used(struct run *r)
{
    uint16_t head;
    uint32_t written;
    while (driver_used(&r->rings[VSOCK_TX], &head, &written))
        if (written != 0)
            abort();
    while (driver_used(&r->rings[VSOCK_RX], &head, &written)) {
        struct vsock_header h;
        if (written == 0)
            continue; /* a buffer that was too small */
        if (written > BUF_BYTES || head >= 64)
            abort();
        memcpy(&h, driver_hva(&r->arena, r->buffers + (uint64_t)head * BUF_BYTES, sizeof(h)),
               sizeof(h));
        if (le64toh(h.src_cid) != VSOCK_HOST_CID || le64toh(h.dst_cid) != CID ||
            written != VSOCK_HEADER_BYTES + le32toh(h.len))
            abort();
        if (le16toh(h.op) == VSOCK_OP_REQUEST)
            r->connect_port = le32toh(h.src_port);
    }
}

static void host_acts(struct run *r)
{
    static uint8_t bytes[4096];
    uint8_t what = u8(&r->in);
    int *fd = &r->sockets[what / 8 % SOCKETS];
    if (*fd < 0) {
        int got = virtio_vsock_connect(r->dev, what % 4);
        if (got >= 0)
            keep_socket(r, got);
        return;
    }
    switch (what % 8) {
    case 0:
        close_fd(fd);
        break;
    case 1:
        shutdown(*fd, SHUT_WR);
        break;
    case 2:
        shutdown(*fd, SHUT_RD);
        break;
    case 3:
    case 4:
        send(*fd, bytes, u8(&r->in) * 16u, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    default:
        while (recv(*fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
        break;
    }
}

static void step(struct run *r)
{
    uint8_t op = u8(&r->in);
    if (op < 100)
        send_packet(r);
    else if (op < 150)
        give_buffer(r);
    else if (op < 220)
        host_acts(r);
    else if (op < 252)
        take_used(r);
    else {
        virtio_reset(r->dev);
        start(r);
    }
    loop_run_once(r->loop, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct virtio_vsock_options options = {.guest_cid = CID};
    const struct memory_layout layout = {RAM_GPA, RAM_BYTES};
    struct run r = {.in = {data, size}};
    struct dayfly_err err;
    for (unsigned i = 0; i < SOCKETS; i++)
        r.sockets[i] = -1;
    if (loop_new(&r.loop) < 0 || memory_create(&r.mem, &layout, 1, &err) < 0 ||
        virtio_vsock_new(&r.dev, &options, r.loop, NULL, &err) < 0)
        abort();
    virtio_vsock_listen(r.dev, 1024, accepted, &r);
    virtio_vsock_listen(r.dev, 1025, accepted, &r);
    start(&r);
    for (unsigned i = 0; i < OPS_MAX && r.in.left > 0; i++)
        step(&r);
    for (unsigned i = 0; i < SOCKETS; i++)
        close_fd(&r.sockets[i]);
    loop_run_once(r.loop, 0);
    virtio_vsock_free(r.dev);
    memory_finish(&r.mem);
    loop_free(r.loop);
    return 0;
}
