/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz the host's side of the conversation with an agent: the whole of it, not the decoders alone
 * (proto_fuzz.c). The input is what a hostile agent says, frame by frame: of types and sessions near
 * what is due, with payloads that are mostly of the right size; and what the host asks meanwhile. No
 * call waits: deadlines are now. Checked: of output no more arrives than was said.
 */
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "job/guest.h"
#include "job/guest_pump.h"
#include "program.h"
#include "proto/proto.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define OPS_MAX 200

struct run {
    struct input in;
    struct guest *g;
    int fd;
    uint32_t session;
    uint64_t said, taken;
};

static int take(void *opaque, const uint8_t *bytes, size_t len)
{
    struct run *r = opaque;
    r->taken += len;
    check(r->taken <= r->said);
    return 0;
}

static void say(struct run *r)
{
    static const uint8_t usual[] = {[PROTO_STARTED] = 8, [PROTO_WINDOW] = 4, [PROTO_EXIT] = 16};
    uint8_t frame[PROTO_HEADER_BYTES + 256] = {0};
    uint8_t how = u8(&r->in);
    uint16_t type = u8(&r->in) % (PROTO_TYPE_COUNT + 1), stream = how & 3;
    uint32_t len = how & 4 || type >= ARRAY_SIZE(usual) || !usual[type] ? u8(&r->in) : usual[type];
    uint32_t session = how & 8 ? u8(&r->in) % 4 : r->session;
    for (uint32_t i = 0; i < len; i++)
        frame[PROTO_HEADER_BYTES + i] = u8(&r->in);
    if (type == PROTO_DATA)
        r->said += len;
    proto_put_header(frame, type, stream, session, how & 16 ? u32(&r->in) : len);
    if (how & 32)
        len = u8(&r->in) % (len + 1); /* cut: what follows is read as the rest of it */
    send(r->fd, frame, PROTO_HEADER_BYTES + len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void ask(struct run *r)
{
    static const char *const argv[] = {"true", NULL};
    const struct guest_wait now = {.deadline_ns = 1, .cancel_fd = -1};
    const struct guest_command command = {
        .argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1, .take = take, .opaque = r};
    const struct guest_pump pump = {.cancel_fd = -1, .signal_fd = -1, .tty_fd = -1, .deadline_ns = 1};
    static const struct proto_setup setup = {
        .root = {"root", "erofs", ""}, .hostname = "box", .entropy_len = PROTO_ENTROPY_MIN};
    struct dayfly_err err;
    union {
        struct proto_hello hello;
        struct proto_ready ready;
        struct proto_stat stat;
        struct guest_result result;
    } out;
    switch (u8(&r->in) % 10) {
    case 0:
        guest_wait_hello(r->g, &now, &out.hello, &err);
        break;
    case 1:
        guest_setup(r->g, &setup, &now, &out.ready, &err);
        break;
    case 2:
        guest_exec(r->g, &command, &r->session, &err);
        break;
    case 3:
    case 4:
        guest_stat(r->g, &now, &out.stat, &err);
        break;
    case 5:
        guest_signal(r->g, r->session, u8(&r->in));
        guest_resize(r->g, r->session, 1, 1);
        break;
    case 6:
        guest_kill(r->g, r->session);
        break;
    case 7:
        guest_kill_leftovers(r->g, &err);
        break;
    case 8:
        guest_shutdown(r->g, 0, &now, &err);
        break;
    default:
        /* It waits for a killed session: give it the end first. */
        shutdown(r->fd, SHUT_WR);
        guest_pump(r->g, r->session, &pump, &out.result, &err);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run r = {.in = {data, size}, .session = 1};
    int pair[2];
    char sink[4096];
    struct dayfly_err err;
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    r.fd = pair[1];
    check(guest_new(pair[0], &r.g, &err) == 0);
    for (unsigned i = 0; i < OPS_MAX && r.in.left > 0; i++) {
        if (u8(&r.in) < 190)
            say(&r);
        else
            ask(&r);
        while (recv(r.fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
            ;
    }
    guest_free(r.g);
    close(r.fd);
    return 0;
}
