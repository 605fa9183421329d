/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vsock device in the contract suite. Its own cases play the guest's kernel by packets, written
 * from the specification (virtio 1.2, section 5.10), and the host's programs by sockets.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kinds.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"
#include "virtio/vsock.h"

#define GUEST_CID  42
#define PORT       1024 /* where the host listens */
#define GUEST_PORT 5000

enum { RX, TX };
enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
enum { SHUT_RECEIVE = 1, SHUT_SEND = 2, SHUT_BOTH = 3 };

struct header {
    uint64_t src_cid, dst_cid;
    uint32_t src_port, dst_port, len;
    uint16_t type, op;
    uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

#define HEADER_BYTES 44
#define RX_BYTES     1024 /* of one receive buffer, header included */

struct made {
    char dir[32], path[64];
    int accepted[2]; /* a pipe: sockets that the listener was given */
    uint64_t rx_gpa, tx_gpa;
    uint64_t rx_of[CONTRACT_RING];
};

static struct made *made_of(struct contract_env *env)
{
    return env->made;
}

static void on_accepted(void *opaque, int fd, uint32_t guest_port)
{
    struct made *made = opaque;
    assert_int_equal(guest_port, GUEST_PORT);
    assert_int_equal(write(made->accepted[1], &fd, sizeof(fd)), sizeof(fd));
}

static int make(struct contract_env *env)
{
    struct made *made = calloc(1, sizeof(*made));
    struct dayfly_err err;
    assert_non_null(made);
    env->made = made;
    strcpy(made->dir, "/tmp/vsock-XXXXXX");
    assert_non_null(mkdtemp(made->dir));
    snprintf(made->path, sizeof(made->path), "%s/s", made->dir);
    assert_int_equal(pipe(made->accepted), 0);
    struct virtio_vsock_options options = {.guest_cid = GUEST_CID, .path = made->path};
    int r = virtio_vsock_new(&env->dev, &options, env->loop, NULL, &err);
    return r < 0 ? r : virtio_vsock_listen(env->dev, PORT, on_accepted, made);
}

static void unmake(struct contract_env *env)
{
    struct made *made = made_of(env);
    virtio_vsock_free(env->dev);
    assert_int_equal(access(made->path, F_OK), -1);
    close(made->accepted[0]);
    close(made->accepted[1]);
    assert_int_equal(rmdir(made->dir), 0);
    free(made);
}

/* -- the guest's side ------------------------------------------------------------------------- */

static struct header header(uint32_t host_port, uint32_t guest_port, uint16_t op)
{
    return (struct header){.src_cid = htole64(GUEST_CID),
                           .dst_cid = htole64(2),
                           .src_port = htole32(guest_port),
                           .dst_port = htole32(host_port),
                           .type = htole16(1),
                           .op = htole16(op),
                           .buf_alloc = htole32(64 * 1024)};
}

/* An RST for a connection that nobody knows: served without an answer. */
static unsigned request(struct contract_env *env, struct driver_buf *bufs, unsigned max)
{
    struct header h = header(99, 99, RST);
    bufs[0] = (struct driver_buf){contract_alloc(env, HEADER_BYTES), HEADER_BYTES, false};
    memcpy(contract_hva(env, bufs[0].gpa, HEADER_BYTES), &h, HEADER_BYTES);
    return 1;
}

static void served(struct contract_env *env, const struct driver_buf *bufs, unsigned count,
                   uint32_t written)
{
    assert_int_equal(written, 0);
}

static void give_buffer(struct contract_env *env, uint64_t gpa)
{
    /* The header cut in two, so that nobody takes its place for granted. */
    const struct driver_buf bufs[2] = {{gpa, 20, true}, {gpa + 20, RX_BYTES - 20, true}};
    int head = contract_send(env, RX, bufs, 2);
    made_of(env)->rx_of[head] = gpa;
}

static void start(struct contract_env *env, unsigned buffers)
{
    contract_start(env, 0);
    struct made *made = made_of(env);
    made->rx_gpa = contract_alloc(env, CONTRACT_RING * RX_BYTES);
    made->tx_gpa = contract_alloc(env, 64 * 1024);
    for (unsigned i = 0; i < buffers; i++)
        give_buffer(env, made->rx_gpa + i * RX_BYTES);
}

static void send_packet(struct contract_env *env, struct header h, const void *data, uint32_t len)
{
    uint64_t gpa = made_of(env)->tx_gpa;
    h.len = htole32(len);
    memcpy(contract_hva(env, gpa, HEADER_BYTES), &h, HEADER_BYTES);
    if (len > 0)
        memcpy(contract_hva(env, gpa + HEADER_BYTES, len), data, len);
    const struct driver_buf bufs[2] = {{gpa, 30, false}, {gpa + 30, HEADER_BYTES - 30 + len, false}};
    assert_int_equal(contract_roundtrip(env, TX, bufs, 2), 0);
}

static void send_op(struct contract_env *env, uint32_t host_port, uint16_t op, uint32_t flags)
{
    struct header h = header(host_port, GUEST_PORT, op);
    h.flags = htole32(flags);
    send_packet(env, h, NULL, 0);
}

static void send_data(struct contract_env *env, uint32_t host_port, const void *data, uint32_t len)
{
    send_packet(env, header(host_port, GUEST_PORT, RW), data, len);
}

/* The next packet of the host; its buffer is given again. */
static struct header receive(struct contract_env *env, void *data)
{
    uint16_t head;
    uint32_t written;
    struct header h;
    contract_wait_used(env, RX, &head, &written);
    uint64_t gpa = made_of(env)->rx_of[head];
    memcpy(&h, contract_hva(env, gpa, HEADER_BYTES), HEADER_BYTES);
    assert_int_equal(le64toh(h.src_cid), 2);
    assert_int_equal(le64toh(h.dst_cid), GUEST_CID);
    assert_int_equal(written, HEADER_BYTES + le32toh(h.len));
    if (data)
        memcpy(data, contract_hva(env, gpa + HEADER_BYTES, le32toh(h.len)), le32toh(h.len));
    give_buffer(env, gpa);
    return h;
}

static void expect(struct contract_env *env, uint16_t op, uint32_t flags)
{
    struct header h = receive(env, NULL);
    assert_int_equal(le16toh(h.op), op);
    assert_int_equal(le32toh(h.flags), flags);
    assert_int_equal(le32toh(h.dst_port), GUEST_PORT);
}

static void expect_data(struct contract_env *env, const char *text)
{
    char data[RX_BYTES];
    struct header h = receive(env, data);
    assert_int_equal(le16toh(h.op), RW);
    assert_int_equal(le32toh(h.len), strlen(text));
    assert_memory_equal(data, text, strlen(text));
}

static void expect_nothing(struct contract_env *env)
{
    contract_settle(env);
    uint16_t head;
    uint32_t written;
    assert_false(driver_used(&env->rings[RX], &head, &written));
}

/* -- the host's side -------------------------------------------------------------------------- */

static void host_wait(int fd, short events)
{
    struct pollfd wait = {.fd = fd, .events = events};
    assert_int_equal(poll(&wait, 1, CONTRACT_TIMEOUT_MS), 1);
}

static void host_reads(int fd, const char *text)
{
    char data[256];
    size_t want = strlen(text), have = 0;
    while (have < want) {
        host_wait(fd, POLLIN);
        ssize_t n = read(fd, data + have, want - have);
        assert_true(n > 0);
        have += (size_t)n;
    }
    assert_memory_equal(data, text, want);
}

static void host_reads_end(int fd)
{
    char byte;
    host_wait(fd, POLLIN);
    assert_int_equal(read(fd, &byte, 1), 0);
}

static void host_writes(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static int guest_connects(struct contract_env *env)
{
    int fd;
    send_op(env, PORT, REQUEST, 0);
    expect(env, RESPONSE, 0);
    host_wait(made_of(env)->accepted[0], POLLIN);
    assert_int_equal(read(made_of(env)->accepted[0], &fd, sizeof(fd)), sizeof(fd));
    return fd;
}

/* -- cases ------------------------------------------------------------------------------------ */

static void says_who_the_guest_is(struct contract_env *env)
{
    uint64_t cid;
    contract_start(env, 0);
    env->ops->config_read(env->bus, 0, &cid, sizeof(cid));
    assert_int_equal(le64toh(cid), GUEST_CID);
}

static void the_guest_connects(struct contract_env *env)
{
    start(env, 8);
    _cleanup_close_ int fd = guest_connects(env);
    send_data(env, PORT, "hello", 5);
    host_reads(fd, "hello");
    host_writes(fd, "and you");
    expect_data(env, "and you");
    /* The guest's half ends first, then the host closes. */
    send_op(env, PORT, SHUTDOWN, SHUT_SEND);
    host_reads_end(fd);
    host_writes(fd, "still here");
    expect_data(env, "still here");
    close_fd(&fd);
    expect(env, SHUTDOWN, SHUT_BOTH);
    send_op(env, PORT, RST, 0);
    send_data(env, PORT, "x", 1); /* forgotten */
    expect(env, RST, 0);
}

static void the_host_ends_its_half(struct contract_env *env)
{
    start(env, 8);
    _cleanup_close_ int fd = guest_connects(env);
    host_writes(fd, "last words");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    expect_data(env, "last words");
    expect(env, SHUTDOWN, SHUT_SEND);
    send_data(env, PORT, "answer", 6);
    host_reads(fd, "answer");
    send_op(env, PORT, SHUTDOWN, SHUT_BOTH);
    expect(env, RST, 0);
    host_reads_end(fd);
}

static void nobody_listens(struct contract_env *env)
{
    start(env, 8);
    send_op(env, PORT + 1, REQUEST, 0);
    expect(env, RST, 0);
}

static void strange_packets(struct contract_env *env)
{
    start(env, 8);
    struct header h = header(PORT, GUEST_PORT, REQUEST);
    h.src_cid = htole64(GUEST_CID + 1);
    send_packet(env, h, NULL, 0);
    h = header(PORT, GUEST_PORT, REQUEST);
    h.dst_cid = htole64(3);
    send_packet(env, h, NULL, 0);
    send_op(env, PORT, RST, 0);
    expect_nothing(env);

    h = header(PORT, GUEST_PORT, REQUEST);
    h.type = htole16(2);
    send_packet(env, h, NULL, 0);
    expect(env, RST, 0);
    send_op(env, PORT, 77, 0);
    expect(env, RST, 0);

    _cleanup_close_ int fd = guest_connects(env);
    send_op(env, PORT, REQUEST, 0); /* twice */
    expect(env, RST, 0);
    host_reads_end(fd);
}

static void lengths_that_lie(struct contract_env *env)
{
    for (int i = 0; i < 2; i++) {
        start(env, 8);
        struct header h = header(PORT, GUEST_PORT, RW);
        h.len = htole32(i == 0 ? 5 : UINT32_MAX);
        uint64_t gpa = made_of(env)->tx_gpa;
        memcpy(contract_hva(env, gpa, HEADER_BYTES), &h, HEADER_BYTES);
        const struct driver_buf buf = {gpa, HEADER_BYTES, false};
        contract_send(env, TX, &buf, 1);
        assert_true(env->ops->wait_needs_reset(env->bus, CONTRACT_TIMEOUT_MS));
        env->ops->reset(env->bus);
    }
}

/* What waits behind a packet that breaks a rule is not looked at, and holds nobody up. */
static void packets_behind_a_violation(struct contract_env *env)
{
    start(env, 8);
    struct header h = header(PORT + 1, GUEST_PORT, REQUEST);
    h.len = htole32(5);
    uint64_t gpa = made_of(env)->tx_gpa;
    memcpy(contract_hva(env, gpa, HEADER_BYTES), &h, HEADER_BYTES);
    const struct driver_buf buf = {gpa, HEADER_BYTES, false};
    for (int i = 0; i < 3; i++)
        assert_true(driver_add(&env->rings[TX], &buf, 1) >= 0);
    driver_publish(&env->rings[TX]);
    env->ops->kick(env->bus, TX);
    assert_true(env->ops->wait_needs_reset(env->bus, CONTRACT_TIMEOUT_MS));
    contract_settle(env);
    assert_int_equal(driver_used_idx(&env->rings[TX]), 1);
    env->ops->reset(env->bus);
    start(env, 8);
    contract_assert_serves(env);
}

static void keep_socket(void *opaque, int fd, uint32_t guest_port)
{
    struct made *made = opaque;
    assert_int_equal(write(made->accepted[1], &fd, sizeof(fd)), sizeof(fd));
}

/* A guest cannot have all of the process's descriptors. */
static void connections_are_bounded(struct contract_env *env)
{
    unsigned open = 0;
    struct header h;
    assert_int_equal(virtio_vsock_listen(env->dev, PORT + 2, keep_socket, made_of(env)), 0);
    start(env, 8);
    do {
        send_packet(env, header(PORT + 2, 6000 + open, REQUEST), NULL, 0);
        h = receive(env, NULL);
        contract_settle(env);
    } while (le16toh(h.op) == RESPONSE && ++open < 2000);
    for (unsigned i = 0; i < open; i++) {
        int fd;
        assert_int_equal(read(made_of(env)->accepted[0], &fd, sizeof(fd)), sizeof(fd));
        close(fd);
    }
    assert_int_equal(le16toh(h.op), RST);
    assert_in_range(open, 64, 256);
}

/* Everything the guest may send while the host does not read; then the host reads it all. */
static void a_slow_host_loses_nothing(struct contract_env *env)
{
    start(env, 8);
    _cleanup_close_ int fd = guest_connects(env);
    uint8_t block[4096], got[4096];
    /* The credit as a guest counts it: what it sent less what it was told of. */
    uint32_t sent = 0, told = 0;
    uint32_t total = 4 * VSOCK_BUFFER_BYTES, read_bytes = 0;
    while (read_bytes < total) {
        while (sent < total && sent - told + sizeof(block) <= VSOCK_BUFFER_BYTES) {
            memset(block, (int)(sent / sizeof(block)), sizeof(block));
            send_data(env, PORT, block, sizeof(block));
            sent += (uint32_t)sizeof(block);
        }
        while (read_bytes < sent) {
            uint32_t at = read_bytes % (uint32_t)sizeof(block);
            host_wait(fd, POLLIN);
            ssize_t n = read(fd, got, sizeof(block) - at);
            assert_true(n > 0);
            for (ssize_t i = 0; i < n; i++)
                assert_int_equal(got[i], (uint8_t)(read_bytes / sizeof(block)));
            read_bytes += (uint32_t)n;
        }
        while (sent < total && sent - told + sizeof(block) > VSOCK_BUFFER_BYTES) {
            struct header h = receive(env, NULL);
            assert_int_equal(le16toh(h.op), CREDIT_UPDATE);
            told = le32toh(h.fwd_cnt);
        }
    }
}

static void a_guest_beyond_its_credit_is_reset(struct contract_env *env)
{
    start(env, 8);
    _cleanup_close_ int fd = guest_connects(env);
    int small = 1;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    uint8_t block[32 * 1024] = {0};
    /* Twice the buffer, and what the socket itself may take. */
    for (int i = 0; i < 64; i++)
        send_data(env, PORT, block, sizeof(block));
    for (;;) {
        struct header h = receive(env, NULL);
        if (le16toh(h.op) == RST)
            break;
        assert_int_equal(le16toh(h.op), CREDIT_UPDATE);
    }
}

static void the_guest_s_credit_is_kept(struct contract_env *env)
{
    start(env, 8);
    struct header h = header(PORT, GUEST_PORT, REQUEST);
    int fd;
    h.buf_alloc = htole32(10);
    send_packet(env, h, NULL, 0);
    expect(env, RESPONSE, 0);
    host_wait(made_of(env)->accepted[0], POLLIN);
    assert_int_equal(read(made_of(env)->accepted[0], &fd, sizeof(fd)), sizeof(fd));
    host_writes(fd, "0123456789abcdef");
    expect_data(env, "0123456789");
    expect(env, CREDIT_REQUEST, 0);
    h = header(PORT, GUEST_PORT, CREDIT_UPDATE);
    h.buf_alloc = htole32(10);
    h.fwd_cnt = htole32(0);
    send_packet(env, h, NULL, 0); /* no news */
    expect_nothing(env);
    h.fwd_cnt = htole32(4);
    send_packet(env, h, NULL, 0);
    expect_data(env, "abcd");
    expect(env, CREDIT_REQUEST, 0);
    h.buf_alloc = htole32(5); /* it shrinks: nothing may be sent */
    send_packet(env, h, NULL, 0);
    expect_nothing(env);
    h.fwd_cnt = htole32(13);
    send_packet(env, h, NULL, 0);
    expect_data(env, "ef");
    h = header(PORT, GUEST_PORT, CREDIT_REQUEST);
    send_packet(env, h, NULL, 0);
    expect(env, CREDIT_UPDATE, 0);
    close(fd);
}

static void without_receive_buffers(struct contract_env *env)
{
    start(env, 0);
    /* Answers pile up to a bound; then the device takes no more, until there are buffers. */
    for (unsigned i = 0; i < 60; i++)
        send_op(env, PORT + 1, REQUEST, 0);
    unsigned got = 0, sent = 60;
    struct header h = header(PORT + 1, GUEST_PORT, REQUEST);
    uint64_t gpa = made_of(env)->tx_gpa;
    memcpy(contract_hva(env, gpa, HEADER_BYTES), &h, HEADER_BYTES);
    const struct driver_buf buf = {gpa, HEADER_BYTES, false};
    while (driver_add(&env->rings[TX], &buf, 1) >= 0)
        sent++;
    driver_publish(&env->rings[TX]);
    env->ops->kick(env->bus, TX);
    contract_settle(env);
    assert_true(driver_used_idx(&env->rings[TX]) < sent);
    for (unsigned i = 0; i < 8; i++)
        give_buffer(env, made_of(env)->rx_gpa + i * RX_BYTES);
    for (; got < sent; got++)
        expect(env, RST, 0);
    contract_settle(env);
    assert_int_equal(driver_used_idx(&env->rings[TX]), sent);
}

/*
 * The used ring of each queue is the available ring of the other: what the device gives back in one is
 * work in the other, for ever. It has to be done in turns, so that the loop's other sources get theirs.
 */
static void rings_that_feed_each_other(struct contract_env *env)
{
    enum { SIZE = 256, RING_BYTES = 4 + 8 * SIZE };
    if (env->ops->queue_max(env->bus, TX) < SIZE)
        return;
    assert_int_equal(env->ops->negotiate(env->bus, VIRTIO_F_VERSION_1), 0);
    struct header h = header(PORT + 1, GUEST_PORT, REQUEST);
    uint64_t packet = contract_alloc(env, HEADER_BYTES), buffer = contract_alloc(env, RX_BYTES);
    memcpy(contract_hva(env, packet, HEADER_BYTES), &h, HEADER_BYTES);
    uint64_t desc[2] = {contract_alloc(env, 16 * SIZE), contract_alloc(env, 16 * SIZE)};
    uint64_t ring[2] = {contract_alloc(env, RING_BYTES), contract_alloc(env, RING_BYTES)};
    for (unsigned i = 0; i < SIZE; i++) {
        struct driver_desc rx = {buffer, RX_BYTES, DRIVER_DESC_WRITE, 0},
                           tx = {packet, HEADER_BYTES, 0, 0};
        memcpy(contract_hva(env, desc[RX] + 16 * i, 16), &rx, 16);
        memcpy(contract_hva(env, desc[TX] + 16 * i, 16), &tx, 16);
    }
    /* As many packets as the device owes answers at most. */
    *(uint16_t *)contract_hva(env, ring[TX] + 2, 2) = 64;
    for (unsigned i = 0; i < 2; i++) {
        const struct ring_setup setup = {
            .size = SIZE, .desc_gpa = desc[i], .avail_gpa = ring[i], .used_gpa = ring[!i]};
        assert_int_equal(env->ops->setup_queue(env->bus, i, &setup), 0);
    }
    env->ops->driver_ok(env->bus);
    env->ops->kick(env->bus, TX);
    contract_settle(env);
    env->ops->reset(env->bus);
    contract_settle(env);
    start(env, 8);
    contract_assert_serves(env);
}

static void the_host_connects(struct contract_env *env)
{
    start(env, 8);
    _cleanup_close_ int fd = virtio_vsock_connect(env->dev, GUEST_PORT);
    assert_true(fd >= 0);
    host_writes(fd, "early");
    struct header h = receive(env, NULL);
    assert_int_equal(le16toh(h.op), REQUEST);
    uint32_t host_port = le32toh(h.src_port);
    expect_nothing(env); /* no data before the answer */
    send_op(env, host_port, RESPONSE, 0);
    expect_data(env, "early");
    send_data(env, host_port, "yes", 3);
    host_reads(fd, "yes");
    send_op(env, host_port, RST, 0);
    host_reads_end(fd);

    close_fd(&fd);
    fd = virtio_vsock_connect(env->dev, GUEST_PORT);
    h = receive(env, NULL);
    assert_int_not_equal(le32toh(h.src_port), host_port);
    send_op(env, le32toh(h.src_port), RST, 0); /* refused */
    host_reads_end(fd);
}

static void nobody_to_connect_to(struct contract_env *env)
{
    assert_int_equal(virtio_vsock_connect(env->dev, GUEST_PORT), -ENOTCONN);
}

static void a_reset_delivers_what_was_sent(struct contract_env *env)
{
    start(env, 8);
    _cleanup_close_ int fd = guest_connects(env);
    _cleanup_free_ uint8_t *block = calloc(1, 60000);
    for (int i = 0; i < 4; i++) /* more than the socket takes at once */
        send_data(env, PORT, block, 60000);
    env->ops->reset(env->bus);
    start(env, 8); /* and the next driver is there */
    size_t got = 0;
    for (;;) {
        uint8_t some[4096];
        host_wait(fd, POLLIN);
        ssize_t n = read(fd, some, sizeof(some));
        assert_true(n >= 0);
        if (n == 0)
            break;
        got += (size_t)n;
    }
    assert_int_equal(got, 4 * 60000);
    send_data(env, PORT, "x", 1);
    expect(env, RST, 0);
}

static int unix_socket(const char *path, bool serve)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = serve ? bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 1)
                  : connect(fd, (struct sockaddr *)&address, sizeof(address));
    assert_int_equal(r, 0);
    return fd;
}

