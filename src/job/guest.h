/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_GUEST_H
#define JOB_GUEST_H

/*
 * The host's side of the conversation with a guest's agent (proto/proto.h), over any connected stream
 * fd.
 *
 * A guest is driven by one thread. Every call that waits runs the same loop: it serves all sessions of
 * the guest, whichever of them it is waiting for. No call blocks in a read or write: not on the guest,
 * and not on a session's local descriptors, whose flags it leaves as they are.
 *
 * The guest is hostile. All that it sends is checked, nothing grows with it: a session holds at most
 * 2 * PROTO_WINDOW_BYTES of its output. A guest that breaks the protocol is lost: the call, and each
 * one after it, fails with EPROTO. Texts from the guest are made printable (util/text.h).
 *
 * SIGPIPE is blocked in the calling thread while a call runs, and one that a call caused is consumed.
 */

#include <stdbool.h>
#include <stdint.h>

#include "proto/message.h"
#include "util/err.h"

struct guest;

/* How long a call may wait. */
struct guest_wait {
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: without end */
    int cancel_fd;        /* the call ends with ECANCELED when it becomes readable; -1: none */
};

#define GUEST_WAIT_FOREVER ((struct guest_wait){.cancel_fd = -1})

/* fd is taken, also on failure, and made non-blocking. 0 or -errno. */
int guest_new(int fd, struct guest **out, struct dayfly_err *err);

/* Close the connection (which makes the agent power off) and forget all sessions. NULL is allowed. */
void guest_free(struct guest *g);

/* The agent's first word. -EPROTO, -ECONNRESET, -ETIMEDOUT, -ECANCELED. */
int guest_wait_hello(struct guest *g, const struct guest_wait *wait, struct proto_hello *out,
                     struct dayfly_err *err);

/* Have the agent make the machine ready. What the guest could not do is in err, with its own errno. */
int guest_setup(struct guest *g, const struct proto_setup *setup, const struct guest_wait *wait,
                struct proto_ready *out, struct dayfly_err *err);

/* Give the guest a secret, before the commands that are to have it. What the buffers of the connection
 * held of it is overwritten when this returns. */
int guest_secret(struct guest *g, const struct proto_secret *secret, const struct guest_wait *wait,
                 struct dayfly_err *err);

struct mask;
struct guest_command {
    const char *const *argv; /* NULL-terminated, at least one */
    const char *const *env;  /* NULL-terminated NAME=value; NULL: none */
    const char *user;        /* NULL: root; see proto_exec */
    const char *cwd;         /* NULL: the user's home */
    bool make_cwd;
    bool secrets; /* it counts on what guest_secret gave */
    bool tty;     /* a terminal in the guest; the caller puts its own into raw mode */
    uint16_t rows, cols;
    /* Local ends, borrowed until the session is over. -1: no stdin; output dropped. */
    int in_fd, out_fd, err_fd;
    /* argv are patterns of files, which the guest writes to stdout (proto/record.h). */
    bool collect;
    /* Instead of out_fd: takes stdout, as it comes. A failure closes the stream. NULL: out_fd. */
    int (*take)(void *opaque, const uint8_t *bytes, size_t len);
    void *opaque;
    /* What is not to be seen in the output, borrowed likewise; NULL: anything may. */
    const struct mask *mask;
};

/* SIGKILL for what sessions that are over have left running. */
int guest_kill_leftovers(struct guest *g, struct dayfly_err *err);

/* Begin a command. *session names it; how it went is guest_pump's to say (job/guest_pump.h). -E2BIG
 * when arguments and environment do not fit a message; -EAGAIN with PROTO_SESSIONS_MAX sessions. */
int guest_exec(struct guest *g, const struct guest_command *command, uint32_t *session,
               struct dayfly_err *err);

/* For a session that is over, or none, these do nothing. A signal that comes before the command is
 * there waits for it. */
void guest_signal(struct guest *g, uint32_t session, int number);
void guest_resize(struct guest *g, uint32_t session, uint16_t rows, uint16_t cols);
void guest_kill(struct guest *g, uint32_t session); /* SIGKILL for all of the session's processes */

int guest_stat(struct guest *g, const struct guest_wait *wait, struct proto_stat *out,
               struct dayfly_err *err);

/* Ask for power-off and wait until the agent has said its last word (all killed, extra mounts written
 * back). flags: PROTO_SHUTDOWN_*. */
int guest_shutdown(struct guest *g, uint32_t flags, const struct guest_wait *wait,
                   struct dayfly_err *err);

#endif
