/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device in the contract suite: on the socket back end, whose other end is in the test, and
 * on a toy with two queues, headers and all offloads, whose frames come out as the device gave them.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kinds.h"
#include "transport/vhost_user.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"
#include "virtio/net.h"

enum { RX, TX, RX1, TX1 };
enum { CONTROL = 2, CONTROL_OF_TWO = 4 }; /* behind one pair, or two */

#define HEADER    12
#define MTU       1500
#define RX_BYTES  1600 /* of a buffer that holds any frame */
#define ANY_BYTES 65600

static const uint8_t mac[MAC_BYTES] = {0x02, 1, 2, 3, 4, 5};

struct made {
    int peers[2]; /* the other ends of the cable, one a queue */
    struct net *toy;
    atomic_uint toy_offloads, toy_queues; /* as the device set them, in its loop */
    uint64_t rx_of[2][CONTRACT_RING];     /* buffers by their heads */
    uint32_t rx_bytes[2][CONTRACT_RING];
    uint8_t serial;
};

static struct made *made_of(struct contract_env *env)
{
    return env->made;
}

/* -- the toy ----------------------------------------------------------------------------------- */

struct toy {
    struct net net;
    struct made *made;
};

static int toy_receive(struct net *net, unsigned queue, struct net_frame *frames, unsigned max)
{
    ssize_t n = readv(net->fds[queue], frames[0].iov, (int)frames[0].count);
    if (n > 0)
        frames[0].bytes = (size_t)n;
    return n > 0 ? 1 : n == 0 ? -EPIPE : errno == EAGAIN ? 0 : -errno;
}

static int toy_send(struct net *net, unsigned queue, const struct net_frame *frames, unsigned count)
{
    ssize_t n = writev(net->fds[queue], frames[0].iov, (int)frames[0].count);
    return n > 0 ? 1 : errno == EAGAIN ? 0 : -errno;
}

static void toy_set_offloads(struct net *net, unsigned offloads)
{
    container_of(net, struct toy, net)->made->toy_offloads = offloads;
}

static void toy_set_queues(struct net *net, unsigned queues)
{
    container_of(net, struct toy, net)->made->toy_queues = queues;
}

static void toy_destroy(struct net *net)
{
    close(net->fds[0]);
    close(net->fds[1]);
    free(container_of(net, struct toy, net));
}

static const struct net_ops toy_ops = {
    .name = "toy",
    .receive = toy_receive,
    .send = toy_send,
    .set_offloads = toy_set_offloads,
    .set_queues = toy_set_queues,
    .destroy = toy_destroy,
};

/* -- making ------------------------------------------------------------------------------------ */

static int make_on(struct contract_env *env, struct net *net)
{
    struct dayfly_err err;
    struct virtio_net_options options = {.carrier_calls = &vhost_user_calls};
    memcpy(options.mac, mac, sizeof(mac));
    return virtio_net_new(&env->dev, net, &options, NULL, &err);
}

static int make_socket(struct contract_env *env)
{
    struct dayfly_err err;
    struct net *net;
    int pair[2];
    struct made *m = calloc(1, sizeof(*m));
    env->made = m;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    m->peers[0] = pair[0];
    m->peers[1] = -1;
    assert_int_equal(net_socket_open(&net, &(struct net_socket_options){.fd = pair[1]}, &err), 0);
    return make_on(env, net);
}

static int make_toy(struct contract_env *env)
{
    struct toy *toy = calloc(1, sizeof(*toy));
    struct made *m = calloc(1, sizeof(*m));
    env->made = toy->made = m;
    toy->net = (struct net){
        .ops = &toy_ops,
        .queues = 2,
        .headers = true,
        .offloads =
            NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN | NET_OFFLOAD_USO,
        .mtu = MTU,
    };
    m->toy_queues = 1;
    for (int i = 0; i < 2; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
                         0);
        m->peers[i] = pair[0];
        toy->net.fds[i] = pair[1];
    }
    return make_on(env, &toy->net);
}

static void unmake(struct contract_env *env)
{
    struct made *m = made_of(env);
    virtio_net_free(env->dev);
    close_fd(&m->peers[0]);
    close_fd(&m->peers[1]);
    free(m);
}

/* -- the host's end ---------------------------------------------------------------------------- */

static bool has_headers(struct contract_env *env)
{
    return made_of(env)->peers[1] >= 0;
}

