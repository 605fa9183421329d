/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_VCPU_H
#define MACHINE_VCPU_H

/*
 * The processors of one machine: a thread each, all of which run, stand still, or end together.
 *
 * Threads: vcpus_new, _start, _stop and _free belong to the owner. vcpus_pause, _resume and
 * vcpus_request_stop are for any thread; only the last is also for a vCPU's own (from a bus handler)
 * and for a thread that must not wait.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dayfly/error.h"
#include "isolate/jail.h"
#include "machine/bus.h"
#include "machine/kvm.h"
#include "util/trace.h"

struct vcpus;

enum vcpu_end {
    VCPU_TRIPLE_FAULT, /* the guest's doing */
    VCPU_HALTED,       /* hlt without an in-kernel local APIC: nothing will wake it */
    VCPU_FAILED,       /* KVM cannot go on; the text says why */
};

struct vcpus_options {
    struct kvm_vm *vm; /* borrowed, as are the buses */
    unsigned count;
    struct bus *pio, *mmio;
    struct trace *trace; /* NULL: nobody wants to know */

    /* A processor met its end, on its thread. The others are being stopped. Called once at most. */
    void (*ended)(void *opaque, enum vcpu_end end, const char *text);
    /*
     * A processor touched memory that this process could not touch either: a file that is mapped there
     * (hypervisor.h, show_memory) became shorter. KVM does not say where. Mend what can be mended: true
     * when that was anything. On that processor's thread, on several at once. NULL: nothing is ever.
     */
    bool (*mend)(void *opaque);
    /* The last thread has left the guest for good, on that thread. Called once if it was ever started.
     */
    void (*all_stopped)(void *opaque);
    void *opaque;

    struct jail *jail; /* of their threads; borrowed. NULL: they are not locked up */
    /* With a jail: the system calls of the handlers on the buses, and of the above. Copied. */
    const struct isolate_options *isolate;
};

struct vcpus_stats {
    uint64_t pio, mmio, kick, other;
};

/* Create them; nothing runs, and their registers are at reset. */
int vcpus_new(struct vcpus **out, const struct vcpus_options *options, struct dayfly_err *err);
void vcpus_free(struct vcpus *cpus); /* stops them first; NULL is legal */

/* For setting registers, before the start or while paused. */
int vcpus_fd(const struct vcpus *cpus, unsigned index);

/* Start the threads, and lock them up. On failure none is left. Once. */
int vcpus_start(struct vcpus *cpus, struct dayfly_err *err);

/* On return from pause no processor is in the guest, and pending I/O has reached its registers. Both do
 * nothing once a stop was requested. */
void vcpus_pause(struct vcpus *cpus);
void vcpus_resume(struct vcpus *cpus);

/* Ask all of them to end; does not wait. */
void vcpus_request_stop(struct vcpus *cpus);
/* Ask, and wait until all threads are joined. Safe on processors that were never started, and twice. */
void vcpus_stop(struct vcpus *cpus);

void vcpus_stats(const struct vcpus *cpus, struct vcpus_stats *out);

#endif
