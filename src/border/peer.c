/* SPDX-License-Identifier: Apache-2.0 */
#include "border/peer.h"

#include <errno.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

void peer_begin(struct peer *p, int fd, SSL *ssl)
{
    *p = (struct peer){.fd = fd, .ssl = ssl, .shaken = !ssl};
}

void peer_close(struct peer *p)
{
    SSL_free(p->ssl);
    if (p->fd >= 0)
        close(p->fd);
    *p = PEER_NONE;
}

/* What a call of OpenSSL's waits for: 0 when it failed for good. */
static short waits_for(const struct peer *p, int result)
{
    int error = SSL_get_error(p->ssl, result);
    return error == SSL_ERROR_WANT_READ ? POLLIN : error == SSL_ERROR_WANT_WRITE ? POLLOUT : 0;
}

int peer_shake(struct peer *p)
{
    if (p->shaken)
        return 1;
    ERR_clear_error();
    int n = SSL_do_handshake(p->ssl);
    if (n == 1) {
        p->shaken = true;
        p->waits_read = 0;
        return 1;
    }
    p->waits_read = waits_for(p, n);
    return p->waits_read ? 0 : -1;
}

/* Bytes; 0: none now; -1: the end, or a failure. */
static ssize_t read_some(struct peer *p, uint8_t *bytes, size_t len)
{
    size_t n;
    p->waits_read = POLLIN;
    if (p->ssl) {
        ERR_clear_error();
        int r = SSL_read_ex(p->ssl, bytes, len, &n);
        if (r == 1)
            return (ssize_t)n;
        p->waits_read = waits_for(p, r);
        p->clean = SSL_get_error(p->ssl, r) == SSL_ERROR_ZERO_RETURN;
        return p->waits_read ? 0 : -1;
    }
    ssize_t got = recv(p->fd, bytes, len, 0);
    if (got > 0)
        return got;
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    p->clean = got == 0;
    return -1;
}

bool peer_read(struct peer *p, struct buffer *in)
{
    bool some = false;
    while (!p->ended && buffer_room(in)) {
        ssize_t n = read_some(p, buffer_space(in), buffer_room(in));
        if (n == 0)
            break;
        p->ended = n < 0;
        some = true;
        if (n > 0)
            buffer_grow(in, (size_t)n);
    }
    return some;
}

static ssize_t write_some(struct peer *p, const uint8_t *bytes, size_t len)
{
    size_t n;
    p->waits_write = POLLOUT;
    if (p->ssl) {
        ERR_clear_error();
        int r = SSL_write_ex(p->ssl, bytes, len, &n);
        if (r == 1)
            return (ssize_t)n;
        p->waits_write = waits_for(p, r);
        return p->waits_write ? 0 : -1;
    }
    ssize_t sent = send(p->fd, bytes, len, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    return sent;
}

bool peer_write(struct peer *p, struct buffer *out)
{
    bool some = false;
    while (buffer_len(out)) {
        ssize_t n = p->broken ? -1 : write_some(p, buffer_data(out), buffer_len(out));
        if (n == 0)
            break;
        some = true;
        if (n < 0) {
            p->broken = true;
            buffer_clear(out);
        } else {
            buffer_skip(out, (size_t)n);
        }
    }
    return some;
}

void peer_end(struct peer *p)
{
    if (p->ssl && p->shaken && !p->broken) {
        ERR_clear_error();
        SSL_shutdown(p->ssl);
    }
    shutdown(p->fd, SHUT_WR);
}

short peer_events(const struct peer *p, bool reading, bool writing)
{
    if (!p->shaken)
        return p->waits_read ? p->waits_read : POLLIN | POLLOUT;
    return (short)((reading && !p->ended ? (p->waits_read ? p->waits_read : POLLIN) : 0) |
                   (writing ? (p->waits_write ? p->waits_write : POLLOUT) : 0));
}