/* A frame that no other is alike. */
static void fill_frame(struct contract_env *env, uint8_t *frame, size_t bytes)
{
    uint8_t serial = ++made_of(env)->serial;
    for (size_t i = 0; i < bytes; i++)
        frame[i] = (uint8_t)(serial + 3 * i + i / 200);
}

/* What came out at the other end of queue `queue`; 0 when nothing is there within the time. */
static size_t host_receive_within(struct contract_env *env, unsigned queue, uint8_t *message, int ms)
{
    struct pollfd p = {.fd = made_of(env)->peers[queue], .events = POLLIN};
    if (poll(&p, 1, ms) != 1)
        return 0;
    ssize_t n = recv(p.fd, message, ANY_BYTES, 0);
    assert_true(n > 0);
    return (size_t)n;
}

static void host_expect(struct contract_env *env, unsigned queue, const uint8_t *frame, size_t bytes)
{
    uint8_t *message = malloc(ANY_BYTES);
    size_t skip = has_headers(env) ? HEADER : 0;
    assert_int_equal(host_receive_within(env, queue, message, CONTRACT_TIMEOUT_MS), bytes + skip);
    assert_memory_equal(message + skip, frame, bytes);
    free(message);
}

static void host_expect_nothing(struct contract_env *env, unsigned queue)
{
    uint8_t *message = malloc(ANY_BYTES);
    contract_settle(env);
    assert_int_equal(host_receive_within(env, queue, message, 0), 0);
    free(message);
}

static void host_send(struct contract_env *env, unsigned queue, const struct net_header *header,
                      const uint8_t *frame, size_t bytes)
{
    struct net_header none = {0};
    struct iovec iov[2] = {{(void *)(uintptr_t)(header ? header : &none), HEADER},
                           {(void *)(uintptr_t)frame, bytes}};
    unsigned skip = has_headers(env) ? 0 : 1;
    ssize_t n = writev(made_of(env)->peers[queue], iov + skip, (int)(2 - skip));
    assert_int_equal(n, bytes + (skip ? 0 : HEADER));
}

/* -- the driver's end -------------------------------------------------------------------------- */

/* Write header and frame into guest memory: header and the first bytes in one buffer, the rest in
 * another, since nobody may take its place for granted. */
static unsigned put_frame(struct contract_env *env, const struct net_header *header,
                          const uint8_t *frame, uint32_t bytes, struct driver_buf bufs[2])
{
    struct net_header none = {0};
    uint64_t gpa = contract_alloc(env, HEADER + bytes);
    memcpy(contract_hva(env, gpa, HEADER), header ? header : &none, HEADER);
    if (bytes > 0)
        memcpy(contract_hva(env, gpa + HEADER, bytes), frame, bytes);
    bufs[0] = (struct driver_buf){gpa, 7, false};
    bufs[1] = (struct driver_buf){gpa + 7, HEADER - 7 + bytes, false};
    return 2;
}

static void driver_send(struct contract_env *env, unsigned queue, const struct net_header *header,
                        const uint8_t *frame, uint32_t bytes)
{
    struct driver_buf bufs[2];
    env->arena.next_gpa = MAX(env->arena.next_gpa, CONTRACT_RAM_GPA);
    unsigned count = put_frame(env, header, frame, bytes, bufs);
    assert_int_equal(contract_roundtrip(env, queue, bufs, count), 0);
}

static void give_buffer(struct contract_env *env, unsigned queue, uint32_t bytes)
{
    uint64_t gpa = contract_alloc(env, bytes);
    uint32_t first = MIN(bytes, 5u); /* within the header */
    const struct driver_buf bufs[2] = {{gpa, first, true}, {gpa + first, bytes - first, true}};
    int head = contract_send(env, queue, bufs, bytes > first ? 2 : 1);
    made_of(env)->rx_of[queue / 2][head] = gpa;
    made_of(env)->rx_bytes[queue / 2][head] = bytes;
}

/* The next frame, over as many buffers as its header says. Returns its bytes. */
static size_t driver_receive(struct contract_env *env, unsigned queue, struct net_header *header,
                             uint8_t *frame)
{
    struct made *m = made_of(env);
    size_t bytes = 0;
    unsigned buffers = 1;
    for (unsigned i = 0; i < buffers; i++) {
        uint16_t head;
        uint32_t written, skip = i == 0 ? HEADER : 0;
        contract_wait_used(env, queue, &head, &written);
        uint64_t gpa = m->rx_of[queue / 2][head];
        assert_in_range(written, skip, m->rx_bytes[queue / 2][head]);
        if (i == 0) {
            memcpy(header, contract_hva(env, gpa, HEADER), HEADER);
            buffers = le16toh(header->num_buffers);
            assert_in_range(buffers, 1, CONTRACT_RING);
        }
        if (written > skip)
            memcpy(frame + bytes, contract_hva(env, gpa + skip, written - skip), written - skip);
        bytes += written - skip;
    }
    return bytes;
}

