/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSPORT_VHOST_USER_WIRE_H
#define TRANSPORT_VHOST_USER_WIRE_H

/*
 * Messages of the vhost-user protocol (the specification is QEMU's docs/interop/vhost-user.rst), native
 * byte order, and their framing on a Unix stream socket. Shared by the back end and by the front end
 * that the tests are.
 */

#include <stdint.h>

#include "dayfly/error.h"

enum vhost_user_request {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES = 2,
    VHOST_USER_SET_OWNER = 3,
    VHOST_USER_RESET_OWNER = 4,
    VHOST_USER_SET_MEM_TABLE = 5,
    VHOST_USER_SET_VRING_NUM = 8,
    VHOST_USER_SET_VRING_ADDR = 9,
    VHOST_USER_SET_VRING_BASE = 10,
    VHOST_USER_GET_VRING_BASE = 11,
    VHOST_USER_SET_VRING_KICK = 12,
    VHOST_USER_SET_VRING_CALL = 13,
    VHOST_USER_SET_VRING_ERR = 14,
    VHOST_USER_GET_PROTOCOL_FEATURES = 15,
    VHOST_USER_SET_PROTOCOL_FEATURES = 16,
    VHOST_USER_GET_QUEUE_NUM = 17,
    VHOST_USER_SET_VRING_ENABLE = 18,
    VHOST_USER_SET_BACKEND_REQ_FD = 21,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_SET_CONFIG = 25,
    VHOST_USER_RESET_DEVICE = 34,
    VHOST_USER_SET_STATUS = 39,
    VHOST_USER_GET_STATUS = 40,
};
#define VHOST_USER_REQUEST_MAX 40

/* What a back end asks of its front end, on the channel of SET_BACKEND_REQ_FD. */
#define VHOST_USER_BACKEND_CONFIG_CHANGE 2

/* vhost_user_header.flags */
#define VHOST_USER_VERSION      1u
#define VHOST_USER_VERSION_MASK 3u
#define VHOST_USER_REPLY        4u
#define VHOST_USER_NEED_REPLY   8u

/* The feature bit that virtio leaves to vhost-user: protocol features can be negotiated. */
#define VHOST_USER_F_PROTOCOL_FEATURES (UINT64_C(1) << 30)

#define VHOST_USER_PROTOCOL_F_MQ           (UINT64_C(1) << 0)
#define VHOST_USER_PROTOCOL_F_REPLY_ACK    (UINT64_C(1) << 3)
#define VHOST_USER_PROTOCOL_F_BACKEND_REQ  (UINT64_C(1) << 5)
#define VHOST_USER_PROTOCOL_F_CONFIG       (UINT64_C(1) << 9)
#define VHOST_USER_PROTOCOL_F_RESET_DEVICE (UINT64_C(1) << 13)
#define VHOST_USER_PROTOCOL_F_STATUS       (UINT64_C(1) << 16)

/* In the number that goes with KICK, CALL and ERR. */
#define VHOST_USER_VRING_INDEX_MASK 0xffu
#define VHOST_USER_VRING_NOFD       0x100u

#define VHOST_USER_REGIONS_MAX      8
#define VHOST_USER_CONFIG_BYTES_MAX 256

struct vhost_user_header {
    uint32_t request;
    uint32_t flags;
    uint32_t size_bytes; /* of the payload */
};

struct vhost_user_vring_state {
    uint32_t index;
    uint32_t num;
};

struct vhost_user_vring_addr {
    uint32_t index;
    uint32_t flags;
    uint64_t desc_uva; /* uva: an address in the front end's process */
    uint64_t used_uva;
    uint64_t avail_uva;
    uint64_t log_gpa;
};

struct vhost_user_region {
    uint64_t gpa;
    uint64_t size_bytes;
    uint64_t uva;
    uint64_t mmap_offset;
};

struct vhost_user_mem_table {
    uint32_t count;
    uint32_t padding;
    struct vhost_user_region regions[VHOST_USER_REGIONS_MAX];
};

struct vhost_user_config {
    uint32_t offset;
    uint32_t size_bytes;
    uint32_t flags;
    uint8_t bytes[VHOST_USER_CONFIG_BYTES_MAX];
};
#define VHOST_USER_CONFIG_HEADER_BYTES 12

struct vhost_user_message {
    struct vhost_user_header header;
    union {
        uint64_t u64;
        struct vhost_user_vring_state state;
        struct vhost_user_vring_addr addr;
        struct vhost_user_mem_table mem;
        struct vhost_user_config config;
    } __attribute__((packed, aligned(4))) payload; /* right behind the header */
};

/* A message being received: kept between calls, since a stream may deliver it in pieces. */
struct vhost_user_inbox {
    struct vhost_user_message message;
    uint32_t have_bytes;
    int fds[VHOST_USER_REGIONS_MAX]; /* owned; the receiver takes one by setting it to -1 */
    unsigned fd_count;
};

/*
 * Read on from a non-blocking socket. Returns 1 (a whole message and its descriptors stand in the
 * inbox), 0 (not yet), or -errno with err set: -ECONNRESET at end of file, -EPROTO for a header with a
 * wrong version or size, or too many descriptors.
 */
int vhost_user_receive(int socket_fd, struct vhost_user_inbox *inbox, struct dayfly_err *err);

/* Ready for the next message; closes the descriptors that nobody took. */
void vhost_user_inbox_clear(struct vhost_user_inbox *inbox);

/*
 * Send a message whole, or fail: -EAGAIN when the socket has no room, which a peer brings about that
 * does not read its replies. Never waits, whatever the socket's flags: the peer may share and change
 * them. The descriptors stay the caller's.
 */
int vhost_user_send(int socket_fd, const struct vhost_user_message *message, const int *fds,
                    unsigned fd_count);

#endif
