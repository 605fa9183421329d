/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_KVM_H
#define MACHINE_KVM_H

/*
 * /dev/kvm, thinly: descriptors, capabilities, and errors that say what to do about them. Nothing here
 * knows a device or a guest.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/kvm.h>

#include "dayfly/error.h"
#include "isolate/isolate.h"
#include "machine/hypervisor.h"
#include "machine/memory.h"

#define KVM_PATH "/dev/kvm"

/* RAM, and a region for each device. */
#define KVM_SLOTS_MAX (MEMORY_REGIONS_MAX + 32)

/* Memory that the guest sees; its index is KVM's number for it. */
struct kvm_slot {
    uint64_t gpa;
    uint64_t bytes; /* 0: free */
};

struct kvm_vm {
    int kvm_fd;
    int fd;
    size_t run_bytes;     /* of a vCPU's shared page */
    unsigned cpus_max;    /* KVM's limit */
    bool doorbell_any;    /* ioeventfds without a length: the kernel's fast path */
    struct hypervisor hv; /* this machine, as devices see it */

    pthread_mutex_t lock; /* of the slots; a leaf */
    struct kvm_slot slots[KVM_SLOTS_MAX];
    unsigned slots_max; /* KVM's limit, or ours */
};

/* Open KVM. Returns a descriptor or -errno: -ENOENT, -EACCES, -ENODEV (the module is there, the
 * processor's support is not), -EPROTO (not the API version everybody has). The message names the
 * remedy. */
int kvm_open(const char *path, struct dayfly_err *err);

/* ioctl that is repeated on EINTR and EAGAIN. For everything except KVM_RUN. Returns its value or
 * -errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

/* A capability's value, 0 if absent. */
int kvm_capability(int fd, int capability);

/* Create a VM without memory. With `irqchip`: PIC, I/O APIC and local APICs in the kernel. *vm is empty
 * on failure. */
int kvm_vm_new(struct kvm_vm *vm, const char *path, bool irqchip, struct dayfly_err *err);
void kvm_vm_finish(struct kvm_vm *vm); /* safe on {.kvm_fd = -1, .fd = -1}, and twice */

/* Show all of `mem` to the guest. `mem` outlives the VM. */
int kvm_vm_add_memory(struct kvm_vm *vm, const struct memory *mem, struct dayfly_err *err);

/* Create vCPU number `id`. Returns its descriptor and its shared page (munmap run_bytes) or -errno. */
int kvm_vcpu_new(struct kvm_vm *vm, unsigned id, struct kvm_run **run, struct dayfly_err *err);

/* "an instruction that KVM cannot emulate", ... of KVM_EXIT_INTERNAL_ERROR; "MMIO", ... of an exit. For
 * those without a name, "an internal error" and "another kind". */
const char *kvm_internal_error_name(uint32_t suberror);
const char *kvm_exit_name(uint32_t reason);

/* The system calls with which a device interrupts a guest of KVM, for a thread that is locked up. */
extern const struct isolate_calls kvm_interrupt_calls;
/* And those with which a guest's access to registers changes its interrupts, doorbells and windows. */
extern const struct isolate_calls kvm_register_calls;

#endif
