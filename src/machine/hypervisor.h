/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MACHINE_HYPERVISOR_H
#define MACHINE_HYPERVISOR_H

/*
 * What devices want from a hypervisor: interrupts into the guest, doorbells out of it, and memory of
 * the host that comes and goes in the guest's address space. Devices and transports hold a `const
 * struct hypervisor *` and know no KVM; kvm.c implements it, and tests have one of a few lines that
 * writes down what it was asked.
 *
 * Any thread may call; none of the calls waits for the guest. They return 0 or -errno.
 */

#include <stdbool.h>
#include <stdint.h>

struct hypervisor_ops {
    /* Deliver a message-signalled interrupt. */
    int (*signal_msi)(void *opaque, uint64_t address, uint32_t data);

    /* Tie eventfd `fd` to interrupt line `gsi`: each write to it is one edge. `on` false unties it. */
    int (*irqfd)(void *opaque, uint32_t gsi, int fd, bool on);

    /*
     * A guest's write to `gpa`, of any width and value, adds one to eventfd `fd` and goes no further.
     * `on` false ends that. Without it (NULL, or an error) the write arrives as an ordinary MMIO
     * access.
     */
    int (*doorbell)(void *opaque, uint64_t gpa, int fd, bool on);

    /*
     * Show the guest [hva, hva + bytes) of this process at `gpa`, in whole pages; `on` false takes the
     * memory away that begins there. What is mapped at hva may change while it is shown. A guest that
     * touches what this process could not touch itself ends its machine, unless somebody mends that
     * (struct vcpus_options). NULL: it cannot be done.
     */
    int (*show_memory)(void *opaque, uint64_t gpa, void *hva, uint64_t bytes, bool on);
};

struct hypervisor {
    const struct hypervisor_ops *ops;
    void *opaque;
};

static inline int hypervisor_signal_msi(const struct hypervisor *hv, uint64_t address, uint32_t data)
{
    return hv->ops->signal_msi(hv->opaque, address, data);
}

#endif
