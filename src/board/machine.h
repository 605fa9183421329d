/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BOARD_MACHINE_H
#define BOARD_MACHINE_H

/*
 * A virtual machine on /dev/kvm: processors, memory, a chipset of the least that Linux wants (serial
 * port, power control, PCI Express bus 0) and the virtio devices that its owner made.
 *
 *              start            pause
 *   CREATED ──────────▶ RUNNING ◀────▶ PAUSED          every state ──stop──▶ STOPPED (by the host)
 *                          │  resume                   RUNNING ──the host's kernel fails──▶ FAILED
 *                          └─▶ STOPPED (power off, reset, triple fault)
 *
 * STOPPED and FAILED are final: a machine runs once. A new one is made in a millisecond.
 *
 * Threads. machine_new, _start, _stop, _free: one owner's thread at a time. machine_pause, _resume,
 * _request_stop, _state, _stats, _wait: any thread. The devices and the event callback run in the
 * thread of options->loop; the owner starts that loop (loop_start) before machine_start and keeps it
 * until machine_free has returned. None of the blocking calls (pause, stop, wait) may be made from that
 * thread, save from a program that runs the loop itself with loop_run_once and knows the machine to be
 * final.
 *
 * Nothing is shared between machines: any number of them live in one process. No signal handler is
 * installed, and no process-wide setting is changed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dayfly/error.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "util/log.h"
#include "util/trace.h"
#include "virtio/device.h"

struct machine;

/* Devices are functions 1 to 31 of PCI bus 0, in the order of the array. */
#define MACHINE_DEVICES_MAX 31
#define MACHINE_CPUS_MAX    254 /* 8-bit local APIC ids, 255 being "all of them" */
#define MACHINE_MEMORY_MIN  (UINT64_C(16) << 20)

enum machine_state {
    MACHINE_CREATED,
    MACHINE_RUNNING,
    MACHINE_PAUSED,
    MACHINE_STOPPED,
    MACHINE_FAILED,
};

/* Why a machine is STOPPED. */
enum machine_reason {
    MACHINE_REASON_NONE,
    MACHINE_POWER_OFF,    /* the guest switched itself off (ACPI S5) */
    MACHINE_RESET,        /* the guest asked for a reboot */
    MACHINE_TRIPLE_FAULT, /* the guest crashed so hard that a real processor would reset */
    MACHINE_HOST_STOP,    /* machine_stop */
};

struct machine_event {
    enum machine_state state;   /* the one just entered */
    enum machine_reason reason; /* with STOPPED */
    const char *text;           /* with FAILED: what happened, for people; else "" */
};

/* Every change of state, in order, in the loop's thread. After STOPPED or FAILED was reported no guest
 * code runs, the devices are reset (nothing is in flight), and no further event comes. */
typedef void machine_event_fn(void *opaque, const struct machine_event *event);

struct machine_options {
    unsigned cpus;         /* 1 to MACHINE_CPUS_MAX and KVM's own limit */
    uint64_t memory_bytes; /* a multiple of 4096, at least MACHINE_MEMORY_MIN */

    /* A Linux kernel (an ELF with a PVH note: what kernel_image_unpack makes of a bzImage), its
     * initramfs
     * (-1: none) and command line (NULL: none). Borrowed, read during machine_new only; memfds are
     * welcome. */
    int kernel_fd;
    int initrd_fd;
    const char *cmdline;

    /* The first serial port (ttyS0, COM1). Output goes to serial_out, bounded: what its reader does not
     * take in time is dropped and counted. Input comes from serial_in. -1 for none; both are borrowed,
     * until machine_free, and may be the same descriptor. Their flags are left as they are. */
    int serial_in;
    int serial_out;

    /* Made by the owner on `loop` or with one of their own, carried by nobody yet; borrowed until
     * machine_free has returned. */
    struct virtio_device *const *devices;
    unsigned device_count;

    struct loop *loop;       /* borrowed */
    const struct log *log;   /* borrowed, may be NULL */
    struct trace *trace;     /* borrowed until machine_free, may be NULL */
    machine_event_fn *event; /* may be NULL */
    void *opaque;
    struct jail *jail; /* of the processors' threads; borrowed. NULL: they are not locked up */

    const char *kvm_path; /* NULL: "/dev/kvm" */
};

/* The monitor's counters since the start; cheap, taken without stopping anything. */
struct machine_stats {
    uint64_t exits; /* of all kinds and processors, as far as they reached us */
    uint64_t exits_pio;
    uint64_t exits_mmio;
    uint64_t exits_kick; /* interrupted by ourselves */
    uint64_t exits_other;
    uint64_t unclaimed; /* accesses to addresses at which nothing is */
    uint64_t serial_dropped_bytes;
};

/*
 * Build a machine: memory, processors, tables, the kernel in place; nothing runs yet.
 * Returns 0 or -errno with the cause and the remedy in err: -ENOENT, -EACCES, -EPERM for /dev/kvm,
 * -ENOEXEC for a file that is no kernel, -ENOMEM, -EINVAL for options out of their bounds. On failure
 * nothing is left.
 */
int machine_new(struct machine **out, const struct machine_options *options, struct dayfly_err *err);

/* CREATED → RUNNING. -EALREADY in any other state. */
int machine_start(struct machine *m, struct dayfly_err *err);

/* RUNNING → PAUSED. On return no processor executes guest code. The devices finish what they were given
 * and serve what their back ends bring; the guest sees it when it goes on. Its clock does not see the
 * pause as a lockup. 0 also when it is paused already; -EINVAL in any other state. */
int machine_pause(struct machine *m, struct dayfly_err *err);

/* PAUSED → RUNNING. 0 also when it runs already; -EINVAL in any other state. */
int machine_resume(struct machine *m, struct dayfly_err *err);

/* Press the power button. The guest decides; STOPPED (power off) comes if it obeys. -EINVAL unless
 * RUNNING. */
int machine_request_stop(struct machine *m, struct dayfly_err *err);

/* Switch off, now, from any state; on return the state is final and every processor's thread is gone.
 * Like pulling the plug: what the guest has not flushed is lost. Never fails, and may be repeated. */
void machine_stop(struct machine *m);

/* Wait until the state is final. timeout_ms -1: for ever. Returns 0 or -ETIMEDOUT. The event may not
 * have been delivered yet. For tests: engines wait for the event. */
int machine_wait(struct machine *m, int timeout_ms);

/* Stop it if it runs, let go of the devices (they are reset first), give everything back. NULL is
 * legal. */
void machine_free(struct machine *m);

enum machine_state machine_state(const struct machine *m);
enum machine_reason machine_reason(const struct machine *m);
/* With FAILED: why; "" otherwise. Valid until machine_free. */
const char *machine_failure(const struct machine *m);

void machine_stats(const struct machine *m, struct machine_stats *out);

/* "running", "power off"; never NULL. */
const char *machine_state_name(enum machine_state state);
const char *machine_reason_name(enum machine_reason reason);

#endif
