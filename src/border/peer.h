/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_PEER_H
#define BORDER_PEER_H

/* One end of a connection: a non-blocking socket, with TLS on it or without. */

#include <openssl/ssl.h>
#include <poll.h>

#include "border/buffer.h"

struct peer {
    int fd;           /* -1: none */
    SSL *ssl;         /* NULL: none */
    bool shaken;      /* no TLS, or its handshake is done */
    bool ended;       /* nothing more will come */
    bool clean;       /* ... by the sign for that */
    bool broken;      /* nothing can be sent any more */
    short waits_read; /* poll events that the last read, or handshake, and the last write waited for */
    short waits_write;
};

#define PEER_NONE                                                                                      \
    (struct peer)                                                                                      \
    {                                                                                                  \
        .fd = -1                                                                                       \
    }

/* Both are taken, also when `ssl` is NULL. */
void peer_begin(struct peer *peer, int fd, SSL *ssl);
void peer_close(struct peer *peer);

/* 1 done, 0 not yet, -1 failed. */
int peer_shake(struct peer *peer);

/* As much as there is and has room. Whether anything came; the end is in the fields. */
bool peer_read(struct peer *peer, struct buffer *in);

/* As much as goes. Whether anything went; what cannot go any more is thrown away. */
bool peer_write(struct peer *peer, struct buffer *out);

/* Say that nothing more comes. */
void peer_end(struct peer *peer);

/* What to wait for. */
short peer_events(const struct peer *peer, bool reading, bool writing);

#endif
