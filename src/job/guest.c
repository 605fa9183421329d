/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One loop (turn) serves everything. What is to be said stands as state, and is said when the
 * connection has room, as the agent does it: so no call has to queue, and a guest that does not read
 * costs its own progress only.
 *
 * Streams. A session's stdout and stderr each have a ring of PROTO_WINDOW_BYTES, which is also the
 * credit that the guest holds; what the local descriptor takes is given back as credit. stdin is read
 * only when there is credit and room, straight into the connection's buffer.
 *
 * Local descriptors are the caller's, perhaps shared with other processes, so their O_NONBLOCK is not
 * ours to set. A write of up to PIPE_BUF after POLLOUT does not block on a pipe; sockets have
 * MSG_DONTWAIT; files do not block.
 */
#include "job/guest.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/link.h"
#include "proto/proto.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/text.h"

#define ROOM           4096 /* less in the connection is not worth a DATA frame */
#define GRANT_BYTES    (PROTO_WINDOW_BYTES / 4)
#define GRACE_NS       (10 * NS_PER_S)
#define KILLED_WAIT_NS (5 * NS_PER_S)
#define EXEC_WAIT_NS   (10 * NS_PER_S)
#define SIGNALS_MAX    64

/* Entries of a session for poll. */
enum { AT_IN, AT_OUT, AT_ERR, AT_COUNT };

/* The turn's own entries, in front of the sessions'. */
enum { AT_LINK, AT_CANCEL, AT_SIGNAL, AT_SESSIONS };

struct sink {
    int fd;       /* borrowed; -1: drop */
    size_t chunk; /* what one write may hold without blocking */
    bool socket;
    uint8_t *ring; /* made with the first bytes */
    uint32_t head, len;
    uint32_t credit; /* what the guest may still send */
    uint32_t grant;  /* taken from the ring, not yet given back */
    bool end;        /* the guest's END */
    bool closed;     /* the local reader has gone: CLOSE is due, then said */
    bool close_said;
    uint64_t bytes;
};

struct session {
    uint32_t id;
    bool started, over, refused;
    struct sink out[2];
    int in_fd; /* borrowed; -1: nothing (more) to read */
    uint32_t in_credit;
    uint64_t in_bytes;
    bool in_end_due, kill_due, resize_due;
    uint64_t signals; /* bit n - 1: signal n is due */
    struct proto_resize size;
    struct proto_exit exit;
    struct proto_exec_failed failed;
};

struct guest {
    struct proto_link link;
    int fd;
    uint32_t next_session;
    struct session *sessions[PROTO_SESSIONS_MAX];
    struct pollfd polls[AT_SESSIONS + PROTO_SESSIONS_MAX * AT_COUNT];
    bool hello, ready, setup_sent, failed, bye, synced, stat_here;
    struct proto_hello hello_msg;
    struct proto_ready ready_msg;
    struct proto_fail fail_msg;
    struct proto_stat stat_msg;
    struct dayfly_err lost; /* code != 0: the guest is gone, and why */
};

/* What a turn waits for besides the guest. */
struct turn {
    uint64_t deadline_ns;
    int cancel_fd, signal_fd;
    bool local;     /* go on without the guest: what it said last is still to be written */
    bool signalled; /* out: signal_fd is readable */
};

/* SIGPIPE is blocked while this is in scope; one that came meanwhile is taken away. */
struct quiet {
    sigset_t pipe;
    bool was_blocked, was_pending;
};

static struct quiet quiet_begin(void)
{
    struct quiet q;
    sigset_t now;
    sigemptyset(&q.pipe);
    sigaddset(&q.pipe, SIGPIPE);
    sigpending(&now);
    q.was_pending = sigismember(&now, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &q.pipe, &now);
    q.was_blocked = sigismember(&now, SIGPIPE) == 1;
    return q;
}

static void quiet_end(struct quiet *q)
{
    int saved = errno;
    struct timespec none = {0};
    if (!q->was_pending) {
        while (sigtimedwait(&q->pipe, NULL, &none) < 0 && errno == EINTR)
            ;
    }
    if (!q->was_blocked)
        pthread_sigmask(SIG_UNBLOCK, &q->pipe, NULL);
    errno = saved;
}

