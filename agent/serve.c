/* SPDX-License-Identifier: Apache-2.0 */
#include "serve.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/message.h"
#include "power.h"
#include "secret.h"
#include "session.h"
#include "stat.h"
#include "util/cleanup.h"

enum { POLL_LINK, POLL_SIGNAL, POLL_POWER, POLL_SESSIONS };

#define POLL_COUNT (POLL_SESSIONS + PROTO_SESSIONS_MAX * SESSION_FDS)

struct server {
    struct proto_link *link;
    const struct machine *machine;
    struct session sessions[PROTO_SESSIONS_MAX];
    struct proto_exec_strings strings;
    struct pollfd polls[POLL_COUNT];
    unsigned first; /* whose turn it is to be served first */
    int signal_fd;
    bool stat_due, refuse_due;
    uint32_t refused; /* the session that no slot was left for */
    bool over;
    bool sync;
};

static struct session *find(struct server *v, uint32_t id)
{
    for (int i = 0; i < PROTO_SESSIONS_MAX; i++) {
        if (v->sessions[i].state != SESSION_FREE && v->sessions[i].id == id)
            return &v->sessions[i];
    }
    return NULL;
}

static int take_exec(struct server *v, const struct proto_frame *f)
{
    struct proto_exec exec;
    if (find(v, f->session) || proto_exec_decode(&exec, &v->strings, f->payload, f->len) < 0)
        return -EPROTO;
    for (int i = 0; i < PROTO_SESSIONS_MAX; i++) {
        if (v->sessions[i].state == SESSION_FREE) {
            session_start(&v->sessions[i], f->session, v->machine, &exec);
            return 0;
        }
    }
    v->refused = f->session;
    v->refuse_due = true;
    return 0;
}

/* What it held is overwritten before anything else is read. */
static int take_secret(struct server *v, const struct proto_frame *f)
{
    struct proto_secret secret;
    int r = proto_secret_decode(&secret, f->payload, f->len);
    if (r == 0)
        secrets_take(v->machine->secrets, &secret);
    proto_link_wipe(v->link);
    return r;
}

static int take_machine(struct server *v, const struct proto_frame *f)
{
    struct proto_shutdown down;
    switch (f->type) {
    case PROTO_STAT:
        v->stat_due = true;
        return f->len ? -EPROTO : 0;
    case PROTO_SHUTDOWN:
        if (proto_shutdown_decode(&down, f->payload, f->len) < 0)
            return -EPROTO;
        v->sync = down.flags & PROTO_SHUTDOWN_SYNC;
        v->over = true;
        return 0;
    case PROTO_SECRET:
        return take_secret(v, f);
    default:
        return -EPROTO;
    }
}

/* What a session that is over has left running. Without groups that know whose a process is: all, once
 * no session is left. That ends at the PID namespace of a sandbox; on a bare host nothing is to be had.
 */
static void kill_leftover(struct server *v, uint32_t id)
{
    if (v->machine->jobs_fd >= 0 || !v->machine->confine) {
        session_kill_leftover(v->machine, id);
        return;
    }
    for (int i = 0; i < PROTO_SESSIONS_MAX; i++) {
        if (v->sessions[i].state != SESSION_FREE)
            return;
    }
    kill(-1, SIGKILL);
}

static int take_frame(struct server *v, const struct proto_frame *f)
{
    if (f->session == 0)
        return take_machine(v, f);
    if (f->type == PROTO_EXEC)
        return take_exec(v, f);
    struct session *s = find(v, f->session);
    if (s)
        return session_frame(s, v->machine, f);
    if (f->type == PROTO_KILL)
        kill_leftover(v, f->session);
    return 0; /* it crossed with EXIT */
}

/* What the machine owes the host; see session.h on why it is state and not a queue. */
static void say_due(struct server *v)
{
    if (v->stat_due) {
        struct proto_stat st;
        stat_read(v->machine, &st);
        if (proto_link_send_message(v->link, PROTO_STAT_REPLY, 0, stat, &st) == 0)
            v->stat_due = false;
    }
    if (v->refuse_due) {
        struct proto_exec_failed failed = {EAGAIN, PROTO_STEP_RESOURCES,
                                           "too many commands at one time"};
        if (proto_link_send_message(v->link, PROTO_EXEC_FAILED, v->refused, exec_failed, &failed) == 0)
            v->refuse_due = false;
    }
}

