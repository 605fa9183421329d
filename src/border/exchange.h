/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_EXCHANGE_H
#define BORDER_EXCHANGE_H

/*
 * HTTP/1.1 between one client and one server, as bytes in four buffers: requests in and out, responses
 * in and out. Requests are served one after the other; bodies stream. It opens no sockets and has no
 * clock: the caller moves bytes, and does what the exchange asks for. Whatever comes from either side
 * is hostile.
 *
 * A request's head goes on in our own words, with placeholders replaced; a response's as well, with
 * values made placeholders again, as they are in its body. What is refused is answered by ourselves,
 * and ends the connection.
 *
 *   client_in ──▶ request ──▶ server_out        server_in ──▶ response ──▶ client_out
 */

#include "border/echo.h"
#include "border/http_head.h"

#define EXCHANGE_IN_BYTES  16384
#define EXCHANGE_OUT_BYTES 65536

enum exchange_event {
    EXCHANGE_REQUEST,  /* a request for the host goes out */
    EXCHANGE_REPLACED, /* with secrets put in */
    EXCHANGE_MASKED,   /* a value was in its response */
    EXCHANGE_REFUSED,  /* a request was refused; host -1: before it was known for whom */
    EXCHANGE_FAILED,   /* a request could not be served: the server */
    EXCHANGE_EVENTS,
};

struct exchange_options {
    const struct swap *swap;          /* borrowed, as the others */
    const struct echo *const *echoes; /* by host */
    void (*event)(void *opaque, enum exchange_event event, int host, const char *why);
    void *opaque;
};

enum exchange_state {
    EXCHANGE_WAITS,  /* for a request's head */
    EXCHANGE_BUSY,   /* with one */
    EXCHANGE_ENDS,   /* nothing more comes: send client_out, then close */
    EXCHANGE_BREAKS, /* close at once, as one breaks off */
};

struct exchange {
    const struct exchange_options *options;
    struct buffer client_in, client_out, server_in, server_out;
    enum exchange_state state;
    bool tls;          /* the client's side is TLS, and so is the server's */
    int only_host;     /* the one that TLS was made for; -1: any */
    int host;          /* the server that is wanted, or -1 */
    bool connected;    /* the caller's: server_in and server_out lead to it */
    bool drop_server;  /* the caller is to close it, and say so by exchange_dropped */
    bool client_ended; /* nothing more comes from it */

    /* of the request that is served */
    bool head_done, request_done, request_chunked, old_client, head_only;
    bool server_used; /* the connection has served a request before */
    bool response_begun, interim, response_done, response_chunked;
    bool close_client, masked;
    struct http_parser request, response;
    struct echo_stream echo;
    size_t chunk;          /* where in the output the head of the chunk that is being made stands */
    struct http_head head; /* of the request, then of the response */
    uint8_t memory[2 * EXCHANGE_IN_BYTES + 2 * EXCHANGE_OUT_BYTES];
};

void exchange_begin(struct exchange *x, const struct exchange_options *options, int only_host);

/* Go on as far as bytes and room allow. */
void exchange_run(struct exchange *x);

/* Whether bytes from that side are of use now. */
bool exchange_takes_client(const struct exchange *x);
bool exchange_takes_server(const struct exchange *x);

/* What happens to the connections. `clean`: by TCP's or TLS's own sign for the end. Until the server
 * is to be dropped there was no room for all that it said: say it again. */
void exchange_client_ended(struct exchange *x);
void exchange_server_ended(struct exchange *x, bool clean);
void exchange_dropped(struct exchange *x);

/* The server that is wanted cannot be had, or says nothing: 502 or 504, and why. */
void exchange_server_fails(struct exchange *x, int status, const char *why);

/* Nothing is under way: the connection may be ended without loss. */
bool exchange_is_idle(const struct exchange *x);

#endif
