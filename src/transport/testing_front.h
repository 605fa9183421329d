/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSPORT_TESTING_FRONT_H
#define TRANSPORT_TESTING_FRONT_H

/*
 * The front end's side of vhost-user, for tests only: the messages that QEMU sends, in its order, and
 * raw ones. One thread at a time; the back end runs in another.
 */

#include <stdbool.h>

#include "machine/memory.h"
#include "transport/vhost_user_wire.h"
#include "virtio/device.h"

struct vhost_user_front {
    int fd; /* -1: not connected */
    uint64_t offered, protocol_features;
    unsigned queue_count;
    struct {
        int kick, call, err; /* eventfds; -1: not made */
    } rings[VIRTIO_QUEUES_MAX];
};

/* Zeroed, nothing connected. */
void front_init(struct vhost_user_front *front);

/* Take a connected socket; negotiate protocol features (all, but for `without`), and ask for the number
 * of queues. 0 or -errno. */
int front_connect(struct vhost_user_front *front, int fd, uint64_t without);

/* Close everything. Safe to call twice. */
void front_close(struct vhost_user_front *front);

/*
 * Send a request and wait for its answer: `reply` (which the request has, or else is NULL) or, with
 * REPLY_ACK, the acknowledgement; without it, for nothing. -EINVAL: it was refused; -ECONNRESET: the
 * back end hung up; -ETIMEDOUT.
 */
int front_request(struct vhost_user_front *front, uint32_t request, const void *payload, uint32_t bytes,
                  const int *fds, unsigned fd_count, struct vhost_user_message *reply);

int front_u64(struct vhost_user_front *front, uint32_t request, uint64_t value);
int front_get_u64(struct vhost_user_front *front, uint32_t request, uint64_t *value);
int front_vring(struct vhost_user_front *front, uint32_t request, uint32_t index, uint32_t num);

/* Send guest memory: addresses of ours are the regions' hva. */
int front_set_memory(struct vhost_user_front *front, const struct memory *mem);

/* NUM, BASE, ADDR, KICK, CALL and ERR of one ring, as QEMU sends them when it starts a device. */
int front_start_ring(struct vhost_user_front *front, unsigned index, const struct memory *mem,
                     const struct ring_setup *setup);

/* GET_VRING_BASE. */
int front_stop_ring(struct vhost_user_front *front, unsigned index, uint16_t *base);

void front_kick(struct vhost_user_front *front, unsigned index);
/* Wait for an eventfd to be signalled and consume it. */
bool front_wait(int fd, int timeout_ms);

#endif
