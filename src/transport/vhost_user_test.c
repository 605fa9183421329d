/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vhost-user back end against its protocol: what it makes of wrong messages, of pauses and of new
 * drivers. How devices fare over it is the contract suite's matter.
 *
 * The device is one of our own, which returns every chain and counts what happens to it. The loop runs
 * in a thread; each case ends with the connection's close, which it waits for.
 */
#include "transport/vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/testing_front.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"
#include "virtio/driver.h"

#define RAM_GPA   UINT64_C(0x100000)
#define RAM_BYTES UINT64_C(0x100000)
#define WAIT_MS   20000

struct bench {
    struct loop *loop;
    struct virtio_device dev;
    uint8_t config[8];
    unsigned served, activations, resets; /* under dev.lock */
    struct vhost_user *back;
    struct vhost_user_front front;
    struct memory mem;
    struct driver_arena arena;
    struct driver_ring ring;
    int closed; /* an eventfd: the callback ran */
    struct dayfly_err why;
};

/* -- the device ------------------------------------------------------------------------------- */

static struct bench *bench_of(struct virtio_device *dev)
{
    return container_of(dev, struct bench, dev);
}

static void dev_activate(struct virtio_device *dev)
{
    bench_of(dev)->activations++;
}

static void dev_reset(struct virtio_device *dev)
{
    if (dev->features != 0)
        bench_of(dev)->resets++;
}

static void dev_kick(struct virtio_device *dev, unsigned queue)
{
    struct iovec iov[8];
    struct ring_chain chain;
    struct ring *ring = &dev->queues[queue].ring;
    do {
        while (virtio_pop(dev, queue, &chain, iov, 8)) {
            bench_of(dev)->served++;
            ring_push(ring, chain.head, 0);
        }
    } while (ring_kicks_on(ring));
    virtio_interrupt(dev, queue);
}

static void dev_config_written(struct virtio_device *dev, size_t offset, size_t len)
{
    virtio_config_changed(dev);
}

static const struct virtio_ops dev_ops = {
    .name = "counter",
    .id = VIRTIO_ID_ENTROPY,
    .activate = dev_activate,
    .reset = dev_reset,
    .kick = dev_kick,
    .config_written = dev_config_written,
};

/* -- the bench -------------------------------------------------------------------------------- */

static void on_closed(void *opaque, const struct dayfly_err *why)
{
    struct bench *b = opaque;
    b->why = *why;
    eventfd_write(b->closed, 1);
}

static int set_up(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));
    const struct memory_layout layout = {RAM_GPA, RAM_BYTES};
    struct dayfly_err err;
    int pair[2];
    assert_non_null(b);
    *state = b;
    assert_int_equal(loop_new(&b->loop), 0);
    virtio_init(&b->dev, &(struct virtio_init){.ops = &dev_ops,
                                               .queue_count = 2,
                                               .queue_size = 64,
                                               .config = b->config,
                                               .config_bytes = sizeof(b->config),
                                               .loop = b->loop});
    b->closed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(memory_create(&b->mem, &layout, 1, &err), 0);
    b->arena = (struct driver_arena){&b->mem, RAM_GPA, RAM_GPA + RAM_BYTES};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(vhost_user_new(&b->back, &b->dev, pair[1], on_closed, b, &err), 0);
    assert_int_equal(loop_start(b->loop, "device"), 0);
    front_init(&b->front);
    assert_int_equal(front_connect(&b->front, pair[0], 0), 0);
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    vhost_user_free(b->back);
    loop_stop(b->loop);
    front_close(&b->front);
    loop_free(b->loop);
    virtio_finish(&b->dev);
    memory_finish(&b->mem);
    close(b->closed);
    free(b);
    return 0;
}

static int agree(struct bench *b)
{
    return front_u64(&b->front, VHOST_USER_SET_FEATURES,
                     VIRTIO_F_VERSION_1 | VHOST_USER_F_PROTOCOL_FEATURES);
}

