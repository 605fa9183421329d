/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console device in the contract suite: two ports, the first a terminal on two pipes, the second a
 * stream named "agent" on a socket. Its own cases speak the driver's part (virtio 1.2,
 * section 5.3.6.2).
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kinds.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"
#include "virtio/console.h"

enum { RX0, TX0, CONTROL_RX, CONTROL_TX, RX1, TX1 };
enum {
    DEVICE_READY = 0,
    PORT_ADD = 1,
    PORT_READY = 3,
    CONSOLE_PORT = 4,
    RESIZE = 5,
    OPEN = 6,
    NAME = 7
};

#define BUFFER_BYTES 256

struct control {
    uint32_t id;
    uint16_t event, value;
};

struct made {
    int keyboard, screen; /* the terminal's other ends */
    int stream;           /* the second port's */
    unsigned requests;
    uint64_t gpa_of[CONTRACT_QUEUES][CONTRACT_RING];
};

static struct made *made_of(struct contract_env *env)
{
    return env->made;
}

static int make(struct contract_env *env)
{
    struct made *made = calloc(1, sizeof(*made));
    int in[2], out[2], pair[2];
    struct dayfly_err err;
    assert_non_null(made);
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    made->keyboard = in[1];
    made->screen = out[0];
    made->stream = pair[0];
    env->made = made;
    const struct virtio_console_port ports[2] = {
        {.console = true, .in_fd = in[0], .out_fd = out[1]},
        {.name = "agent", .in_fd = pair[1], .out_fd = pair[1]},
    };
    const struct virtio_console_options options = {
        .ports = ports, .port_count = 2, .columns = 80, .rows = 25};
    return virtio_console_new(&env->dev, &options, env->loop, NULL, &err);
}

static void unmake(struct contract_env *env)
{
    struct made *made = made_of(env);
    virtio_console_free(env->dev);
    close_fd(&made->keyboard);
    close_fd(&made->screen);
    close_fd(&made->stream);
    free(made);
}

static void host_reads(int fd, void *buf, size_t len)
{
    for (size_t have = 0; have < len;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&wait, 1, CONTRACT_TIMEOUT_MS), 1);
        ssize_t n = read(fd, (char *)buf + have, len - have);
        assert_true(n > 0);
        have += (size_t)n;
    }
}

/* Sixteen characters with a number in them, cut into two buffers. */
static unsigned request(struct contract_env *env, struct driver_buf *bufs, unsigned max)
{
    char text[17];
    uint64_t gpa = contract_alloc(env, 16);
    snprintf(text, sizeof(text), "line %010u\n", ++made_of(env)->requests);
    memcpy(contract_hva(env, gpa, 16), text, 16);
    bufs[0] = (struct driver_buf){gpa, 5, false};
    bufs[1] = (struct driver_buf){gpa + 5, 11, false};
    return 2;
}

static void served(struct contract_env *env, const struct driver_buf *bufs, unsigned count,
                   uint32_t written)
{
    char want[16], got[16];
    assert_int_equal(written, 0);
    memcpy(want, contract_hva(env, bufs[0].gpa, 16), 16);
    do /* earlier ones may be there, from before a reset */
        host_reads(made_of(env)->screen, got, 16);
    while (memcmp(want, got, 16) != 0);
}

/* -- the driver's part ------------------------------------------------------------------------ */

static void give_buffer(struct contract_env *env, unsigned queue, uint64_t gpa)
{
    const struct driver_buf bufs[2] = {{gpa, 3, true}, {gpa + 3, BUFFER_BYTES - 3, true}};
    int head = contract_send(env, queue, bufs, 2);
    made_of(env)->gpa_of[queue][head] = gpa;
}

static void give_buffers(struct contract_env *env, unsigned queue, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        give_buffer(env, queue, contract_alloc(env, BUFFER_BYTES));
}

/* The next buffer that came back, which is given again. */
static uint32_t receive(struct contract_env *env, unsigned queue, void *data)
{
    uint16_t head;
    uint32_t written;
    contract_wait_used(env, queue, &head, &written);
    uint64_t gpa = made_of(env)->gpa_of[queue][head];
    assert_in_range(written, 1, BUFFER_BYTES);
    memcpy(data, contract_hva(env, gpa, written), written);
    give_buffer(env, queue, gpa);
    return written;
}

