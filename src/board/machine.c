/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See machine.h. A machine's life: its states, its events and its end; build.c wires.
 *
 * States and locks. `lock` guards state, reason, failure and the events not yet delivered; it is a
 * leaf. `control` is held over a whole pause, resume or start, so that they do not cross; stop does not
 * take it, so that nothing can hold up a stop.
 *
 * The end. Whoever wants the machine to end (a power register, a vCPU that cannot go on, the host)
 * writes down why, and asks the processors to stop. The last of their threads enters the final state:
 * no guest code runs from there on. The loop's thread then resets the devices and delivers the event.
 */
#include "board/machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "board/build.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"

#define EVENTS_MAX 16

struct pending_event {
    enum machine_state state;
    enum machine_reason reason;
};

struct machine {
    struct loop *loop;
    machine_event_fn *event;
    void *opaque;
    struct board board;

    pthread_mutex_t control;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum machine_state state;
    enum machine_reason reason;
    char failure[DAYFLY_ERR_MSG_BYTES];
    struct pending_event pending[EVENTS_MAX];
    unsigned pending_count;
    struct loop_source wake;
};

/* -- states and events ------------------------------------------------------------------------------
 */

static bool is_final(enum machine_state state)
{
    return state == MACHINE_STOPPED || state == MACHINE_FAILED;
}

