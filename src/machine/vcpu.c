/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * `want` says what all processors shall do. Each thread looks at it before every KVM_RUN; whoever
 * changes it then kicks every thread that may be in the guest.
 *
 * A kick is a signal (SIGRTMIN) which every vCPU thread blocks, and which KVM_SET_SIGNAL_MASK lets
 * through for the time of KVM_RUN alone. A signal sent between the look at `want` and KVM_RUN stays
 * pending and ends KVM_RUN at once: nothing is lost. No handler is needed, for the signal is never
 * delivered: the thread takes it back with sigtimedwait. So the process's signal dispositions, which
 * belong to the program that we are a library in, are left alone. (The kernel spares a process from a
 * fatal signal that a thread blocks in this way: real_blocked.)
 *
 * After a port or MMIO read KVM puts the value into the guest's register at the *next* KVM_RUN. Before
 * a thread stands still it therefore enters once more with immediate_exit set, which completes the
 * access and executes nothing.
 *
 * A guest's access to a page that the host cannot give (EFAULT) has changed nothing: it may be tried
 * again once the memory is mended. A processor that finds nothing to mend tries some more times, since
 * another may have mended its page in between; then the machine has come to its end.
 */
#include "machine/vcpu.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define KICK_SIGNAL SIGRTMIN
#define FAULTS_MAX  4

enum want { WANT_RUN, WANT_PAUSE, WANT_STOP };

struct vcpu {
    struct vcpus *cpus;
    unsigned index;
    int fd;
    struct kvm_run *run;
    pthread_t thread;
    bool has_thread;
    unsigned faults; /* in a row, with nothing to mend */
    /* Written by its own thread only; read by anybody. */
    atomic_uint_fast64_t pio, mmio, kick, other;
};

struct vcpus {
    struct vcpus_options options;
    _Atomic enum want want;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* want, parked or alive */
    unsigned alive;
    unsigned parked;
    unsigned locked_up; /* or failed to be */
    int lock_up_result; /* of the first that failed */
    struct dayfly_err lock_up_err;
    struct isolate_options isolate;
    bool started;
    bool ended;

    unsigned count;
    struct vcpu vcpu[];
};

static void count_up(atomic_uint_fast64_t *counter)
{
    /* One writer: no locked instruction is needed. */
    uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + 1, memory_order_relaxed);
}

/* With the lock held. */
static void set_want(struct vcpus *cpus, enum want want)
{
    atomic_store(&cpus->want, want);
    pthread_cond_broadcast(&cpus->changed);
    if (want == WANT_RUN)
        return;
    for (unsigned i = 0; i < cpus->count; i++)
        if (cpus->vcpu[i].has_thread)
            pthread_kill(cpus->vcpu[i].thread, KICK_SIGNAL);
}

static void take_kick_back(void)
{
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, KICK_SIGNAL);
    static const struct timespec now = {0, 0};
    while (sigtimedwait(&kick, NULL, &now) == KICK_SIGNAL)
        ;
}

static void report_end(struct vcpu *v, enum vcpu_end end, const char *text)
{
    struct vcpus *cpus = v->cpus;
    pthread_mutex_lock(&cpus->lock);
    bool first = !cpus->ended;
    cpus->ended = true;
    pthread_mutex_unlock(&cpus->lock);
    if (first)
        cpus->options.ended(cpus->options.opaque, end, text);
    vcpus_request_stop(cpus);
}

static void fail(struct vcpu *v, const char *what)
{
    char text[200];
    struct kvm_regs regs;
    uint64_t rip = ioctl(v->fd, KVM_GET_REGS, &regs) == 0 ? regs.rip : 0;
    snprintf(text, sizeof(text), "processor %u: %s (rip 0x%llx)", v->index, what,
             (unsigned long long)rip);
    report_end(v, VCPU_FAILED, text);
}

static void internal_error(struct vcpu *v)
{
    const struct kvm_run *run = v->run;
    char text[160];
    int n = snprintf(text, sizeof(text), "KVM met %s", kvm_internal_error_name(run->internal.suberror));
    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && run->emulation_failure.ndata > 1 &&
        (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
        unsigned bytes = MIN(run->emulation_failure.insn_size, 15u);
        n += snprintf(text + n, sizeof(text) - (size_t)n, ", bytes");
        for (unsigned i = 0; i < bytes; i++)
            n += snprintf(text + n, sizeof(text) - (size_t)n, " %02x",
                          run->emulation_failure.insn_bytes[i]);
    }
    fail(v, text);
}

