/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Streams. stdout and stderr each have a ring of PROTO_WINDOW_BYTES, which is also the credit that the
 * guest holds; what the local descriptor takes is given back as credit. stdin is read only when there
 * is credit and room, straight into the connection's buffer.
 *
 * Local descriptors are the caller's, perhaps shared with other processes, so their O_NONBLOCK is not
 * ours to set. A write of up to PIPE_BUF after POLLOUT does not block on a pipe; sockets have
 * MSG_DONTWAIT; files do not block.
 */
#include "job/guest_session.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/clock.h"
#include "util/text.h"

#define GRANT_BYTES (PROTO_WINDOW_BYTES / 4)
#define SIGNALS_MAX 64
/* How long a pause in the output makes us believe that it goes on with something else. */
#define HOLD_NS (100 * NS_PER_MS)

/* Entries for poll. */
enum { AT_IN, AT_OUT, AT_ERR };
static_assert(AT_ERR + 1 == GUEST_SESSION_FDS, "an entry for each");

/* chunk: what one write to fd may hold without blocking, once it polls writable. */
static void sink_init(struct guest_sink *k, int fd)
{
    struct stat st;
    *k = (struct guest_sink){.fd = fd, .credit = PROTO_WINDOW_BYTES, .chunk = PIPE_BUF};
    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    int flags = fcntl(fd, F_GETFL);
    k->socket = S_ISSOCK(st.st_mode);
    if (k->socket || S_ISREG(st.st_mode) || (flags >= 0 && flags & O_NONBLOCK))
        k->chunk = PROTO_WINDOW_BYTES;
}

struct guest_session *guest_session_new(uint32_t id, int in_fd, int out_fd, int err_fd,
                                        const struct mask *mask)
{
    struct guest_session *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->id = id;
    s->in_fd = in_fd;
    sink_init(&s->out[0], out_fd);
    sink_init(&s->out[1], err_fd);
    for (int i = 0; i < 2 && mask; i++) {
        if (!(s->out[i].mask = mask_stream_new(mask))) {
            guest_session_free(s);
            return NULL;
        }
    }
    return s;
}

void guest_session_free(struct guest_session *s)
{
    if (!s)
        return;
    for (int i = 0; i < 2; i++) {
        free(s->out[i].ring);
        mask_stream_free(s->out[i].mask);
    }
    free(s);
}

bool guest_session_finished(const struct guest_session *s)
{
    return s->over && !s->out[0].len && !s->out[1].len;
}

void guest_session_signal(struct guest_session *s, int number)
{
    if (number >= 1 && number <= SIGNALS_MAX)
        s->signals |= UINT64_C(1) << (number - 1);
}

void guest_session_resize(struct guest_session *s, uint16_t rows, uint16_t cols)
{
    s->size = (struct proto_resize){rows, cols};
    s->resize_due = true;
}

void guest_session_kill(struct guest_session *s)
{
    s->kill_due = true;
}

/* --- what the guest says */

/* A mask_emit_fn. What the guest may send fits, and masked it is not longer. */
static void put(void *opaque, const uint8_t *bytes, size_t len)
{
    struct guest_sink *k = opaque;
    uint32_t tail = (k->head + k->len) % PROTO_WINDOW_BYTES;
    size_t first = MIN(len, (size_t)(PROTO_WINDOW_BYTES - tail));
    memcpy(k->ring + tail, bytes, first);
    memcpy(k->ring, bytes + first, len - first);
    k->len += (uint32_t)len;
}

static int take_data(struct guest_session *s, const struct proto_frame *f)
{
    if (f->stream == PROTO_STDIN || !f->len)
        return -EPROTO;
    struct guest_sink *k = &s->out[f->stream - PROTO_STDOUT];
    if (k->end || f->len > k->credit)
        return -EPROTO;
    k->credit -= f->len;
    k->bytes += f->len;
    if (k->take && !k->closed)
        k->closed = k->take(k->opaque, f->payload, f->len) < 0;
    if (k->fd < 0 || k->closed) {
        k->grant += f->len;
        return 0;
    }
    if (!k->ring && !(k->ring = malloc(PROTO_WINDOW_BYTES)))
        return -ENOMEM;
    if (!k->mask) {
        put(k, f->payload, f->len);
        return 0;
    }
    /* What is masked away is room again. */
    size_t before = k->len + mask_stream_held(k->mask) + f->len;
    mask_stream_take(k->mask, f->payload, f->len, put, k);
    size_t held = mask_stream_held(k->mask);
    k->grant += (uint32_t)(before - k->len - held);
    k->held_ns = held ? clock_ns() : 0;
    return 0;
}

static void release(struct guest_sink *k)
{
    if (!k->mask || k->closed)
        return;
    size_t before = k->len + mask_stream_held(k->mask);
    mask_stream_release(k->mask, put, k);
    k->grant += (uint32_t)(before - k->len);
    k->held_ns = 0;
}

uint64_t guest_session_held_until(const struct guest_session *s)
{
    uint64_t since = s->out[0].held_ns, other = s->out[1].held_ns;
    if (other && (!since || other < since))
        since = other;
    return since ? since + HOLD_NS : 0;
}

void guest_session_release(struct guest_session *s, uint64_t now_ns)
{
    for (int i = 0; i < 2; i++) {
        if (s->out[i].held_ns && now_ns >= s->out[i].held_ns + HOLD_NS)
            release(&s->out[i]);
    }
}

