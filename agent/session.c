/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* Credit goes back in pieces worth a message. */
#define GRANT_BYTES (SESSION_STDIN_WINDOW / 4)

/* The order of a session's entries for poll. */
enum { AT_REPORT, AT_IN, AT_OUT, AT_ERR };

static void cgroup_name(char out[24], uint32_t id)
{
    snprintf(out, 24, "s%u", id);
}

static int cgroup_make(const struct machine *m, uint32_t id)
{
    char name[24];
    if (m->jobs_fd < 0)
        return -1;
    cgroup_name(name, id);
    if (mkdirat(m->jobs_fd, name, 0755) < 0 && errno != EEXIST)
        return -1;
    return openat(m->jobs_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void cgroup_kill(int dir)
{
    int fd = openat(dir, "cgroup.kill", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1", 1);
        close(fd);
    }
}

/* Give back all but the state. */
static void release(struct session *s)
{
    close_fd(&s->child.report_fd);
    close_fd(&s->child.in_fd);
    close_fd(&s->child.out_fd);
    close_fd(&s->child.err_fd);
    close_fd(&s->cgroup_fd);
    if (s->in)
        munmap(s->in, SESSION_STDIN_WINDOW);
    s->in = NULL;
}

static void finish(struct session *s, const struct machine *m)
{
    char name[24];
    release(s);
    cgroup_name(name, s->id);
    if (m->jobs_fd >= 0)
        unlinkat(m->jobs_fd, name, AT_REMOVEDIR); /* refused while processes are left */
    s->state = SESSION_FREE;
    s->id = 0;
}

static bool fail_start(struct session *s, int code, const char *what)
{
    s->failed = (struct proto_exec_failed){.code = (uint32_t)code, .step = PROTO_STEP_RESOURCES};
    snprintf(s->failed.text, sizeof(s->failed.text), "%s", what);
    s->failed_due = true;
    s->state = SESSION_FAILED;
    return false;
}

bool session_start(struct session *s, uint32_t id, const struct machine *m,
                   const struct proto_exec *exec)
{
    *s = (struct session){
        .state = SESSION_STARTING,
        .id = id,
        .tty = exec->flags & PROTO_EXEC_TTY,
        .child = {.report_fd = -1, .in_fd = -1, .out_fd = -1, .err_fd = -1},
        .start_ns = clock_ns(),
        .out = {{.credit = exec->stdout_window}, {.credit = exec->stderr_window}},
        .cgroup_fd = -1,
    };
    if (exec->flags & PROTO_EXEC_STDIN) {
        void *ring = mmap(NULL, SESSION_STDIN_WINDOW, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (ring == MAP_FAILED)
            return fail_start(s, ENOMEM, "memory for stdin");
        s->in = ring;
        s->in_credit = SESSION_STDIN_WINDOW;
    }
    s->cgroup_fd = cgroup_make(m, id);
    if (m->jobs_fd >= 0 && s->cgroup_fd < 0)
        return fail_start(s, errno, "making a cgroup");
    int r = spawn(m, exec, s->cgroup_fd, &s->child);
    if (r < 0)
        return fail_start(s, -r, "starting a process");
    return true;
}

void session_kill(struct session *s)
{
    if (s->cgroup_fd >= 0) {
        cgroup_kill(s->cgroup_fd);
        return;
    }
    if (s->child.pid > 0 && !s->died && kill(-s->child.pid, SIGKILL) < 0)
        kill(s->child.pid, SIGKILL); /* it has not made its group yet */
    if (s->child.leader > 0)
        kill(s->child.leader, SIGKILL);
}

void session_kill_leftover(const struct machine *m, uint32_t id)
{
    char name[24];
    cgroup_name(name, id);
    _cleanup_close_ int dir = m->jobs_fd < 0 ? -1 : openat(m->jobs_fd, name, O_PATH | O_CLOEXEC);
    if (dir >= 0)
        cgroup_kill(dir);
}

/* To the foreground of a terminal, otherwise to the command's process group, as a terminal's ^C does.
 */
static void deliver(const struct session *s, int number)
{
    pid_t group = 0;
    if (s->state != SESSION_RUNNING || s->died)
        return;
    if (s->tty && ioctl(s->child.out_fd, TIOCGPGRP, &group) == 0 && group > 1)
        kill(-group, number);
    else
        kill(-s->child.pid, number);
}

static void drop_stdin(struct session *s, bool tell)
{
    if (!s->in)
        return;
    munmap(s->in, SESSION_STDIN_WINDOW);
    s->in = NULL;
    s->in_len = 0;
    s->in_close_due = tell;
    close_fd(&s->child.in_fd);
}

static int take_stdin(struct session *s, const struct proto_frame *f)
{
    if (f->stream != PROTO_STDIN || f->len == 0)
        return -EPROTO;
    if (!s->in) /* closed meanwhile; or never opened, which the host has to know */
        return 0;
    if (s->in_end || f->len > s->in_credit)
        return -EPROTO;
    s->in_credit -= f->len;
    uint32_t tail = (s->in_head + s->in_len) % SESSION_STDIN_WINDOW;
    uint32_t first = MIN(f->len, SESSION_STDIN_WINDOW - tail);
    memcpy(s->in + tail, f->payload, first);
    memcpy(s->in, f->payload + first, f->len - first);
    s->in_len += f->len;
    return 0;
}

static int take_window(struct session *s, const struct proto_frame *f)
{
    struct proto_window w;
    if (f->stream == PROTO_STDIN || proto_window_decode(&w, f->payload, f->len) < 0)
        return -EPROTO;
    struct session_out *out = &s->out[f->stream - PROTO_STDOUT];
    if (w.bytes > PROTO_WINDOW_MAX - out->credit)
        return -EPROTO;
    out->credit += w.bytes;
    return 0;
}

/* The reader on the host has gone. A pipe breaks, so that its writer gets SIGPIPE as it would there; a
 * terminal has to stay for the job's other uses of it, so what it says is read and dropped. */
static int take_close(struct session *s, const struct proto_frame *f)
{
    if (f->len || f->stream == PROTO_STDIN)
        return -EPROTO;
    s->out[f->stream - PROTO_STDOUT].dropped = true;
    if (!s->tty)
        close_fd(f->stream == PROTO_STDOUT ? &s->child.out_fd : &s->child.err_fd);
    return 0;
}

int session_frame(struct session *s, const struct machine *m, const struct proto_frame *f)
{
    struct proto_signal sig;
    struct proto_resize size;
    (void)m;
    switch (f->type) {
    case PROTO_DATA:
        return take_stdin(s, f);
    case PROTO_END:
        if (f->stream != PROTO_STDIN || f->len)
            return -EPROTO;
        s->in_end = true;
        return 0;
    case PROTO_WINDOW:
        return take_window(s, f);
    case PROTO_CLOSE:
        return take_close(s, f);
    case PROTO_SIGNAL:
        if (proto_signal_decode(&sig, f->payload, f->len) < 0)
            return -EPROTO;
        deliver(s, (int)sig.number);
        return 0;
    case PROTO_RESIZE:
        if (proto_resize_decode(&size, f->payload, f->len) < 0)
            return -EPROTO;
        if (s->tty && s->child.out_fd >= 0)
            ioctl(s->child.out_fd, TIOCSWINSZ,
                  &(struct winsize){.ws_row = size.rows, .ws_col = size.cols});
        return 0;
    case PROTO_KILL:
        if (f->len)
            return -EPROTO;
        session_kill(s);
        return 0;
    default:
        return -EPROTO;
    }
}

static bool wants_out(const struct session *s, int i, const struct proto_link *link)
{
    if (s->out[i].dropped)
        return true;
    return s->out[i].credit > 0 && proto_link_room(link, true) >= SESSION_ROOM;
}

void session_poll(const struct session *s, const struct proto_link *link, struct pollfd *p)
{
    for (int i = 0; i < SESSION_FDS; i++)
        p[i] = (struct pollfd){.fd = -1};
    if (s->state == SESSION_STARTING || s->state == SESSION_FAILED)
        p[AT_REPORT] = (struct pollfd){.fd = s->child.report_fd, .events = POLLIN};
    if (s->state != SESSION_RUNNING)
        return;
    /* Even with nothing to write, a pipe that lost its reader is worth knowing. A terminal's hang-up is
     * seen where it is read; here it would only wake us again and again. */
    bool write = s->in && (s->in_len || s->in_end);
    if (s->in && (write || !s->tty))
        p[AT_IN] = (struct pollfd){.fd = s->child.in_fd, .events = write ? POLLOUT : 0};
    for (int i = 0; i < 2; i++) {
        int fd = i ? s->child.err_fd : s->child.out_fd;
        if (fd >= 0 && wants_out(s, i, link))
            p[AT_OUT + i] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
}

/* The terminal's own way to say "end of file". It counts as that only where a line begins; elsewhere
 * the first one hands over what the line holds so far. A terminal in raw mode has no such thing. */
static void send_tty_end(struct session *s)
{
    struct termios t;
    if (tcgetattr(s->child.in_fd, &t) == 0 && t.c_lflag & ICANON) {
        uint8_t eof[2] = {t.c_cc[VEOF], t.c_cc[VEOF]};
        (void)!write(s->child.in_fd, eof, s->in_last == '\n' || s->in_last == 0 ? 1 : 2);
    }
}

static void serve_in(struct session *s, const struct pollfd *p)
{
    if (!s->in || !p->revents)
        return;
    if (p->revents & (POLLERR | POLLNVAL)) {
        drop_stdin(s, true);
        return;
    }
    while (s->in_len) {
        uint32_t n = MIN(s->in_len, SESSION_STDIN_WINDOW - s->in_head);
        ssize_t done = write(s->child.in_fd, s->in + s->in_head, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EAGAIN)
            return;
        if (done <= 0) {
            drop_stdin(s, true);
            return;
        }
        s->in_last = s->in[s->in_head + (uint32_t)done - 1];
        s->in_head = (s->in_head + (uint32_t)done) % SESSION_STDIN_WINDOW;
        s->in_len -= (uint32_t)done;
        s->in_grant += (uint32_t)done;
    }
    if (s->in_end) {
        if (s->tty)
            send_tty_end(s);
        drop_stdin(s, false);
    }
}

/* Where the bytes of a dropped stream go. */
static ssize_t read_away(int fd)
{
    char nothing[4096];
    return read(fd, nothing, sizeof(nothing));
}

static void serve_out(struct session *s, int i, struct proto_link *link)
{
    struct session_out *out = &s->out[i];
    int *fd = i ? &s->child.err_fd : &s->child.out_fd;
    if (s->drain && !s->tty && s->left[i] == 0)
        out->eof = true;
    while (*fd >= 0 && !out->eof && wants_out(s, i, link)) {
        size_t n = MIN(proto_link_room(link, true), (size_t)out->credit);
        if (s->drain && !s->tty)
            n = MIN(n, s->left[i]);
        ssize_t got = out->dropped ? read_away(*fd) : read(*fd, proto_link_payload(link), n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN && !s->drain)
            return;
        if (got <= 0) {
            out->eof = true;
            break;
        }
        if (!out->dropped) {
            proto_link_commit(link, PROTO_DATA, (uint16_t)(PROTO_STDOUT + i), s->id, (size_t)got);
            out->credit -= (uint32_t)got;
        }
        if (s->drain && !s->tty) {
            s->left[i] -= (size_t)got;
            out->eof = s->left[i] == 0;
        }
        /* One piece a turn: the other streams, and the host's messages, come between. What is left
         * behind by a dead command is bounded, and a terminal would not wake us for having no more. */
        if (!s->drain)
            break;
    }
    if (*fd < 0)
        out->eof = true;
    if (out->eof)
        close_fd(fd);
}

static void serve_exit(struct session *s, const struct machine *m, struct proto_link *link)
{
    if (!s->died || !s->out[0].ended || !s->out[1].ended)
        return;
    /* The terminal's leader has done its part. Its number is still ours: it is reaped before the
     * session ends. */
    if (s->child.leader > 0) {
        kill(s->child.leader, SIGKILL);
        return;
    }
    struct proto_exit e = {.wall_ns = clock_ns() - s->start_ns};
    if (WIFSIGNALED(s->wait_status))
        e.signal = (uint32_t)WTERMSIG(s->wait_status);
    else
        e.code = (uint32_t)WEXITSTATUS(s->wait_status);
    if (proto_link_send_message(link, PROTO_EXIT, s->id, exit, &e) == 0)
        finish(s, m);
}

static void serve_failed(struct session *s, const struct machine *m, struct proto_link *link)
{
    if (s->failed_due &&
        proto_link_send_message(link, PROTO_EXEC_FAILED, s->id, exec_failed, &s->failed) == 0)
        s->failed_due = false;
    bool alive = (s->child.pid > 0 && !s->died) || s->child.leader > 0;
    if (alive && s->child.leader > 0)
        kill(s->child.leader, SIGKILL);
    if (!s->failed_due && !alive)
        finish(s, m);
}

static void serve_credit(struct session *s, struct proto_link *link)
{
    if (s->in_close_due && proto_link_send(link, PROTO_CLOSE, PROTO_STDIN, s->id, NULL, 0) == 0)
        s->in_close_due = false;
    if (s->in && s->in_grant >= GRANT_BYTES && proto_link_room(link, false) >= 4) {
        struct proto_window w = {.bytes = s->in_grant};
        uint8_t *p = proto_link_payload(link);
        ssize_t n = proto_window_encode(&w, p, 4);
        proto_link_commit(link, PROTO_WINDOW, PROTO_STDIN, s->id, (size_t)n);
        s->in_credit += s->in_grant;
        s->in_grant = 0;
    }
}

void session_report(struct session *s)
{
    if (s->state != SESSION_STARTING || s->child.report_fd < 0)
        return;
    int r = spawn_report(&s->child, &s->failed);
    if (r == -EAGAIN)
        return;
    if (r < 0) {
        s->failed_due = true;
        s->state = SESSION_FAILED;
    }
}

/* STARTED is the first that the host hears of a session: until it is sent, the session stays STARTING.
 */
static void serve_starting(struct session *s, struct proto_link *link)
{
    session_report(s);
    if (s->state != SESSION_STARTING || s->child.report_fd >= 0)
        return;
    struct proto_started m = {.pid = (uint32_t)s->child.pid, .stdin_window = s->in_credit};
    if (proto_link_send_message(link, PROTO_STARTED, s->id, started, &m) == 0)
        s->state = SESSION_RUNNING;
}

void session_serve(struct session *s, const struct machine *m, struct proto_link *link,
                   const struct pollfd *p)
{
    if (s->state == SESSION_STARTING)
        serve_starting(s, link);
    if (s->state == SESSION_FAILED) {
        serve_failed(s, m, link);
        return;
    }
    if (s->state != SESSION_RUNNING)
        return;
    serve_in(s, &p[AT_IN]);
    for (int i = 0; i < 2; i++) {
        struct session_out *out = &s->out[i];
        /* After the command's death there may be nothing to wait for. */
        if (p[AT_OUT + i].revents || s->drain || (i ? s->child.err_fd : s->child.out_fd) < 0)
            serve_out(s, i, link);
        if (out->eof && !out->ended &&
            proto_link_send(link, PROTO_END, (uint16_t)(PROTO_STDOUT + i), s->id, NULL, 0) == 0)
            out->ended = true;
    }
    serve_credit(s, link);
    serve_exit(s, m, link);
}

bool session_reaped(struct session *s, pid_t pid, int wait_status)
{
    if (s->state == SESSION_FREE)
        return false;
    if (s->child.leader == pid) {
        s->child.leader = 0;
        return true;
    }
    if (s->child.pid != pid || s->died)
        return false;
    s->died = true;
    s->wait_status = wait_status;
    drop_stdin(s, false);
    for (int i = 0; i < 2; i++) {
        int fd = i ? s->child.err_fd : s->child.out_fd, n = 0;
        s->left[i] = fd >= 0 && ioctl(fd, FIONREAD, &n) == 0 && n > 0 ? (size_t)n : 0;
    }
    s->drain = true;
    return true;
}