#define QUIET_SIGPIPE __attribute__((unused)) _cleanup_(quiet_end) struct quiet _quiet = quiet_begin()

static int lose(struct guest *g, int code, const char *what)
{
    if (!g->lost.code)
        err_set(&g->lost, code, "%s", what);
    return -code;
}

static int lost(const struct guest *g, struct dayfly_err *err)
{
    return err_set(err, g->lost.code, "%s", g->lost.msg);
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

static void session_free(struct session *s)
{
    free(s->out[0].ring);
    free(s->out[1].ring);
    free(s);
}

void guest_free(struct guest *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        if (g->sessions[i])
            session_free(g->sessions[i]);
    }
    proto_link_finish(&g->link);
    close(g->fd);
    free(g);
}

static struct session **find(struct guest *g, uint32_t id)
{
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        if (g->sessions[i] && g->sessions[i]->id == id)
            return &g->sessions[i];
    }
    return NULL;
}

/* --- what the guest says */

static int take_data(struct session *s, const struct proto_frame *f)
{
    if (f->stream == PROTO_STDIN || !f->len)
        return -EPROTO;
    struct sink *k = &s->out[f->stream - PROTO_STDOUT];
    if (k->end || f->len > k->credit)
        return -EPROTO;
    k->credit -= f->len;
    k->bytes += f->len;
    if (k->fd < 0 || k->closed) {
        k->grant += f->len;
        return 0;
    }
    if (!k->ring && !(k->ring = malloc(PROTO_WINDOW_BYTES)))
        return -ENOMEM;
    uint32_t tail = (k->head + k->len) % PROTO_WINDOW_BYTES;
    uint32_t first = MIN(f->len, PROTO_WINDOW_BYTES - tail);
    memcpy(k->ring + tail, f->payload, first);
    memcpy(k->ring, f->payload + first, f->len - first);
    k->len += f->len;
    return 0;
}

static int take_end(struct session *s, const struct proto_frame *f)
{
    if (f->stream == PROTO_STDIN || f->len || s->out[f->stream - PROTO_STDOUT].end)
        return -EPROTO;
    s->out[f->stream - PROTO_STDOUT].end = true;
    return 0;
}

static int take_window(struct session *s, const struct proto_frame *f)
{
    struct proto_window w;
    if (f->stream != PROTO_STDIN || proto_window_decode(&w, f->payload, f->len) < 0 ||
        w.bytes > PROTO_WINDOW_MAX - s->in_credit)
        return -EPROTO;
    s->in_credit += w.bytes;
    return 0;
}

static int take_started(struct session *s, const struct proto_frame *f)
{
    struct proto_started m;
    if (s->started || proto_started_decode(&m, f->payload, f->len) < 0)
        return -EPROTO;
    s->started = true;
    s->in_credit = m.stdin_window;
    return 0;
}

static int take_session(struct session *s, const struct proto_frame *f)
{
    if (s->over)
        return -EPROTO;
    if (f->type == PROTO_STARTED)
        return take_started(s, f);
    if (f->type == PROTO_EXEC_FAILED) {
        if (s->started || proto_exec_failed_decode(&s->failed, f->payload, f->len) < 0)
            return -EPROTO;
        text_make_printable(s->failed.text);
        s->over = s->refused = true;
        return 0;
    }
    if (!s->started)
        return -EPROTO;
    switch (f->type) {
    case PROTO_DATA:
        return take_data(s, f);
    case PROTO_END:
        return take_end(s, f);
    case PROTO_WINDOW:
        return take_window(s, f);
    case PROTO_CLOSE:
        if (f->stream != PROTO_STDIN || f->len)
            return -EPROTO;
        s->in_fd = -1;
        s->in_end_due = false;
        return 0;
    case PROTO_EXIT:
        if (!s->out[0].end || !s->out[1].end || proto_exit_decode(&s->exit, f->payload, f->len) < 0)
            return -EPROTO;
        s->over = true;
        s->in_fd = -1;
        return 0;
    default:
        return -EPROTO;
    }
}

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
    case PROTO_SYNCED:
        g->synced = true;
        return g->ready && !f->len ? 0 : -EPROTO;
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
            struct session **s = find(g, f.session);
            /* The guest is done with a session when it says EXIT; but the host may have given one up
             * before. */
            if (s)
                r = take_session(*s, &f);
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

