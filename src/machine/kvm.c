/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/x86_64/layout.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
    for (;;) {
        int rc = ioctl(fd, request, arg);
        if (rc >= 0)
            return rc;
        if (errno != EINTR && errno != EAGAIN)
            return -errno;
    }
}

int kvm_capability(int fd, int capability)
{
    int rc = kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability);
    return rc < 0 ? 0 : rc;
}

int kvm_open(const char *path, struct dayfly_err *err)
{
    _cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        switch (errno) {
        case ENOENT:
            return err_set(
                err, ENOENT,
                "%s is missing: switch virtualization on in the firmware's set-up (or nested "
                "virtualization in the host of this machine) and load kvm_amd or kvm_intel",
                path);
        case EACCES:
        case EPERM:
            return err_set(err, EACCES,
                           "no permission to open %s: add yourself to the group that owns it "
                           "(usermod -aG kvm $USER, then log in again)",
                           path);
        case ENODEV:
        case ENXIO:
            return err_set(
                err, ENODEV,
                "%s has no driver behind it: load kvm_amd or kvm_intel, and switch virtualization "
                "on in the firmware's set-up",
                path);
        default:
            return err_errno(err, errno, "%s", path);
        }
    }
    int version = kvm_ioctl(fd, KVM_GET_API_VERSION, NULL);
    if (version != KVM_API_VERSION)
        return err_set(err, EPROTO, "%s does not speak KVM's API version %d", path, KVM_API_VERSION);
    return steal_fd(&fd);
}

static int signal_msi(void *opaque, uint64_t address, uint32_t data)
{
    struct kvm_vm *vm = opaque;
    struct kvm_msi msi = {
        .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};
    int rc = kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
    return rc < 0 ? rc : 0; /* 0 and above: how many processors took it */
}

static int irqfd(void *opaque, uint32_t gsi, int fd, bool on)
{
    struct kvm_vm *vm = opaque;
    struct kvm_irqfd arg = {.fd = (uint32_t)fd, .gsi = gsi, .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN};
    return kvm_ioctl(vm->fd, KVM_IRQFD, &arg);
}

static int doorbell(void *opaque, uint64_t gpa, int fd, bool on)
{
    struct kvm_vm *vm = opaque;
    struct kvm_ioeventfd arg = {.addr = gpa,
                                .len = vm->doorbell_any ? 0 : 2,
                                .fd = fd,
                                .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN};
    return kvm_ioctl(vm->fd, KVM_IOEVENTFD, &arg);
}

/* -- memory slots ------------------------------------------------------------------------------------
 */

static int set_slot(const struct kvm_vm *vm, unsigned slot, uint64_t gpa, const void *hva,
                    uint64_t bytes)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot,
        .guest_phys_addr = gpa,
        .memory_size = bytes,
        .userspace_addr = (uintptr_t)hva,
    };
    return kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/* With the lock held, as the next. KVM refuses what overlaps, or is no whole page. */
static int use_slot(struct kvm_vm *vm, uint64_t gpa, const void *hva, uint64_t bytes)
{
    unsigned i = 0;
    while (i < vm->slots_max && vm->slots[i].bytes > 0)
        i++;
    if (i == vm->slots_max)
        return -ENOSPC;
    int rc = bytes > 0 ? set_slot(vm, i, gpa, hva, bytes) : -EINVAL;
    if (rc == 0)
        vm->slots[i] = (struct kvm_slot){.gpa = gpa, .bytes = bytes};
    return rc;
}

static int free_slot(struct kvm_vm *vm, uint64_t gpa)
{
    for (unsigned i = 0; i < vm->slots_max; i++) {
        if (vm->slots[i].bytes == 0 || vm->slots[i].gpa != gpa)
            continue;
        int rc = set_slot(vm, i, gpa, NULL, 0);
        if (rc == 0)
            vm->slots[i].bytes = 0;
        return rc;
    }
    return -ENOENT;
}

static int show_memory(void *opaque, uint64_t gpa, void *hva, uint64_t bytes, bool on)
{
    struct kvm_vm *vm = opaque;
    pthread_mutex_lock(&vm->lock);
    int rc = on ? use_slot(vm, gpa, hva, bytes) : free_slot(vm, gpa);
    pthread_mutex_unlock(&vm->lock);
    return rc;
}

