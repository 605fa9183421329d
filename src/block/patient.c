/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See patient.h.
 *
 * Theory of operation. Every request is passed on, and its completion looked at. Those that found no
 * room stand in a list; a timer, which is one of the things that the event descriptor tells of, sends
 * all of them again. It waits longer each time that none of them got through.
 *
 * This stands on top of a disk's other layers, where a request that waits holds nothing: no buffer of
 * crypt, which reads would miss, and no cluster of overlay. Sending it again does the whole of it
 * again, which is harmless, since its memory is the device's until it is answered.
 */
#include "block/patient.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "block/stack.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"

#define FIRST_WAIT_NS (100 * NS_PER_MS)
#define LONG_WAIT_NS  (5 * NS_PER_S)

struct patient;

struct job {
    struct stack_job base;
    struct stack_request lower;
    struct patient *patient;
    bool late; /* it was held before, and counts in patient.late */
    int error; /* why it is held */
    struct list node;
};

struct patient {
    struct stack stack;
    char *name;
    const struct log *log;
    struct log_limit limit;
    int timer_fd;
    bool armed;
    bool giving_up; /* within a drain */
    uint64_t wait_ns;
    struct list held;
    unsigned late; /* requests that were held, and have not been answered yet */
    struct job jobs[STACK_JOBS];
};

static struct patient *patient_of(struct block *block)
{
    return container_of(container_of(block, struct stack, block), struct patient, stack);
}

static void set_timer(struct patient *p, uint64_t in_ns)
{
    const struct itimerspec in = {
        .it_value = {.tv_sec = (time_t)(in_ns / NS_PER_S), .tv_nsec = (long)(in_ns % NS_PER_S)}};
    timerfd_settime(p->timer_fd, 0, &in, NULL);
    p->armed = in_ns > 0;
}

static void answer(struct job *job, int result)
{
    struct patient *p = job->patient;
    if (job->late && --p->late == 0 && result == 0)
        log_limited(p->log, &p->limit, LOG_ERROR, "disk %s: there is room again, the guest goes on",
                    p->name);
    job->late = false;
    stack_complete(&p->stack, &job->base, result);
}

static void hold(struct job *job, int error)
{
    struct patient *p = job->patient;
    if (!job->late && p->late++ == 0) {
        p->wait_ns = FIRST_WAIT_NS;
        log_limited(
            p->log, &p->limit, LOG_ERROR,
            "disk %s: the host has no room for what the guest writes (%s). The guest waits; make "
            "room where the disk's file is, and it goes on",
            p->name, strerrordesc_np(-error));
    }
    job->late = true;
    job->error = error;
    list_append(&p->held, &job->node);
    if (!p->armed)
        set_timer(p, p->wait_ns);
}

static bool waits_for_room(const struct job *job, int result)
{
    enum block_op op = job->lower.io.op;
    return (result == -ENOSPC || result == -EDQUOT) && op != BLOCK_READ && op != BLOCK_FLUSH &&
           !job->patient->giving_up;
}

static void lower_done(struct block_request *io, int result)
{
    struct job *job = container_of(io, struct job, lower.io);
    if (waits_for_room(job, result)) {
        hold(job, result);
        return;
    }
    if (job->late)
        job->patient->wait_ns = FIRST_WAIT_NS; /* something got through: more may */
    answer(job, result);
}

static void send(struct job *job)
{
    int rc = stack_send(&job->patient->stack, 0, &job->lower);
    if (rc < 0)
        answer(job, rc);
}

static struct job *take_held(struct patient *p)
{
    struct job *job = list_entry(p->held.next, struct job, node);
    list_remove(&job->node);
    return job;
}

/* When it is time, send what is held again. */
static void look_at_timer(struct stack *stack)
{
    struct patient *p = container_of(stack, struct patient, stack);
    uint64_t times;
    if (!p->armed || read(p->timer_fd, &times, sizeof(times)) != sizeof(times))
        return;
    p->armed = false;
    p->wait_ns = MIN(2 * p->wait_ns, LONG_WAIT_NS);
    while (!list_empty(&p->held))
        send(take_held(p));
}

void block_patient_retry(struct block *block)
{
    struct patient *p = patient_of(block);
    if (p->armed)
        set_timer(p, 1);
}

/* -- the operations ------------------------------------------------------------------------------ */

static int patient_submit(struct block *block, struct block_request *request)
{
    struct patient *p = patient_of(block);
    struct stack_job *base = stack_take(&p->stack, request);
    if (!base)
        return -EBUSY;
    struct job *job = container_of(base, struct job, base);
    job->lower.io = *request;
    job->lower.io.done = lower_done;
    send(job);
    return 0;
}

static void patient_drain(struct block *block)
{
    struct patient *p = patient_of(block);
    p->giving_up = true;
    set_timer(p, 0);
    while (!list_empty(&p->held)) {
        struct job *job = take_held(p);
        answer(job, job->error);
    }
    stack_drain(block);
    p->giving_up = false;
}

static void patient_destroy(struct block *block)
{
    struct patient *p = patient_of(block);
    stack_finish(&p->stack);
    close_fd(&p->timer_fd);
    free(p->name);
    free(p);
}

static const struct block_ops patient_ops = {
    .name = "patient",
    .submit = patient_submit,
    .kick = stack_kick,
    .reap = stack_reap,
    .drain = patient_drain,
    .destroy = patient_destroy,
};

/* -- opening ------------------------------------------------------------------------------------- */

static int open_in(struct patient *p, const struct block_patient_options *options)
{
    int rc = stack_init(&p->stack, &options->lower, 1);
    if (rc < 0)
        return rc;
    p->name = strdup(options->name);
    if (!p->name)
        return -ENOMEM;
    p->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return p->timer_fd < 0 ? -errno : stack_watch(&p->stack, p->timer_fd);
}

int block_patient_open(struct block **out, const struct block_patient_options *options,
                       struct dayfly_err *err)
{
    struct patient *p = calloc(1, sizeof(*p));
    if (!p) {
        block_destroy(options->lower);
        return err_set(err, ENOMEM, "disk %s: out of memory", options->name);
    }
    p->stack.block = *options->lower;
    p->stack.block.ops = &patient_ops;
    p->stack.block.event_fd = -1;
    p->stack.wake_fd = -1;
    p->stack.resume = look_at_timer;
    p->timer_fd = -1;
    p->log = options->log;
    list_init(&p->held);
    int rc = open_in(p, options);
    if (rc < 0) {
        err_errno(err, -rc, "disk %s", options->name);
        patient_destroy(&p->stack.block);
        return rc;
    }
    for (unsigned i = 0; i < STACK_JOBS; i++) {
        p->jobs[i].patient = p;
        list_append(&p->stack.idle, &p->jobs[i].base.node);
    }
    *out = &p->stack.block;
    return 0;
}

/* When to try again. */
static const struct isolate_call calls[] = {ISOLATE_CALL(timerfd_settime)};

const struct isolate_calls block_patient_calls = ISOLATE_CALLS(calls);
