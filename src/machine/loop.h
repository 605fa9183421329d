/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_LOOP_H
#define MACHINE_LOOP_H

/*
 * The event loop of one machine: epoll, one-shot timers and posted calls, in one thread. Devices run in
 * it.
 *
 * Threads: loop_add, loop_modify, loop_remove and the timers are for the loop's own thread, or for any
 * thread while the loop does not run. loop_post, loop_call and loop_stop are for any thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "isolate/jail.h"
#include "util/list.h"

struct loop;

/* Embedded in its owner. Zero it, set fd, events (EPOLLIN | EPOLLOUT ...) and ready, then loop_add. */
struct loop_source {
    int fd; /* borrowed: the owner removes the source before it closes fd */
    uint32_t events;
    void (*ready)(struct loop_source *source, uint32_t events);
    struct loop *loop; /* set while added */
    struct list node;
};

struct loop_timer {
    uint64_t deadline_ns; /* CLOCK_MONOTONIC */
    void (*fired)(struct loop_timer *timer);
    struct loop *loop; /* set while armed */
    struct list node;
};

int loop_new(struct loop **out);

/* Stops the thread if there is one. Sources must have been removed. NULL is legal. */
void loop_free(struct loop *loop);

/* Run in a thread of the loop's own, named `name` (15 characters), all signals blocked. */
int loop_start(struct loop *loop, const char *name);

/* End loop_run and join the thread that loop_start made. Safe to call twice. */
void loop_stop(struct loop *loop);

/* Run in the calling thread until loop_stop. */
void loop_run(struct loop *loop);

/* Handle what is ready now; wait at most timeout_ms (-1: for ever). For tests and for callers that
 * own the thread. Returns the number of events handled or -errno. */
int loop_run_once(struct loop *loop, int timeout_ms);

int loop_add(struct loop *loop, struct loop_source *source);
int loop_modify(struct loop_source *source, uint32_t events);
/* After it returns `ready` is not called again, even for an event of the same round. Legal on a source
 * that was never added, and from within any `ready`. */
void loop_remove(struct loop_source *source);

/* Arm (or re-arm) a timer; one-shot. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns);
void loop_timer_cancel(struct loop_timer *timer);

/* Call fn(arg) in the loop's thread, soon (post) or before returning (call; runs fn at once when the
 * caller is the loop's thread or when the loop does not run in a thread). Posted calls that never ran
 * are dropped by loop_free. loop_post returns 0 or -ENOMEM; loop_call needs no memory and returns 0. */
int loop_post(struct loop *loop, void (*fn)(void *arg), void *arg);
int loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

/* True in the loop's thread, and while the loop does not run in one. */
bool loop_is_mine(const struct loop *loop);

/* The system calls of a loop's thread, for one that is locked up. */
extern const struct isolate_calls loop_calls;

/*
 * Lock up the loop's thread as `options` say, with what each thread and the loop itself needs added to
 * their calls. After loop_start, before there is anything of a guest's. Returns 0, or -errno (see
 * jail_enter): then the loop has to be stopped.
 */
int loop_lock_up(struct loop *loop, struct jail *jail, const char *who,
                 const struct isolate_options *options, struct dayfly_err *err);

#endif
