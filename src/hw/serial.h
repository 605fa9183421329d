/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HW_SERIAL_H
#define HW_SERIAL_H

/*
 * A 16550A serial port: as much of it as Linux's 8250 driver probes and uses. There is no line: the
 * divisor, parity and stop bits are remembered and mean nothing; a byte is "sent" as soon as it is in
 * our buffer, and the modem lines say that somebody is there.
 *
 * Output is collected in a bounded buffer, which the loop writes out in bulk; what does not fit because
 * its reader sleeps is dropped and counted: a guest can neither block the host nor make it grow. Input
 * waits in the host's pipe until the guest's FIFO has room.
 *
 * Threads: registers by any vCPU thread, descriptors in the loop's. Limits: no DMA mode, no break.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dayfly/error.h"
#include "machine/bus.h"
#include "machine/loop.h"

#define SERIAL_REGISTERS    8
#define SERIAL_FIFO_BYTES   64u
#define SERIAL_BUFFER_BYTES 65536u /* a power of two */

struct serial_options {
    struct loop *loop;
    int in_fd, out_fd;           /* borrowed, -1 for none; their flags are left as they are */
    void (*raise)(void *opaque); /* an edge on the port's interrupt line; must not block */
    void *opaque;
};

struct serial {
    pthread_mutex_t lock;
    struct serial_options options;

    uint8_t ier, lcr, mcr, scr, fcr;
    uint8_t divisor[2];
    bool thr_pending; /* the "transmitter empty" interrupt has not been read away yet */
    bool line;        /* what the interrupt line says; an edge is raised when it rises */
    uint8_t overrun;  /* LSR's overrun bit, until read */
    uint8_t fifo[SERIAL_FIFO_BYTES];
    unsigned fifo_head, fifo_count;

    uint8_t *buffer; /* SERIAL_BUFFER_BYTES */
    uint64_t put, taken;
    uint64_t dropped_bytes;

    int in_fd, out_fd; /* our own */
    bool out_waits;    /* out_fd is shared after all, and may be blocking */
    bool in_ended, out_ended;
    bool in_polled, out_polled; /* the sources are in the loop */
    struct loop_source in, out, wake;
};

int serial_init(struct serial *serial, const struct serial_options *options, struct dayfly_err *err);
/* In the loop's thread, or while it does not run. Writes out what can be written without waiting. */
void serial_finish(struct serial *serial); /* safe on a zeroed one whose wake.fd is 0 or -1 */

/* The registers, for bus_add of SERIAL_REGISTERS ports; opaque is the struct serial. */
extern const struct bus_ops serial_bus_ops;

/* The system calls that it makes, beside those of every thread and every loop. */
extern const struct isolate_calls serial_calls;

/* In the loop's thread: write what can be written without waiting. */
void serial_flush(struct serial *serial);

/* The guest's input as if it came from in_fd; returns how many bytes found room. Any thread. */
size_t serial_feed(struct serial *serial, const void *data, size_t len);

uint64_t serial_dropped_bytes(struct serial *serial);

#endif