/* Features, memory, a fresh ring 0, enabled. */
static void run(struct bench *b)
{
    assert_int_equal(agree(b), 0);
    assert_int_equal(front_set_memory(&b->front, &b->mem), 0);
    driver_ring_init(&b->ring, &b->arena, 16, VIRTIO_F_VERSION_1);
    assert_int_equal(front_start_ring(&b->front, 0, &b->mem, &b->ring.setup), 0);
    assert_int_equal(front_vring(&b->front, VHOST_USER_SET_VRING_ENABLE, 0, 1), 0);
}

static void assert_serves(struct bench *b)
{
    const struct driver_buf buf = {driver_alloc(&b->arena, 16, 16), 16, false};
    uint16_t head;
    uint32_t written;
    assert_true(driver_add(&b->ring, &buf, 1) >= 0);
    driver_publish(&b->ring);
    front_kick(&b->front, 0);
    while (!driver_used(&b->ring, &head, &written))
        assert_true(front_wait(b->front.rings[0].call, WAIT_MS));
}

/* What a message that breaks the protocol must bring about. */
static void assert_thrown_out(struct bench *b)
{
    assert_true(front_wait(b->closed, WAIT_MS));
    assert_true(b->why.code == EPROTO || b->why.code == EINVAL || b->why.code == EEXIST);
    assert_false(b->dev.active);
    for (unsigned i = 0; i < b->dev.queue_count; i++)
        assert_false(ring_running(&b->dev.queues[i].ring));
}

/* Any bytes, as they are. */
static void send_raw(struct bench *b, const struct vhost_user_message *m, const int *fds,
                     unsigned count)
{
    assert_int_equal(vhost_user_send(b->front.fd, m, fds, count), 0);
}

static void count(struct bench *b, unsigned *activations, unsigned *resets)
{
    pthread_mutex_lock(&b->dev.lock);
    *activations = b->activations;
    *resets = b->resets;
    pthread_mutex_unlock(&b->dev.lock);
}

/* -- cases ------------------------------------------------------------------------------------ */

static void serves_a_ring(void **state)
{
    struct bench *b = *state;
    run(b);
    for (int i = 0; i < 40; i++)
        assert_serves(b);
    assert_int_equal(b->front.queue_count, 2);
}

