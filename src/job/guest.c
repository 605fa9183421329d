/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The connection to the agent. One loop (guest_turn) serves it and all sessions; guest_session.c is
 * what one session does, guest_pump.c how one is brought to its end.
 *
 * What is to be said stands as state, and is said when the connection has room, as the agent does it:
 * so no call has to queue, and a guest that does not read costs its own progress only.
 */
#include "job/guest.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "job/guest_session.h"
#include "job/guest_turn.h"
#include "proto/link.h"
#include "proto/proto.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/sigpipe.h"
#include "util/text.h"

#define EXEC_WAIT_NS (10 * NS_PER_S)

/* Entries for poll. */
enum { AT_LINK, AT_CANCEL, AT_SIGNAL, AT_SESSIONS };

struct guest {
    struct proto_link link;
    int fd;
    uint32_t next_session;
    struct guest_session *sessions[PROTO_SESSIONS_MAX];
    struct pollfd polls[AT_SESSIONS + PROTO_SESSIONS_MAX * GUEST_SESSION_FDS];
    bool hello, ready, setup_sent, failed, bye, stat_here;
    struct proto_hello hello_msg;
    struct proto_ready ready_msg;
    struct proto_fail fail_msg;
    struct proto_stat stat_msg;
    struct dayfly_err lost; /* code != 0: the guest is gone, and why */
};

static int lose(struct guest *g, int code, const char *what)
{
    if (!g->lost.code)
        err_set(&g->lost, code, "%s", what);
    return -code;
}

int guest_lost(const struct guest *g, struct dayfly_err *err)
{
    return !g->lost.code ? 0 : err_set(err, g->lost.code, "%s", g->lost.msg);
}

int guest_new(int fd, struct guest **out, struct dayfly_err *err)
{
    struct guest *g = calloc(1, sizeof(*g));
    int r = g ? proto_link_init(&g->link, fd) : -ENOMEM;
    if (r < 0) {
        free(g);
        close(fd);
        return err_errno(err, -r, "connection to the guest");
    }
    g->fd = fd;
    g->next_session = 1;
    *out = g;
    return 0;
}

void guest_free(struct guest *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++)
        guest_session_free(g->sessions[i]);
    proto_link_finish(&g->link);
    close(g->fd);
    free(g);
}

struct guest_session *guest_find(struct guest *g, uint32_t id)
{
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        if (g->sessions[i] && g->sessions[i]->id == id)
            return g->sessions[i];
    }
    return NULL;
}

void guest_forget(struct guest *g, uint32_t id)
{
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        if (g->sessions[i] && g->sessions[i]->id == id) {
            guest_session_free(g->sessions[i]);
            g->sessions[i] = NULL;
        }
    }
}

/* --- what the guest says */

static int take_machine(struct guest *g, const struct proto_frame *f)
{
    switch (f->type) {
    case PROTO_HELLO:
        if (g->hello || proto_hello_decode(&g->hello_msg, f->payload, f->len) < 0)
            return -EPROTO;
        text_make_printable(g->hello_msg.release);
        g->hello = true;
        return 0;
    case PROTO_READY:
        if (!g->setup_sent || g->ready || g->failed ||
            proto_ready_decode(&g->ready_msg, f->payload, f->len) < 0)
            return -EPROTO;
        g->ready = true;
        return 0;
    case PROTO_FAIL:
        if (g->ready || g->failed || proto_fail_decode(&g->fail_msg, f->payload, f->len) < 0)
            return -EPROTO;
        text_make_printable(g->fail_msg.text);
        g->failed = true;
        return 0;
    case PROTO_STAT_REPLY:
        if (!g->ready || proto_stat_decode(&g->stat_msg, f->payload, f->len) < 0)
            return -EPROTO;
        g->stat_here = true;
        return 0;
    case PROTO_BYE:
        g->bye = true;
        return g->ready && !f->len ? 0 : -EPROTO;
    default:
        return -EPROTO;
    }
}

static int take_frames(struct guest *g)
{
    struct proto_frame f;
    int r;
    while ((r = proto_link_next(&g->link, &f)) > 0) {
        if (f.session == 0) {
            r = take_machine(g, &f);
        } else {
            struct guest_session *s = guest_find(g, f.session);
            /* The guest is done with a session when it says EXIT; but the host may have given one up
             * before. */
            if (s)
                r = guest_session_frame(s, &f);
            else
                r = f.session < g->next_session ? 0 : -EPROTO;
        }
        if (r == -ENOMEM)
            return lose(g, ENOMEM, "memory for a guest's output");
        if (r < 0)
            break;
    }
    return r < 0 ? lose(g, EPROTO, "the guest broke the agent protocol") : 0;
}