static struct net_header driver_expect(struct contract_env *env, unsigned queue, const uint8_t *frame,
                                       size_t bytes, unsigned buffers)
{
    uint8_t *got = malloc(ANY_BYTES + CONTRACT_RING * RX_BYTES);
    struct net_header header;
    assert_int_equal(driver_receive(env, queue, &header, got), bytes);
    assert_memory_equal(got, frame, bytes);
    assert_int_equal(le16toh(header.num_buffers), buffers);
    free(got);
    return header;
}

static void driver_expect_nothing(struct contract_env *env, unsigned queue)
{
    uint16_t head;
    uint32_t written;
    contract_settle(env);
    assert_false(driver_used(&env->rings[queue], &head, &written));
}

static struct virtio_net_counters count(struct contract_env *env)
{
    struct virtio_net_counters c;
    virtio_net_count(env->dev, &c);
    return c;
}

/* -- the request that is always valid ---------------------------------------------------------- */

#define REQUEST_BYTES 60

static unsigned request(struct contract_env *env, struct driver_buf *bufs, unsigned max)
{
    uint8_t frame[REQUEST_BYTES];
    fill_frame(env, frame, sizeof(frame));
    return put_frame(env, NULL, frame, sizeof(frame), bufs);
}

static void served(struct contract_env *env, const struct driver_buf *bufs, unsigned count_,
                   uint32_t written)
{
    /* Those of a case that never looked are still in the cable. */
    uint8_t *message = malloc(ANY_BYTES);
    const void *frame = contract_hva(env, bufs[0].gpa + HEADER, REQUEST_BYTES);
    size_t skip = has_headers(env) ? HEADER : 0, bytes;
    assert_int_equal(written, 0);
    do {
        bytes = host_receive_within(env, 0, message, CONTRACT_TIMEOUT_MS);
        assert_int_equal(bytes, REQUEST_BYTES + skip);
    } while (memcmp(message + skip, frame, REQUEST_BYTES) != 0);
    free(message);
}

/* -- receiving --------------------------------------------------------------------------------- */

static void a_frame_in_a_buffer(struct contract_env *env)
{
    uint8_t frame[MTU + 18];
    contract_start(env, 0);
    for (size_t bytes = 14; bytes <= sizeof(frame); bytes += 376) {
        give_buffer(env, RX, RX_BYTES);
        fill_frame(env, frame, bytes);
        host_send(env, 0, NULL, frame, bytes);
        driver_expect(env, RX, frame, bytes, 1);
    }
    /* Buffers first, or frames first. */
    for (int i = 0; i < 3; i++) {
        fill_frame(env, frame, 100);
        host_send(env, 0, NULL, frame, 100);
    }
    contract_settle(env);
    made_of(env)->serial -= 3;
    for (int i = 0; i < 3; i++) {
        give_buffer(env, RX, RX_BYTES);
        fill_frame(env, frame, 100);
        driver_expect(env, RX, frame, 100, 1);
    }
}

static void a_frame_over_buffers(struct contract_env *env)
{
    uint8_t frame[1400];
    contract_start(env, 0);
    fill_frame(env, frame, sizeof(frame));
    for (int i = 0; i < 4; i++)
        give_buffer(env, RX, 600);
    host_send(env, 0, NULL, frame, sizeof(frame));
    driver_expect(env, RX, frame, sizeof(frame), 3);
    /* One is left: a small frame fits, a large one waits for more. */
    host_send(env, 0, NULL, frame, 100);
    driver_expect(env, RX, frame, 100, 1);
    give_buffer(env, RX, 600);
    host_send(env, 0, NULL, frame, sizeof(frame));
    driver_expect_nothing(env, RX);
    give_buffer(env, RX, 12);
    driver_expect_nothing(env, RX);
    give_buffer(env, RX, 1000);
    driver_expect(env, RX, frame, sizeof(frame), 3);
    assert_int_equal(count(env).to_driver_dropped, 0);
}

