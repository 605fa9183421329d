/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BOARD_BUILD_H
#define BOARD_BUILD_H

/*
 * A machine's parts and the wires between them: made from its options, and taken apart. When it runs
 * and why it ends is machine.c's business, of which the parts know by hooks.
 */

#include <stdbool.h>

#include "arch/x86_64/layout.h"
#include "board/machine.h"
#include "hw/pci_host.h"
#include "hw/power.h"
#include "hw/serial.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/kvm.h"
#include "machine/vcpu.h"
#include "transport/pci.h"

struct board {
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
};

/* Called in processors' threads. */
struct board_hooks {
    void (*power_off)(void *opaque);
    void (*reset)(void *opaque);
    void (*vcpu_ended)(void *opaque, enum vcpu_end end, const char *text);
    bool (*mend)(void *opaque);
    void (*all_stopped)(void *opaque);
    void *opaque;
};

/* Whether there can be such a machine: 0 or -EINVAL. */
int board_check(const struct machine_options *options, struct dayfly_err *err);

/* No parts yet: what board_build fills, and the calls below are safe on. */
void board_init(struct board *board);

/* Make all of it, up to processors that stand at the kernel's entry. On failure some parts are there.
 */
int board_build(struct board *board, const struct machine_options *options,
                const struct board_hooks *hooks, struct dayfly_err *err);

/* Reset the devices: in the loop's thread, with the processors stopped. */
void board_settle(struct board *board);

/* A processor touched what is not there: true when a device mended that. Nobody knows whose memory it
 * was. Any thread. */
bool board_mend(struct board *board);

/* Let go of whatever the loop may touch, in its thread; then give everything back. The processors are
 * stopped. */
void board_detach(struct board *board);
void board_finish(struct board *board);

#endif
