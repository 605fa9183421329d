/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_TRACE_H
#define UTIL_TRACE_H

/*
 * When a run got where: the points of its way from a program's start to a command and to the end.
 *
 * A trace belongs to one run, made by who wants to know and lent to all that takes part in it. Whoever
 * gets somewhere marks it, in whatever thread; a point keeps the first mark. Where nobody wants to know
 * the trace is NULL, and a mark is one comparison, at places that are passed once in a run.
 *
 * What the guest's clock says is counted back from the moment when the agent's first word arrived.
 */

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/clock.h"

/* In the order in which they are reached; not every engine has all of them. */
enum trace_point {
    TRACE_MAIN,      /* the program has read its command line */
    TRACE_OPENED,    /* image, kernel, shares: all that the job needs is open */
    TRACE_ENGINE,    /* the engine is chosen, and has been tried */
    TRACE_DEVICES,   /* the devices are made, and their threads run */
    TRACE_VM,        /* kvm: the empty virtual machine; tcg: QEMU's process */
    TRACE_LOADED,    /* kvm: kernel, initramfs and tables are in its memory */
    TRACE_CREATED,   /* the place is whole; nothing has run in it */
    TRACE_ENTERED,   /* kvm: the processor is about to execute its first instruction; tcg: QEMU's is */
    TRACE_KERNEL,    /* the guest's kernel has set its clock up (by that clock) */
    TRACE_AGENT,     /* the agent's main (by that clock) */
    TRACE_HELLO,     /* the agent's first word is here */
    TRACE_READY,     /* the root file system is up */
    TRACE_STARTED,   /* the command runs, says the agent */
    TRACE_ENDED,     /* the command has ended, says the agent */
    TRACE_DESTROYED, /* the place is gone */
    TRACE_POINTS,
};

/* What a guest on engine kvm came out of the processor for, to us; what KVM serves itself is not seen.
 */
struct trace_exits {
    uint64_t port, memory, kick, other; /* of ports, of registers in memory, our own doing, the rest */
};

struct trace {
    _Atomic uint64_t at_ns[TRACE_POINTS]; /* CLOCK_MONOTONIC; 0: not reached */
    bool has_exits;
    struct trace_exits booted, ended; /* until the agent's first word, and until the end */
};

static inline void trace_mark_at(struct trace *trace, enum trace_point point, uint64_t ns)
{
    uint64_t none = 0;
    if (trace)
        atomic_compare_exchange_strong(&trace->at_ns[point], &none, ns);
}

static inline void trace_mark(struct trace *trace, enum trace_point point)
{
    if (trace)
        trace_mark_at(trace, point, clock_ns());
}

/* "main", "opened", ... */
const char *trace_name(enum trace_point point);

/* {"points_ns": {NAME: nanoseconds of CLOCK_MONOTONIC, ...}, "exits": {"boot": {...}, "all": {...}}}
 * without points that were not reached, and without exits where there are none to be had. NULL: out of
 * memory. */
json_t *trace_json(const struct trace *trace);

/* The reverse: 0, or -EPROTO for what is no such thing. */
int trace_from_json(const json_t *json, struct trace *out);

#endif
