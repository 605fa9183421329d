/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

/*
 * The contract of an engine: what turns a description and a set of virtio devices into a running
 * guest. vm.c keeps the states and the rules of the public API on top of it; an engine is one file and
 * one row of engine_all.
 *
 * Threads: the ops are called by one thread at a time (vm.c serialises them), never the loop's. `ended`
 * may be called by any thread of the engine's, at most once with an ending, and not from within an op
 * other than start.
 */

#include <sys/types.h>

#include "config/config.h"
#include "dayfly/vm.h"
#include "isolate/jail.h"
#include "machine/loop.h"
#include "util/log.h"
#include "util/trace.h"

struct engine; /* one running guest; each engine defines its own */
struct device_set;

enum engine_ending {
    ENGINE_POWERED_OFF, /* the guest asked to be switched off */
    ENGINE_RESET,       /* the guest asked for a reboot; a machine runs once, so it ends */
    ENGINE_FAILED,      /* `why` says what broke */
};

struct engine_setup {
    const struct dayfly_config *config; /* validated; borrowed until destroy */
    struct device_set *devices;         /* made from it; borrowed until destroy */
    struct loop *loop;                  /* runs before start; locked up */
    struct loop *keeper; /* with `spawns`: a loop that runs, is not locked up, and lives as long */
    struct jail *jail;
    const struct log *log;
    struct trace *trace; /* NULL: nobody wants to know */
    void (*ended)(void *opaque, enum engine_ending ending, const char *why);
    void *opaque;
};

struct engine_ops {
    const char *name;
    enum dayfly_engine id;
    bool has_consoles; /* of its own: the set of devices needs none */
    bool shows_memory; /* of devices (struct virtio_shared_memory) to the guest */
    /* The system calls that its way of carrying a device makes in a device's own thread. */
    const struct isolate_calls *carrier_calls;
    /* Those that it makes in `loop`, besides those of devices that are there; up to a NULL. */
    const struct isolate_calls *const *loop_calls;
    bool spawns; /* has a process of its own */

    /* Can this host run it? 0, or -errno with the cause and the remedy. May take some milliseconds. */
    int (*probe)(struct dayfly_err *why);

    int (*create)(struct engine **out, const struct engine_setup *setup, struct dayfly_err *err);
    int (*start)(struct engine *engine, struct dayfly_err *err);
    int (*pause)(struct engine *engine, struct dayfly_err *err);
    int (*resume)(struct engine *engine, struct dayfly_err *err);
    int (*request_stop)(struct engine *engine, struct dayfly_err *err);
    /* On return the guest runs no more and touches no device. Legal at any time after create. */
    void (*stop)(struct engine *engine);
    void (*destroy)(struct engine *engine); /* after stop; NULL is legal */

    /* The process that holds the guest besides our own (QEMU's), or 0. */
    pid_t (*helper)(const struct engine *engine);

    /* What the guest's processors came out for until now. Any thread. NULL: it cannot be counted. */
    void (*exits)(const struct engine *engine, struct trace_exits *out);
};

/* Every engine, best first. */
#define ENGINE_COUNT 2
extern const struct engine_ops *const engine_all[ENGINE_COUNT];
extern const struct engine_ops engine_kvm;
extern const struct engine_ops engine_tcg;

#define ENGINE_WHY_BYTES 320

/*
 * The engine to use: the one asked for, or for AUTO the first whose probe succeeds. `why` gets one line
 * that says how it was chosen. Returns NULL with *err set when the engine asked for, or every
 * engine, cannot run here.
 */
const struct engine_ops *engine_choose(enum dayfly_engine wanted, char why[ENGINE_WHY_BYTES],
                                       struct dayfly_err *err);

#endif