static void expect_text(struct contract_env *env, unsigned queue, const char *text)
{
    char data[BUFFER_BYTES];
    assert_int_equal(receive(env, queue, data), strlen(text));
    assert_memory_equal(data, text, strlen(text));
}

static void expect_nothing(struct contract_env *env, unsigned queue)
{
    uint16_t head;
    uint32_t written;
    contract_settle(env);
    assert_false(driver_used(&env->rings[queue], &head, &written));
}

static void expect_control(struct contract_env *env, uint32_t id, uint16_t event, uint16_t value,
                           const void *extra, uint32_t extra_bytes)
{
    uint8_t data[BUFFER_BYTES];
    struct control c;
    assert_int_equal(receive(env, CONTROL_RX, data), sizeof(c) + extra_bytes);
    memcpy(&c, data, sizeof(c));
    assert_int_equal(le32toh(c.id), id);
    assert_int_equal(le16toh(c.event), event);
    assert_int_equal(le16toh(c.value), value);
    if (extra_bytes > 0)
        assert_memory_equal(data + sizeof(c), extra, extra_bytes);
}

static void say(struct contract_env *env, uint32_t id, uint16_t event, uint16_t value)
{
    const struct control c = {htole32(id), htole16(event), htole16(value)};
    const struct driver_buf buf = {contract_alloc(env, sizeof(c)), sizeof(c), false};
    memcpy(contract_hva(env, buf.gpa, sizeof(c)), &c, sizeof(c));
    assert_int_equal(contract_roundtrip(env, CONTROL_TX, &buf, 1), 0);
}

static void guest_writes(struct contract_env *env, unsigned queue, const char *text)
{
    const struct driver_buf buf = {contract_alloc(env, strlen(text)), (uint32_t)strlen(text), false};
    memcpy(contract_hva(env, buf.gpa, strlen(text)), text, strlen(text));
    assert_int_equal(contract_roundtrip(env, queue, &buf, 1), 0);
}

static const uint16_t size_80x25[2] = {25, 80}; /* rows first, as Linux has it */

static void introduce(struct contract_env *env)
{
    contract_start(env, 0);
    give_buffers(env, CONTROL_RX, 8);
    say(env, 0, DEVICE_READY, 1);
    expect_control(env, 0, PORT_ADD, 1, NULL, 0);
    expect_control(env, 1, PORT_ADD, 1, NULL, 0);
    say(env, 0, PORT_READY, 1);
    expect_control(env, 0, CONSOLE_PORT, 1, NULL, 0);
    expect_control(env, 0, OPEN, 1, NULL, 0);
    expect_control(env, 0, RESIZE, 1, size_80x25, sizeof(size_80x25));
    say(env, 1, PORT_READY, 1);
    expect_control(env, 1, NAME, 1, "agent", 5);
    expect_control(env, 1, OPEN, 1, NULL, 0);
}

/* -- cases ------------------------------------------------------------------------------------ */

static void input_waits_for_a_program(struct contract_env *env)
{
    introduce(env);
    give_buffers(env, RX1, 4);
    assert_int_equal(write(made_of(env)->stream, "hello", 5), 5);
    expect_nothing(env, RX1);
    say(env, 1, OPEN, 1);
    expect_text(env, RX1, "hello");
    guest_writes(env, TX1, "and back");
    char got[8];
    host_reads(made_of(env)->stream, got, 8);
    assert_memory_equal(got, "and back", 8);
    say(env, 1, OPEN, 0);
    assert_int_equal(write(made_of(env)->stream, "wait", 4), 4);
    expect_nothing(env, RX1);
    say(env, 1, OPEN, 1);
    expect_text(env, RX1, "wait");
}

static void input_waits_for_buffers(struct contract_env *env)
{
    introduce(env);
    say(env, 0, OPEN, 1);
    assert_int_equal(write(made_of(env)->keyboard, "typed ahead", 11), 11);
    contract_settle(env);
    give_buffers(env, RX0, 1);
    expect_text(env, RX0, "typed ahead");
}

static void a_driver_of_one_port(struct contract_env *env)
{
    contract_start(env, VIRTIO_CONSOLE_F_MULTIPORT);
    give_buffers(env, RX0, 2);
    assert_int_equal(write(made_of(env)->keyboard, "ls\n", 3), 3);
    expect_text(env, RX0, "ls\n");
    contract_assert_serves(env);
}

