/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_GUEST_SESSION_H
#define JOB_GUEST_SESSION_H

/*
 * The host's side of one command in a guest: its streams between the connection and local descriptors,
 * what the guest is still to be told about it, and how it ended. The other side is agent/session.h.
 *
 * Nothing is queued for the guest: what has to be said stands as state, and guest_session_say says it
 * when the link has room. What the guest sends is bounded by the credit it was given: a session holds
 * at most 2 * PROTO_WINDOW_BYTES.
 *
 * Not for two threads at once. SIGPIPE is the caller's to block (util/sigpipe.h).
 */

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "job/mask.h"
#include "proto/link.h"
#include "proto/message.h"

#define GUEST_SESSION_FDS  3
#define GUEST_SESSION_ROOM 4096 /* less room in the link than this is not worth a DATA frame */

struct guest_sink {
    int fd;                                                      /* borrowed; -1: drop */
    int (*take)(void *opaque, const uint8_t *bytes, size_t len); /* instead of fd; NULL: fd */
    void *opaque;
    size_t chunk; /* what one write may hold without blocking */
    bool socket;
    uint8_t *ring;            /* made with the first bytes */
    struct mask_stream *mask; /* NULL: all may be seen */
    uint64_t held_ns;         /* since when the mask holds something back, or 0 */
    uint32_t head, len;
    uint32_t credit; /* what the guest may still send */
    uint32_t grant;  /* taken from the ring, not yet given back */
    bool end;        /* the guest's END */
    bool closed;     /* the local reader has gone: CLOSE is due, then said */
    bool close_said;
    uint64_t bytes;
};

struct guest_session {
    uint32_t id;
    bool started;
    uint64_t started_ns, ended_ns; /* CLOCK_MONOTONIC; 0: not yet */
    bool over;    /* the guest is done with it: exit says how, or failed when it was refused */
    bool refused; /* it never ran */
    struct proto_exit exit;
    struct proto_exec_failed failed;

    struct guest_sink out[2]; /* stdout, stderr */

    int in_fd; /* borrowed; -1: nothing (more) to read */
    uint32_t in_credit;
    uint64_t in_bytes;
    bool in_end_due;

    bool kill_due, resize_due;
    struct proto_resize size;
    uint64_t signals; /* bit n - 1: signal n is due */
};

/* A session whose EXEC is under way. The descriptors and the mask (NULL: none) are borrowed until it is
 * freed. NULL: no memory. */
struct guest_session *guest_session_new(uint32_t id, int in_fd, int out_fd, int err_fd,
                                        const struct mask *mask);

/* NULL is allowed. */
void guest_session_free(struct guest_session *s);

/* Over, and all that the guest sent has been written. */
bool guest_session_finished(const struct guest_session *s);

/* What the guest is to be told. A signal that comes before the command is there waits for it. */
void guest_session_signal(struct guest_session *s, int number); /* none outside 1 to 64 */
void guest_session_resize(struct guest_session *s, uint16_t rows, uint16_t cols);
void guest_session_kill(struct guest_session *s);

/* Take a frame for this session. 0; -EPROTO when the guest broke the rules; -ENOMEM. */
int guest_session_frame(struct guest_session *s, const struct proto_frame *f);

/* What the mask holds back of the output, as it could be the beginning of a secret, is let go of at
 * this moment, or later if more comes; 0: there is nothing. */
uint64_t guest_session_held_until(const struct guest_session *s);
void guest_session_release(struct guest_session *s, uint64_t now_ns);

/* Say what is due, as far as the link has room. */
void guest_session_say(struct guest_session *s, struct proto_link *link);

/* Fill p with what the session waits for (unused entries with fd -1); after poll, do what can be done.
 */
void guest_session_poll(const struct guest_session *s, const struct proto_link *link,
                        struct pollfd p[GUEST_SESSION_FDS]);
void guest_session_serve(struct guest_session *s, struct proto_link *link,
                         const struct pollfd p[GUEST_SESSION_FDS]);

#endif