static void a_message_may_come_in_pieces(void **state)
{
    struct bench *b = *state;
    const struct vhost_user_message m = {
        .header = {VHOST_USER_SET_FEATURES, VHOST_USER_VERSION | VHOST_USER_NEED_REPLY, 8},
        .payload.u64 = VIRTIO_F_VERSION_1};
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(send(b->front.fd, (const char *)&m + i, 1, 0), 1);
    struct vhost_user_inbox inbox = {0};
    int r;
    while ((r = vhost_user_receive(b->front.fd, &inbox, NULL)) == 0) {
        struct pollfd wait = {.fd = b->front.fd, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
    }
    assert_int_equal(r, 1);
    assert_int_equal(inbox.message.payload.u64, 0);
}

static void wrong_headers(void **state)
{
    static const struct vhost_user_header wrong[] = {
        {VHOST_USER_GET_FEATURES, 0, 0},
        {VHOST_USER_GET_FEATURES, 2, 0},
        {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION | VHOST_USER_REPLY, 0},
        {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 8},
        {VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 4},
        {VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 16},
        {VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, UINT32_MAX},
        {VHOST_USER_SET_MEM_TABLE, VHOST_USER_VERSION, 4},
        {0, VHOST_USER_VERSION, 0},
        {6, VHOST_USER_VERSION, 16},
        {VHOST_USER_REQUEST_MAX + 1, VHOST_USER_VERSION, 0},
        {UINT32_MAX, VHOST_USER_VERSION, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct vhost_user_message m = {.header = wrong[i]};
        m.header.size_bytes = MIN(m.header.size_bytes, 16);
        struct bench *b = *state;
        run(b);
        if (wrong[i].size_bytes == m.header.size_bytes)
            send_raw(b, &m, NULL, 0);
        else
            assert_int_equal(send(b->front.fd, &wrong[i], sizeof(wrong[i]), 0), sizeof(wrong[i]));
        assert_thrown_out(b);
        tear_down(state);
        set_up(state);
    }
}

/* One request with a payload and descriptors, on a running device, and out. */
struct wrong_request {
    uint32_t request;
    uint32_t bytes;
    union {
        uint64_t u64;
        struct vhost_user_vring_state state;
        struct vhost_user_vring_addr addr;
        struct vhost_user_config config;
    } payload;
    unsigned fds; /* eventfds sent along */
};

static void wrong_requests(void **state)
{
    static const struct wrong_request wrong[] = {
        {VHOST_USER_SET_FEATURES, 8, {.u64 = VIRTIO_F_VERSION_1 | 1u << 9}, 0},
        {VHOST_USER_SET_FEATURES, 8, {.u64 = VIRTIO_F_VERSION_1}, 0}, /* while a ring runs */
        {VHOST_USER_SET_PROTOCOL_FEATURES, 8, {.u64 = 1u << 12}, 0},
        {VHOST_USER_SET_VRING_NUM, 8, {.state = {2, 16}}, 0},
        {VHOST_USER_SET_VRING_NUM, 8, {.state = {1, 0}}, 0},
        {VHOST_USER_SET_VRING_NUM, 8, {.state = {1, 48}}, 0},
        {VHOST_USER_SET_VRING_NUM, 8, {.state = {1, 128}}, 0},
        {VHOST_USER_SET_VRING_NUM, 8, {.state = {0, 16}}, 0}, /* runs */
        {VHOST_USER_SET_VRING_BASE, 8, {.state = {0, 0}}, 0},
        {VHOST_USER_SET_VRING_BASE, 8, {.state = {1, 0x10000}}, 0},
        {VHOST_USER_SET_VRING_ADDR, 40, {.addr = {.index = 0, .desc_uva = 0x1000}}, 0},
        {VHOST_USER_SET_VRING_ADDR, 40, {.addr = {.index = UINT32_MAX}}, 0},
        {VHOST_USER_SET_VRING_ADDR, 40, {.addr = {.index = 1, .flags = 1}}, 0},
        {VHOST_USER_SET_VRING_ENABLE, 8, {.state = {2, 1}}, 0},
        {VHOST_USER_SET_VRING_ENABLE, 8, {.state = {0, 2}}, 0},
        {VHOST_USER_GET_VRING_BASE, 8, {.state = {7, 0}}, 0},
        {VHOST_USER_SET_VRING_KICK, 8, {.u64 = 0}, 0},
        {VHOST_USER_SET_VRING_KICK, 8, {.u64 = VHOST_USER_VRING_NOFD}, 0},
        {VHOST_USER_SET_VRING_KICK, 8, {.u64 = 2}, 1},
        {VHOST_USER_SET_VRING_KICK, 8, {.u64 = 0x200}, 1},
        {VHOST_USER_SET_VRING_KICK, 8, {.u64 = 0}, 2},
        {VHOST_USER_SET_VRING_CALL, 8, {.u64 = VHOST_USER_VRING_NOFD}, 1},
        {VHOST_USER_SET_VRING_CALL, 8, {.u64 = 1}, 0},
        {VHOST_USER_SET_BACKEND_REQ_FD, 0, {.u64 = 0}, 0},
        {VHOST_USER_SET_BACKEND_REQ_FD, 0, {.u64 = 0}, 1}, /* no socket */
        {VHOST_USER_GET_CONFIG, 20, {.config = {.offset = 0, .size_bytes = 9}}, 0},
        {VHOST_USER_GET_CONFIG, 20, {.config = {.offset = 249, .size_bytes = 8}}, 0},
        {VHOST_USER_GET_CONFIG, 20, {.config = {.offset = UINT32_MAX - 3, .size_bytes = 8}}, 0},
        {VHOST_USER_SET_CONFIG, 20, {.config = {.offset = 255, .size_bytes = 8}}, 0},
        {VHOST_USER_SET_STATUS, 8, {.u64 = 256}, 0},
        {VHOST_USER_SET_OWNER, 0, {.u64 = 0}, 1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct bench *b = *state;
        int fds[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
        run(b);
        struct vhost_user_message m = {
            .header = {wrong[i].request, VHOST_USER_VERSION, wrong[i].bytes}};
        memcpy(&m.payload, &wrong[i].payload, wrong[i].bytes);
        send_raw(b, &m, fds, wrong[i].fds);
        assert_thrown_out(b);
        close(fds[0]);
        close(fds[1]);
        tear_down(state);
        set_up(state);
    }
}

static void a_pipe_is_no_eventfd(void **state)
{
    struct bench *b = *state;
    int ends[2];
    uint64_t index = 0;
    run(b);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(front_request(&b->front, VHOST_USER_SET_VRING_KICK, &index, 8, ends, 1, NULL),
                     -EINVAL);
    assert_thrown_out(b);
    close(ends[0]);
    close(ends[1]);
}

static void requests_not_negotiated(void **state)
{
    struct bench *b = *state;
    assert_int_equal(front_u64(&b->front, VHOST_USER_SET_PROTOCOL_FEATURES,
                               VHOST_USER_PROTOCOL_F_MQ | VHOST_USER_PROTOCOL_F_REPLY_ACK),
                     0);
    struct vhost_user_message reply;
    int r = front_request(&b->front, VHOST_USER_GET_STATUS, NULL, 0, NULL, 0, &reply);
    assert_int_not_equal(r, 0);
    assert_thrown_out(b);
}

/* -- memory ----------------------------------------------------------------------------------- */

static int memory_fd(size_t bytes, bool sealed)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    if (sealed)
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    return fd;
}

static void wrong_memory(void **state)
{
    static const struct {
        const char *what;
        uint32_t count, fds;
        bool unsealed;
        struct vhost_user_region regions[2];
    } wrong[] = {
        {"none", 0, 0, false, {{0}}},
        {"more than the message holds", 2, 2, false, {{0, 4096, 4096, 0}}},
        {"too many", VHOST_USER_REGIONS_MAX + 1, 1, false, {{0, 4096, 0, 0}}},
        {"absurdly many", UINT32_MAX, 1, false, {{0, 4096, 0, 0}}},
        {"no descriptor", 1, 0, false, {{0, 4096, 0, 0}}},
        {"two descriptors", 1, 2, false, {{0, 4096, 0, 0}}},
        {"empty", 1, 1, false, {{0, 0, 0, 0}}},
        {"longer than its file", 1, 1, false, {{0, 16384, 0, 0}}},
        {"behind its file", 1, 1, false, {{0, 4096, 0, 8192}}},
        {"offset wraps", 1, 1, false, {{0, 4096, 0, UINT64_MAX - 4095}}},
        {"guest address wraps", 1, 1, false, {{UINT64_MAX - 4095, 8192, 0, 0}}},
        {"user address wraps", 1, 1, false, {{0, 8192, UINT64_MAX - 4095, 0}}},
        {"can shrink", 1, 1, true, {{0, 4096, 0, 0}}},
        {"guest addresses overlap", 2, 2, false, {{0, 8192, 0, 0}, {4096, 4096, 0x10000, 0}}},
        {"user addresses overlap", 2, 2, false, {{0, 8192, 0x1000, 0}, {0x10000, 4096, 0, 0}}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        struct bench *b = *state;
        struct vhost_user_mem_table table = {.count = wrong[i].count};
        int fds[2] = {memory_fd(8192, !wrong[i].unsealed), memory_fd(8192, !wrong[i].unsealed)};
        memcpy(table.regions, wrong[i].regions, sizeof(wrong[i].regions));
        if (i == ARRAY_SIZE(wrong) - 1)
            table.regions[1].uva = 0x2000;
        uint32_t regions = MIN(wrong[i].count, 2);
        if (i == 1)
            regions = 1;
        run(b);
        int r = front_request(&b->front, VHOST_USER_SET_MEM_TABLE, &table, 8 + 32 * regions, fds,
                              wrong[i].fds, NULL);
        if (r != -EINVAL)
            fail_msg("memory that is wrong (%s) was answered with %d", wrong[i].what, r);
        assert_thrown_out(b);
        close(fds[0]);
        close(fds[1]);
        tear_down(state);
        set_up(state);
    }
}

static void a_ring_outside_memory(void **state)
{
    struct bench *b = *state;
    assert_int_equal(agree(b), 0);
    driver_ring_init(&b->ring, &b->arena, 16, VIRTIO_F_VERSION_1);
    /* No memory at all. */
    assert_int_equal(front_start_ring(&b->front, 0, &b->mem, &b->ring.setup), 0);
    assert_int_equal(front_vring(&b->front, VHOST_USER_SET_VRING_ENABLE, 0, 1), -EINVAL);
    assert_thrown_out(b);
}

static void memory_is_replaced_under_a_ring(void **state)
{
    struct bench *b = *state;
    run(b);
    for (int i = 0; i < 5; i++) {
        assert_serves(b);
        assert_int_equal(front_set_memory(&b->front, &b->mem), 0);
    }
    assert_serves(b);
    unsigned activations, resets;
    count(b, &activations, &resets);
    assert_int_equal(activations, 1);
    assert_int_equal(resets, 0);
}

/* -- drivers come and go ---------------------------------------------------------------------- */

static void stop_as_qemu(struct bench *b, uint16_t *base)
{
    assert_int_equal(front_stop_ring(&b->front, 0, base), 0);
    assert_int_equal(front_u64(&b->front, VHOST_USER_SET_STATUS, 0), 0);
}

static void a_pause_keeps_the_driver(void **state)
{
    struct bench *b = *state;
    unsigned activations, resets;
    uint16_t base;
    run(b);
    for (int i = 0; i < 3; i++) {
        assert_serves(b);
        stop_as_qemu(b, &base);
        assert_int_equal(base, i + 1);
        assert_int_equal(agree(b), 0);
        assert_int_equal(front_set_memory(&b->front, &b->mem), 0);
        b->ring.setup.next_avail = base;
        assert_int_equal(front_start_ring(&b->front, 0, &b->mem, &b->ring.setup), 0);
    }
    assert_serves(b);
    count(b, &activations, &resets);
    assert_int_equal(activations, 1);
    assert_int_equal(resets, 0);
}

static void a_new_driver_resets_the_device(void **state)
{
    struct bench *b = *state;
    unsigned activations, resets;
    uint16_t base;
    run(b);
    assert_serves(b);
    stop_as_qemu(b, &base);
    count(b, &activations, &resets);
    assert_int_equal(resets, 0); /* it cannot know yet */
    run(b);
    assert_serves(b);
    count(b, &activations, &resets);
    assert_int_equal(resets, 1);
    assert_int_equal(activations, 2);

    /* Other features are another driver as well. */
    stop_as_qemu(b, &base);
    assert_int_equal(
        front_u64(&b->front, VHOST_USER_SET_FEATURES,
                  VIRTIO_F_VERSION_1 | VIRTIO_RING_F_EVENT_IDX | VHOST_USER_F_PROTOCOL_FEATURES),
        0);
    count(b, &activations, &resets);
    assert_int_equal(resets, 2);
}

static void disabling_stops_a_ring(void **state)
{
    struct bench *b = *state;
    run(b);
    assert_serves(b);
    assert_int_equal(front_vring(&b->front, VHOST_USER_SET_VRING_ENABLE, 0, 0), 0);
    const struct driver_buf buf = {driver_alloc(&b->arena, 16, 16), 16, false};
    driver_add(&b->ring, &buf, 1);
    driver_publish(&b->ring);
    front_kick(&b->front, 0);
    uint64_t features; /* an answer: what was before it has been handled */
    assert_int_equal(front_get_u64(&b->front, VHOST_USER_GET_FEATURES, &features), 0);
    assert_int_equal(driver_used_idx(&b->ring), 1);
    assert_int_equal(front_vring(&b->front, VHOST_USER_SET_VRING_ENABLE, 0, 1), 0);
    while (driver_used_idx(&b->ring) != 2)
        assert_true(front_wait(b->front.rings[0].call, WAIT_MS));
}

static void reset_device_resets(void **state)
{
    struct bench *b = *state;
    unsigned activations, resets;
    run(b);
    assert_serves(b);
    assert_int_equal(front_request(&b->front, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0, NULL), 0);
    count(b, &activations, &resets);
    assert_int_equal(resets, 1);
    run(b);
    assert_serves(b);
}

static void without_protocol_features_rings_need_no_enable(void **state)
{
    struct bench *b = *state;
    assert_int_equal(front_u64(&b->front, VHOST_USER_SET_FEATURES, VIRTIO_F_VERSION_1), 0);
    assert_int_equal(front_set_memory(&b->front, &b->mem), 0);
    driver_ring_init(&b->ring, &b->arena, 16, VIRTIO_F_VERSION_1);
    assert_int_equal(front_start_ring(&b->front, 0, &b->mem, &b->ring.setup), 0);
    assert_serves(b);
}

static void a_new_call_eventfd_is_signalled(void **state)
{
    struct bench *b = *state;
    uint64_t index = 0;
    run(b);
    assert_serves(b);
    _cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(front_request(&b->front, VHOST_USER_SET_VRING_CALL, &index, 8, &fd, 1, NULL), 0);
    assert_true(front_wait(fd, WAIT_MS));
}

/* The eventfds' flags are the front end's as much as ours: it makes the calls that it can block. */
static void blocking_eventfds_block_nobody(void **state)
{
    struct bench *b = *state;
    run(b);
    assert_int_equal(fcntl(b->front.rings[0].kick, F_SETFL, 0), 0);
    assert_int_equal(fcntl(b->front.rings[0].call, F_SETFL, 0), 0);
    assert_int_equal(eventfd_write(b->front.rings[0].call, UINT64_MAX - 1), 0); /* full */
    const struct driver_buf buf = {driver_alloc(&b->arena, 16, 16), 16, false};
    driver_add(&b->ring, &buf, 1);
    driver_publish(&b->ring);
    front_kick(&b->front, 0);
    uint64_t features;
    for (int i = 0; i < 2; i++)
        assert_int_equal(front_get_u64(&b->front, VHOST_USER_GET_FEATURES, &features), 0);
    while (driver_used_idx(&b->ring) != 1)
        assert_int_equal(front_get_u64(&b->front, VHOST_USER_GET_FEATURES, &features), 0);
}

/* -- the rest --------------------------------------------------------------------------------- */

static void configuration_changes_are_told(void **state)
{
    struct bench *b = *state;
    int pair[2];
    run(b);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(
        front_request(&b->front, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1, NULL), 0);
    close(pair[1]);
    struct vhost_user_config config = {.offset = 4, .size_bytes = 2, .bytes = {7, 8}};
    assert_int_equal(front_request(&b->front, VHOST_USER_SET_CONFIG, &config, 14, NULL, 0, NULL), 0);
    struct vhost_user_inbox inbox = {0};
    struct pollfd wait = {.fd = pair[0], .events = POLLIN};
    assert_int_equal(poll(&wait, 1, WAIT_MS), 1);
    assert_int_equal(vhost_user_receive(pair[0], &inbox, NULL), 1);
    assert_int_equal(inbox.message.header.request, VHOST_USER_BACKEND_CONFIG_CHANGE);

    struct vhost_user_message reply;
    config = (struct vhost_user_config){.offset = 3, .size_bytes = 8};
    assert_int_equal(front_request(&b->front, VHOST_USER_GET_CONFIG, &config, 20, NULL, 0, &reply), 0);
    const uint8_t want[8] = {0, 7, 8, 0, 0, 0, 0, 0};
    assert_int_equal(reply.header.size_bytes, 20);
    assert_memory_equal(reply.payload.config.bytes, want, 8);
    close(pair[0]);
}

static void a_front_end_that_reads_nothing(void **state)
{
    struct bench *b = *state;
    const struct vhost_user_message m = {.header = {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0}};
    /* Its own fault, and not the loop's: the back end does not wait for it. */
    int r = 0;
    while (r == 0 || r == -EAGAIN)
        r = vhost_user_send(b->front.fd, &m, NULL, 0);
    assert_true(r == -EPIPE || r == -ECONNRESET);
    assert_true(front_wait(b->closed, WAIT_MS));
    assert_int_equal(b->why.code, EAGAIN);
}

static void the_front_end_leaves(void **state)
{
    struct bench *b = *state;
    run(b);
    assert_serves(b);
    close_fd(&b->front.fd);
    assert_true(front_wait(b->closed, WAIT_MS));
    assert_int_equal(b->why.code, ECONNRESET);
    assert_false(b->dev.active);
}

static void one_front_end_is_accepted(void **state)
{
    struct bench *b = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char dir[] = "/tmp/vhost-XXXXXX";
    struct dayfly_err err;
    vhost_user_free(b->back);
    b->back = NULL;
    front_close(&b->front);
    assert_non_null(mkdtemp(dir));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", dir);
    assert_int_equal(vhost_user_listen(&b->back, &b->dev, address.sun_path, on_closed, b, &err), 0);
    struct vhost_user *second = NULL;
    assert_int_equal(vhost_user_listen(&second, &b->dev, address.sun_path, NULL, NULL, &err),
                     -EADDRINUSE);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(front_connect(&b->front, fd, 0), 0);
    assert_int_equal(access(address.sun_path, F_OK), -1);
    run(b);
    assert_serves(b);
    assert_int_equal(rmdir(dir), 0);
}

/* What a killed daemon left is replaced; a socket that somebody has, and any other file, is not. */
static void an_abandoned_socket_is_replaced(void **state)
{
    char dir[] = "/tmp/vhost-XXXXXX", path[64];
    struct dayfly_err err;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/s", dir);
    int first = vhost_user_bind(path, &err);
    assert_true(first >= 0);
    assert_int_equal(vhost_user_bind(path, &err), -EADDRINUSE);
    struct pollfd came = {.fd = first, .events = POLLIN};
    assert_int_equal(poll(&came, 1, 0), 0); /* it was not taken for a front end */
    close(first);
    int second = vhost_user_bind(path, &err);
    assert_true(second >= 0);
    close(second);
    assert_int_equal(unlink(path), 0);
    int file = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(vhost_user_bind(path, &err), -EADDRINUSE);
    close(file);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(serves_a_ring),
        CASE(a_message_may_come_in_pieces),
        CASE(wrong_headers),
        CASE(wrong_requests),
        CASE(a_pipe_is_no_eventfd),
        CASE(requests_not_negotiated),
        CASE(wrong_memory),
        CASE(a_ring_outside_memory),
        CASE(memory_is_replaced_under_a_ring),
        CASE(a_pause_keeps_the_driver),
        CASE(a_new_driver_resets_the_device),
        CASE(disabling_stops_a_ring),
        CASE(reset_device_resets),
        CASE(without_protocol_features_rings_need_no_enable),
        CASE(a_new_call_eventfd_is_signalled),
        CASE(blocking_eventfds_block_nobody),
        CASE(configuration_changes_are_told),
        CASE(a_front_end_that_reads_nothing),
        CASE(the_front_end_leaves),
        CASE(one_front_end_is_accepted),
        CASE(an_abandoned_socket_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