/* --- what is said to the guest */

static bool say(struct guest *g, struct session *s, uint16_t type, uint16_t stream)
{
    return proto_link_send(&g->link, type, stream, s->id, NULL, 0) == 0;
}

static void say_grant(struct guest *g, struct session *s, int i)
{
    struct sink *k = &s->out[i];
    uint8_t bytes[4];
    struct proto_window w = {.bytes = k->grant};
    if (k->closed && !k->close_said)
        k->close_said = say(g, s, PROTO_CLOSE, (uint16_t)(PROTO_STDOUT + i));
    if (k->grant < GRANT_BYTES || k->end || k->closed)
        return;
    ssize_t n = proto_window_encode(&w, bytes, sizeof(bytes));
    if (n > 0 && proto_link_send(&g->link, PROTO_WINDOW, (uint16_t)(PROTO_STDOUT + i), s->id, bytes,
                                 (size_t)n) == 0) {
        k->credit += k->grant;
        k->grant = 0;
    }
}

static void say_session(struct guest *g, struct session *s)
{
    if (s->over)
        return;
    if (s->kill_due)
        s->kill_due = !say(g, s, PROTO_KILL, 0);
    if (!s->started)
        return;
    for (unsigned n = 1; s->signals && n <= SIGNALS_MAX; n++) {
        struct proto_signal m = {.number = n};
        if (s->signals >> (n - 1) & 1 &&
            proto_link_send_message(&g->link, PROTO_SIGNAL, s->id, signal, &m) == 0)
            s->signals &= ~(UINT64_C(1) << (n - 1));
    }
    if (s->resize_due && proto_link_send_message(&g->link, PROTO_RESIZE, s->id, resize, &s->size) == 0)
        s->resize_due = false;
    if (s->in_end_due)
        s->in_end_due = !say(g, s, PROTO_END, PROTO_STDIN);
    say_grant(g, s, 0);
    say_grant(g, s, 1);
}

/* --- local descriptors */

/* What one write to fd may hold without blocking, once it polls writable. */
static void sink_init(struct sink *k, int fd)
{
    struct stat st;
    *k = (struct sink){.fd = fd, .credit = PROTO_WINDOW_BYTES, .chunk = PIPE_BUF};
    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    int flags = fcntl(fd, F_GETFL);
    k->socket = S_ISSOCK(st.st_mode);
    if (k->socket || S_ISREG(st.st_mode) || (flags >= 0 && flags & O_NONBLOCK))
        k->chunk = PROTO_WINDOW_BYTES;
}

static void serve_sink(struct sink *k, short revents)
{
    if (!k->len || !revents)
        return;
    uint32_t n = MIN(k->len, PROTO_WINDOW_BYTES - k->head);
    n = (uint32_t)MIN((size_t)n, k->chunk);
    ssize_t done = k->socket ? send(k->fd, k->ring + k->head, n, MSG_DONTWAIT | MSG_NOSIGNAL)
                             : write(k->fd, k->ring + k->head, n);
    if (done < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (done < 0) { /* EPIPE, or a full disk: a local process would be told, and so is the guest's */
        k->closed = true;
        k->len = 0;
        return;
    }
    k->head = (k->head + (uint32_t)done) % PROTO_WINDOW_BYTES;
    k->len -= (uint32_t)done;
    k->grant += (uint32_t)done;
}

static bool wants_in(const struct guest *g, const struct session *s)
{
    return s->in_fd >= 0 && s->in_credit > 0 && proto_link_room(&g->link, true) >= ROOM;
}

static void serve_in(struct guest *g, struct session *s, short revents)
{
    if (!revents || !wants_in(g, s))
        return;
    size_t n = MIN((size_t)s->in_credit, proto_link_room(&g->link, true));
    ssize_t got = read(s->in_fd, proto_link_payload(&g->link), n);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) { /* an error is an end, too: there is nothing better to say to the command */
        s->in_fd = -1;
        s->in_end_due = true;
        return;
    }
    proto_link_commit(&g->link, PROTO_DATA, PROTO_STDIN, s->id, (size_t)got);
    s->in_credit -= (uint32_t)got;
    s->in_bytes += (uint64_t)got;
}