/* What all buffers that the driver can give do not hold is dropped, and the next frame comes. */
static void a_frame_that_nothing_holds(struct contract_env *env)
{
    uint8_t frame[1400];
    contract_start(env, 0);
    fill_frame(env, frame, sizeof(frame));
    for (int i = 0; i < CONTRACT_RING; i++) {
        const struct driver_buf buf = {contract_alloc(env, 86), 86, true};
        int head = contract_send(env, RX, &buf, 1);
        made_of(env)->rx_of[0][head] = buf.gpa;
        made_of(env)->rx_bytes[0][head] = buf.len;
    }
    host_send(env, 0, NULL, frame, sizeof(frame));
    host_send(env, 0, NULL, frame, 74);
    driver_expect(env, RX, frame, 74, 1);
    assert_int_equal(count(env).to_driver_dropped, 1);
    env->ops->reset(env->bus);

    /* Where buffers are not merged, the first has to do. */
    contract_start(env, VIRTIO_NET_F_MRG_RXBUF);
    give_buffer(env, RX, 100);
    give_buffer(env, RX, RX_BYTES);
    host_send(env, 0, NULL, frame, sizeof(frame));
    host_send(env, 0, NULL, frame, 88);
    driver_expect(env, RX, frame, 88, 1);
    assert_int_equal(count(env).to_driver_dropped, 2);
}

static void runts_for_the_driver(struct contract_env *env)
{
    uint8_t frame[200];
    contract_start(env, 0);
    fill_frame(env, frame, sizeof(frame));
    give_buffer(env, RX, RX_BYTES);
    host_send(env, 0, NULL, frame, 13);
    host_send(env, 0, NULL, frame, 1);
    host_send(env, 0, NULL, frame, 60);
    /* Buffers of runts that came between others go back empty. */
    uint16_t head;
    uint32_t written = 0;
    for (int i = 0; i < 3 && written == 0; i++) {
        if (i > 0)
            give_buffer(env, RX, RX_BYTES);
        contract_wait_used(env, RX, &head, &written);
    }
    assert_int_equal(written, HEADER + 60);
    assert_memory_equal(contract_hva(env, made_of(env)->rx_of[0][head] + HEADER, 60), frame, 60);
    assert_int_equal(count(env).to_driver_dropped, 2);
}

static void a_flood_for_the_driver(struct contract_env *env)
{
    uint8_t frame[300];
    contract_start(env, 0);
    struct made *m = made_of(env);
    uint8_t sent = 0;
    for (int round = 0; round < 200; round++) {
        env->arena.next_gpa = CONTRACT_RAM_GPA + CONTRACT_RAM_SIZE / 2;
        for (int i = 0; i < CONTRACT_RING / 2; i++) {
            m->serial = sent++;
            fill_frame(env, frame, sizeof(frame));
            host_send(env, 0, NULL, frame, sizeof(frame));
        }
        for (int i = 0; i < CONTRACT_RING / 2; i++)
            give_buffer(env, RX, RX_BYTES);
        for (int i = CONTRACT_RING / 2; i > 0; i--) {
            m->serial = (uint8_t)(sent - i);
            fill_frame(env, frame, sizeof(frame));
            driver_expect(env, RX, frame, sizeof(frame), 1);
        }
    }
}

/* A driver that takes nothing: the sender is told to wait, and nothing of it is lost. */
static void a_driver_that_is_slow(struct contract_env *env)
{
    uint8_t frame[1000];
    contract_start(env, 0);
    struct made *m = made_of(env);
    size_t skip = has_headers(env) ? HEADER : 0;
    uint8_t message[HEADER + sizeof(frame)] = {0};
    unsigned sent = 0;
    for (;; sent++) {
        m->serial = (uint8_t)sent;
        fill_frame(env, message + skip, sizeof(frame));
        if (send(m->peers[0], message, skip + sizeof(frame), MSG_DONTWAIT) < 0)
            break;
        assert_true(sent < 100000);
    }
    for (unsigned i = 0; i < sent; i++) {
        env->arena.next_gpa = CONTRACT_RAM_GPA + CONTRACT_RAM_SIZE / 2;
        m->serial = (uint8_t)i;
        fill_frame(env, frame, sizeof(frame));
        give_buffer(env, RX, RX_BYTES);
        driver_expect(env, RX, frame, sizeof(frame), 1);
    }
}