/* -- the machine -------------------------------------------------------------------------------------
 */

static const struct hypervisor_ops kvm_hypervisor = {
    .signal_msi = signal_msi,
    .irqfd = irqfd,
    .doorbell = doorbell,
    .show_memory = show_memory,
};

/*
 * PIC, I/O APIC and local APICs in the kernel, and each line tied to the I/O APIC alone. KVM's own
 * routes lead to the PICs as well, which nobody sets up in a machine without firmware: their interrupts
 * would come as vectors 0 to 15, which are exceptions.
 */
static int create_irqchip(int fd, struct dayfly_err *err)
{
    int rc = kvm_ioctl(fd, KVM_CREATE_IRQCHIP, NULL);
    if (rc < 0)
        return err_errno(err, -rc, "KVM_CREATE_IRQCHIP");
    struct {
        uint32_t nr, flags; /* struct kvm_irq_routing */
        struct kvm_irq_routing_entry entries[X86_IOAPIC_PINS];
    } routing = {.nr = X86_IOAPIC_PINS};
    for (unsigned i = 0; i < X86_IOAPIC_PINS; i++)
        routing.entries[i] = (struct kvm_irq_routing_entry){
            .gsi = i,
            .type = KVM_IRQ_ROUTING_IRQCHIP,
            .u.irqchip = {.irqchip = KVM_IRQCHIP_IOAPIC, .pin = i},
        };
    rc = kvm_ioctl(fd, KVM_SET_GSI_ROUTING, &routing);
    return rc < 0 ? err_errno(err, -rc, "KVM_SET_GSI_ROUTING") : 0;
}

int kvm_vm_new(struct kvm_vm *vm, const char *path, bool irqchip, struct dayfly_err *err)
{
    *vm = (struct kvm_vm){.kvm_fd = -1, .fd = -1};
    _cleanup_close_ int kvm_fd = kvm_open(path, err);
    if (kvm_fd < 0)
        return kvm_fd;
    static const struct {
        int number;
        const char *name;
    } needed[] = {
        {KVM_CAP_USER_MEMORY, "user memory"},
        {KVM_CAP_IRQCHIP, "an in-kernel irqchip"},
        {KVM_CAP_IRQFD, "irqfd"},
        {KVM_CAP_IOEVENTFD, "ioeventfd"},
        {KVM_CAP_SIGNAL_MSI, "MSI signals"},
        {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
        {KVM_CAP_SET_TSS_ADDR, "TSS placement"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(needed); i++)
        if (!kvm_capability(kvm_fd, needed[i].number))
            return err_set(err, ENOTSUP, "%s lacks %s: a newer kernel has it", path, needed[i].name);
    int run_bytes = kvm_ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (run_bytes < (int)sizeof(struct kvm_run))
        return err_set(err, EPROTO, "%s gives no usable vCPU page", path);

    _cleanup_close_ int fd = kvm_ioctl(kvm_fd, KVM_CREATE_VM, NULL);
    if (fd < 0)
        return err_errno(err, -fd, "%s: KVM_CREATE_VM", path);
    /* Pages for the real-mode emulation of older Intel processors; AMD ignores them. */
    uint64_t identity = X86_KVM_IDENTITY_MAP;
    int rc = kvm_ioctl(fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)X86_KVM_TSS);
    if (rc == 0 && kvm_capability(kvm_fd, KVM_CAP_SET_IDENTITY_MAP_ADDR))
        rc = kvm_ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
    if (rc < 0)
        return err_errno(err, -rc, "KVM: placing the TSS");
    if (irqchip && (rc = create_irqchip(fd, err)) < 0)
        return rc;

    int cpus_max = kvm_capability(fd, KVM_CAP_MAX_VCPUS);
    if (cpus_max <= 0)
        cpus_max = MAX(kvm_capability(fd, KVM_CAP_NR_VCPUS), 1);
    vm->cpus_max = (unsigned)cpus_max;
    vm->run_bytes = (size_t)run_bytes;
    vm->doorbell_any = kvm_capability(kvm_fd, KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0;
    vm->hv = (struct hypervisor){.ops = &kvm_hypervisor, .opaque = vm};
    /* Kernels that cannot say have 32 at least. */
    int slots = kvm_capability(kvm_fd, KVM_CAP_NR_MEMSLOTS);
    vm->slots_max = MIN(slots > 0 ? (unsigned)slots : 32u, (unsigned)KVM_SLOTS_MAX);
    pthread_mutex_init(&vm->lock, NULL);
    vm->kvm_fd = steal_fd(&kvm_fd);
    vm->fd = steal_fd(&fd);
    return 0;
}

void kvm_vm_finish(struct kvm_vm *vm)
{
    if (vm->fd >= 0)
        pthread_mutex_destroy(&vm->lock);
    close_fd(&vm->fd);
    close_fd(&vm->kvm_fd);
}

int kvm_vm_add_memory(struct kvm_vm *vm, const struct memory *mem, struct dayfly_err *err)
{
    for (unsigned i = 0; i < mem->count; i++) {
        const struct memory_region *r = &mem->regions[i];
        int rc = show_memory(vm, r->gpa, r->hva, r->size_bytes, true);
        if (rc < 0)
            return err_errno(err, -rc, "KVM: %llu MiB of memory at 0x%llx",
                             (unsigned long long)(r->size_bytes >> 20), (unsigned long long)r->gpa);
    }
    return 0;
}

int kvm_vcpu_new(struct kvm_vm *vm, unsigned id, struct kvm_run **run, struct dayfly_err *err)
{
    _cleanup_close_ int fd = kvm_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)id);
    if (fd < 0)
        return err_errno(err, -fd, "KVM: creating processor %u", id);
    void *page = mmap(NULL, vm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return err_errno(err, errno, "KVM: mapping processor %u", id);
    *run = page;
    return steal_fd(&fd);
}

const char *kvm_internal_error_name(uint32_t suberror)
{
    switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
        return "an instruction that KVM cannot emulate";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
        return "exceptions at the same time";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
        return "an exit while an event was delivered";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
        return "an exit that KVM does not know";
    default:
        return "an internal error";
    }
}

