/* SPDX-License-Identifier: Apache-2.0 */
/* See build.h. What the parts do stands in their own files. */
#include "board/build.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "arch/x86_64/acpi.h"
#include "arch/x86_64/cpuid.h"
#include "arch/x86_64/kernel_load.h"
#include "arch/x86_64/msr.h"
#include "arch/x86_64/pvh.h"
#include "arch/x86_64/regs.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

#define CPUID_ENTRIES_MAX 256
#define PHYS_BITS_DEFAULT 36u

static_assert(MACHINE_MEMORY_MIN >= X86_RAM_MIN_BYTES, "the layout wants more");
static_assert(MACHINE_CPUS_MAX <= X86_MAX_CPUS, "the tables hold fewer");
static_assert(MACHINE_DEVICES_MAX + 1 == PCI_DEVICES_MAX, "the bus has another size");

/* -- the parts --------------------------------------------------------------------------------------
 */

int board_check(const struct machine_options *o, struct dayfly_err *err)
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

static int make_memory(struct board *b, uint64_t bytes, unsigned bits, struct dayfly_err *err)
{
    b->map = x86_memory_map(bytes);
    x86_memory_map_limit(&b->map, bits);
    struct memory_layout layout[2] = {
        {.gpa = 0, .size_bytes = b->map.low_bytes},
        {.gpa = X86_GAP_END, .size_bytes = b->map.high_bytes},
    };
    int rc = memory_create_private(&b->mem, layout, b->map.high_bytes ? 2 : 1, err);
    return rc < 0 ? rc : kvm_vm_add_memory(&b->vm, &b->mem, err);
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

static int make_chipset(struct board *b, const struct machine_options *o,
                        const struct board_hooks *hooks, struct dayfly_err *err)
{
    const struct pci_window windows[2] = {
        {.base = X86_MMIO32, .size = X86_MMIO32_BYTES},
        {.base = b->map.mmio64, .size = b->map.mmio64_bytes},
    };
    pci_host_init(&b->pci, &b->mmio, windows, o->log);
    b->power = (struct power){.off = hooks->power_off, .reset = hooks->reset, .opaque = hooks->opaque};
    const struct serial_options serial = {
        .loop = o->loop,
        .in_fd = o->serial_in,
        .out_fd = o->serial_out,
        .raise = raise_serial,
        .opaque = &b->serial_line,
    };
    int rc;
    if ((rc = irq_line_init(&b->serial_line, &b->vm.hv, X86_GSI_COM1, err)) < 0 ||
        (rc = irq_line_init(&b->button_line, &b->vm.hv, X86_GSI_POWER_BUTTON, err)) < 0 ||
        (rc = serial_init(&b->serial, &serial, err)) < 0 ||
        (rc = add_range(&b->pio, X86_PORT_COM1, X86_PORT_COM1_LEN, &serial_bus_ops, &b->serial, err)) <
            0 ||
        (rc = add_range(&b->pio, X86_PORT_SLEEP_CONTROL, X86_PORT_POWER_LEN, &power_bus_ops, &b->power,
                        err)) < 0 ||
        (rc = add_range(&b->mmio, X86_ECAM, X86_ECAM_BYTES, &pci_host_ecam_ops, &b->pci, err)) < 0)
        return rc;
    return 0;
}

/* A device does without where there is no room, or no means: few address bits, an old KVM. */
static void show_shared(struct board *b, struct virtio_pci *pci, const struct log *log)
{
    const struct virtio_shared_memory *shared = &pci->dev->shared;
    if (shared->bytes == 0)
        return;
    if (!pci_host_has_room(&b->pci, shared->bytes) || !virtio_pci_show_shared(pci))
        log_line(log, LOG_WARN, "%s: no room for %llu MiB of shared memory: it goes without",
                 pci->dev->ops->name, (unsigned long long)(shared->bytes >> 20));
}

static int carry_devices(struct board *b, const struct machine_options *o, struct dayfly_err *err)
{
    b->carried = calloc(o->device_count ? o->device_count : 1, sizeof(b->carried[0]));
    if (!b->carried)
        return err_errno(err, ENOMEM, "devices");
    for (unsigned i = 0; i < o->device_count; i++) {
        int rc = virtio_pci_init(&b->carried[i], o->devices[i], &b->mem, &b->vm.hv, err);
        if (rc < 0)
            return rc;
        b->carried_count++;
        show_shared(b, &b->carried[i], o->log);
        rc = pci_host_add(&b->pci, &b->carried[i].fn, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void *span(void *opaque, uint64_t gpa, uint64_t len)
{
    return memory_span(opaque, gpa, len);
}

static int load_initrd(struct board *b, int fd, uint64_t gpa, uint64_t bytes, struct dayfly_err *err)
{
    void *at = memory_span(&b->mem, gpa, bytes);
    if (!at)
        return err_set(err, ENOMEM, "the initramfs does not fit into the machine's memory");
    ssize_t n = io_pread_full(fd, at, bytes, 0);
    if (n < 0)
        return err_errno(err, (int)-n, "reading the initramfs");
    if ((uint64_t)n != bytes)
        return err_set(err, EIO, "the initramfs became shorter while it was read");
    return 0;
}

static int load_kernel(struct board *b, const struct machine_options *o, uint64_t *entry,
                       struct dayfly_err *err)
{
    const struct kernel_target target = {.opaque = &b->mem, .span = span};
    struct kernel_info kernel;
    int rc = kernel_load(o->kernel_fd, &target, &kernel, err);
    if (rc < 0)
        return rc;
    struct pvh_config pvh = {.map = &b->map, .cmdline = o->cmdline, .rsdp_gpa = X86_ACPI};
    if (o->initrd_fd >= 0) {
        struct stat st;
        if (fstat(o->initrd_fd, &st) < 0)
            return err_errno(err, errno, "the initramfs");
        pvh.initrd_bytes = (uint64_t)st.st_size;
        if (pvh.initrd_bytes > 0 &&
            ((rc = pvh_initrd_gpa(&b->map, &kernel, pvh.initrd_bytes, &pvh.initrd_gpa, err)) < 0 ||
             (rc = load_initrd(b, o->initrd_fd, pvh.initrd_gpa, pvh.initrd_bytes, err)) < 0))
            return rc;
    }
    if ((rc = pvh_write(&target, &pvh, err)) < 0)
        return rc;
    const struct acpi_config acpi = {.cpus = o->cpus, .map = &b->map, .serial = true};
    void *tables = memory_span(&b->mem, X86_ACPI, X86_ACPI_BYTES);
    rc = acpi_build(&acpi, X86_ACPI, tables, X86_ACPI_BYTES, NULL, err);
    *entry = kernel.entry;
    if (rc == 0)
        trace_mark(o->trace, TRACE_LOADED);
    return rc;
}

/* -- processors -------------------------------------------------------------------------------------
 */

/* Every processor's CPUID and MSRs, and the first one's registers at the kernel's entry. */
static int set_registers(struct board *b, const struct machine_options *o,
                         const struct kvm_cpuid2 *supported, uint64_t entry, struct dayfly_err *err)
{
    unsigned room = supported->nent + CPUID_EXTRA_ENTRIES;
    _cleanup_free_ struct kvm_cpuid2 *cpuid = cpuid_alloc(room);
    if (!cpuid)
        return err_errno(err, ENOMEM, "processors");
    bool deadline = kvm_capability(b->vm.kvm_fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
    for (unsigned i = 0; i < o->cpus; i++) {
        int fd = vcpus_fd(b->cpus, i);
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
    int boot_fd = vcpus_fd(b->cpus, 0);
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

/* -- all of it --------------------------------------------------------------------------------------
 */

int board_build(struct board *b, const struct machine_options *o, const struct board_hooks *hooks,
                struct dayfly_err *err)
{
    int rc = kvm_vm_new(&b->vm, o->kvm_path ? o->kvm_path : KVM_PATH, true, err);
    if (rc < 0)
        return rc;
    trace_mark(o->trace, TRACE_VM);
    _cleanup_free_ struct kvm_cpuid2 *supported = NULL;
    uint64_t entry = 0;
    struct isolate_options isolate = {0};
    const struct vcpus_options cpus = {
        .vm = &b->vm,
        .jail = o->jail,
        .isolate = &isolate,
        .count = o->cpus,
        .pio = &b->pio,
        .mmio = &b->mmio,
        .trace = o->trace,
        .ended = hooks->vcpu_ended,
        .mend = hooks->mend,
        .all_stopped = hooks->all_stopped,
        .opaque = hooks->opaque,
    };
    if ((rc = gather_calls(&isolate, o, err)) < 0 ||
        (rc = supported_cpuid(&b->vm, &supported, err)) < 0 ||
        (rc = make_memory(b, o->memory_bytes, phys_bits(supported), err)) < 0 ||
        (rc = make_chipset(b, o, hooks, err)) < 0 || (rc = carry_devices(b, o, err)) < 0 ||
        (rc = load_kernel(b, o, &entry, err)) < 0 || (rc = vcpus_new(&b->cpus, &cpus, err)) < 0 ||
        (rc = set_registers(b, o, supported, entry, err)) < 0)
        return rc;
    return 0;
}

/* -- what is done to all devices --------------------------------------------------------------------
 */

void board_settle(struct board *b)
{
    for (unsigned i = 0; i < b->carried_count; i++)
        virtio_reset(b->carried[i].dev);
    serial_flush(&b->serial);
}

bool board_mend(struct board *b)
{
    bool mended = false;
    for (unsigned i = 0; i < b->carried_count; i++)
        mended |= virtio_mend(b->carried[i].dev);
    return mended;
}

void board_init(struct board *b)
{
    *b = (struct board){.vm = {.kvm_fd = -1, .fd = -1}};
    b->serial_line.fd = b->button_line.fd = -1;
    bus_init(&b->pio);
    bus_init(&b->mmio);
}

void board_detach(struct board *b)
{
    pci_host_finish(&b->pci);
    for (unsigned i = 0; i < b->carried_count; i++)
        virtio_pci_finish(&b->carried[i]);
    serial_finish(&b->serial);
}

void board_finish(struct board *b)
{
    vcpus_free(b->cpus);
    irq_line_finish(&b->serial_line);
    irq_line_finish(&b->button_line);
    kvm_vm_finish(&b->vm);
    memory_finish(&b->mem);
    bus_finish(&b->pio);
    bus_finish(&b->mmio);
    free(b->carried);
}
