/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/cable.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "isolate/isolate.h"
#include "util/cleanup.h"
#include "util/err.h"

#define TURN_FRAMES 64 /* from one end, before the other's turn */

/* One direction. */
struct lane {
    int from, to;
    size_t len; /* of the frame that waits; 0: none */
    uint8_t frame[NAT_FRAME_MAX];
};

struct cable {
    struct nat *nat;
    int frames_fd, tap_fd, stop_fd;
    pthread_t thread;
    struct lane in, out;
    sem_t locked_up;
    int result;
    struct dayfly_err err;
};

/* What it does is to move bytes between descriptors that are open. */
static const struct isolate_call calls[] = {
    ISOLATE_CALL(poll), ISOLATE_CALL(recvfrom), /* what the helper says */
};

/* False when an end has gone. What is too long is cut, and dropped by who gets it. */
static bool carry(struct lane *lane)
{
    for (int i = 0; i < TURN_FRAMES; i++) {
        if (!lane->len) {
            ssize_t n = read(lane->from, lane->frame, sizeof(lane->frame));
            if (n <= 0)
                return n < 0 && (errno == EAGAIN || errno == EINTR);
            lane->len = (size_t)n;
        }
        ssize_t n = write(lane->to, lane->frame, lane->len);
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS))
            return true;
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return false;
        /* Also one that is refused, as by a device that is not up yet: it is lost. */
        lane->len = 0;
    }
    return true;
}

static void *cable_thread(void *opaque)
{
    struct cable *c = opaque;
    const struct isolate_options options = {.calls = {isolate_base_calls, ISOLATE_CALLS(calls)}};
    unsigned applied;
    c->result = isolate_thread(&options, &applied, &c->err);
    bool going = c->result == 0, helper = true;
    sem_post(&c->locked_up);
    while (going) {
        struct pollfd p[] = {
            {c->stop_fd, POLLIN, 0},
            {c->frames_fd, (short)((c->in.len ? 0 : POLLIN) | (c->out.len ? POLLOUT : 0)), 0},
            {c->tap_fd, (short)((c->out.len ? 0 : POLLIN) | (c->in.len ? POLLOUT : 0)), 0},
            {helper ? nat_events_fd(c->nat) : -1, POLLIN, 0},
        };
        if (poll(p, sizeof(p) / sizeof(p[0]), -1) < 0 && errno != EINTR)
            break;
        if (p[0].revents)
            break;
        if (p[3].revents)
            helper = nat_handle_events(c->nat) == 0;
        going = carry(&c->in) && carry(&c->out);
    }
    /* A device with an end that nobody reads would hold what is sent to it. */
    close_fd(&c->tap_fd);
    return NULL;
}

int cable_new(struct cable **out, struct nat *nat, int frames_fd, int tap_fd, struct dayfly_err *err)
{
    struct cable *c = calloc(1, sizeof(*c));
    sigset_t all, before;
    if (!c) {
        close(frames_fd);
        close(tap_fd);
        return err_set(err, ENOMEM, "out of memory");
    }
    c->nat = nat;
    c->frames_fd = c->in.from = c->out.to = frames_fd;
    c->tap_fd = c->in.to = c->out.from = tap_fd;
    c->stop_fd = eventfd(0, EFD_CLOEXEC);
    sem_init(&c->locked_up, 0, 0);
    int code = c->stop_fd < 0 ? errno : 0;
    if (!code) {
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        code = pthread_create(&c->thread, NULL, cable_thread, c);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (code) {
        close_fd(&c->frames_fd);
        close_fd(&c->tap_fd);
        close_fd(&c->stop_fd);
        free(c);
        return err_errno(err, code, "the network's thread");
    }
    while (sem_wait(&c->locked_up) < 0)
        ;
    if (c->result < 0) {
        err_set(err, -c->result, "%s", c->err.msg);
        code = c->result;
        cable_free(c);
        return code;
    }
    *out = c;
    return 0;
}

void cable_free(struct cable *c)
{
    if (!c)
        return;
    eventfd_write(c->stop_fd, 1);
    pthread_join(c->thread, NULL);
    sem_destroy(&c->locked_up);
    close_fd(&c->frames_fd);
    close_fd(&c->tap_fd);
    close_fd(&c->stop_fd);
    free(c);
}