static void reap(struct server *v)
{
    struct signalfd_siginfo info;
    int status;
    while (read(v->signal_fd, &info, sizeof(info)) > 0)
        ;
    for (int i = 0; i < PROTO_SESSIONS_MAX; i++)
        session_report(&v->sessions[i]);
    for (;;) {
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0)
            break;
        for (int i = 0; i < PROTO_SESSIONS_MAX && !session_reaped(&v->sessions[i], pid, status); i++)
            ;
    }
}

/* Take the host's frames. One that could owe an answer waits until the last one's was said. */
static int take_frames(struct server *v)
{
    struct proto_frame f;
    int r;
    while (!v->over && !v->refuse_due && (r = proto_link_next(v->link, &f)) != 0) {
        if (r < 0)
            return r;
        r = take_frame(v, &f);
        if (r < 0)
            return r;
    }
    return 0;
}

static void fill_polls(struct server *v)
{
    v->polls[POLL_LINK] = (struct pollfd){
        .fd = v->link->fd,
        .events = (short)((v->refuse_due ? 0 : POLLIN) | (proto_link_pending(v->link) ? POLLOUT : 0)),
    };
    v->polls[POLL_SIGNAL] = (struct pollfd){.fd = v->signal_fd, .events = POLLIN};
    v->polls[POLL_POWER] = (struct pollfd){.fd = v->machine->power_fd, .events = POLLIN};
    for (int i = 0; i < PROTO_SESSIONS_MAX; i++)
        session_poll(&v->sessions[i], v->link, &v->polls[POLL_SESSIONS + i * SESSION_FDS]);
}

static void serve_sessions(struct server *v)
{
    for (unsigned i = 0; i < PROTO_SESSIONS_MAX; i++) {
        unsigned at = (v->first + i) % PROTO_SESSIONS_MAX;
        if (v->sessions[at].state != SESSION_FREE)
            session_serve(&v->sessions[at], v->machine, v->link,
                          &v->polls[POLL_SESSIONS + at * SESSION_FDS]);
    }
    v->first = (v->first + 1) % PROTO_SESSIONS_MAX;
}

static enum serve_end loop(struct server *v)
{
    for (;;) {
        if (take_frames(v) < 0)
            return SERVE_LOST;
        if (v->over)
            return SERVE_SHUTDOWN;
        serve_sessions(v);
        /* What found no room, or waits in rx behind a refusal, is not announced by any descriptor. */
        bool again = proto_link_room(v->link, true) < SESSION_ROOM || v->refuse_due;
        say_due(v);
        int r = proto_link_flush(v->link);
        if (r < 0 && r != -EAGAIN)
            return SERVE_LOST;

        fill_polls(v);
        if (poll(v->polls, POLL_COUNT, again && r == 0 ? 0 : -1) < 0) {
            if (errno == EINTR)
                continue;
            return SERVE_LOST;
        }
        if (v->polls[POLL_POWER].revents && power_pressed(v->machine->power_fd))
            return SERVE_BUTTON;
        if (v->polls[POLL_SIGNAL].revents)
            reap(v);
        if (v->polls[POLL_LINK].revents & ~POLLOUT) {
            ssize_t n = proto_link_fill(v->link);
            if (n == 0 || (n < 0 && n != -EAGAIN))
                return SERVE_LOST;
        }
    }
}

enum serve_end serve(struct proto_link *link, const struct machine *m, bool *sync)
{
    enum serve_end end = SERVE_LOST;
    sigset_t child;
    struct server *v = calloc(1, sizeof(*v));
    if (!v)
        return end;
    v->link = link;
    v->machine = m;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    v->signal_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    if (v->signal_fd >= 0)
        end = loop(v);
    *sync = v->sync;
    for (int i = 0; i < PROTO_SESSIONS_MAX; i++) {
        if (v->sessions[i].state != SESSION_FREE)
            session_kill(&v->sessions[i]);
    }
    close_fd(&v->signal_fd);
    free(v);
    return end;
}