static void slow_output_loses_nothing(struct contract_env *env)
{
    introduce(env);
    /* More than the pipe holds; every chain a different letter, and of an odd length. */
    enum { CHAINS = 12, BYTES = 9001 };
    for (unsigned i = 0; i < CHAINS; i++) {
        struct driver_buf buf = {contract_alloc(env, BYTES), BYTES, false};
        memset(contract_hva(env, buf.gpa, BYTES), 'a' + (int)i, BYTES);
        contract_send(env, TX0, &buf, 1);
    }
    contract_settle(env);
    assert_true(driver_used_idx(&env->rings[TX0]) < CHAINS); /* the writers wait */
    for (unsigned i = 0; i < CHAINS; i++) {
        uint8_t got[BYTES];
        host_reads(made_of(env)->screen, got, BYTES);
        for (unsigned j = 0; j < BYTES; j++)
            assert_int_equal(got[j], 'a' + i);
    }
    for (unsigned i = 0; i < CHAINS; i++) {
        uint16_t head;
        uint32_t written;
        contract_wait_used(env, TX0, &head, &written);
    }
}

/* A chain of a megabyte is written in steps: a socket of packets shows where they end. */
static void a_long_chain_takes_many_steps(struct contract_env *env)
{
    enum { PIECES = 4, PIECE_BYTES = 256 * 1024, STEP_BYTES = 64 * 1024 };
    int pair[2];
    introduce(env);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(virtio_console_attach(env->dev, 0, -1, pair[1]), 0);
    struct driver_buf bufs[PIECES];
    for (unsigned i = 0; i < PIECES; i++) {
        bufs[i] = (struct driver_buf){contract_alloc(env, PIECE_BYTES), PIECE_BYTES, false};
        memset(contract_hva(env, bufs[i].gpa, PIECE_BYTES), 'a' + (int)i, PIECE_BYTES);
    }
    contract_send(env, TX0, bufs, PIECES);
    static uint8_t got[PIECES * PIECE_BYTES];
    for (size_t have = 0; have < sizeof(got);) {
        struct pollfd wait = {.fd = pair[0], .events = POLLIN};
        assert_int_equal(poll(&wait, 1, CONTRACT_TIMEOUT_MS), 1);
        ssize_t n = read(pair[0], got + have, sizeof(got) - have);
        assert_in_range(n, 1, STEP_BYTES);
        have += (size_t)n;
    }
    for (size_t i = 0; i < sizeof(got); i++)
        assert_int_equal(got[i], 'a' + i / PIECE_BYTES);
    uint16_t head;
    uint32_t written;
    contract_wait_used(env, TX0, &head, &written);
    close(pair[0]);
}

static void output_without_a_reader_is_dropped(struct contract_env *env)
{
    introduce(env);
    close_fd(&made_of(env)->stream);
    guest_writes(env, TX1, "nobody hears");
    guest_writes(env, TX1, "nobody hears");
    expect_control(env, 1, OPEN, 0, NULL, 0);
    contract_assert_serves(env);
}

static void the_host_closes_a_stream(struct contract_env *env)
{
    introduce(env);
    give_buffers(env, RX1, 4);
    say(env, 1, OPEN, 1);
    assert_int_equal(write(made_of(env)->stream, "bye", 3), 3);
    close_fd(&made_of(env)->stream);
    expect_text(env, RX1, "bye");
    expect_control(env, 1, OPEN, 0, NULL, 0);
}

static void another_takes_the_stream(struct contract_env *env)
{
    int pair[2];
    introduce(env);
    give_buffers(env, RX1, 4);
    say(env, 1, OPEN, 1);
    assert_int_equal(virtio_console_attach(env->dev, 1, -1, -1), 0);
    expect_control(env, 1, OPEN, 0, NULL, 0);
    guest_writes(env, TX1, "dropped");
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(virtio_console_attach(env->dev, 1, pair[1], pair[1]), 0);
    expect_control(env, 1, OPEN, 1, NULL, 0);
    assert_int_equal(write(pair[0], "new", 3), 3);
    expect_text(env, RX1, "new");
    close(pair[0]);
    assert_int_equal(virtio_console_attach(env->dev, 2, -1, -1), -EINVAL);
}