/* --- the loop */

static void fill_polls(struct guest *g, const struct turn *t)
{
    g->polls[AT_LINK] = (struct pollfd){
        .fd = g->lost.code ? -1 : g->fd,
        .events = (short)(POLLIN | (proto_link_pending(&g->link) ? POLLOUT : 0)),
    };
    g->polls[AT_CANCEL] = (struct pollfd){.fd = t->cancel_fd, .events = POLLIN};
    g->polls[AT_SIGNAL] = (struct pollfd){.fd = t->signal_fd, .events = POLLIN};
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        struct pollfd *p = &g->polls[AT_SESSIONS + i * AT_COUNT];
        const struct session *s = g->sessions[i];
        p[AT_IN] = p[AT_OUT] = p[AT_ERR] = (struct pollfd){.fd = -1};
        if (!s)
            continue;
        if (wants_in(g, s))
            p[AT_IN] = (struct pollfd){.fd = s->in_fd, .events = POLLIN};
        for (int k = 0; k < 2; k++) {
            if (s->out[k].len)
                p[AT_OUT + k] = (struct pollfd){.fd = s->out[k].fd, .events = POLLOUT};
        }
    }
}

static void serve_sessions(struct guest *g)
{
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        const struct pollfd *p = &g->polls[AT_SESSIONS + i * AT_COUNT];
        struct session *s = g->sessions[i];
        if (!s)
            continue;
        serve_sink(&s->out[0], p[AT_OUT].revents);
        serve_sink(&s->out[1], p[AT_ERR].revents);
        serve_in(g, s, p[AT_IN].revents);
    }
}

