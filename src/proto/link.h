/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_LINK_H
#define PROTO_LINK_H

/*
 * One end of the connection: frames in and out of a non-blocking fd through two buffers of fixed size.
 * Nothing here allocates after proto_link_init, and nothing blocks.
 *
 * Outgoing room is a resource that its user asks for before making a frame. PROTO_LINK_RESERVE bytes of
 * it are kept from DATA, so that a signal or an EXIT never waits behind a stream's bytes for room.
 *
 * Not for two threads at once.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proto/proto.h"

#define PROTO_LINK_BYTES   ((size_t)2 * PROTO_PAYLOAD_MAX)
#define PROTO_LINK_RESERVE ((size_t)16 << 10)

struct proto_link {
    int fd; /* borrowed */
    bool socket;
    struct {
        uint8_t *buf;
        size_t head, tail;
    } rx, tx;
};

/* fd is made non-blocking. 0, -ENOMEM, or the reason why fd cannot be used. */
int proto_link_init(struct proto_link *l, int fd);

/* Free the buffers. Safe on a zeroed or half-built link; fd stays open. */
void proto_link_finish(struct proto_link *l);

/* Read what there is. The number of bytes; 0 when the peer has gone; -EAGAIN when there is nothing, or
 * no room (the frames that are here were not taken yet); another -errno. Invalidates frames. */
ssize_t proto_link_fill(struct proto_link *l);

/* Take the next whole frame. 1 and *f (its payload valid until the next proto_link_fill); 0 when it is
 * not complete; -EPROTO when no frame begins like that. */
int proto_link_next(struct proto_link *l, struct proto_frame *f);

/* How large a payload could be sent now; DATA leaves the reserve alone. 0: none. */
size_t proto_link_room(const struct proto_link *l, bool data);

/* Where the payload of the next frame is to be written, proto_link_room bytes; then the frame of len
 * bytes is queued by proto_link_commit. */
uint8_t *proto_link_payload(struct proto_link *l);
void proto_link_commit(struct proto_link *l, uint16_t type, uint16_t stream, uint32_t session,
                       size_t len);

/* Queue a frame with a copy of payload. 0, or -EAGAIN when there is no room. */
int proto_link_send(struct proto_link *l, uint16_t type, uint16_t stream, uint32_t session,
                    const void *payload, size_t len);

/* Overwrite what was taken from the connection or has been written to it, and is still in the buffers:
 * after a SECRET. Invalidates frames. */
void proto_link_wipe(struct proto_link *l);

/* Whether bytes wait to be written. */
bool proto_link_pending(const struct proto_link *l);

/* Write what is queued: 0 when all of it has gone, -EAGAIN when some is left, another -errno. */
int proto_link_flush(struct proto_link *l);

/* Encode message m straight into the link and queue it: 0; -EAGAIN without room; -EMSGSIZE when no
 * frame could hold it. */
#define proto_link_send_message(l, type, session, kind, m)                                             \
    ({                                                                                                 \
        size_t _room = proto_link_room((l), false);                                                    \
        ssize_t _n = proto_##kind##_encode((m), proto_link_payload(l), _room);                         \
        if (_n >= 0)                                                                                   \
            proto_link_commit((l), (type), 0, (session), (size_t)_n);                                  \
        _n >= 0 ? 0 : _room < PROTO_PAYLOAD_MAX ? -EAGAIN : (int)_n;                                   \
    })

#endif
