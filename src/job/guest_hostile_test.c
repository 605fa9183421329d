/* SPDX-License-Identifier: Apache-2.0 */

/* The host's client against a guest that breaks the protocol, goes, or talks without end. */

#include "job/guest_pump.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "job/testing_guest.h"
#include "proto/link.h"
#include "proto/proto.h"
#include "util/arith.h"
#include "util/io.h"

/* What guest_pump says to these frames after EXEC. */
static int lie(const uint8_t *bytes, size_t len, bool hang_up, struct dayfly_err *err)
{
    int fds[2];
    struct guest *g;
    uint32_t session;
    struct guest_result r;
    const char *const argv[] = {"true", NULL};
    struct guest_pump opts = PUMP;
    opts.deadline_ns = clock_ns() + TEST_WAIT_NS;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(guest_new(fds[0], &g, NULL), 0);
    assert_int_equal(
        guest_exec(g, &(struct guest_command){.argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1},
                   &session, NULL),
        0);
    assert_int_equal(session, 1);
    assert_int_equal(io_write_full(fds[1], bytes, len), 0);
    if (hang_up)
        shutdown(fds[1], SHUT_WR);
    int result = guest_pump(g, session, &opts, &r, err);
    guest_free(g);
    close(fds[1]);
    return result;
}

struct script {
    uint8_t bytes[400000];
    size_t len;
};

static void put(struct script *s, uint16_t type, uint16_t stream, uint32_t session, const void *payload,
                uint32_t len)
{
    proto_put_header(s->bytes + s->len, type, stream, session, len);
    memcpy(s->bytes + s->len + PROTO_HEADER_BYTES, payload, len);
    s->len += PROTO_HEADER_BYTES + len;
}

/* More than a socket holds, so from a child; with a local reader that takes nothing, so that no credit
 * goes back. */
static void lie_at_length(const struct script *s)
{
    int fds[2], full[2];
    struct guest *g;
    uint32_t session;
    struct guest_result r;
    const char *const argv[] = {"true", NULL};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(pipe2(full, O_CLOEXEC), 0);
    fill_pipe(full[1]);
    assert_int_equal(guest_new(fds[0], &g, NULL), 0);
    assert_int_equal(
        guest_exec(
            g, &(struct guest_command){.argv = argv, .in_fd = -1, .out_fd = full[1], .err_fd = full[1]},
            &session, NULL),
        0);
    pid_t writer = fork();
    if (writer == 0) {
        signal(SIGPIPE, SIG_IGN);
        (void)io_write_full(fds[1], s->bytes, s->len);
        _exit(0);
    }
    assert_int_equal(guest_pump(g, session, &PUMP, &r, NULL), -EPROTO);
    guest_free(g);
    close(fds[1]);
    close(full[0]);
    close(full[1]);
    assert_int_equal(waitpid(writer, NULL, 0), writer);
}