/* --- the loop */

static void fill_polls(struct guest *g, const struct guest_turn *t)
{
    g->polls[AT_LINK] = (struct pollfd){
        .fd = g->lost.code ? -1 : g->fd,
        .events = (short)(POLLIN | (proto_link_pending(&g->link) ? POLLOUT : 0)),
    };
    g->polls[AT_CANCEL] = (struct pollfd){.fd = t->cancel_fd, .events = POLLIN};
    g->polls[AT_SIGNAL] = (struct pollfd){.fd = t->signal_fd, .events = POLLIN};
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        struct pollfd *p = &g->polls[AT_SESSIONS + i * GUEST_SESSION_FDS];
        if (g->sessions[i]) {
            guest_session_poll(g->sessions[i], &g->link, p);
            continue;
        }
        for (int k = 0; k < GUEST_SESSION_FDS; k++)
            p[k] = (struct pollfd){.fd = -1};
    }
}

static void serve_sessions(struct guest *g)
{
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        if (g->sessions[i])
            guest_session_serve(g->sessions[i], &g->link,
                                &g->polls[AT_SESSIONS + i * GUEST_SESSION_FDS]);
    }
}

/* When output that is held back has to be let go: the first such moment, or 0. */
static uint64_t held_until(const struct guest *g)
{
    uint64_t first = 0;
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        uint64_t at = g->sessions[i] ? guest_session_held_until(g->sessions[i]) : 0;
        if (at && (!first || at < first))
            first = at;
    }
    return first;
}

static void release_sessions(struct guest *g)
{
    uint64_t now = clock_ns();
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        if (g->sessions[i])
            guest_session_release(g->sessions[i], now);
    }
}

static void say_sessions(struct guest *g)
{
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        if (g->sessions[i])
            guest_session_say(g->sessions[i], &g->link);
    }
}