static void say_all(struct guest *g)
{
    for (size_t i = 0; i < ARRAY_SIZE(g->sessions); i++) {
        if (g->sessions[i])
            say_session(g, g->sessions[i]);
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

/*
 * Wait for something to happen and serve it. 0; -ETIMEDOUT from the deadline on, whether something
 * happened or not: a guest that never stops talking must not keep it off; -ECANCELED; or the reason why
 * the guest is lost.
 */
static int turn(struct guest *g, struct turn *t)
{
    t->signalled = false;
    if (g->lost.code && !t->local)
        return -g->lost.code;
    say_all(g);
    bool again = !g->lost.code && proto_link_room(&g->link, true) < ROOM;
    int r = g->lost.code ? 0 : proto_link_flush(&g->link);
    if (r < 0 && r != -EAGAIN)
        return lose(g, ECONNRESET, "the guest has gone");
    fill_polls(g, t);
    int n = poll(g->polls, ARRAY_SIZE(g->polls), again && r == 0 ? 0 : until(t->deadline_ns));
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
    struct turn t = {.deadline_ns = wait->deadline_ns, .cancel_fd = wait->cancel_fd, .signal_fd = -1};
    while (!*flag && !g->failed) {
        int r = turn(g, &t);
        if (*flag)
            break;
        if (r == -ETIMEDOUT && !g->lost.code)
            return err_set(err, ETIMEDOUT, "no %s from the guest in time", what);
        if (r == -ECANCELED && !g->lost.code)
            return err_set(err, ECANCELED, "cancelled while waiting for the guest's %s", what);
        if (r < 0) {
            lost(g, err);
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
        struct turn _t = {                                                                             \
            .deadline_ns = (wait)->deadline_ns, .cancel_fd = (wait)->cancel_fd, .signal_fd = -1};      \
        int _r = 0;                                                                                    \
        while (_r == 0 && (_r = proto_link_send_message(&(g)->link, type, 0, kind, m)) == -EAGAIN)     \
            _r = turn((g), &_t);                                                                       \
        _r < 0 ? err_errno(err, -_r, "sending %s to the guest", proto_type_name(type)) : 0;            \
    })

int guest_setup(struct guest *g, const struct proto_setup *setup, const struct guest_wait *wait,
                struct proto_ready *out, struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    int r = g->lost.code ? lost(g, err) : SEND(g, wait, PROTO_SETUP, setup, setup, err);
    if (r < 0)
        return r;
    g->setup_sent = true;
    r = wait_for(g, &g->ready, wait, "root file system", err);
    if (r == 0)
        *out = g->ready_msg;
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
    struct turn t = {.deadline_ns = clock_ns() + EXEC_WAIT_NS, .cancel_fd = -1, .signal_fd = -1};
    while (proto_link_send(&g->link, PROTO_EXEC, 0, id, payload, (size_t)len) == -EAGAIN) {
        int r = turn(g, &t);
        if (r < 0)
            return g->lost.code ? lost(g, err)
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
                 (c->make_cwd ? PROTO_EXEC_MKCWD : 0),
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
    if (g->lost.code)
        return lost(g, err);
    struct session **slot = NULL;
    for (size_t i = 0; !slot && i < ARRAY_SIZE(g->sessions); i++) {
        if (!g->sessions[i])
            slot = &g->sessions[i];
    }
    if (!slot)
        return err_set(err, EAGAIN, "more than %d commands at one time in a guest", PROTO_SESSIONS_MAX);
    int r = send_exec(g, g->next_session, &m, err);
    if (r < 0)
        return r;
    struct session *s = calloc(1, sizeof(*s));
    if (!s) {
        /* The EXEC is on its way: nobody would serve it. */
        lose(g, ENOMEM, "memory for a session");
        return lost(g, err);
    }
    s->id = g->next_session++;
    s->in_fd = c->in_fd;
    sink_init(&s->out[0], c->out_fd);
    sink_init(&s->out[1], c->err_fd);
    *slot = s;
    *session = s->id;
    return 0;
}

void guest_signal(struct guest *g, uint32_t session, int number)
{
    struct session **s = find(g, session);
    if (s && number >= 1 && number <= SIGNALS_MAX)
        (*s)->signals |= UINT64_C(1) << (number - 1);
}

void guest_resize(struct guest *g, uint32_t session, uint16_t rows, uint16_t cols)
{
    struct session **s = find(g, session);
    if (s) {
        (*s)->size = (struct proto_resize){rows, cols};
        (*s)->resize_due = true;
    }
}

void guest_kill(struct guest *g, uint32_t session)
{
    struct session **s = find(g, session);
    if (s)
        (*s)->kill_due = true;
}

/* --- one session, to its end */

struct pump {
    const struct guest_pump *opts;
    uint32_t session;
    struct guest_result *out;
    uint64_t stop_ns;    /* when a signalled command is killed; 0: not signalled */
    uint64_t give_up_ns; /* when a killed one is given up; 0: not killed */
};

static void pump_kill(struct guest *g, struct pump *p)
{
    if (!p->give_up_ns) {
        guest_kill(g, p->session);
        p->give_up_ns = clock_ns() + KILLED_WAIT_NS;
    }
}

static void pump_signal(struct guest *g, struct pump *p, int number)
{
    struct winsize size;
    switch (number) {
    case SIGWINCH:
        if (p->opts->tty_fd >= 0 && ioctl(p->opts->tty_fd, TIOCGWINSZ, &size) == 0)
            guest_resize(g, p->session, size.ws_row, size.ws_col);
        return;
    case SIGINT:
    case SIGTERM:
    case SIGHUP:
    case SIGQUIT:
        if (p->stop_ns) {
            pump_kill(g, p);
            return;
        }
        p->out->interrupted = number;
        p->stop_ns = clock_ns() + (p->opts->grace_ns ? p->opts->grace_ns : GRACE_NS);
        guest_signal(g, p->session, number);
        return;
    default:
        guest_signal(g, p->session, number);
    }
}

/* One at a time: signalfd reads block as the caller made it. */
static void pump_signals(struct guest *g, struct pump *p)
{
    struct signalfd_siginfo info;
    if (read(p->opts->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        pump_signal(g, p, (int)info.ssi_signo);
}

/* The next moment at which something is to be done, or 0. */
static uint64_t pump_deadline(const struct pump *p)
{
    if (p->give_up_ns)
        return p->give_up_ns;
    uint64_t at = p->out->timed_out ? 0 : p->opts->deadline_ns;
    if (p->stop_ns && (!at || p->stop_ns < at))
        at = p->stop_ns;
    return at;
}

/* Do what is due by now. True when the session is to be given up. */
static bool pump_due(struct guest *g, struct pump *p)
{
    uint64_t now = clock_ns();
    if (p->give_up_ns)
        return now >= p->give_up_ns;
    if (p->opts->deadline_ns && now >= p->opts->deadline_ns) {
        p->out->timed_out = true;
        pump_kill(g, p);
    } else if (p->stop_ns && now >= p->stop_ns) {
        pump_kill(g, p);
    }
    return false;
}

static bool finished(const struct session *s)
{
    return s->over && !s->out[0].len && !s->out[1].len;
}

static void fill_result(const struct session *s, struct guest_result *out)
{
    out->in_bytes = s->in_bytes;
    out->out_bytes = s->out[0].bytes;
    out->err_bytes = s->out[1].bytes;
    out->wall_ns = s->exit.wall_ns;
    if (!s->over) {
        out->outcome = GUEST_NONE;
    } else if (s->refused) {
        out->outcome = GUEST_REFUSED;
        out->refused = s->failed;
    } else if (s->exit.signal) {
        out->outcome = GUEST_SIGNALED;
        out->signal = (int)s->exit.signal;
    } else {
        out->outcome = GUEST_EXITED;
        out->code = (int)s->exit.code;
    }
}

int guest_pump(struct guest *g, uint32_t session, const struct guest_pump *opts,
               struct guest_result *out, struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    struct pump p = {.opts = opts, .session = session, .out = out};
    struct session **s = find(g, session);
    *out = (struct guest_result){.outcome = GUEST_NONE};
    if (!s)
        return err_set(err, ESRCH, "no session %u", session);
    while (!finished(*s)) {
        struct turn t = {
            .deadline_ns = pump_deadline(&p),
            .cancel_fd = opts->cancel_fd,
            .signal_fd = opts->signal_fd,
            .local = (*s)->over,
        };
        int r = turn(g, &t);
        if (g->lost.code && !(*s)->over)
            return lost(g, err);
        if (r == -ECANCELED)
            return err_set(err, ECANCELED, "cancelled");
        if (t.signalled)
            pump_signals(g, &p);
        if (pump_due(g, &p))
            break;
    }
    fill_result(*s, out);
    session_free(*s);
    *s = NULL;
    return 0;
}

int guest_result_status(const struct guest_result *r)
{
    if (r->timed_out)
        return 124;
    switch (r->outcome) {
    case GUEST_EXITED:
        return r->code;
    case GUEST_SIGNALED:
        return 128 + r->signal;
    case GUEST_REFUSED:
        if (r->refused.step == PROTO_STEP_COMMAND)
            return r->refused.code == ENOENT || r->refused.code == ENOTDIR ? 127 : 126;
        return 125;
    case GUEST_NONE:
        return r->interrupted ? 128 + r->interrupted : 125;
    }
    return 125;
}

/* --- the machine */

static int ask(struct guest *g, uint16_t type, bool *flag, const struct guest_wait *wait,
               const char *what, struct dayfly_err *err)
{
    *flag = false;
    if (g->lost.code)
        return lost(g, err);
    if (proto_link_send(&g->link, type, 0, 0, NULL, 0) < 0)
        return err_set(err, EAGAIN, "the guest does not read its messages");
    return wait_for(g, flag, wait, what, err);
}

int guest_stat(struct guest *g, const struct guest_wait *wait, struct proto_stat *out,
               struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    int r = ask(g, PROTO_STAT, &g->stat_here, wait, "figures", err);
    if (r == 0)
        *out = g->stat_msg;
    return r;
}

int guest_sync(struct guest *g, const struct guest_wait *wait, struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    return ask(g, PROTO_SYNC, &g->synced, wait, "sync", err);
}

int guest_shutdown(struct guest *g, uint32_t flags, const struct guest_wait *wait,
                   struct dayfly_err *err)
{
    QUIET_SIGPIPE;
    struct proto_shutdown m = {.flags = flags};
    if (g->bye)
        return 0;
    int r = g->lost.code ? lost(g, err) : SEND(g, wait, PROTO_SHUTDOWN, shutdown, &m, err);
    return r < 0 ? r : wait_for(g, &g->bye, wait, "last word", err);
}