static int take_end(struct guest_session *s, const struct proto_frame *f)
{
    if (f->stream == PROTO_STDIN || f->len || s->out[f->stream - PROTO_STDOUT].end)
        return -EPROTO;
    s->out[f->stream - PROTO_STDOUT].end = true;
    release(&s->out[f->stream - PROTO_STDOUT]);
    return 0;
}

static int take_window(struct guest_session *s, const struct proto_frame *f)
{
    struct proto_window w;
    if (f->stream != PROTO_STDIN || proto_window_decode(&w, f->payload, f->len) < 0 ||
        w.bytes > PROTO_WINDOW_MAX - s->in_credit)
        return -EPROTO;
    s->in_credit += w.bytes;
    return 0;
}

static int take_started(struct guest_session *s, const struct proto_frame *f)
{
    struct proto_started m;
    if (s->started || proto_started_decode(&m, f->payload, f->len) < 0)
        return -EPROTO;
    s->started = true;
    s->started_ns = clock_ns();
    s->in_credit = m.stdin_window;
    return 0;
}

int guest_session_frame(struct guest_session *s, const struct proto_frame *f)
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
        s->ended_ns = clock_ns();
        s->in_fd = -1;
        return 0;
    default:
        return -EPROTO;
    }
}

/* --- what is said to the guest */

static bool say(struct guest_session *s, struct proto_link *link, uint16_t type, uint16_t stream)
{
    return proto_link_send(link, type, stream, s->id, NULL, 0) == 0;
}

static void say_grant(struct guest_session *s, struct proto_link *link, int i)
{
    struct guest_sink *k = &s->out[i];
    uint8_t bytes[4];
    struct proto_window w = {.bytes = k->grant};
    if (k->closed && !k->close_said)
        k->close_said = say(s, link, PROTO_CLOSE, (uint16_t)(PROTO_STDOUT + i));
    if (k->grant < GRANT_BYTES || k->end || k->closed)
        return;
    ssize_t n = proto_window_encode(&w, bytes, sizeof(bytes));
    if (n > 0 && proto_link_send(link, PROTO_WINDOW, (uint16_t)(PROTO_STDOUT + i), s->id, bytes,
                                 (size_t)n) == 0) {
        k->credit += k->grant;
        k->grant = 0;
    }
}

void guest_session_say(struct guest_session *s, struct proto_link *link)
{
    if (s->over)
        return;
    if (s->kill_due)
        s->kill_due = !say(s, link, PROTO_KILL, 0);
    if (!s->started)
        return;
    for (unsigned n = 1; s->signals && n <= SIGNALS_MAX; n++) {
        struct proto_signal m = {.number = n};
        if (s->signals >> (n - 1) & 1 &&
            proto_link_send_message(link, PROTO_SIGNAL, s->id, signal, &m) == 0)
            s->signals &= ~(UINT64_C(1) << (n - 1));
    }
    if (s->resize_due && proto_link_send_message(link, PROTO_RESIZE, s->id, resize, &s->size) == 0)
        s->resize_due = false;
    if (s->in_end_due)
        s->in_end_due = !say(s, link, PROTO_END, PROTO_STDIN);
    say_grant(s, link, 0);
    say_grant(s, link, 1);
}

/* --- local descriptors */

static void serve_sink(struct guest_sink *k, short revents)
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
        k->held_ns = 0;
        return;
    }
    k->head = (k->head + (uint32_t)done) % PROTO_WINDOW_BYTES;
    k->len -= (uint32_t)done;
    k->grant += (uint32_t)done;
}

static bool wants_in(const struct guest_session *s, const struct proto_link *link)
{
    return s->in_fd >= 0 && s->in_credit > 0 && proto_link_room(link, true) >= GUEST_SESSION_ROOM;
}

static void serve_in(struct guest_session *s, struct proto_link *link, short revents)
{
    if (!revents || !wants_in(s, link))
        return;
    size_t n = MIN((size_t)s->in_credit, proto_link_room(link, true));
    ssize_t got = read(s->in_fd, proto_link_payload(link), n);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) { /* an error is an end, too: there is nothing better to say to the command */
        s->in_fd = -1;
        s->in_end_due = true;
        return;
    }
    proto_link_commit(link, PROTO_DATA, PROTO_STDIN, s->id, (size_t)got);
    s->in_credit -= (uint32_t)got;
    s->in_bytes += (uint64_t)got;
}

void guest_session_poll(const struct guest_session *s, const struct proto_link *link,
                        struct pollfd p[GUEST_SESSION_FDS])
{
    p[AT_IN] = p[AT_OUT] = p[AT_ERR] = (struct pollfd){.fd = -1};
    if (wants_in(s, link))
        p[AT_IN] = (struct pollfd){.fd = s->in_fd, .events = POLLIN};
    for (int k = 0; k < 2; k++) {
        if (s->out[k].len)
            p[AT_OUT + k] = (struct pollfd){.fd = s->out[k].fd, .events = POLLOUT};
    }
}

void guest_session_serve(struct guest_session *s, struct proto_link *link,
                         const struct pollfd p[GUEST_SESSION_FDS])
{
    serve_sink(&s->out[0], p[AT_OUT].revents);
    serve_sink(&s->out[1], p[AT_ERR].revents);
    serve_in(s, link, p[AT_IN].revents);
}
