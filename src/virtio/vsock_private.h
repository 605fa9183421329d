/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VIRTIO_VSOCK_PRIVATE_H
#define VIRTIO_VSOCK_PRIVATE_H

/*
 * Shared by the parts of the vsock device:
 *   vsock.c       the device: queues, packets, life cycle
 *   vsock_conn.c  one connection: its two streams, credit, shutdown
 *   vsock_unix.c  the Unix sockets on the host
 *
 * Everything here is used with the device's lock held and, but for vsock_reset, in the loop's thread.
 */

#include "util/arith.h"
#include "util/list.h"
#include "virtio/vsock.h"

enum { VSOCK_RX, VSOCK_TX, VSOCK_EVENT, VSOCK_QUEUES };

#define VSOCK_BUCKETS     256u
#define VSOCK_RESETS_MAX  64u
#define VSOCK_CLIENTS_MAX 64u

enum vsock_op {
    VSOCK_OP_REQUEST = 1,
    VSOCK_OP_RESPONSE = 2,
    VSOCK_OP_RST = 3,
    VSOCK_OP_SHUTDOWN = 4,
    VSOCK_OP_RW = 5,
    VSOCK_OP_CREDIT_UPDATE = 6,
    VSOCK_OP_CREDIT_REQUEST = 7,
};

#define VSOCK_TYPE_STREAM 1u

#define VSOCK_SHUTDOWN_RECEIVE 1u
#define VSOCK_SHUTDOWN_SEND    2u
#define VSOCK_SHUTDOWN_BOTH    3u

/* In the order of the host once read, little-endian in the guest's memory. */
struct vsock_header {
    uint64_t src_cid;
    uint64_t dst_cid;
    uint32_t src_port;
    uint32_t dst_port;
    uint32_t len;
    uint16_t type;
    uint16_t op;
    uint32_t flags;
    uint32_t buf_alloc;
    uint32_t fwd_cnt;
} __attribute__((packed));

#define VSOCK_HEADER_BYTES 44u

/* Control packets that are owed to the guest. */
#define OWE_REQUEST        1u
#define OWE_RESPONSE       2u
#define OWE_CREDIT_UPDATE  4u
#define OWE_CREDIT_REQUEST 8u
#define OWE_SHUTDOWN       16u
#define OWE_RST            32u /* the last one: the connection is gone when it is sent */

enum vsock_state {
    VSOCK_CONNECTING, /* the guest has to answer our REQUEST */
    VSOCK_OPEN,
    VSOCK_DOOMED,   /* its driver is gone; for the loop's thread to end */
    VSOCK_DRAINING, /* gone for the guest; what it had sent is being delivered */
};

struct vsock;

struct vsock_conn {
    struct vsock *vs;
    struct list node;          /* in a bucket, in draining, or in doomed */
    struct list ready;         /* in vs->ready while it has something for the guest, or may have */
    struct loop_source source; /* our end of the host's socket */
    uint32_t host_port, guest_port;
    enum vsock_state state;
    unsigned owes;
    bool unix_client;     /* "OK <port>\n" is to be said when the guest accepts */
    uint64_t deadline_ns; /* 0: none */

    /* Guest to host. Counters wrap, as the specification has them. */
    uint32_t received;   /* bytes the guest has sent */
    uint32_t forwarded;  /* bytes of them that the host's socket has taken: our fwd_cnt */
    uint32_t advertised; /* the fwd_cnt that the guest knows */
    uint8_t *buffer;     /* NULL, or VSOCK_BUFFER_BYTES: a ring of received, not forwarded bytes */
    uint32_t head, buffered;
    bool guest_sent_all; /* SHUTDOWN_SEND came */
    bool said_end;       /* and the host's socket was told */

    /* Host to guest. */
    uint32_t sent;
    uint32_t peer_buf_alloc, peer_fwd_cnt;
    bool readable;         /* the host's socket may have something */
    bool no_credit;        /* waits for the guest to make room */
    bool guest_wants_none; /* SHUTDOWN_RECEIVE came */
    bool host_sent_all;    /* end of file was read from the host's socket */
    bool host_refuses;     /* it takes no more: what the guest sends is dropped */
    unsigned shutdown;     /* flags for the guest, said or owed */
};