static void a_buffer_without_room(struct contract_env *env)
{
    contract_start(env, 0);
    give_buffer(env, RX, 11);
    assert_true(env->ops->wait_needs_reset(env->bus, CONTRACT_TIMEOUT_MS));
    env->ops->reset(env->bus);
    contract_start(env, 0);
    contract_assert_serves(env);
}

/* -- sending ----------------------------------------------------------------------------------- */

static void frames_of_the_driver(struct contract_env *env)
{
    uint8_t frame[MTU + 18];
    contract_start(env, 0);
    for (uint32_t bytes = 14; bytes <= sizeof(frame); bytes += 376) {
        fill_frame(env, frame, bytes);
        driver_send(env, TX, NULL, frame, bytes);
        host_expect(env, 0, frame, bytes);
    }
}

static void expect_dropped(struct contract_env *env, const struct net_header *header,
                           const uint8_t *frame, uint32_t bytes)
{
    uint64_t dropped = count(env).from_driver_dropped;
    driver_send(env, TX, header, frame, bytes);
    assert_int_equal(count(env).from_driver_dropped, dropped + 1);
}

static void what_is_no_frame(struct contract_env *env)
{
    static const uint32_t bad[] = {0, 1, 13, MTU + 19, 9000, 65551, 70000};
    uint8_t *frame = calloc(1, 70000);
    contract_start(env, 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        expect_dropped(env, NULL, frame, bad[i]);
    /* No header, half a header, and buffers to write to. */
    for (int i = 0; i < 3; i++) {
        const struct driver_buf buf = {contract_alloc(env, 100),
                                       i == 0   ? 1
                                       : i == 1 ? 11
                                                : 100,
                                       i == 2};
        contract_roundtrip(env, TX, &buf, 1);
    }
    host_expect_nothing(env, 0);
    contract_assert_serves(env);
    free(frame);
}

static void headers_that_ask_too_much(struct contract_env *env)
{
    static const struct net_header bad[] = {
        {.flags = 1, .csum_start = 34, .csum_offset = 16},
        {.gso_type = NET_HEADER_GSO_TCPV4, .gso_size = 1000},
        {.gso_type = 0xff},
        {.flags = 1, .gso_type = NET_HEADER_GSO_TCPV6, .gso_size = 1000},
    };
    uint8_t frame[100] = {0};
    contract_start(env, VIRTIO_NET_F_CSUM);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        expect_dropped(env, &bad[i], frame, sizeof(frame));
    host_expect_nothing(env, 0);
    contract_assert_serves(env);
}

/* The other end takes nothing: frames wait in the driver's ring, and go on when it does. */
static void a_host_that_is_slow(struct contract_env *env)
{
    uint8_t frame[1000];
    contract_start(env, 0);
    struct made *m = made_of(env);
    struct driver_ring *r = &env->rings[TX];
    unsigned sent = 0, full = 0, got = 0;
    uint16_t head;
    uint32_t written;
    while (full < 3) {
        struct driver_buf bufs[2];
        env->arena.next_gpa = CONTRACT_RAM_GPA + CONTRACT_RAM_SIZE / 4 + sent % 64 * 4096;
        m->serial = (uint8_t)sent;
        fill_frame(env, frame, sizeof(frame));
        unsigned n = put_frame(env, NULL, frame, sizeof(frame), bufs);
        if (driver_add(r, bufs, n) >= 0) {
            sent++;
            full = 0;
            assert_true(sent < 100000);
        } else {
            full++;
        }
        driver_publish(r);
        env->ops->kick(env->bus, TX);
        contract_settle(env);
        while (driver_used(r, &head, &written))
            got++;
    }
    assert_int_equal(got, sent - r->setup.size / 2);
    for (unsigned i = 0; i < sent; i++) {
        m->serial = (uint8_t)i;
        fill_frame(env, frame, sizeof(frame));
        host_expect(env, 0, frame, sizeof(frame));
    }
    for (; got < sent; got++)
        contract_wait_used(env, TX, &head, &written);
}

/* Nobody is there any more: frames go to nobody, and the driver does not hang. */
static void a_host_that_goes(struct contract_env *env)
{
    uint8_t frame[100] = {0};
    contract_start(env, 0);
    contract_assert_serves(env);
    close_fd(&made_of(env)->peers[0]);
    for (int i = 0; i < 3 * CONTRACT_RING; i++)
        driver_send(env, TX, NULL, frame, sizeof(frame));
    contract_settle(env);
    struct virtio_net_config config;
    virtio_config_read(env->dev, 0, &config, sizeof(config));
    assert_int_equal(config.status, 0);
    env->ops->reset(env->bus);
    contract_start(env, 0);
    driver_send(env, TX, NULL, frame, sizeof(frame));
}

static void a_cable_that_is_pulled(struct contract_env *env)
{
    uint8_t frame[100] = {0};
    struct virtio_net_config config;
    contract_start(env, 0);
    virtio_config_read(env->dev, 0, &config, sizeof(config));
    assert_memory_equal(config.mac, mac, sizeof(mac));
    assert_int_equal(le16toh(config.status), VIRTIO_NET_S_LINK_UP);
    assert_int_equal(le16toh(config.mtu), MTU);
    virtio_net_set_link(env->dev, false);
    virtio_config_read(env->dev, 0, &config, sizeof(config));
    assert_int_equal(config.status, 0);
    expect_dropped(env, NULL, frame, sizeof(frame));
    host_expect_nothing(env, 0);
    virtio_net_set_link(env->dev, true);
    contract_assert_serves(env);
}

/* -- the control queue ------------------------------------------------------------------------- */

/* Returns the device's answer: 0 OK, 1 not. */
static unsigned control(struct contract_env *env, unsigned queue, uint8_t class, uint8_t command,
                        const void *data, uint32_t bytes)
{
    uint64_t gpa = contract_alloc(env, 2 + bytes + 1);
    uint8_t *at = contract_hva(env, gpa, 2 + bytes + 1);
    at[0] = class;
    at[1] = command;
    if (bytes > 0)
        memcpy(at + 2, data, bytes);
    at[2 + bytes] = 0xee;
    const struct driver_buf bufs[3] = {
        {gpa, 1, false}, {gpa + 1, 1 + bytes, false}, {gpa + 2 + bytes, 1, true}};
    assert_int_equal(contract_roundtrip(env, queue, bufs, 3), 1);
    return at[2 + bytes];
}

static void commands(struct contract_env *env, unsigned queue)
{
    static const uint8_t other[] = {0x06, 9, 8, 7, 6, 5}, group[] = {0x07, 9, 8, 7, 6, 5};
    uint8_t on = 1, table[300] = {0};
    struct virtio_net_config config;
    assert_int_equal(control(env, queue, 0, 0, &on, 1), 0);
    assert_int_equal(control(env, queue, 0, 1, &on, 1), 0);
    assert_int_equal(control(env, queue, 0, 0, NULL, 0), 1);
    assert_int_equal(control(env, queue, 0, 9, &on, 1), 1);
    assert_int_equal(control(env, queue, 1, 0, table, sizeof(table)), 0);
    assert_int_equal(control(env, queue, 1, 1, group, sizeof(group)), 1);
    assert_int_equal(control(env, queue, 1, 1, other, 5), 1);
    assert_int_equal(control(env, queue, 1, 1, other, sizeof(other)), 0);
    virtio_config_read(env->dev, 0, &config, sizeof(config));
    assert_memory_equal(config.mac, other, sizeof(other));
    assert_int_equal(control(env, queue, 3, 0, NULL, 0), 1);
    assert_int_equal(control(env, queue, 77, 77, table, sizeof(table)), 1);
}

static void commands_are_answered(struct contract_env *env)
{
    unsigned queue = env->kind->queues - 1;
    contract_start(env, 0);
    commands(env, queue);
    const struct driver_buf shorter = {contract_alloc(env, 2), 2, false};
    contract_send(env, queue, &shorter, 1);
    assert_true(env->ops->wait_needs_reset(env->bus, CONTRACT_TIMEOUT_MS));
}

/* -- the toy's: several queues, headers and offloads ------------------------------------------- */

static void a_pair_more(struct contract_env *env)
{
    uint8_t frame[100];
    uint16_t pairs = htole16(2), none = 0, many = htole16(3);
    contract_start(env, 0);
    struct made *m = made_of(env);
    assert_int_equal(control(env, CONTROL_OF_TWO, 4, 0, &none, 2), 1);
    assert_int_equal(control(env, CONTROL_OF_TWO, 4, 0, &many, 2), 1);
    assert_int_equal(control(env, CONTROL_OF_TWO, 4, 0, &pairs, 1), 1);
    contract_settle(env);
    assert_int_equal(m->toy_queues, 1);
    assert_int_equal(control(env, CONTROL_OF_TWO, 4, 0, &pairs, 2), 0);
    contract_settle(env);
    assert_int_equal(m->toy_queues, 2);
    for (unsigned i = 0; i < 2; i++) {
        fill_frame(env, frame, sizeof(frame));
        driver_send(env, i ? TX1 : TX, NULL, frame, sizeof(frame));
        host_expect(env, i, frame, sizeof(frame));
        give_buffer(env, i ? RX1 : RX, ANY_BYTES);
        host_send(env, i, NULL, frame, sizeof(frame));
        driver_expect(env, i ? RX1 : RX, frame, sizeof(frame), 1);
    }
    pairs = htole16(1);
    assert_int_equal(control(env, CONTROL_OF_TWO, 4, 0, &pairs, 2), 0);
    contract_settle(env);
    assert_int_equal(m->toy_queues, 1);
    /* What is still sent on the other pair goes out by the first queue. */
    driver_send(env, TX1, NULL, frame, sizeof(frame));
    host_expect(env, 0, frame, sizeof(frame));
}

static void without_mq_the_control_queue_is_third(struct contract_env *env)
{
    uint16_t pairs = htole16(2);
    contract_start(env, VIRTIO_NET_F_MQ);
    commands(env, CONTROL);
    assert_int_equal(control(env, CONTROL, 4, 0, &pairs, 2), 1);
}

static void offloads_go_both_ways(struct contract_env *env)
{
    static const struct net_header fine[] = {
        {.flags = 1, .csum_start = 34, .csum_offset = 16},
        {.flags = 1,
         .gso_type = 1,
         .hdr_len = 54,
         .gso_size = 1448,
         .csum_start = 34,
         .csum_offset = 16},
        {.flags = 1,
         .gso_type = 0x84,
         .hdr_len = 74,
         .gso_size = 1,
         .csum_start = 54,
         .csum_offset = 16},
        {.flags = 1,
         .gso_type = 5,
         .hdr_len = 42,
         .gso_size = 1448,
         .csum_start = 34,
         .csum_offset = 6},
    };
    uint8_t *frame = malloc(65550), *message = malloc(ANY_BYTES);
    contract_start(env, 0);
    contract_settle(env);
    assert_int_equal(made_of(env)->toy_offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 |
                                                     NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN |
                                                     NET_OFFLOAD_USO);
    give_buffer(env, RX, ANY_BYTES);
    for (size_t i = 0; i < ARRAY_SIZE(fine); i++) {
        uint32_t bytes = fine[i].gso_type ? 65550 : MTU;
        fill_frame(env, frame, bytes);
        struct net_header dirty = fine[i];
        dirty.flags |= 0x82; /* not the driver's to set */
        dirty.num_buffers = 7;
        env->arena.next_gpa = CONTRACT_RAM_GPA + CONTRACT_RAM_SIZE / 2;
        driver_send(env, TX, &dirty, frame, bytes);
        assert_int_equal(host_receive_within(env, 0, message, CONTRACT_TIMEOUT_MS), HEADER + bytes);
        assert_memory_equal(message, &fine[i], HEADER);
        assert_memory_equal(message + HEADER, frame, bytes);

        host_send(env, 0, &fine[i], frame, bytes);
        struct net_header got = driver_expect(env, RX, frame, bytes, 1);
        got.num_buffers = 0;
        assert_memory_equal(&got, &fine[i], HEADER);
        give_buffer(env, RX, ANY_BYTES);
    }
    free(message);
    free(frame);
}

static void headers_that_cannot_be(struct contract_env *env)
{
    static const struct net_header bad[] = {
        {.flags = 1, .csum_start = 65535, .csum_offset = 65535},
        {.flags = 1, .csum_start = 99},                                   /* half behind the end */
        {.gso_type = 1, .gso_size = 1000},                                /* no checksum */
        {.flags = 1, .gso_type = 1, .csum_start = 34, .csum_offset = 16}, /* segments of nothing */
        {.flags = 1, .gso_type = 1, .gso_size = 1, .hdr_len = 101},
        {.flags = 1, .gso_type = 3, .gso_size = 1}, /* UDP fragments: never offered */
        {.flags = 1, .gso_type = 0x80, .gso_size = 1},
        {.flags = 1, .gso_type = 0x85, .gso_size = 1},
    };
    uint8_t frame[100] = {0};
    contract_start(env, 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        expect_dropped(env, &bad[i], frame, sizeof(frame));
    host_expect_nothing(env, 0);
    contract_assert_serves(env);
}

static void offloads_change(struct contract_env *env)
{
    uint64_t some = htole64(VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4), all = UINT64_MAX;
    contract_start(env, VIRTIO_NET_F_GUEST_TSO6);
    assert_int_equal(control(env, CONTROL_OF_TWO, 5, 0, &all, 8), 1);
    assert_int_equal(control(env, CONTROL_OF_TWO, 5, 0, &some, 7), 1);
    assert_int_equal(control(env, CONTROL_OF_TWO, 5, 0, &some, 8), 0);
    contract_settle(env);
    assert_int_equal(made_of(env)->toy_offloads, NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4);
    env->ops->reset(env->bus);
    contract_start(env, VIRTIO_NET_F_GUEST_CSUM);
    contract_settle(env);
    assert_int_equal(made_of(env)->toy_offloads, 0);
    /* Then nothing of a header is for the driver, either. */
    const struct net_header valid = {.flags = NET_HEADER_DATA_VALID};
    uint8_t frame[100] = {0};
    give_buffer(env, RX, RX_BYTES);
    host_send(env, 0, &valid, frame, sizeof(frame));
    assert_int_equal(driver_expect(env, RX, frame, sizeof(frame), 1).flags, 0);
}

static void a_large_frame_over_small_buffers(struct contract_env *env)
{
    uint8_t *frame = malloc(20000);
    contract_start(env, 0);
    fill_frame(env, frame, 20000);
    for (int i = 0; i < 8; i++)
        give_buffer(env, RX, 1536);
    host_send(env, 0, NULL, frame, 20000);
    driver_expect_nothing(env, RX);
    env->ops->reset(env->bus); /* with a frame that waits */
    contract_start(env, 0);
    for (int i = 0; i < 8; i++)
        give_buffer(env, RX, 3000);
    host_send(env, 0, NULL, frame, 20000);
    driver_expect(env, RX, frame, 20000, 7);
    free(frame);
}

/* -- the kinds --------------------------------------------------------------------------------- */

static const struct contract_case socket_cases[] = {
    {"a frame in a buffer", a_frame_in_a_buffer},
    {"a frame over buffers", a_frame_over_buffers},
    {"a frame that nothing holds", a_frame_that_nothing_holds},
    {"runts for the driver", runts_for_the_driver},
    {"a flood for the driver", a_flood_for_the_driver},
    {"a driver that is slow", a_driver_that_is_slow},
    {"a buffer without room for a header", a_buffer_without_room},
    {"frames of the driver", frames_of_the_driver},
    {"what is no frame is dropped", what_is_no_frame},
    {"headers that ask for what was not agreed on", headers_that_ask_too_much},
    {"a host that is slow", a_host_that_is_slow},
    {"a host that goes", a_host_that_goes},
    {"a cable that is pulled", a_cable_that_is_pulled},
    {"commands are answered", commands_are_answered},
    {NULL, NULL},
};

static const struct contract_case toy_cases[] = {
    {"frames of the driver", frames_of_the_driver},
    {"headers that ask for what was not agreed on", headers_that_ask_too_much},
    {"a driver that is slow", a_driver_that_is_slow},
    {"a host that is slow", a_host_that_is_slow},
    {"a pair more", a_pair_more},
    {"without MQ the control queue is the third", without_mq_the_control_queue_is_third},
    {"offloads go both ways", offloads_go_both_ways},
    {"headers that cannot be", headers_that_cannot_be},
    {"offloads change", offloads_change},
    {"a large frame over small buffers", a_large_frame_over_small_buffers},
    {"commands are answered", commands_are_answered},
    {NULL, NULL},
};

#define FEATURES (VIRTIO_NET_F_MAC | VIRTIO_NET_F_MTU | VIRTIO_NET_F_STATUS | VIRTIO_NET_F_CTRL_VQ)

const struct contract_kind contract_net = {
    .name = "network",
    .make = make_socket,
    .unmake = unmake,
    .queue = TX,
    .queues = 3,
    .features = FEATURES,
    .request = request,
    .served = served,
    .cases = socket_cases,
};

const struct contract_kind contract_net_offloads = {
    .name = "network with offloads",
    .make = make_toy,
    .unmake = unmake,
    .queue = TX,
    .queues = 5,
    .features = FEATURES | VIRTIO_NET_F_MQ | VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_TSO6,
    .request = request,
    .served = served,
    .cases = toy_cases,
};