static int until(uint64_t deadline_ns)
{
    if (!deadline_ns)
        return -1;
    uint64_t now = clock_ns();
    if (now >= deadline_ns)
        return 0;
    uint64_t ms = (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;
    return (int)MIN(ms, (uint64_t)INT_MAX);
}

static bool past(uint64_t deadline_ns)
{
    return deadline_ns && clock_ns() >= deadline_ns;
}

int guest_turn(struct guest *g, struct guest_turn *t)
{
    t->signalled = false;
    if (g->lost.code && !t->local)
        return -g->lost.code;
    release_sessions(g);
    say_sessions(g);
    uint64_t held_ns = held_until(g);
    uint64_t wake_ns =
        held_ns && (!t->deadline_ns || held_ns < t->deadline_ns) ? held_ns : t->deadline_ns;
    bool again = !g->lost.code && proto_link_room(&g->link, true) < GUEST_SESSION_ROOM;
    int r = g->lost.code ? 0 : proto_link_flush(&g->link);
    if (r < 0 && r != -EAGAIN)
        return lose(g, ECONNRESET, "the guest has gone");
    fill_polls(g, t);
    int n = poll(g->polls, ARRAY_SIZE(g->polls), again && r == 0 ? 0 : until(wake_ns));
    if (n < 0 && errno == EINTR)
        return 0;
    if (n < 0)
        return lose(g, errno, "waiting for the guest");
    if (n == 0)
        return past(t->deadline_ns) ? -ETIMEDOUT : 0;
    if (g->polls[AT_CANCEL].revents)
        return -ECANCELED;
    t->signalled = g->polls[AT_SIGNAL].revents & POLLIN;
    /* The ends of the streams first: what they free is there when the frames come. */
    serve_sessions(g);
    if (g->polls[AT_LINK].revents & ~POLLOUT) {
        ssize_t got = proto_link_fill(&g->link);
        if (got == 0 || (got < 0 && got != -EAGAIN))
            return lose(g, ECONNRESET, "the guest has gone");
        if ((r = take_frames(g)) < 0)
            return r;
    }
    return past(t->deadline_ns) ? -ETIMEDOUT : 0;
}

/* Turn until *flag. */
static int wait_for(struct guest *g, const bool *flag, const struct guest_wait *wait, const char *what,
                    struct dayfly_err *err)
{
    struct guest_turn t = {
        .deadline_ns = wait->deadline_ns, .cancel_fd = wait->cancel_fd, .signal_fd = -1};
    while (!*flag && !g->failed) {
        int r = guest_turn(g, &t);
        if (*flag)
            break;
        if (r == -ETIMEDOUT && !g->lost.code)
            return err_set(err, ETIMEDOUT, "no %s from the guest in time", what);
        if (r == -ECANCELED && !g->lost.code)
            return err_set(err, ECANCELED, "cancelled while waiting for the guest's %s", what);
        if (r < 0) {
            guest_lost(g, err);
            return err_wrap(err, "waiting for the guest's %s", what);
        }
    }
    if (*flag)
        return 0;
    int code = g->fail_msg.code > 0 && g->fail_msg.code < 4096 ? (int)g->fail_msg.code : EIO;
    return err_set(err, code, "the guest: %s", g->fail_msg.text);
}

int guest_wait_hello(struct guest *g, const struct guest_wait *wait, struct proto_hello *out,
                     struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    int r = wait_for(g, &g->hello, wait, "agent", err);
    if (r < 0)
        return r;
    if (g->hello_msg.version != PROTO_VERSION) {
        lose(g, EPROTO, "the guest's agent is of another version");
        return err_set(err, EPROTO,
                       "the guest's agent speaks protocol %u, this is %d: rebuild its initramfs",
                       g->hello_msg.version, PROTO_VERSION);
    }
    *out = g->hello_msg;
    return 0;
}

/* Wait for room for a message that is not part of a session. */
#define SEND(g, wait, type, kind, m, err)                                                              \
    ({                                                                                                 \
        struct guest_turn _t = {                                                                       \
            .deadline_ns = (wait)->deadline_ns, .cancel_fd = (wait)->cancel_fd, .signal_fd = -1};      \
        int _r = 0;                                                                                    \
        while (_r == 0 && (_r = proto_link_send_message(&(g)->link, type, 0, kind, m)) == -EAGAIN)     \
            _r = guest_turn((g), &_t);                                                                 \
        _r < 0 ? err_errno(err, -_r, "sending %s to the guest", proto_type_name(type)) : 0;            \
    })

int guest_setup(struct guest *g, const struct proto_setup *setup, const struct guest_wait *wait,
                struct proto_ready *out, struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    int r = guest_lost(g, err);
    if (r == 0)
        r = SEND(g, wait, PROTO_SETUP, setup, setup, err);
    if (r < 0)
        return r;
    g->setup_sent = true;
    r = wait_for(g, &g->ready, wait, "root file system", err);
    if (r == 0)
        *out = g->ready_msg;
    return r;
}

int guest_secret(struct guest *g, const struct proto_secret *secret, const struct guest_wait *wait,
                 struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    struct guest_turn t = {
        .deadline_ns = wait->deadline_ns, .cancel_fd = wait->cancel_fd, .signal_fd = -1};
    int r = guest_lost(g, err);
    if (r < 0)
        return r;
    r = SEND(g, wait, PROTO_SECRET, secret, secret, err);
    /* A turn waits for something to happen, which room in the connection is only as long as there is
     * something left to be written. */
    while (r == 0 && proto_link_flush(&g->link) == -EAGAIN)
        if ((r = guest_turn(g, &t)) < 0)
            err_errno(err, -r, "sending a secret to the guest");
    proto_link_wipe(&g->link);
    return r;
}

static uint32_t count(const char *const *list)
{
    uint32_t n = 0;
    while (list && list[n] && n <= PROTO_STRINGS_MAX)
        n++;
    return n;
}

/* Queue EXEC, once the connection has room for it. */
static int send_exec(struct guest *g, uint32_t id, const struct proto_exec *m, struct dayfly_err *err)
{
    _cleanup_free_ uint8_t *payload = malloc(PROTO_PAYLOAD_MAX);
    if (!payload)
        return err_errno(err, ENOMEM, "command");
    ssize_t len = proto_exec_encode(m, payload, PROTO_PAYLOAD_MAX);
    if (len < 0)
        return err_set(
            err, E2BIG,
            "arguments and environment of '%s' are larger than %d bytes: pass them in a file",
            m->argv[0], PROTO_PAYLOAD_MAX);
    struct guest_turn t = {.deadline_ns = clock_ns() + EXEC_WAIT_NS, .cancel_fd = -1, .signal_fd = -1};
    while (proto_link_send(&g->link, PROTO_EXEC, 0, id, payload, (size_t)len) == -EAGAIN) {
        int r = guest_turn(g, &t);
        if (r < 0)
            return g->lost.code ? guest_lost(g, err)
                                : err_errno(err, -r, "starting '%s' in the guest", m->argv[0]);
    }
    return 0;
}

int guest_exec(struct guest *g, const struct guest_command *c, uint32_t *session,
               struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    static const char *const NONE[] = {NULL};
    struct proto_exec m = {
        .flags = (c->tty ? PROTO_EXEC_TTY : 0) | (c->in_fd >= 0 ? PROTO_EXEC_STDIN : 0) |
                 (c->make_cwd ? PROTO_EXEC_MKCWD : 0) | (c->secrets ? PROTO_EXEC_SECRETS : 0) |
                 (c->collect ? PROTO_EXEC_COLLECT : 0),
        .rows = c->rows,
        .cols = c->cols,
        .stdout_window = PROTO_WINDOW_BYTES,
        .stderr_window = PROTO_WINDOW_BYTES,
        .user = c->user ? c->user : "",
        .cwd = c->cwd ? c->cwd : "",
        .argv = c->argv,
        .env = c->env ? c->env : NONE,
        .argc = count(c->argv),
        .envc = count(c->env),
    };
    int r = guest_lost(g, err);
    if (r < 0)
        return r;
    struct guest_session **slot = NULL;
    for (size_t i = 0; !slot && i < ARRAY_SIZE(g->sessions); i++) {
        if (!g->sessions[i])
            slot = &g->sessions[i];
    }
    if (!slot)
        return err_set(err, EAGAIN, "more than %d commands at one time in a guest", PROTO_SESSIONS_MAX);
    r = send_exec(g, g->next_session, &m, err);
    if (r < 0)
        return r;
    struct guest_session *s =
        guest_session_new(g->next_session, c->in_fd, c->out_fd, c->err_fd, c->mask);
    if (!s) {
        /* The EXEC is on its way: nobody would serve it. */
        lose(g, ENOMEM, "memory for a session");
        return guest_lost(g, err);
    }
    s->out[0].take = c->take;
    s->out[0].opaque = c->opaque;
    g->next_session++;
    *slot = s;
    *session = s->id;
    return 0;
}

void guest_signal(struct guest *g, uint32_t session, int number)
{
    struct guest_session *s = guest_find(g, session);
    if (s)
        guest_session_signal(s, number);
}

void guest_resize(struct guest *g, uint32_t session, uint16_t rows, uint16_t cols)
{
    struct guest_session *s = guest_find(g, session);
    if (s)
        guest_session_resize(s, rows, cols);
}

void guest_kill(struct guest *g, uint32_t session)
{
    struct guest_session *s = guest_find(g, session);
    if (s)
        guest_session_kill(s);
}

int guest_kill_leftovers(struct guest *g, struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    struct guest_turn t = {.deadline_ns = clock_ns() + EXEC_WAIT_NS, .cancel_fd = -1, .signal_fd = -1};
    for (uint32_t id = 1; id < g->next_session; id++) {
        int r = 0;
        if (guest_find(g, id))
            continue;
        while (r == 0 && proto_link_send(&g->link, PROTO_KILL, 0, id, NULL, 0) == -EAGAIN)
            r = guest_turn(g, &t);
        if (r < 0)
            return g->lost.code ? guest_lost(g, err) : err_errno(err, -r, "ending the job's processes");
    }
    return 0;
}

/* --- the machine */

int guest_stat(struct guest *g, const struct guest_wait *wait, struct proto_stat *out,
               struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    g->stat_here = false;
    int r = guest_lost(g, err);
    if (r < 0)
        return r;
    if (proto_link_send(&g->link, PROTO_STAT, 0, 0, NULL, 0) < 0)
        return err_set(err, EAGAIN, "the guest does not read its messages");
    if ((r = wait_for(g, &g->stat_here, wait, "figures", err)) == 0)
        *out = g->stat_msg;
    return r;
}

int guest_shutdown(struct guest *g, uint32_t flags, const struct guest_wait *wait,
                   struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    struct proto_shutdown m = {.flags = flags};
    if (g->bye)
        return 0;
    int r = guest_lost(g, err);
    if (r == 0)
        r = SEND(g, wait, PROTO_SHUTDOWN, shutdown, &m, err);
    return r < 0 ? r : wait_for(g, &g->bye, wait, "last word", err);
}
