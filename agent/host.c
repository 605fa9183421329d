/* SPDX-License-Identifier: Apache-2.0 */
#include "host.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "fail.h"
#include "util/clock.h"

#define FLUSH_MS 1000

/* Wait for the connection; false when the host has gone. */
static bool wait_for(struct proto_link *l, short events)
{
    struct pollfd p = {.fd = l->fd, .events = events};
    while (poll(&p, 1, -1) < 0) {
        if (errno != EINTR)
            return false;
    }
    return p.revents & events;
}

static int flush(struct proto_link *l)
{
    int r;
    while ((r = proto_link_flush(l)) == -EAGAIN) {
        if (!wait_for(l, POLLOUT))
            return -EPIPE;
    }
    return r;
}

int host_hello(struct agent *a, int fd)
{
    struct utsname uts = {0};
    struct proto_hello m = {
        .version = PROTO_VERSION, .pid = (uint32_t)getpid(), .start_ns = a->start_ns};
    int r = proto_link_init(&a->link, fd);
    if (r < 0)
        return fail(&a->why, -r, "the connection to the host");
    uname(&uts);
    snprintf(m.release, sizeof(m.release), "%.64s", uts.release);
    m.age_ns = clock_ns() - a->start_ns;
    r = proto_link_send_message(&a->link, PROTO_HELLO, 0, hello, &m);
    return r < 0 ? r : flush(&a->link);
}

int host_receive_setup(struct agent *a)
{
    struct proto_frame f;
    int r;
    while ((r = proto_link_next(&a->link, &f)) == 0) {
        if (!wait_for(&a->link, POLLIN))
            return -EPIPE;
        ssize_t n = proto_link_fill(&a->link);
        if (n == 0 || (n < 0 && n != -EAGAIN))
            return n ? (int)n : -EPIPE;
    }
    if (r < 0 || f.type != PROTO_SETUP)
        return fail(&a->why, EPROTO, "waiting for SETUP, got %s",
                    r < 0 ? "no message" : proto_type_name(f.type));
    a->setup_ns = clock_ns();
    if (proto_setup_decode(&a->setup, f.payload, f.len) < 0)
        return fail(&a->why, EPROTO, "SETUP is malformed");
    return 0;
}

int host_ready(struct agent *a)
{
    uint64_t now = clock_ns();
    struct proto_ready m = {now - a->start_ns, a->modules_ns, now - a->setup_ns};
    int r = proto_link_send_message(&a->link, PROTO_READY, 0, ready, &m);
    return r < 0 ? r : flush(&a->link);
}

static void last_word(struct agent *a)
{
    if (!a->link.tx.buf)
        return;
    for (int tries = 0; proto_link_flush(&a->link) == -EAGAIN && tries < 10; tries++) {
        struct pollfd p = {.fd = a->link.fd, .events = POLLOUT};
        poll(&p, 1, FLUSH_MS / 10);
    }
}

void host_fail(struct agent *a, int r)
{
    if (!a->why.text[0])
        fail(&a->why, -r, "the connection to the host");
    if (a->link.tx.buf)
        (void)proto_link_send_message(&a->link, PROTO_FAIL, 0, fail, &a->why);
    last_word(a);
}

void host_bye(struct agent *a)
{
    (void)proto_link_send(&a->link, PROTO_BYE, 0, 0, NULL, 0);
    last_word(a);
}
