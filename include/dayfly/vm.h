/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAYFLY_VM_H
#define DAYFLY_VM_H

/*
 * A virtual machine made from a description (config.h): create, start, pause, resume, stop.
 *
 *     struct dayfly_err err;
 *     struct dayfly_vm *vm;
 *     if (dayfly_vm_new(&vm, config, NULL, &err) < 0 || dayfly_vm_start(vm, &err) < 0)
 *         errx(1, "%s", err.msg);
 *     dayfly_vm_wait(vm, -1);
 *     dayfly_vm_free(vm);
 *
 * A machine runs once: after it stopped it is freed, and a new one starts from the same description.
 * It owns its threads, descriptors and guest memory; nothing of it outlives the process that made it.
 *
 * Threads: dayfly_vm_new and dayfly_vm_free are for one thread at a time and nobody may use the machine
 * after the latter; every other call is for any thread. The thread that calls dayfly_vm_new should live
 * as long as the machine: helper processes (engine tcg, a network of mode nat) die with it. Several
 * machines live in one process.
 *
 * Signals and children: every thread of the library's own has all signals blocked. SIGRTMIN interrupts
 * those that run processors (engine kvm); it is sent to them alone, and the program's handlers and
 * dispositions stay as they are. Helper processes are children of the program, and each is waited for
 * by its pid: do not ignore SIGCHLD, and do not reap children that are not yours.
 */

#include <stddef.h>
#include <stdint.h>

#include "dayfly/config.h"
#include "dayfly/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dayfly_vm;

/* What runs the guest's processor. */
enum dayfly_engine {
    DAYFLY_ENGINE_AUTO, /* KVM where a probe shows that it runs guests, else TCG */
    DAYFLY_ENGINE_KVM,  /* our own monitor on /dev/kvm */
    DAYFLY_ENGINE_TCG,  /* QEMU's translator, with our own devices; slow */
};

enum dayfly_vm_state {
    DAYFLY_VM_NEW,
    DAYFLY_VM_STARTING,
    DAYFLY_VM_RUNNING,
    DAYFLY_VM_PAUSED,
    DAYFLY_VM_STOPPED, /* the guest ended, or was ended; final */
    DAYFLY_VM_FAILED,  /* the machine could not go on; final */
};

struct dayfly_vm_event {
    size_t size; /* sizeof(struct dayfly_vm_event) as the library was built */
    enum dayfly_vm_state state;
    const char *message; /* why, for STOPPED and FAILED; valid during the call */
};

enum dayfly_log_level { DAYFLY_LOG_ERROR, DAYFLY_LOG_WARN, DAYFLY_LOG_INFO, DAYFLY_LOG_DEBUG };

struct dayfly_vm_options {
    size_t size;
    enum dayfly_engine engine;

    /* Told of every change of state, in order, from a thread of the machine's that is not locked up; of
     * the last one at the latest by dayfly_vm_free. It must not block, and must not call what changes
     * the machine or waits for it. May be NULL. */
    void (*event)(void *opaque, const struct dayfly_vm_event *event);

    /* Diagnostics, from any thread: also from those that are locked up, in which a callback can write
     * to what is open, and open or start nothing. May be NULL. */
    void (*log)(void *opaque, enum dayfly_log_level level, const char *line);
    enum dayfly_log_level log_level;

    void *opaque;
};
#define DAYFLY_VM_OPTIONS_INIT                                                                         \
    {                                                                                                  \
        .size = sizeof(struct dayfly_vm_options)                                                       \
    }

/*
 * Make a machine: its memory, devices and processors; nothing runs yet. The description is validated
 * first; it is not needed afterwards, but the descriptors that it names are, as config.h
 * says. NULL options mean all defaults. On failure *out is left as it is.
 * Errors: EINVAL (a fault of the description: the first one), ENOENT (a file, /dev/kvm or QEMU is
 * missing), EACCES, EBUSY (a disk in use elsewhere), ENOTSUP (this host's KVM cannot run a kernel), ...
 */
int dayfly_vm_new(struct dayfly_vm **out, const struct dayfly_config *config,
                  const struct dayfly_vm_options *options, struct dayfly_err *err);

/* Stops it first if need be. NULL is legal. */
void dayfly_vm_free(struct dayfly_vm *vm);

/* Begin to run. EINVAL unless NEW. */
int dayfly_vm_start(struct dayfly_vm *vm, struct dayfly_err *err);

/* Hold every processor between two instructions; devices finish what is in flight. EINVAL unless
 * RUNNING (pause) or PAUSED (resume). */
int dayfly_vm_pause(struct dayfly_vm *vm, struct dayfly_err *err);
int dayfly_vm_resume(struct dayfly_vm *vm, struct dayfly_err *err);

/* Press the power button. The guest decides; dayfly_vm_wait tells when it is off. EINVAL unless
 * RUNNING: a machine that is paused is resumed first. */
int dayfly_vm_request_stop(struct dayfly_vm *vm, struct dayfly_err *err);

/* End it now, whatever it does. Legal in every state. On return no instruction of the guest runs. */
void dayfly_vm_stop(struct dayfly_vm *vm);

/* Wait until it is STOPPED or FAILED: timeout in milliseconds, -1 for ever, 0 to look.
 * Returns 0, or -ETIMEDOUT. */
int dayfly_vm_wait(struct dayfly_vm *vm, int timeout_ms);

enum dayfly_vm_state dayfly_vm_state(const struct dayfly_vm *vm);

/* "kvm" or "tcg", and one line on how AUTO chose it. They live as long as the machine. */
const char *dayfly_vm_engine(const struct dayfly_vm *vm);
const char *dayfly_vm_engine_why(const struct dayfly_vm *vm);

/*
 * What the machine's jail (dayfly_config_set_jail) lacks as far as it was entered, as names for people:
 * "namespaces"; "everything" where it is off; "" where it is whole. Each thread enters it before it
 * sees anything of the guest's, so dayfly_vm_start has the last word. At most `size` bytes, the NUL
 * among them, are written to `out`; 64 are enough. Returns the length of the whole.
 */
size_t dayfly_vm_jail(const struct dayfly_vm *vm, char *out, size_t size);

/* The process that holds the guest besides this one (QEMU, engine tcg), or 0. */
int dayfly_vm_helper(const struct dayfly_vm *vm);

/*
 * vsock (the description must have it). listen: `accepted` is called in a thread of the machine's that
 * is not locked up, for every connection that the guest opens to port `port` of the host; it owns the
 * stream socket fd. Before start, so that none is missed. NULL for `accepted` ends that: the guest is
 * refused from then on, but a connection that has come may still be told of. connect: returns a stream
 * socket whose other end is the guest's port; it reads end of file when the guest refuses.
 * Errors: ENODEV (the description has no vsock), EADDRINUSE (somebody listens on that port already).
 */
int dayfly_vm_vsock_listen(struct dayfly_vm *vm, uint32_t port,
                           void (*accepted)(void *opaque, int fd, uint32_t guest_port), void *opaque,
                           struct dayfly_err *err);
int dayfly_vm_vsock_connect(struct dayfly_vm *vm, uint32_t port, struct dayfly_err *err);

#ifdef __cplusplus
}
#endif
#endif
