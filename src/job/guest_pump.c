/* SPDX-License-Identifier: Apache-2.0 */
#include "job/guest_pump.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "job/guest_turn.h"
#include "util/clock.h"
#include "util/sigpipe.h"

#define GRACE_NS       (10 * NS_PER_S)
#define KILLED_WAIT_NS (5 * NS_PER_S)

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

static void fill_result(const struct guest_session *s, struct guest_result *out)
{
    out->in_bytes = s->in_bytes;
    out->out_bytes = s->out[0].bytes;
    out->err_bytes = s->out[1].bytes;
    out->wall_ns = s->exit.wall_ns;
    out->started_ns = s->started_ns;
    out->ended_ns = s->ended_ns;
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
    struct guest_session *s = guest_find(g, session);
    *out = (struct guest_result){.outcome = GUEST_NONE};
    if (!s)
        return err_set(err, ESRCH, "no session %u", session);
    while (!guest_session_finished(s)) {
        struct guest_turn t = {
            .deadline_ns = pump_deadline(&p),
            .cancel_fd = opts->cancel_fd,
            .signal_fd = opts->signal_fd,
            .local = s->over,
        };
        int r = guest_turn(g, &t);
        int gone = s->over ? 0 : guest_lost(g, err);
        if (gone < 0)
            return gone;
        if (r == -ECANCELED)
            return err_set(err, ECANCELED, "cancelled");
        if (t.signalled)
            pump_signals(g, &p);
        if (pump_due(g, &p))
            break;
    }
    fill_result(s, out);
    guest_forget(g, session);
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
