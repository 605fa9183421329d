/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue is a ring of records, each a length and the frame. A record never wraps: where it does not
 * fit behind the last one, a length of SKIP says that the next stands at the start.
 */
#include "net/frames.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/packet.h"
#include "util/arith.h"

#define BATCH       FRAMES_BATCH
#define ROOM        (4u * 1024 * 1024)
#define SKIP        UINT32_MAX
#define HEAD        sizeof(uint32_t)
#define DIRECT_FROM 4096 /* a frame this long is worth a system call, and not worth a copy */

struct frames {
    int fd;
    uint8_t *in;
    struct mmsghdr messages[BATCH];
    struct iovec iovs[BATCH];
    uint8_t *ring;
    size_t head, tail, used; /* offsets of the first record and behind the last; bytes between */
    unsigned count, unflushed;
};

#define SLOT ((size_t)align_up(PACKET_FRAME_MAX + 1, 64))

struct frames *frames_new(int fd)
{
    struct frames *f = calloc(1, sizeof(*f));
    if (!f)
        return NULL;
    f->fd = fd;
    f->in = malloc(BATCH * SLOT);
    f->ring = malloc(ROOM);
    if (!f->in || !f->ring) {
        frames_free(f);
        return NULL;
    }
    for (int i = 0; i < BATCH; i++) {
        f->iovs[i] = (struct iovec){f->in + (size_t)i * SLOT, PACKET_FRAME_MAX + 1};
        f->messages[i].msg_hdr = (struct msghdr){.msg_iov = &f->iovs[i], .msg_iovlen = 1};
    }
    return f;
}

void frames_free(struct frames *f)
{
    if (!f)
        return;
    free(f->in);
    free(f->ring);
    free(f);
}

/* An empty message looks like the end of the stream, but does not hang up. */
static bool hung_up(const struct frames *f)
{
    struct pollfd fd = {f->fd, POLLIN, 0};
    return poll(&fd, 1, 0) == 1 && fd.revents & (POLLHUP | POLLERR | POLLNVAL);
}

int frames_receive(struct frames *f)
{
    int n = recvmmsg(f->fd, f->messages, BATCH, MSG_DONTWAIT, NULL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
    if (n == 0 || f->messages[0].msg_len == 0)
        return hung_up(f) ? -EPIPE : n;
    return n;
}

const uint8_t *frames_get(const struct frames *f, int i, size_t *len)
{
    *len = f->messages[i].msg_len;
    return f->iovs[i].iov_base;
}

/* ---- sending ---- */

static bool push(struct frames *f, const void *frame, size_t len)
{
    size_t bytes = align_up(HEAD + len, HEAD);
    uint32_t length = (uint32_t)len, skip = SKIP;
    size_t at_end = ROOM - f->tail;
    bool wraps = f->tail >= f->head && at_end < bytes;
    if (f->used + bytes + (wraps ? at_end : 0) > ROOM)
        return false;
    if (wraps) {
        if (at_end)
            memcpy(f->ring + f->tail, &skip, HEAD);
        f->used += at_end;
        f->tail = 0;
    }
    memcpy(f->ring + f->tail, &length, HEAD);
    memcpy(f->ring + f->tail + HEAD, frame, len);
    f->tail += bytes;
    f->used += bytes;
    f->count++;
    return true;
}

/* The record at *at, or at the start if that one is there. */
static struct iovec record(const struct frames *f, size_t *at)
{
    uint32_t length = SKIP;
    if (*at < ROOM)
        memcpy(&length, f->ring + *at, HEAD);
    if (length == SKIP) {
        *at = 0;
        memcpy(&length, f->ring, HEAD);
    }
    struct iovec iov = {f->ring + *at + HEAD, length};
    *at += align_up(HEAD + length, HEAD);
    return iov;
}

static void pop(struct frames *f, unsigned count)
{
    for (f->count -= count; count; count--) {
        size_t before = f->head;
        record(f, &f->head);
        f->used -= f->head > before ? f->head - before : ROOM - before + f->head;
    }
    if (f->count == 0)
        f->head = f->tail = f->used = 0;
}

void frames_flush(struct frames *f)
{
    struct mmsghdr messages[BATCH];
    struct iovec iovs[BATCH];
    f->unflushed = 0;
    while (f->count) {
        unsigned n = MIN(f->count, (unsigned)BATCH);
        size_t at = f->head;
        for (unsigned i = 0; i < n; i++) {
            iovs[i] = record(f, &at);
            messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &iovs[i], .msg_iovlen = 1}};
        }
        int sent = sendmmsg(f->fd, messages, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* full, or gone, which receiving tells */
        pop(f, (unsigned)sent);
    }
}

bool frames_send(struct frames *f, const void *frame, size_t len)
{
    if (len >= DIRECT_FROM) {
        frames_flush(f);
        if (f->count == 0 && send(f->fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len)
            return true;
    } else if (f->unflushed++ >= BATCH) {
        frames_flush(f);
    }
    return push(f, frame, len);
}

size_t frames_waiting(const struct frames *f)
{
    return f->used;
}