static void test_a_guest_that_lies_is_lost(void **state)
{
    (void)state;
    static const uint8_t started[8] = {1, 0, 0, 0, 16, 0, 0, 0}, exited[16],
                         window[4] = {255, 255, 255, 255};
    static struct script s;
    static uint8_t big[PROTO_PAYLOAD_MAX];
    for (int fault = 0; fault < 12; fault++) {
        struct dayfly_err err = {0};
        s.len = 0;
        if (fault != 0)
            put(&s, PROTO_STARTED, 0, 1, started, 8);
        switch (fault) {
        case 0: /* output before STARTED */
            put(&s, PROTO_DATA, PROTO_STDOUT, 1, "x", 1);
            break;
        case 1: /* more than the window */
            for (int i = 0; i < 5; i++)
                put(&s, PROTO_DATA, PROTO_STDERR, 1, big, i < 4 ? PROTO_PAYLOAD_MAX : 1);
            break;
        case 2: /* EXIT before the streams' ends */
            put(&s, PROTO_EXIT, 0, 1, exited, 16);
            break;
        case 3: /* a session that never was */
            put(&s, PROTO_DATA, PROTO_STDOUT, 2, "x", 1);
            break;
        case 4: /* output behind its end */
            put(&s, PROTO_END, PROTO_STDOUT, 1, "", 0);
            put(&s, PROTO_DATA, PROTO_STDOUT, 1, "x", 1);
            break;
        case 5:
            put(&s, PROTO_STARTED, 0, 1, started, 8);
            break;
        case 6: /* a host's message */
            put(&s, PROTO_SIGNAL, 0, 1, started, 4);
            break;
        case 7:
            put(&s, PROTO_WINDOW, PROTO_STDIN, 1, window, 4);
            break;
        case 8:
            put(&s, PROTO_DATA, PROTO_STDIN, 1, "x", 1);
            break;
        case 9: /* READY without SETUP */
            put(&s, PROTO_READY, 0, 0, big, 24);
            break;
        case 10:
            memset(s.bytes + s.len, 0xff, 64);
            s.len += 64;
            break;
        case 11: /* empty DATA, without end */
            put(&s, PROTO_DATA, PROTO_STDOUT, 1, "", 0);
            break;
        }
        if (fault == 1) {
            lie_at_length(&s);
            continue;
        }
        if (lie(s.bytes, s.len, false, &err) != -EPROTO)
            fail_msg("fault %d was let pass", fault);
        assert_non_null(strstr(err.msg, "protocol"));
    }
}

static void test_a_guest_that_goes_is_noticed(void **state)
{
    (void)state;
    static const uint8_t started[8] = {1}, exited[16] = {9};
    static struct script s;
    s.len = 0;
    put(&s, PROTO_STARTED, 0, 1, started, 8);
    put(&s, PROTO_END, PROTO_STDOUT, 1, "", 0);
    put(&s, PROTO_END, PROTO_STDERR, 1, "", 0);
    assert_int_equal(lie(s.bytes, s.len, true, NULL), -ECONNRESET);
    /* What it said before counts. */
    put(&s, PROTO_EXIT, 0, 1, exited, 16);
    assert_int_equal(lie(s.bytes, s.len, true, NULL), 0);
}

/* A guest that talks and talks: its answer stands behind more than is read in one turn, and the
 * deadline is over by then. */
static void test_deadlines_hold_whatever_the_guest_says(void **state)
{
    (void)state;
    static struct script s;
    static const uint8_t ready[24], figures[72];
    struct proto_hello hello = {.version = PROTO_VERSION};
    struct proto_ready ready_msg;
    struct proto_stat stat;
    struct dayfly_err err = {0};
    struct guest_wait wait = soon();
    uint8_t payload[256];
    int fds[2], room = 1 << 20;
    struct guest *g;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    assert_int_equal(guest_new(fds[0], &g, &err), 0);
    s.len = 0;
    put(&s, PROTO_HELLO, 0, 0, payload, (uint32_t)proto_hello_encode(&hello, payload, sizeof(payload)));
    assert_int_equal(io_write_full(fds[1], s.bytes, s.len), 0);
    assert_int_equal(guest_wait_hello(g, &wait, &hello, &err), 0);
    s.len = 0;
    put(&s, PROTO_READY, 0, 0, ready, sizeof(ready));
    assert_int_equal(io_write_full(fds[1], s.bytes, s.len), 0);
    assert_int_equal(guest_setup(g, &SETUP, &wait, &ready_msg, &err), 0);

    for (s.len = 0; s.len < PROTO_LINK_BYTES + 4096;)
        put(&s, PROTO_BYE, 0, 0, "", 0);
    put(&s, PROTO_STAT_REPLY, 0, 0, figures, sizeof(figures));
    assert_int_equal(send(fds[1], s.bytes, s.len, MSG_DONTWAIT), s.len);
    wait.deadline_ns = 1;
    assert_int_equal(guest_stat(g, &wait, &stat, &err), -ETIMEDOUT);
    guest_free(g);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_guest_that_lies_is_lost),
        cmocka_unit_test(test_a_guest_that_goes_is_noticed),
        cmocka_unit_test(test_deadlines_hold_whatever_the_guest_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
