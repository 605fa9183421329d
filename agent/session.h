/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_SESSION_H
#define AGENT_SESSION_H

/*
 * One command of the host's: its processes, its streams, and what the host is still owed about it.
 *
 * Nothing is queued for the host: what has to be said stands as state (`outcome`, `ended`, `close_due`,
 * ...) and session_serve says it when the link has room. So a session's memory is fixed, whatever the
 * job does.
 *
 * When the command has died, EXIT is due once both output streams have ended. A stream that background
 * processes still hold open ends behind what stood in the pipe when the command died: they lose their
 * reader (as under docker, and unlike ssh), the host is not kept waiting, and no byte of the command's
 * own is lost. The processes themselves live on until KILL or the machine's end.
 */

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "machine.h"
#include "proto/link.h"
#include "proto/message.h"
#include "spawn.h"

#define SESSION_FDS          4
#define SESSION_STDIN_WINDOW (128u << 10)
#define SESSION_ROOM         4096 /* less room in the link than this is not worth a DATA frame */

enum session_state {
    SESSION_FREE,
    SESSION_STARTING, /* the child has not said yet how it went */
    SESSION_RUNNING,
    SESSION_FAILED, /* EXEC_FAILED is due, or a child is to be reaped */
};

struct session_out {
    uint32_t credit;
    bool dropped; /* the host does not want it: CLOSE */
    bool eof;     /* END is due */
    bool ended;   /* END was sent */
};

struct session {
    enum session_state state;
    uint32_t id;
    bool tty;
    struct spawned child;
    int cgroup_fd;
    uint64_t start_ns;

    bool died;
    bool drain;     /* died, and `left` counts */
    size_t left[2]; /* bytes of the command's own that wait in its pipes */
    int wait_status;
    struct proto_exec_failed failed;
    bool failed_due;

    struct session_out out[2]; /* stdout, stderr */

    uint8_t *in; /* a ring of SESSION_STDIN_WINDOW bytes; NULL: no stdin (any more) */
    uint32_t in_head, in_len;
    uint32_t in_credit; /* the host's: what it may still send */
    uint32_t in_grant;  /* taken out of the ring, not yet given back */
    bool in_end;        /* the host's END has come */
    bool in_close_due;
    uint8_t in_last; /* the last byte written to a terminal */
};

/* Begin the command of an EXEC message. False: it failed at once, and EXEC_FAILED is due. */
bool session_start(struct session *s, uint32_t id, const struct machine *m,
                   const struct proto_exec *exec);

/* Take a frame for this session. 0, or -EPROTO when the host broke the rules. */
int session_frame(struct session *s, const struct machine *m, const struct proto_frame *f);

/* Fill p (SESSION_FDS entries, unused ones with fd -1) with what the session waits for. */
void session_poll(const struct session *s, const struct proto_link *link, struct pollfd *p);

/* Do what the descriptors (as session_poll filled p, after poll) and the link's room allow. The session
 * is SESSION_FREE when it is over. */
void session_serve(struct session *s, const struct machine *m, struct proto_link *link,
                   const struct pollfd *p);

/* Look at the child's report; to be called before children are reaped. */
void session_report(struct session *s);

/* A child was reaped. True when it was this session's. */
bool session_reaped(struct session *s, pid_t pid, int wait_status);

/* SIGKILL for all that runs in the session's cgroup. An id whose session is over may have left
 * processes. */
void session_kill(struct session *s);
void session_kill_leftover(const struct machine *m, uint32_t id);

#endif