struct vsock_reset {
    uint32_t host_port, guest_port;
    uint16_t type;
};

struct vsock_listener {
    struct list node;
    uint32_t port;
    virtio_vsock_accepted *accepted;
    void *opaque;
};

/* A client of our Unix socket that has not said yet where it wants to go. */
struct vsock_client {
    struct vsock *vs;
    struct list node;
    struct loop_source source;
    uint64_t deadline_ns;
    char line[32];
    unsigned line_bytes;
};

struct vsock {
    struct virtio_device dev;
    uint64_t config_guest_cid; /* little-endian: the configuration space */
    uint32_t guest_cid;
    uint32_t next_host_port;

    struct loop_source wake; /* an eventfd: there is work for the loop */
    struct loop_timer timer;

    struct list buckets[VSOCK_BUCKETS];
    struct list draining;
    struct list doomed; /* reset by another thread: the loop disposes of them */
    unsigned conn_count;
    struct list ready;
    struct vsock_reset resets[VSOCK_RESETS_MAX]; /* owed for packets that belong to no connection */
    unsigned reset_count;

    struct list listeners;
    struct list accepts; /* sockets that wait to be handed to their listener */
    unsigned accept_count;

    char *path;
    int dir_fd;        /* of path; -1: none */
    const char *reach; /* path, or what it is called in dir_fd once that is the thread's own */
    struct loop_source unix_source;
    struct list clients;
    unsigned client_count;

    struct iovec iov[RING_SIZE_MAX];  /* the chain in hand */
    struct iovec part[RING_SIZE_MAX]; /* some of its bytes: vsock_part */
};

/* -- vsock.c ---------------------------------------------------------------------------------- */
void vsock_wake(struct vsock *vs);
/* Send the guest what it is owed, as far as it has buffers. */
void vsock_fill_rx(struct vsock *vs);
/* See to it that a deadline is looked at in time. */
void vsock_set_deadline(struct vsock *vs, uint64_t *deadline_ns, uint64_t in_ns);

/* Make vs->part the bytes [skip, skip + max) of the chain in vs->iov. Returns its number of segments.
 */
unsigned vsock_part(struct vsock *vs, unsigned segments, size_t skip, size_t max);

/* -- vsock_conn.c ----------------------------------------------------------------------------- */
struct vsock_conn *vsock_conn_find(struct vsock *vs, uint32_t host_port, uint32_t guest_port);
/* Takes fd, even on failure (NULL: the table is full, or no memory). */
struct vsock_conn *vsock_conn_new(struct vsock *vs, int fd, uint32_t host_port, uint32_t guest_port,
                                  enum vsock_state state);
void vsock_conn_owe(struct vsock_conn *conn, unsigned what);
/* The guest does not know the connection any more: deliver what it had sent, then close. */
void vsock_conn_end(struct vsock_conn *conn);
/* Close and free at once. */
void vsock_conn_free(struct vsock_conn *conn);
/* A packet of the guest for this connection: the header in the host's order, the chain in vs->iov. */
void vsock_conn_packet(struct vsock_conn *conn, const struct vsock_header *header, unsigned segments);
/*
 * Make the next packet for the guest: its header in the guest's order, its payload read into the chain
 * in vs->iov. False when there is none: the connection is then no longer ready. It may have been freed
 * when true is returned, after an RST.
 */
bool vsock_conn_produce(struct vsock_conn *conn, struct vsock_header *header, unsigned segments);
/* Watch the host's socket for what can be used now. */
void vsock_conn_watch(struct vsock_conn *conn);
void vsock_conn_expired(struct vsock_conn *conn);

/* -- vsock_unix.c ----------------------------------------------------------------------------- */
int vsock_unix_listen(struct vsock *vs, const char *path, struct dayfly_err *err);
bool vsock_unix_isolate(struct vsock *vs, struct isolate_options *options);
void vsock_unix_close(struct vsock *vs);
/* Connect to "<path>_<port>": a socket or -errno. */
int vsock_unix_connect(const struct vsock *vs, uint32_t port);
void vsock_unix_expire(struct vsock *vs, uint64_t now_ns, uint64_t *next_ns);
/* A host-initiated connection: takes fd; NULL on failure. */
struct vsock_conn *vsock_connect_fd(struct vsock *vs, int fd, uint32_t port);

#endif