/* With the lock held. */
static void enter_state(struct machine *m, enum machine_state state)
{
    m->state = state;
    pthread_cond_broadcast(&m->changed);
    /* An owner that sleeps through many pauses learns of the last state, not of each. */
    if (m->pending_count == EVENTS_MAX)
        m->pending_count--;
    m->pending[m->pending_count++] = (struct pending_event){.state = state, .reason = m->reason};
    uint64_t one = 1;
    while (write(m->wake.fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/* In the loop's thread. The owner may not free the machine from the callback, so `m` stays. */
static void deliver_events(struct loop_source *source, uint32_t events)
{
    struct machine *m = container_of(source, struct machine, wake);
    uint64_t count;
    while (read(source->fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    for (;;) {
        pthread_mutex_lock(&m->lock);
        bool any = m->pending_count > 0;
        struct pending_event e = m->pending[0];
        if (any)
            memmove(&m->pending[0], &m->pending[1], --m->pending_count * sizeof(e));
        pthread_mutex_unlock(&m->lock);
        if (!any)
            return;
        if (is_final(e.state))
            board_settle(&m->board);
        struct machine_event event = {
            .state = e.state,
            .reason = e.state == MACHINE_STOPPED ? e.reason : MACHINE_REASON_NONE,
            .text = e.state == MACHINE_FAILED ? m->failure : "",
        };
        if (m->event)
            m->event(m->opaque, &event);
    }
}

/* Write down why it ends; the first reason stays. */
static void set_reason(struct machine *m, enum machine_reason reason)
{
    pthread_mutex_lock(&m->lock);
    if (m->reason == MACHINE_REASON_NONE && m->failure[0] == '\0')
        m->reason = reason;
    pthread_mutex_unlock(&m->lock);
}

static void guest_power_off(void *opaque)
{
    struct machine *m = opaque;
    set_reason(m, MACHINE_POWER_OFF);
    vcpus_request_stop(m->board.cpus);
}

static void guest_reset(void *opaque)
{
    struct machine *m = opaque;
    set_reason(m, MACHINE_RESET);
    vcpus_request_stop(m->board.cpus);
}

static void vcpu_ended(void *opaque, enum vcpu_end end, const char *text)
{
    struct machine *m = opaque;
    if (end == VCPU_TRIPLE_FAULT) {
        set_reason(m, MACHINE_TRIPLE_FAULT);
        return;
    }
    pthread_mutex_lock(&m->lock);
    if (m->reason == MACHINE_REASON_NONE && m->failure[0] == '\0')
        snprintf(m->failure, sizeof(m->failure), "%s", text);
    pthread_mutex_unlock(&m->lock);
}

static bool mend(void *opaque)
{
    struct machine *m = opaque;
    return board_mend(&m->board);
}

static void all_stopped(void *opaque)
{
    struct machine *m = opaque;
    pthread_mutex_lock(&m->lock);
    enter_state(m, m->failure[0] ? MACHINE_FAILED : MACHINE_STOPPED);
    pthread_mutex_unlock(&m->lock);
}

/* -- making and freeing -----------------------------------------------------------------------------
 */

/* In the loop's thread: whatever the loop may touch. The processors are stopped. */
static void detach(void *arg)
{
    struct machine *m = arg;
    board_detach(&m->board);
    loop_remove(&m->wake);
    close_fd(&m->wake.fd);
}

static int make_wake(struct machine *m, struct dayfly_err *err)
{
    m->wake = (struct loop_source){
        .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = EPOLLIN, .ready = deliver_events};
    int rc = m->wake.fd < 0 ? -errno : loop_add(m->loop, &m->wake);
    return rc < 0 ? err_errno(err, -rc, "events") : 0;
}

int machine_new(struct machine **out, const struct machine_options *options, struct dayfly_err *err)
{
    int rc = board_check(options, err);
    if (rc < 0)
        return rc;
    struct machine *m = calloc(1, sizeof(*m));
    if (!m)
        return err_errno(err, ENOMEM, "machine");
    m->loop = options->loop;
    m->event = options->event;
    m->opaque = options->opaque;
    m->wake.fd = -1;
    board_init(&m->board);
    pthread_mutex_init(&m->control, NULL);
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attr);
    pthread_condattr_destroy(&attr);
    m->state = MACHINE_CREATED;

    const struct board_hooks hooks = {
        .power_off = guest_power_off,
        .reset = guest_reset,
        .vcpu_ended = vcpu_ended,
        .mend = mend,
        .all_stopped = all_stopped,
        .opaque = m,
    };
    rc = board_build(&m->board, options, &hooks, err);
    if (rc == 0)
        rc = make_wake(m, err);
    if (rc < 0) {
        machine_free(m);
        return rc;
    }
    *out = m;
    return 0;
}

void machine_free(struct machine *m)
{
    if (!m)
        return;
    machine_stop(m);
    loop_call(m->loop, detach, m);
    board_finish(&m->board);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->control);
    free(m);
}

/* -- life -------------------------------------------------------------------------------------------
 */

enum machine_state machine_state(const struct machine *m)
{
    struct machine *own = (struct machine *)(uintptr_t)m;
    pthread_mutex_lock(&own->lock);
    enum machine_state state = m->state;
    pthread_mutex_unlock(&own->lock);
    return state;
}

enum machine_reason machine_reason(const struct machine *m)
{
    struct machine *own = (struct machine *)(uintptr_t)m;
    pthread_mutex_lock(&own->lock);
    enum machine_reason reason = m->state == MACHINE_STOPPED ? m->reason : MACHINE_REASON_NONE;
    pthread_mutex_unlock(&own->lock);
    return reason;
}

const char *machine_failure(const struct machine *m)
{
    return machine_state(m) == MACHINE_FAILED ? m->failure : "";
}

/* From `from` to `to`, unless the machine has ended in between. */
static bool change_state(struct machine *m, enum machine_state from, enum machine_state to)
{
    pthread_mutex_lock(&m->lock);
    bool changed = m->state == from;
    if (changed)
        enter_state(m, to);
    pthread_mutex_unlock(&m->lock);
    return changed;
}

static int refuse(const struct machine *m, int code, const char *what, struct dayfly_err *err)
{
    return err_set(err, code, "the machine is %s: it cannot be %s",
                   machine_state_name(machine_state(m)), what);
}

int machine_start(struct machine *m, struct dayfly_err *err)
{
    pthread_mutex_lock(&m->control);
    /* Entered before the first instruction runs, so that no end can come before the beginning. */
    int rc =
        change_state(m, MACHINE_CREATED, MACHINE_RUNNING) ? 0 : refuse(m, EALREADY, "started", err);
    if (rc == 0 && (rc = vcpus_start(m->board.cpus, err)) < 0) {
        pthread_mutex_lock(&m->lock);
        snprintf(m->failure, sizeof(m->failure), "the processors' threads could not be started");
        enter_state(m, MACHINE_FAILED);
        pthread_mutex_unlock(&m->lock);
    }
    pthread_mutex_unlock(&m->control);
    return rc;
}

int machine_pause(struct machine *m, struct dayfly_err *err)
{
    pthread_mutex_lock(&m->control);
    int rc = 0;
    if (machine_state(m) != MACHINE_PAUSED) {
        if (machine_state(m) == MACHINE_RUNNING)
            vcpus_pause(m->board.cpus);
        if (!change_state(m, MACHINE_RUNNING, MACHINE_PAUSED))
            rc = refuse(m, EINVAL, "paused", err);
    }
    pthread_mutex_unlock(&m->control);
    return rc;
}

int machine_resume(struct machine *m, struct dayfly_err *err)
{
    pthread_mutex_lock(&m->control);
    int rc = 0;
    if (change_state(m, MACHINE_PAUSED, MACHINE_RUNNING))
        vcpus_resume(m->board.cpus);
    else if (machine_state(m) != MACHINE_RUNNING)
        rc = refuse(m, EINVAL, "resumed", err);
    pthread_mutex_unlock(&m->control);
    return rc;
}

int machine_request_stop(struct machine *m, struct dayfly_err *err)
{
    if (machine_state(m) != MACHINE_RUNNING)
        return refuse(m, EINVAL, "asked to stop", err);
    irq_line_raise(&m->board.button_line);
    return 0;
}

void machine_stop(struct machine *m)
{
    set_reason(m, MACHINE_HOST_STOP);
    if (m->board.cpus)
        vcpus_stop(m->board.cpus); /* the last thread enters the final state */
    pthread_mutex_lock(&m->lock);
    if (!is_final(m->state) && m->wake.fd >= 0)
        enter_state(m, MACHINE_STOPPED); /* it never ran */
    pthread_mutex_unlock(&m->lock);
}

int machine_wait(struct machine *m, int timeout_ms)
{
    uint64_t deadline = clock_ns() + (uint64_t)MAX(timeout_ms, 0) * NS_PER_MS;
    const struct timespec until = {.tv_sec = (time_t)(deadline / NS_PER_S),
                                   .tv_nsec = (long)(deadline % NS_PER_S)};
    int rc = 0;
    pthread_mutex_lock(&m->lock);
    while (!is_final(m->state) && rc == 0)
        rc = timeout_ms < 0 ? pthread_cond_wait(&m->changed, &m->lock)
                            : pthread_cond_timedwait(&m->changed, &m->lock, &until);
    bool final = is_final(m->state);
    pthread_mutex_unlock(&m->lock);
    return final ? 0 : -ETIMEDOUT;
}

void machine_stats(const struct machine *m, struct machine_stats *out)
{
    struct vcpus_stats cpus;
    vcpus_stats(m->board.cpus, &cpus);
    struct serial *serial = (struct serial *)(uintptr_t)&m->board.serial;
    *out = (struct machine_stats){
        .exits = cpus.pio + cpus.mmio + cpus.kick + cpus.other,
        .exits_pio = cpus.pio,
        .exits_mmio = cpus.mmio,
        .exits_kick = cpus.kick,
        .exits_other = cpus.other,
        .unclaimed = atomic_load(&m->board.pio.unclaimed) + atomic_load(&m->board.mmio.unclaimed),
        .serial_dropped_bytes = serial_dropped_bytes(serial),
    };
}

const char *machine_state_name(enum machine_state state)
{
    static const char *const names[] = {
        [MACHINE_CREATED] = "created", [MACHINE_RUNNING] = "running", [MACHINE_PAUSED] = "paused",
        [MACHINE_STOPPED] = "stopped", [MACHINE_FAILED] = "failed",
    };
    return (unsigned)state < ARRAY_SIZE(names) ? names[state] : "in an unknown state";
}

const char *machine_reason_name(enum machine_reason reason)
{
    static const char *const names[] = {
        [MACHINE_REASON_NONE] = "none",
        [MACHINE_POWER_OFF] = "power off",
        [MACHINE_RESET] = "reset",
        [MACHINE_TRIPLE_FAULT] = "triple fault",
        [MACHINE_HOST_STOP] = "stopped by the host",
    };
    return (unsigned)reason < ARRAY_SIZE(names) ? names[reason] : "unknown";
}
