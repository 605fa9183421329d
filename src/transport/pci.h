/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSPORT_PCI_H
#define TRANSPORT_PCI_H

/*
 * virtio over PCI (virtio 1.2, section 4.1), the modern interface alone: one function with one 64-bit
 * BAR, each of whose structures has pages of its own, and MSI-X; and a second BAR that is the device's
 * shared memory, where it has some (4.1.4.7). It carries any struct virtio_device and knows none of
 * them; it knows a hypervisor as machine/hypervisor.h has it, and no KVM.
 *
 * A queue's doorbell is an eventfd: the hypervisor rings it inside the kernel where it can, else the
 * BAR's handler does. Either way the device is kicked in the loop's thread.
 *
 * Limits: no INTx (a driver without MSI-X gets no interrupt), no VIRTIO_F_RING_RESET, no notification
 * data.
 *
 * Locks: the PCI host's, then this function's, then the device's, then MSI-X's. Interrupts, which a
 * device makes with its own lock held, take only the last one.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dayfly/error.h"
#include "hw/msix.h"
#include "hw/pci_host.h"
#include "machine/hypervisor.h"
#include "machine/memory.h"
#include "virtio/device.h"

/* Where the structures are in BAR 0. */
#define VIRTIO_PCI_COMMON      0x0000u
#define VIRTIO_PCI_ISR         0x1000u
#define VIRTIO_PCI_DEVICE      0x2000u
#define VIRTIO_PCI_MSIX_TABLE  0x3000u
#define VIRTIO_PCI_MSIX_PBA    0x4000u
#define VIRTIO_PCI_NOTIFY      0x5000u
#define VIRTIO_PCI_BAR_BYTES   0x8000u
#define VIRTIO_PCI_NOTIFY_STEP 4u /* notify_off_multiplier */

#define VIRTIO_PCI_SHARED_BAR 2u

struct virtio_pci_queue {
    struct virtio_pci *pci;
    struct loop_source bell;
    struct ring_setup setup;
    bool enabled; /* its registers are closed */
    atomic_uint vector;
};

struct virtio_pci {
    struct pci_function fn;
    struct msix msix;
    struct virtio_device *dev;
    const struct memory *mem;
    const struct hypervisor *hv;
    struct log_limit limit; /* host's lock */
    unsigned cfg_access;    /* where in config: the configuration access capability */
    unsigned msix_cap;      /* and that of MSI-X */
    uint64_t bells_at;      /* BAR address at which the hypervisor rings; 0: nowhere. Host's lock. */
    uint64_t shared_at;     /* where the guest sees the device's memory; 0: nowhere. Host's lock. */

    pthread_mutex_t lock; /* the driver's registers */
    uint32_t device_feature_select, driver_feature_select;
    uint32_t driver_features[2];
    uint16_t queue_select;
    uint8_t status;

    atomic_uint config_vector;
    atomic_uint generation;
    atomic_uint isr;
    struct virtio_pci_queue queues[VIRTIO_QUEUES_MAX];
};

/*
 * Carry `dev`. All are borrowed until virtio_pci_finish. Add pci->fn to a pci_host next. In any thread
 * that may wait for the device's loop.
 */
int virtio_pci_init(struct virtio_pci *pci, struct virtio_device *dev, const struct memory *mem,
                    const struct hypervisor *hv, struct dayfly_err *err);

/*
 * Show the device's shared memory as well; only for a device that has some, before pci_host_add and
 * where pci_host_has_room says that it fits. False: this hypervisor cannot, and nothing is changed.
 */
bool virtio_pci_show_shared(struct virtio_pci *pci);

/* Reset the device and let go of it. No processor runs and the PCI host is gone; in any thread that may
 * wait for the device's loop. Safe on a zeroed one, and twice. */
void virtio_pci_finish(struct virtio_pci *pci);

/* The handlers of BAR 0; opaque is the struct virtio_pci. For tests. */
extern const struct bus_ops virtio_pci_bar_ops;

#endif