static void a_unix_client_connects(struct contract_env *env)
{
    start(env, 8);
    struct stat st;
    assert_int_equal(stat(made_of(env)->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    _cleanup_close_ int fd = unix_socket(made_of(env)->path, false);
    host_writes(fd, "CONN");
    contract_settle(env);
    host_writes(fd, "ECT 5000\nand more");
    struct header h = receive(env, NULL);
    assert_int_equal(le16toh(h.op), REQUEST);
    assert_int_equal(le32toh(h.dst_port), GUEST_PORT);
    send_op(env, le32toh(h.src_port), RESPONSE, 0);
    char ok[32];
    snprintf(ok, sizeof(ok), "OK %u\n", le32toh(h.src_port));
    host_reads(fd, ok);
    expect_data(env, "and more");
}

static void unix_clients_that_misspeak(struct contract_env *env)
{
    static const char *const lines[] = {"CONNECT\n",
                                        "CONNECT \n",
                                        "CONNECT -1\n",
                                        "CONNECT 5x\n",
                                        "CONNECT 4294967295\n",
                                        "connect 5\n",
                                        "\n",
                                        "CONNECT 00000000000000000000000000000000"};
    start(env, 8);
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        _cleanup_close_ int fd = unix_socket(made_of(env)->path, false);
        host_writes(fd, lines[i]);
        char byte;
        host_wait(fd, POLLIN);
        assert_true(read(fd, &byte, 1) <= 0); /* the end, or a reset for what was not read */
    }
    expect_nothing(env);
    _cleanup_close_ int refused = unix_socket(made_of(env)->path, false);
    host_writes(refused, "CONNECT 5000\n");
    struct header h = receive(env, NULL);
    send_op(env, le32toh(h.src_port), RST, 0);
    host_reads_end(refused);
}

static void the_guest_reaches_a_unix_socket(struct contract_env *env)
{
    char path[80];
    start(env, 8);
    snprintf(path, sizeof(path), "%s_77", made_of(env)->path);
    send_op(env, 77, REQUEST, 0);
    expect(env, RST, 0);
    _cleanup_close_ int listener = unix_socket(path, true);
    send_op(env, 77, REQUEST, 0);
    expect(env, RESPONSE, 0);
    host_wait(listener, POLLIN);
    _cleanup_close_ int fd = accept(listener, NULL, NULL);
    send_data(env, 77, "hi", 2);
    host_reads(fd, "hi");
    unlink(path);
}

static void the_unix_socket_is_taken_or_stale(struct contract_env *env)
{
    struct virtio_vsock_options options = {.guest_cid = GUEST_CID, .path = made_of(env)->path};
    struct virtio_device *second = NULL;
    struct dayfly_err err;
    char stale[80];
    assert_int_equal(virtio_vsock_new(&second, &options, env->loop, NULL, &err), -EADDRINUSE);
    assert_int_equal(access(made_of(env)->path, F_OK), 0);
    snprintf(stale, sizeof(stale), "%s.stale", made_of(env)->path);
    close(unix_socket(stale, true));
    options.path = stale;
    assert_int_equal(virtio_vsock_new(&second, &options, env->loop, NULL, &err), 0);
    virtio_vsock_free(second);
    assert_int_equal(access(stale, F_OK), -1);
}

static void listening_ends(struct contract_env *env)
{
    assert_int_equal(virtio_vsock_listen(env->dev, PORT, on_accepted, NULL), -EADDRINUSE);
    assert_int_equal(virtio_vsock_listen(env->dev, PORT, NULL, NULL), 0);
    start(env, 8);
    send_op(env, PORT, REQUEST, 0);
    expect(env, RST, 0);
}

static const struct contract_case cases[] = {
    {"says who the guest is", says_who_the_guest_is},
    {"the guest connects", the_guest_connects},
    {"the host ends its half", the_host_ends_its_half},
    {"nobody listens", nobody_listens},
    {"strange packets", strange_packets},
    {"lengths that lie", lengths_that_lie},
    {"packets behind a violation", packets_behind_a_violation},
    {"connections are bounded", connections_are_bounded},
    {"a slow host loses nothing", a_slow_host_loses_nothing},
    {"a guest beyond its credit is reset", a_guest_beyond_its_credit_is_reset},
    {"the guest's credit is kept", the_guest_s_credit_is_kept},
    {"without receive buffers", without_receive_buffers},
    {"rings that feed each other", rings_that_feed_each_other},
    {"the host connects", the_host_connects},
    {"nobody to connect to", nobody_to_connect_to},
    {"a reset delivers what was sent", a_reset_delivers_what_was_sent},
    {"a Unix client connects", a_unix_client_connects},
    {"Unix clients that misspeak", unix_clients_that_misspeak},
    {"the guest reaches a Unix socket", the_guest_reaches_a_unix_socket},
    {"the Unix socket is taken, or stale", the_unix_socket_is_taken_or_stale},
    {"listening ends", listening_ends},
    {NULL, NULL},
};

const struct contract_kind contract_vsock = {
    .name = "vsock",
    .make = make,
    .unmake = unmake,
    .queue = TX,
    .queues = 3,
    .request = request,
    .served = served,
    .cases = cases,
};
