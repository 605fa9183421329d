/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See machine.h. This file wires; what the parts do stands in their own files.
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

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arch/x86_64/acpi.h"
#include "arch/x86_64/cpuid.h"
#include "arch/x86_64/kernel_load.h"
#include "arch/x86_64/layout.h"
#include "arch/x86_64/msr.h"
#include "arch/x86_64/pvh.h"
#include "arch/x86_64/regs.h"
#include "hw/pci_host.h"
#include "hw/power.h"
#include "hw/serial.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/kvm.h"
#include "machine/vcpu.h"
#include "transport/pci.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/io.h"

#define EVENTS_MAX        16
#define CPUID_ENTRIES_MAX 256
#define PHYS_BITS_DEFAULT 36u

static_assert(MACHINE_MEMORY_MIN >= X86_RAM_MIN_BYTES, "the layout wants more");
static_assert(MACHINE_CPUS_MAX <= X86_MAX_CPUS, "the tables hold fewer");
static_assert(MACHINE_DEVICES_MAX + 1 == PCI_DEVICES_MAX, "the bus has another size");

struct pending_event {
    enum machine_state state;
    enum machine_reason reason;
};

struct machine {
    struct loop *loop;
    const struct log *log;
    machine_event_fn *event;
    void *opaque;

    struct memory mem;
    struct x86_memory_map map;
    struct kvm_vm vm;
    struct bus pio, mmio;
    struct irq_line serial_line, button_line;
    struct serial serial;
    struct power power;
    struct pci_host pci;
    struct virtio_pci *carried; /* one for each device */
    unsigned carried_count;
    struct vcpus *cpus;

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

static void settle_devices(struct machine *m)
{
    for (unsigned i = 0; i < m->carried_count; i++)
        virtio_reset(m->carried[i].dev);
    serial_flush(&m->serial);
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
            settle_devices(m);
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
    vcpus_request_stop(m->cpus);
}

static void guest_reset(void *opaque)
{
    struct machine *m = opaque;
    set_reason(m, MACHINE_RESET);
    vcpus_request_stop(m->cpus);
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

/* Nobody knows whose memory it was. */
static bool mend(void *opaque)
{
    struct machine *m = opaque;
    bool mended = false;
    for (unsigned i = 0; i < m->carried_count; i++)
        mended |= virtio_mend(m->carried[i].dev);
    return mended;
}

static void all_stopped(void *opaque)
{
    struct machine *m = opaque;
    pthread_mutex_lock(&m->lock);
    enter_state(m, m->failure[0] ? MACHINE_FAILED : MACHINE_STOPPED);
    pthread_mutex_unlock(&m->lock);
}

/* -- building ---------------------------------------------------------------------------------------
 */

static int check_options(const struct machine_options *o, struct dayfly_err *err)
{
    if (o->cpus < 1 || o->cpus > MACHINE_CPUS_MAX)
        return err_set(err, EINVAL, "%u processors: a machine has 1 to %d", o->cpus, MACHINE_CPUS_MAX);
    if (o->memory_bytes < MACHINE_MEMORY_MIN || !is_aligned(o->memory_bytes, X86_PAGE_BYTES))
        return err_set(err, EINVAL, "%llu bytes of memory: at least %llu MiB, in whole pages",
                       (unsigned long long)o->memory_bytes,
                       (unsigned long long)(MACHINE_MEMORY_MIN >> 20));
    if (o->device_count > MACHINE_DEVICES_MAX)
        return err_set(err, EINVAL, "%u devices: the bus has room for %d", o->device_count,
                       MACHINE_DEVICES_MAX);
    return 0;
}

static unsigned phys_bits(const struct kvm_cpuid2 *cpuid)
{
    for (unsigned i = 0; i < cpuid->nent; i++)
        if (cpuid->entries[i].function == 0x80000008)
            return cpuid->entries[i].eax & 0xff;
    return PHYS_BITS_DEFAULT;
}

static struct kvm_cpuid2 *cpuid_alloc(unsigned entries)
{
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + entries * sizeof(c->entries[0]));
    if (c)
        c->nent = entries;
    return c;
}

/* What KVM can show to a guest. The caller frees it. */
static int supported_cpuid(const struct kvm_vm *vm, struct kvm_cpuid2 **out, struct dayfly_err *err)
{
    struct kvm_cpuid2 *c = cpuid_alloc(CPUID_ENTRIES_MAX);
    int rc = c ? kvm_ioctl(vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, c) : -ENOMEM;
    if (rc < 0) {
        free(c);
        return err_errno(err, -rc, "KVM_GET_SUPPORTED_CPUID");
    }
    *out = c;
    return 0;
}

static int make_memory(struct machine *m, uint64_t bytes, unsigned bits, struct dayfly_err *err)
{
    m->map = x86_memory_map(bytes);
    x86_memory_map_limit(&m->map, bits);
    struct memory_layout layout[2] = {
        {.gpa = 0, .size_bytes = m->map.low_bytes},
        {.gpa = X86_GAP_END, .size_bytes = m->map.high_bytes},
    };
    int rc = memory_create_private(&m->mem, layout, m->map.high_bytes ? 2 : 1, err);
    return rc < 0 ? rc : kvm_vm_add_memory(&m->vm, &m->mem, err);
}

static void raise_serial(void *opaque)
{
    irq_line_raise(opaque);
}

/* What bus_add says of our own layout is not news that a user can act upon. */
static int add_range(struct bus *bus, uint64_t base, uint64_t size, const struct bus_ops *ops,
                     void *opaque, struct dayfly_err *err)
{
    int rc = bus_add(bus, base, size, ops, opaque);
    return rc < 0 ? err_errno(err, -rc, "placing a device at 0x%llx", (unsigned long long)base) : 0;
}

static int make_chipset(struct machine *m, const struct machine_options *o, struct dayfly_err *err)
{
    m->wake = (struct loop_source){
        .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = EPOLLIN, .ready = deliver_events};
    int rc = m->wake.fd < 0 ? -errno : loop_add(m->loop, &m->wake);
    if (rc < 0)
        return err_errno(err, -rc, "events");

    const struct pci_window windows[2] = {
        {.base = X86_MMIO32, .size = X86_MMIO32_BYTES},
        {.base = m->map.mmio64, .size = m->map.mmio64_bytes},
    };
    pci_host_init(&m->pci, &m->mmio, windows, m->log);
    m->power = (struct power){.off = guest_power_off, .reset = guest_reset, .opaque = m};
    const struct serial_options serial = {
        .loop = m->loop,
        .in_fd = o->serial_in,
        .out_fd = o->serial_out,
        .raise = raise_serial,
        .opaque = &m->serial_line,
    };
    if ((rc = irq_line_init(&m->serial_line, &m->vm.hv, X86_GSI_COM1, err)) < 0 ||
        (rc = irq_line_init(&m->button_line, &m->vm.hv, X86_GSI_POWER_BUTTON, err)) < 0 ||
        (rc = serial_init(&m->serial, &serial, err)) < 0 ||
        (rc = add_range(&m->pio, X86_PORT_COM1, X86_PORT_COM1_LEN, &serial_bus_ops, &m->serial, err)) <
            0 ||
        (rc = add_range(&m->pio, X86_PORT_SLEEP_CONTROL, X86_PORT_POWER_LEN, &power_bus_ops, &m->power,
                        err)) < 0 ||
        (rc = add_range(&m->mmio, X86_ECAM, X86_ECAM_BYTES, &pci_host_ecam_ops, &m->pci, err)) < 0)
        return rc;
    return 0;
}

/* A device does without where there is no room, or no means: few address bits, an old KVM. */
static void show_shared(struct machine *m, struct virtio_pci *pci)
{
    const struct virtio_shared_memory *shared = &pci->dev->shared;
    if (shared->bytes == 0)
        return;
    if (!pci_host_has_room(&m->pci, shared->bytes) || !virtio_pci_show_shared(pci))
        log_line(m->log, LOG_WARN, "%s: no room for %llu MiB of shared memory: it goes without",
                 pci->dev->ops->name, (unsigned long long)(shared->bytes >> 20));
}

static int carry_devices(struct machine *m, const struct machine_options *o, struct dayfly_err *err)
{
    m->carried = calloc(o->device_count ? o->device_count : 1, sizeof(m->carried[0]));
    if (!m->carried)
        return err_errno(err, ENOMEM, "devices");
    for (unsigned i = 0; i < o->device_count; i++) {
        int rc = virtio_pci_init(&m->carried[i], o->devices[i], &m->mem, &m->vm.hv, err);
        if (rc < 0)
            return rc;
        m->carried_count++;
        show_shared(m, &m->carried[i]);
        rc = pci_host_add(&m->pci, &m->carried[i].fn, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void *span(void *opaque, uint64_t gpa, uint64_t len)
{
    return memory_span(opaque, gpa, len);
}

static int load_initrd(struct machine *m, int fd, uint64_t gpa, uint64_t bytes, struct dayfly_err *err)
{
    void *at = memory_span(&m->mem, gpa, bytes);
    if (!at)
        return err_set(err, ENOMEM, "the initramfs does not fit into the machine's memory");
    ssize_t n = io_pread_full(fd, at, bytes, 0);
    if (n < 0)
        return err_errno(err, (int)-n, "reading the initramfs");
    if ((uint64_t)n != bytes)
        return err_set(err, EIO, "the initramfs became shorter while it was read");
    return 0;
}

static int load_kernel(struct machine *m, const struct machine_options *o, uint64_t *entry,
                       struct dayfly_err *err)
{
    const struct kernel_target target = {.opaque = &m->mem, .span = span};
    struct kernel_info kernel;
    int rc = kernel_load(o->kernel_fd, &target, &kernel, err);
    if (rc < 0)
        return rc;
    struct pvh_config pvh = {.map = &m->map, .cmdline = o->cmdline, .rsdp_gpa = X86_ACPI};
    if (o->initrd_fd >= 0) {
        struct stat st;
        if (fstat(o->initrd_fd, &st) < 0)
            return err_errno(err, errno, "the initramfs");
        pvh.initrd_bytes = (uint64_t)st.st_size;
        if (pvh.initrd_bytes > 0 &&
            ((rc = pvh_initrd_gpa(&m->map, &kernel, pvh.initrd_bytes, &pvh.initrd_gpa, err)) < 0 ||
             (rc = load_initrd(m, o->initrd_fd, pvh.initrd_gpa, pvh.initrd_bytes, err)) < 0))
            return rc;
    }
    if ((rc = pvh_write(&target, &pvh, err)) < 0)
        return rc;
    const struct acpi_config acpi = {.cpus = o->cpus, .map = &m->map, .serial = true};
    void *tables = memory_span(&m->mem, X86_ACPI, X86_ACPI_BYTES);
    rc = acpi_build(&acpi, X86_ACPI, tables, X86_ACPI_BYTES, NULL, err);
    *entry = kernel.entry;
    if (rc == 0)
        trace_mark(o->trace, TRACE_LOADED);
    return rc;
}

/* Every processor's CPUID and MSRs, and the first one's registers at the kernel's entry. */
static int set_registers(struct machine *m, const struct machine_options *o,
                         const struct kvm_cpuid2 *supported, uint64_t entry, struct dayfly_err *err)
{
    unsigned room = supported->nent + CPUID_EXTRA_ENTRIES;
    _cleanup_free_ struct kvm_cpuid2 *cpuid = cpuid_alloc(room);
    if (!cpuid)
        return err_errno(err, ENOMEM, "processors");
    bool deadline = kvm_capability(m->vm.kvm_fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    for (unsigned i = 0; i < o->cpus; i++) {
        int fd = vcpus_fd(m->cpus, i);
        const struct cpuid_config config = {
            .cpu_index = i, .cpu_count = o->cpus, .tsc_deadline = deadline, .nested = false};
        int n = cpuid_build(&config, supported->entries, supported->nent, cpuid->entries, room);
        cpuid->nent = n < 0 ? 0 : (uint32_t)n;
        int rc = n < 0 ? n : kvm_ioctl(fd, KVM_SET_CPUID2, cpuid);
        if (rc < 0)
            return err_errno(err, -rc, "KVM: CPUID of processor %u", i);

        struct kvm_msr_entry boot[MSR_BOOT_COUNT];
        msr_boot(boot);
        for (unsigned k = 0; k < MSR_BOOT_COUNT; k++) {
            struct {
                uint32_t nmsrs, pad;
                struct kvm_msr_entry entry;
            } one = {.nmsrs = 1, .entry = boot[k]};
            kvm_ioctl(fd, KVM_SET_MSRS, &one); /* a refusal is tolerated: see msr.h */
        }
    }
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    int boot_fd = vcpus_fd(m->cpus, 0);
    int rc = kvm_ioctl(boot_fd, KVM_GET_SREGS, &sregs);
    if (rc == 0) {
        regs_pvh(&regs, &sregs, entry, X86_START_INFO);
        rc = kvm_ioctl(boot_fd, KVM_SET_SREGS, &sregs);
    }
    if (rc == 0)
        rc = kvm_ioctl(boot_fd, KVM_SET_REGS, &regs);
    return rc < 0 ? err_errno(err, -rc, "KVM: registers of the first processor") : 0;
}

/* What the registers of the chipset and of the devices lead to, in a processor's thread. */
static int gather_calls(struct isolate_options *isolate, const struct machine_options *o,
                        struct dayfly_err *err)
{
    static const struct isolate_calls *const chipset[] = {&serial_calls, NULL};
    bool room = isolate_add_calls(isolate, chipset);
    for (unsigned i = 0; i < o->device_count && room; i++)
        room = !o->devices[i]->ops->calls || isolate_add_calls(isolate, o->devices[i]->ops->calls);
    return room ? 0 : err_set(err, E2BIG, "processors: too many lists of system calls");
}

static int build(struct machine *m, const struct machine_options *o, struct dayfly_err *err)
{
    int rc = kvm_vm_new(&m->vm, o->kvm_path ? o->kvm_path : KVM_PATH, true, err);
    if (rc < 0)
        return rc;
    trace_mark(o->trace, TRACE_VM);
    _cleanup_free_ struct kvm_cpuid2 *supported = NULL;
    uint64_t entry = 0;
    struct isolate_options isolate = {0};
    const struct vcpus_options cpus = {
        .vm = &m->vm,
        .jail = o->jail,
        .isolate = &isolate,
        .count = o->cpus,
        .pio = &m->pio,
        .mmio = &m->mmio,
        .trace = o->trace,
        .ended = vcpu_ended,
        .mend = mend,
        .all_stopped = all_stopped,
        .opaque = m,
    };
    if ((rc = gather_calls(&isolate, o, err)) < 0 ||
        (rc = supported_cpuid(&m->vm, &supported, err)) < 0 ||
        (rc = make_memory(m, o->memory_bytes, phys_bits(supported), err)) < 0 ||
        (rc = make_chipset(m, o, err)) < 0 || (rc = carry_devices(m, o, err)) < 0 ||
        (rc = load_kernel(m, o, &entry, err)) < 0 || (rc = vcpus_new(&m->cpus, &cpus, err)) < 0 ||
        (rc = set_registers(m, o, supported, entry, err)) < 0)
        return rc;
    return 0;
}

/* In the loop's thread: whatever the loop may touch. The processors are stopped. */
static void detach(void *arg)
{
    struct machine *m = arg;
    pci_host_finish(&m->pci);
    for (unsigned i = 0; i < m->carried_count; i++)
        virtio_pci_finish(&m->carried[i]);
    serial_finish(&m->serial);
    loop_remove(&m->wake);
    close_fd(&m->wake.fd);
}

int machine_new(struct machine **out, const struct machine_options *options, struct dayfly_err *err)
{
    int rc = check_options(options, err);
    if (rc < 0)
        return rc;
    struct machine *m = calloc(1, sizeof(*m));
    if (!m)
        return err_errno(err, ENOMEM, "machine");
    m->loop = options->loop;
    m->log = options->log;
    m->event = options->event;
    m->opaque = options->opaque;
    m->vm = (struct kvm_vm){.kvm_fd = -1, .fd = -1};
    m->wake.fd = m->serial_line.fd = m->button_line.fd = -1;
    bus_init(&m->pio);
    bus_init(&m->mmio);
    pthread_mutex_init(&m->control, NULL);
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attr);
    pthread_condattr_destroy(&attr);
    m->state = MACHINE_CREATED;

    rc = build(m, options, err);
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
    vcpus_free(m->cpus);
    irq_line_finish(&m->serial_line);
    irq_line_finish(&m->button_line);
    kvm_vm_finish(&m->vm);
    memory_finish(&m->mem);
    bus_finish(&m->pio);
    bus_finish(&m->mmio);
    free(m->carried);
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
    if (rc == 0 && (rc = vcpus_start(m->cpus, err)) < 0) {
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
            vcpus_pause(m->cpus);
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
        vcpus_resume(m->cpus);
    else if (machine_state(m) != MACHINE_RUNNING)
        rc = refuse(m, EINVAL, "resumed", err);
    pthread_mutex_unlock(&m->control);
    return rc;
}

int machine_request_stop(struct machine *m, struct dayfly_err *err)
{
    if (machine_state(m) != MACHINE_RUNNING)
        return refuse(m, EINVAL, "asked to stop", err);
    irq_line_raise(&m->button_line);
    return 0;
}

void machine_stop(struct machine *m)
{
    set_reason(m, MACHINE_HOST_STOP);
    if (m->cpus)
        vcpus_stop(m->cpus); /* the last thread enters the final state */
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
    vcpus_stats(m->cpus, &cpus);
    struct serial *serial = (struct serial *)(uintptr_t)&m->serial;
    *out = (struct machine_stats){
        .exits = cpus.pio + cpus.mmio + cpus.kick + cpus.other,
        .exits_pio = cpus.pio,
        .exits_mmio = cpus.mmio,
        .exits_kick = cpus.kick,
        .exits_other = cpus.other,
        .unclaimed = atomic_load(&m->pio.unclaimed) + atomic_load(&m->mmio.unclaimed),
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
