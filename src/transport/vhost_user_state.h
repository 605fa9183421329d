/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSPORT_VHOST_USER_STATE_H
#define TRANSPORT_VHOST_USER_STATE_H

/*
 * What the parts of the vhost-user back end share: vhost_user.c (the connection), vhost_user_requests.c
 * and vhost_user_rings.c. All of it runs in the device's loop.
 *
 * Invariants
 *   - mem is replaced only while no ring is live (a live ring holds addresses in it).
 *   - The lock of the device is held wherever call_fd, err_fd or backend_fd changes: the device's
 *     interrupts come from under it.
 */

#include "machine/memory.h"
#include "transport/vhost_user.h"
#include "transport/vhost_user_wire.h"

struct vring {
    struct vhost_user *vu;
    struct loop_source kick; /* fd -1 while the ring is not started */
    int call_fd, err_fd;     /* -1: the front end polls */
    struct vhost_user_vring_addr addr;
    uint16_t num, base; /* base: the available index to begin with */
    bool enabled, live;

    /* What ran last on this device, to recognise a ring that continues. */
    bool ran;
    struct vhost_user_vring_addr last_addr;
    uint16_t last_num, last_base;
};

struct vhost_user {
    struct virtio_device *dev;
    struct loop_source source; /* the connection, or the listening socket */
    char *path;                /* of the listening socket, until someone has come */
    struct vhost_user_inbox inbox;
    struct vhost_user_message reply; /* header.size_bytes 0: the request has no answer of its own */
    struct dayfly_err err;
    vhost_user_closed *closed;
    void *opaque;

    uint64_t features;          /* acknowledged, with VHOST_USER_F_PROTOCOL_FEATURES */
    uint64_t protocol_features; /* acknowledged */
    uint8_t status;
    int backend_fd; /* our requests to the front end; -1: none */
    struct memory mem;
    struct vhost_user_mem_table table; /* where mem's regions are in the front end */
    struct vring rings[VIRTIO_QUEUES_MAX];
};

/* -- the connection --------------------------------------------------------------------------- */

/* Add to an eventfd that the front end may have tampered with. -1 is legal. */
void vhost_user_signal(int fd);

/* Whether the front end reads the device's configuration from us. */
bool vhost_user_has_config(const struct vhost_user *vu);

/* -- requests --------------------------------------------------------------------------------- */

/* Handle the request in the inbox and answer it. 0 or -errno, with vu->err set: hang up. */
int vhost_user_serve(struct vhost_user *vu);

/* -- rings: what returns an int sets vu->err ---------------------------------------------------- */

/* Stop serving a ring, or all; it can go on from base. */
void vhost_user_ring_pause(struct vring *ring);
void vhost_user_rings_pause(struct vhost_user *vu);

/* Make live what should be. 0 or -errno, as for the next two, which end with it. */
int vhost_user_rings_run(struct vhost_user *vu);

/* Start a ring: its doorbell is fd (taken, also on failure). Unwatch closes it. */
int vhost_user_ring_watch(struct vring *ring, int fd);
void vhost_user_ring_unwatch(struct vring *ring);

int vhost_user_ring_enable(struct vring *ring, bool on);

/* A new driver came without a word: reset the device, keep what the driver has set up so far. */
void vhost_user_forget_driver(struct vhost_user *vu);

/* No driver any more: the device as new, no ring started or enabled. Memory stays. */
void vhost_user_reset(struct vhost_user *vu);

#endif
