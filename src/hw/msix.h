/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HW_MSIX_H
#define HW_MSIX_H

/*
 * MSI-X of one PCI function (PCI Local Bus 3.0, section 6.8.2): the vector table, the pending bits, and
 * the masks of each vector and of the function.
 *
 * Threads: everything is for any thread. The lock is a leaf: no callback is made and no other lock
 * taken under it, so that a device may signal with its own lock held.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "machine/hypervisor.h"

#define MSIX_VECTORS_MAX  128
#define MSIX_ENTRY_BYTES  16
#define MSIX_NO_VECTOR    0xffffu
#define MSIX_CAP_ID       0x11
#define MSIX_CTRL_ENABLE  0x8000u
#define MSIX_CTRL_MASKALL 0x4000u

struct msix {
    pthread_mutex_t lock;
    const struct hypervisor *hv;
    unsigned count;
    bool enabled, mask_all;
    struct {
        uint64_t address;
        uint32_t data;
        uint32_t control;
    } vector[MSIX_VECTORS_MAX];
    uint64_t pending[MSIX_VECTORS_MAX / 64];
};

/* count: 1 to MSIX_VECTORS_MAX. All vectors are masked, as after a reset. */
void msix_init(struct msix *msix, const struct hypervisor *hv, unsigned count);
void msix_finish(struct msix *msix);

/* The message control word of the capability was written. */
void msix_control(struct msix *msix, uint16_t control);
bool msix_enabled(struct msix *msix);

/* Accesses to the table and to the pending bits, at an offset from their beginnings. As the
 * specification has it they are of 4 or 8 bytes and aligned; any other reads as all-ones or changes
 * nothing. */
void msix_table_read(struct msix *msix, uint64_t offset, void *data, unsigned len);
void msix_table_write(struct msix *msix, uint64_t offset, const void *data, unsigned len);
void msix_pending_read(struct msix *msix, uint64_t offset, void *data, unsigned len);

/* Interrupt, or remember that it is pending. A vector that is not there, and a disabled MSI-X, swallow
 * it. */
void msix_signal(struct msix *msix, unsigned vector);

#endif
