/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_CONSOLE_H
#define VIRTIO_CONSOLE_H

/*
 * virtio-console (virtio 1.2, section 5.3): terminals and named byte streams between host and guest.
 *
 * A port is joined to two descriptors of the host: what the guest writes goes to out_fd, what is read
 * from in_fd goes to the guest. The first port is the terminal of a driver that knows but one. In Linux
 * a console port is /dev/hvcN, another is /dev/vportNpM and /dev/virtio-ports/NAME.
 *
 * Nothing is buffered here. Output that out_fd does not take yet stays in the guest, whose writers
 * wait; input is read only when the guest has opened the port and has given room for it. Output for a
 * port without out_fd, or whose reader is gone, is dropped.
 */

#include "dayfly/error.h"
#include "virtio/device.h"

#define VIRTIO_CONSOLE_PORTS_MAX      16
#define VIRTIO_CONSOLE_NAME_BYTES_MAX 63

/* The device's feature bits (5.3.3). */
#define VIRTIO_CONSOLE_F_SIZE      (UINT64_C(1) << 0)
#define VIRTIO_CONSOLE_F_MULTIPORT (UINT64_C(1) << 1)

struct virtio_console_port {
    const char *name; /* NULL: none; copied */
    bool console;     /* a terminal, not a plain stream */
    int in_fd;        /* -1: none */
    int out_fd;       /* -1: none; may equal in_fd */
};

struct virtio_console_options {
    const struct virtio_console_port *ports;
    unsigned port_count; /* 1 to VIRTIO_CONSOLE_PORTS_MAX */
    uint16_t columns, rows;
};

/*
 * The descriptors are taken, even on failure. What others share with them is left alone, but for a pipe
 * or terminal that cannot be opened again (another user's): it is non-blocking until the device lets
 * go. Any thread; the loop runs with SIGPIPE blocked or ignored.
 */
int virtio_console_new(struct virtio_device **out, const struct virtio_console_options *options,
                       struct loop *loop, const struct log *log, struct dayfly_err *err);

/* Any thread, without the device's lock. NULL is legal. */
void virtio_console_free(struct virtio_device *dev);

/* The terminal has another size. Any thread. So far for tests: no engine's console has a terminal. */
void virtio_console_resize(struct virtio_device *dev, uint16_t columns, uint16_t rows);

/*
 * Join a port to other descriptors (taken, even on failure); -1 for both: to none, and the guest's
 * programs find the port closed on the host's side. Any thread, without the device's lock.
 * Returns 0, -EINVAL for a port that is not there, or -errno. So far for tests.
 */
int virtio_console_attach(struct virtio_device *dev, unsigned port, int in_fd, int out_fd);

#endif