static void port_io(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    struct bus *pio = v->cpus->options.pio;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    unsigned size = run->io.size;
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        if (run->io.direction == KVM_EXIT_IO_OUT)
            bus_write(pio, run->io.port, data, size);
        else
            bus_read(pio, run->io.port, data, size);
    }
}

static void mmio(struct vcpu *v)
{
    struct kvm_run *run = v->run;
    struct bus *bus = v->cpus->options.mmio;
    if (run->mmio.is_write)
        bus_write(bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
    else
        bus_read(bus, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
}

/* The two exits that matter; false for any other. */
static bool serve_access(struct vcpu *v)
{
    switch (v->run->exit_reason) {
    case KVM_EXIT_IO:
        count_up(&v->pio);
        port_io(v);
        return true;
    case KVM_EXIT_MMIO:
        count_up(&v->mmio);
        mmio(v);
        return true;
    default:
        return false;
    }
}

/* KVM_RUN failed with EFAULT. False when that is the end. */
static bool mend(struct vcpu *v)
{
    const struct vcpus_options *o = &v->cpus->options;
    if (!o->mend)
        return false;
    v->faults = o->mend(o->opaque) ? 0 : v->faults + 1;
    return v->faults < FAULTS_MAX;
}

/* Enter the guest once and serve the exit. */
static void run_once(struct vcpu *v)
{
    int rc = ioctl(v->fd, KVM_RUN, NULL);
    if (rc < 0) {
        int code = errno;
        if (code == EFAULT && mend(v))
            return;
        v->faults = 0;
        if (code == EINTR || code == EAGAIN) {
            take_kick_back();
            count_up(&v->kick);
            return;
        }
        char text[100];
        snprintf(text, sizeof(text), "KVM_RUN failed: %s", strerror(code));
        fail(v, text);
        return;
    }
    v->faults = 0;
    if (serve_access(v))
        return;
    count_up(&v->other);
    switch (v->run->exit_reason) {
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
        return;
    case KVM_EXIT_HLT:
        report_end(v, VCPU_HALTED, "the processor halted for good");
        return;
    case KVM_EXIT_SHUTDOWN:
        report_end(v, VCPU_TRIPLE_FAULT, "triple fault");
        return;
    case KVM_EXIT_INTERNAL_ERROR:
        internal_error(v);
        return;
    case KVM_EXIT_FAIL_ENTRY: {
        char text[100];
        snprintf(text, sizeof(text), "the processor refuses the guest's state (reason 0x%llx)",
                 (unsigned long long)v->run->fail_entry.hardware_entry_failure_reason);
        fail(v, text);
        return;
    }
    default: {
        char text[100];
        snprintf(text, sizeof(text), "an exit that we do not serve: %s (%u)",
                 kvm_exit_name(v->run->exit_reason), v->run->exit_reason);
        fail(v, text);
        return;
    }
    }
}

/* Finish the access that the last exit began, with all its pieces; execute nothing. */
static void complete_io(struct vcpu *v)
{
    v->run->immediate_exit = 1;
    while (ioctl(v->fd, KVM_RUN, NULL) == 0 && serve_access(v))
        ;
    v->run->immediate_exit = 0;
    take_kick_back();
}

/* As long as the processors are to stand still. */
static void park(struct vcpu *v)
{
    struct vcpus *cpus = v->cpus;
    pthread_mutex_lock(&cpus->lock);
    cpus->parked++;
    pthread_cond_broadcast(&cpus->changed);
    while (atomic_load(&cpus->want) == WANT_PAUSE)
        pthread_cond_wait(&cpus->changed, &cpus->lock);
    cpus->parked--;
    pthread_mutex_unlock(&cpus->lock);
}

/* Before the guest runs: vcpus_start waits for all of them. */
static void lock_up(struct vcpus *cpus)
{
    struct dayfly_err err = {0};
    int rc = cpus->options.jail ? jail_enter(cpus->options.jail, "processor", &cpus->isolate, &err) : 0;
    pthread_mutex_lock(&cpus->lock);
    if (rc < 0 && cpus->lock_up_result == 0) {
        cpus->lock_up_result = rc;
        cpus->lock_up_err = err;
    }
    cpus->locked_up++;
    pthread_cond_broadcast(&cpus->changed);
    pthread_mutex_unlock(&cpus->lock);
}

static void *vcpu_main(void *arg)
{
    struct vcpu *v = arg;
    struct vcpus *cpus = v->cpus;
    char name[16];
    snprintf(name, sizeof(name), "vcpu %u", v->index);
    pthread_setname_np(pthread_self(), name);
    lock_up(cpus);

    park(v); /* until all have been made */
    if (v->index == 0)
        trace_mark(cpus->options.trace, TRACE_ENTERED);
    for (;;) {
        enum want want = atomic_load(&cpus->want);
        if (want == WANT_RUN) {
            run_once(v);
            continue;
        }
        complete_io(v);
        if (want == WANT_STOP)
            break;
        park(v);
        /* Tell the guest's watchdog of the pause. Refused by one that has no KVM clock. */
        ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0);
    }

    pthread_mutex_lock(&cpus->lock);
    bool last = --cpus->alive == 0, started = cpus->started;
    pthread_cond_broadcast(&cpus->changed);
    pthread_mutex_unlock(&cpus->lock);
    if (last && started)
        cpus->options.all_stopped(cpus->options.opaque);
    return NULL;
}

/* While in the guest, and only then, the kick gets through. */
static int let_kick_through(int fd)
{
    /* A struct kvm_signal_mask, whose set is a flexible array: the length, then the set. */
    uint64_t blocked = ~(UINT64_C(1) << (KICK_SIGNAL - 1));
    uint32_t mask[] = {sizeof(blocked), (uint32_t)blocked, (uint32_t)(blocked >> 32)};
    return kvm_ioctl(fd, KVM_SET_SIGNAL_MASK, mask);
}

/* A processor's own; nothing here opens, connects or makes a process. */
static const struct isolate_call vcpu_calls[] = {
    ISOLATE_CALL_IF(ioctl, 1, UINT32_MAX, KVM_RUN), ISOLATE_CALL_IF(ioctl, 1, UINT32_MAX, KVM_GET_REGS),
    ISOLATE_CALL_IF(ioctl, 1, UINT32_MAX, KVM_KVMCLOCK_CTRL),
    ISOLATE_CALL(rt_sigtimedwait), /* taking a kick back */
};
static const struct isolate_calls vcpu_table = ISOLATE_CALLS(vcpu_calls);

static bool gather_calls(struct vcpus *cpus)
{
    static const struct isolate_calls *const own[] = {&isolate_base_calls, &vcpu_table,
                                                      &kvm_register_calls, NULL};
    if (cpus->options.isolate)
        cpus->isolate = *cpus->options.isolate;
    return isolate_add_calls(&cpus->isolate, own);
}

int vcpus_new(struct vcpus **out, const struct vcpus_options *options, struct dayfly_err *err)
{
    if (options->count == 0 || options->count > options->vm->cpus_max)
        return err_set(err, EINVAL, "%u processors: KVM allows 1 to %u here", options->count,
                       options->vm->cpus_max);
    struct vcpus *cpus = calloc(1, sizeof(*cpus) + options->count * sizeof(cpus->vcpu[0]));
    if (!cpus)
        return err_errno(err, ENOMEM, "processors");
    cpus->options = *options;
    cpus->count = options->count;
    atomic_init(&cpus->want, WANT_PAUSE);
    pthread_mutex_init(&cpus->lock, NULL);
    pthread_cond_init(&cpus->changed, NULL);
    for (unsigned i = 0; i < cpus->count; i++)
        cpus->vcpu[i] = (struct vcpu){.cpus = cpus, .index = i, .fd = -1};
    if (!gather_calls(cpus)) {
        vcpus_free(cpus);
        return err_set(err, E2BIG, "processors: too many lists of system calls");
    }
    for (unsigned i = 0; i < cpus->count; i++) {
        struct vcpu *v = &cpus->vcpu[i];
        int rc = v->fd = kvm_vcpu_new(options->vm, i, &v->run, err);
        if (rc >= 0 && (rc = let_kick_through(v->fd)) < 0)
            rc = err_errno(err, -rc, "KVM_SET_SIGNAL_MASK");
        if (rc < 0) {
            vcpus_free(cpus);
            return rc;
        }
    }
    *out = cpus;
    return 0;
}

void vcpus_free(struct vcpus *cpus)
{
    if (!cpus)
        return;
    vcpus_stop(cpus);
    for (unsigned i = 0; i < cpus->count; i++) {
        struct vcpu *v = &cpus->vcpu[i];
        if (v->run)
            munmap(v->run, cpus->options.vm->run_bytes);
        close_fd(&v->fd);
    }
    pthread_cond_destroy(&cpus->changed);
    pthread_mutex_destroy(&cpus->lock);
    free(cpus);
}

int vcpus_fd(const struct vcpus *cpus, unsigned index)
{
    return cpus->vcpu[index].fd;
}

int vcpus_start(struct vcpus *cpus, struct dayfly_err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    int rc = 0;
    pthread_mutex_lock(&cpus->lock);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited by the threads */
    for (unsigned i = 0; i < cpus->count && rc == 0; i++) {
        struct vcpu *v = &cpus->vcpu[i];
        rc = pthread_create(&v->thread, NULL, vcpu_main, v);
        if (rc == 0) {
            v->has_thread = true;
            cpus->alive++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    while (cpus->locked_up < cpus->alive)
        pthread_cond_wait(&cpus->changed, &cpus->lock);
    int locked = cpus->lock_up_result;
    if (rc == 0 && locked < 0)
        rc = -locked;
    cpus->started = rc == 0;
    /* The threads made so far wait for the lock, or stand at the barrier: none has run the guest. */
    if (rc == 0)
        set_want(cpus, WANT_RUN);
    pthread_mutex_unlock(&cpus->lock);
    if (rc == 0)
        return 0;
    vcpus_stop(cpus);
    if (locked < 0)
        return err_set(err, -locked, "%s", cpus->lock_up_err.msg);
    return err_errno(err, rc, "starting the processors' threads");
}

void vcpus_pause(struct vcpus *cpus)
{
    pthread_mutex_lock(&cpus->lock);
    if (atomic_load(&cpus->want) == WANT_RUN)
        set_want(cpus, WANT_PAUSE);
    while (atomic_load(&cpus->want) == WANT_PAUSE && cpus->parked < cpus->alive)
        pthread_cond_wait(&cpus->changed, &cpus->lock);
    pthread_mutex_unlock(&cpus->lock);
}

void vcpus_resume(struct vcpus *cpus)
{
    pthread_mutex_lock(&cpus->lock);
    if (atomic_load(&cpus->want) == WANT_PAUSE && cpus->started)
        set_want(cpus, WANT_RUN);
    pthread_mutex_unlock(&cpus->lock);
}

void vcpus_request_stop(struct vcpus *cpus)
{
    pthread_mutex_lock(&cpus->lock);
    if (atomic_load(&cpus->want) != WANT_STOP)
        set_want(cpus, WANT_STOP);
    pthread_mutex_unlock(&cpus->lock);
}

void vcpus_stop(struct vcpus *cpus)
{
    vcpus_request_stop(cpus);
    for (unsigned i = 0; i < cpus->count; i++) {
        struct vcpu *v = &cpus->vcpu[i];
        if (v->has_thread)
            pthread_join(v->thread, NULL);
        v->has_thread = false;
    }
}

void vcpus_stats(const struct vcpus *cpus, struct vcpus_stats *out)
{
    *out = (struct vcpus_stats){0};
    for (unsigned i = 0; i < cpus->count; i++) {
        const struct vcpu *v = &cpus->vcpu[i];
        out->pio += atomic_load_explicit(&v->pio, memory_order_relaxed);
        out->mmio += atomic_load_explicit(&v->mmio, memory_order_relaxed);
        out->kick += atomic_load_explicit(&v->kick, memory_order_relaxed);
        out->other += atomic_load_explicit(&v->other, memory_order_relaxed);
    }
}