const char *kvm_exit_name(uint32_t reason)
{
    static const char *const names[] = {
        [KVM_EXIT_UNKNOWN] = "unknown",
        [KVM_EXIT_EXCEPTION] = "exception",
        [KVM_EXIT_IO] = "port I/O",
        [KVM_EXIT_HYPERCALL] = "hypercall",
        [KVM_EXIT_DEBUG] = "debug",
        [KVM_EXIT_HLT] = "hlt",
        [KVM_EXIT_MMIO] = "MMIO",
        [KVM_EXIT_IRQ_WINDOW_OPEN] = "interrupt window",
        [KVM_EXIT_SHUTDOWN] = "shutdown",
        [KVM_EXIT_FAIL_ENTRY] = "failed entry",
        [KVM_EXIT_INTR] = "interrupted",
        [KVM_EXIT_SET_TPR] = "TPR",
        [KVM_EXIT_TPR_ACCESS] = "TPR access",
        [KVM_EXIT_NMI] = "NMI",
        [KVM_EXIT_INTERNAL_ERROR] = "internal error",
        [KVM_EXIT_SYSTEM_EVENT] = "system event",
    };
    const char *name = reason < ARRAY_SIZE(names) ? names[reason] : NULL;
    return name ? name : "another kind";
}

static const struct isolate_call interrupt_calls[] = {
    ISOLATE_CALL_IF(ioctl, 1, UINT64_MAX, KVM_SIGNAL_MSI),
};

const struct isolate_calls kvm_interrupt_calls = ISOLATE_CALLS(interrupt_calls);

static const struct isolate_call register_calls[] = {
    ISOLATE_CALL_IF(ioctl, 1, UINT64_MAX, KVM_SIGNAL_MSI),
    ISOLATE_CALL_IF(ioctl, 1, UINT64_MAX, KVM_IRQFD),
    ISOLATE_CALL_IF(ioctl, 1, UINT64_MAX, KVM_IOEVENTFD),
    ISOLATE_CALL_IF(ioctl, 1, UINT64_MAX, KVM_SET_USER_MEMORY_REGION),
};

const struct isolate_calls kvm_register_calls = ISOLATE_CALLS(register_calls);