/* Whoever shares a descriptor with the device finds it as it was: nobody puts it right after a SIGKILL.
 */
static void shared_descriptors_stay_as_they_are(struct contract_env *env)
{
    int in[2], out[2], pair[2];
    introduce(env);
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    const int shared[3] = {dup(in[0]), dup(out[1]), dup(pair[1])};
    assert_int_equal(virtio_console_attach(env->dev, 0, in[0], out[1]), 0);
    assert_int_equal(virtio_console_attach(env->dev, 1, pair[1], pair[1]), 0);
    for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
        assert_int_equal(fcntl(shared[i], F_GETFL) & O_NONBLOCK, 0);
    guest_writes(env, TX0, "out");
    guest_writes(env, TX1, "there");
    char got[8];
    host_reads(out[0], got, 3);
    assert_memory_equal(got, "out", 3);
    host_reads(pair[0], got, 5);
    assert_memory_equal(got, "there", 5);
    give_buffers(env, RX0, 2);
    say(env, 0, OPEN, 1);
    assert_int_equal(write(in[1], "in", 2), 2);
    expect_text(env, RX0, "in");
    for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
        close(shared[i]);
    close(in[1]);
    close(out[0]);
    close(pair[0]);
}

static void the_terminal_is_resized(struct contract_env *env)
{
    const uint16_t size[2] = {50, 132};
    uint16_t config[2];
    introduce(env);
    virtio_console_resize(env->dev, 132, 50);
    expect_control(env, 0, RESIZE, 1, size, sizeof(size));
    env->ops->config_read(env->bus, 0, config, sizeof(config));
    assert_int_equal(le16toh(config[0]), 132);
    assert_int_equal(le16toh(config[1]), 50);
}

static void strange_control_messages(struct contract_env *env)
{
    introduce(env);
    say(env, 2, PORT_READY, 1);
    say(env, UINT32_MAX, OPEN, 1);
    say(env, 0, 99, 1);
    say(env, 1, PORT_READY, 0);
    expect_nothing(env, CONTROL_RX);
    contract_assert_serves(env);
    const struct driver_buf half = {contract_alloc(env, 4), 4, false};
    contract_send(env, CONTROL_TX, &half, 1);
    assert_true(env->ops->wait_needs_reset(env->bus, CONTRACT_TIMEOUT_MS));
}

/* What waits behind a message that breaks a rule is not looked at, and holds nobody up. */
static void messages_behind_a_violation(struct contract_env *env)
{
    contract_start(env, 0);
    const struct driver_buf buf = {contract_alloc(env, 4), 4, false};
    for (int i = 0; i < 3; i++)
        assert_true(driver_add(&env->rings[CONTROL_TX], &buf, 1) >= 0);
    driver_publish(&env->rings[CONTROL_TX]);
    env->ops->kick(env->bus, CONTROL_TX);
    assert_true(env->ops->wait_needs_reset(env->bus, CONTRACT_TIMEOUT_MS));
    contract_settle(env);
    assert_int_equal(driver_used_idx(&env->rings[CONTROL_TX]), 1);
    env->ops->reset(env->bus);
    contract_start(env, 0);
    contract_assert_serves(env);
}

static const struct contract_case cases[] = {
    {"input waits for a program", input_waits_for_a_program},
    {"input waits for buffers", input_waits_for_buffers},
    {"a driver of one port", a_driver_of_one_port},
    {"slow output loses nothing", slow_output_loses_nothing},
    {"a long chain takes many steps", a_long_chain_takes_many_steps},
    {"output without a reader is dropped", output_without_a_reader_is_dropped},
    {"the host closes a stream", the_host_closes_a_stream},
    {"another takes the stream", another_takes_the_stream},
    {"shared descriptors stay as they are", shared_descriptors_stay_as_they_are},
    {"the terminal is resized", the_terminal_is_resized},
    {"strange control messages", strange_control_messages},
    {"messages behind a violation", messages_behind_a_violation},
    {NULL, NULL},
};

const struct contract_kind contract_console = {
    .name = "console",
    .make = make,
    .unmake = unmake,
    .queue = TX0,
    .queues = 6,
    .features = VIRTIO_CONSOLE_F_SIZE | VIRTIO_CONSOLE_F_MULTIPORT,
    .request = request,
    .served = served,
    .cases = cases,
};
