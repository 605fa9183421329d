/* SPDX-License-Identifier: Apache-2.0 */
#include "border/exchange.h"

#include <stdio.h>
#include <strings.h>

#include "border/http_request.h"
#include "border/http_response.h"
#include "util/arith.h"

/* Of a body, in one go: then what comes of it has room. */
#define FEED_BYTES 4096

/* "%04x\r\n", which is written when the chunk is complete. FEED_BYTES as ECHO_GROWTH has them fit. */
#define CHUNK_HEAD 6
#define CHUNK_ROOM (CHUNK_HEAD + 2 + 5)

/* ---- answers of our own ---- */

static const char *reason_of(int status)
{
    switch (status) {
#define XX(number, name, text)                                                                         \
    case number:                                                                                       \
        return #text;
        HTTP_STATUS_MAP(XX)
#undef XX
    }
    return "Error";
}

/* End this connection with an answer, if none has begun. */
static void answer(struct exchange *x, int status, const char *why)
{
    char head[256], body[256];
    if (x->response_begun) {
        x->state = EXCHANGE_BREAKS;
        return;
    }
    int len = snprintf(body, sizeof(body), "dayfly: %s\n", why);
    snprintf(head, sizeof(head),
             "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
             "Connection: close\r\n\r\n",
             status, reason_of(status), len);
    x->response_begun = true;
    buffer_text(&x->client_out, head);
    if (!x->head_only)
        buffer_text(&x->client_out, body);
    x->state = x->client_out.full ? EXCHANGE_BREAKS : EXCHANGE_ENDS;
    x->drop_server = true;
}

static void tell(const struct exchange *x, enum exchange_event event, const char *why)
{
    x->options->event(x->options->opaque, event, x->host, why);
}

static void refuse(struct exchange *x, int status, const char *why)
{
    tell(x, EXCHANGE_REFUSED, why);
    answer(x, status, why);
}

void exchange_server_fails(struct exchange *x, int status, const char *why)
{
    if (x->state != EXCHANGE_BUSY)
        return;
    tell(x, EXCHANGE_FAILED, why);
    answer(x, status, why);
}

/* ---- chunks ---- */

/* A chunk of what is put until end_chunk. */
static void begin_chunk(struct exchange *x, struct buffer *out)
{
    x->chunk = buffer_len(out);
    buffer_put(out, "0000\r\n", CHUNK_HEAD);
}

static void end_chunk(struct exchange *x, struct buffer *out)
{
    size_t len = buffer_len(out) - x->chunk - CHUNK_HEAD;
    if (len == 0) { /* which would be the last one */
        out->end -= CHUNK_HEAD;
        return;
    }
    char head[CHUNK_HEAD + 1];
    snprintf(head, sizeof(head), "%04x\r\n", (unsigned)len & 0xffff);
    memcpy(out->bytes + out->start + x->chunk, head, CHUNK_HEAD);
    buffer_put(out, "\r\n", 2);
}

/* ---- http_parser's callbacks ---- */

/* The head that a piece belongs to; NULL for fields behind a body, which are dropped. */
static struct http_head *head_of(http_parser *p)
{
    struct exchange *x = p->data;
    bool complete = p == &x->request ? x->head_done : x->head.complete;
    return complete ? NULL : &x->head;
}

static int on_target(http_parser *p, const char *at, size_t len)
{
    return http_head_target(&((struct exchange *)p->data)->head, at, len);
}

static int on_name(http_parser *p, const char *at, size_t len)
{
    struct http_head *head = head_of(p);
    return head ? http_head_name(head, at, len) : 0;
}

static int on_value(http_parser *p, const char *at, size_t len)
{
    struct http_head *head = head_of(p);
    return head ? http_head_value(head, at, len) : 0;
}

static int on_request_head(http_parser *p)
{
    struct exchange *x = p->data;
    p->upgrade = 0; /* which we do not do; what follows is a body, or the next request */
    x->head_done = true;
    http_parser_pause(p, 1);
    return 0;
}

static int on_request_body(http_parser *p, const char *at, size_t len)
{
    struct exchange *x = p->data;
    buffer_put(&x->server_out, at, len);
    return 0;
}

static int on_request_end(http_parser *p)
{
    struct exchange *x = p->data;
    x->request_done = true;
    http_parser_pause(p, 1);
    return 0;
}

static int on_response_head(http_parser *p)
{
    struct exchange *x = p->data;
    p->upgrade = 0;
    x->head.complete = true;
    http_parser_pause(p, 1);
    return http_response_is_bare(p, x->head_only); /* for which a length does not stand for a body */
}

static int on_response_body(http_parser *p, const char *at, size_t len)
{
    struct exchange *x = p->data;
    if (echo_take(&x->echo, (const uint8_t *)at, len, &x->client_out))
        x->masked = true;
    return 0;
}

static int on_response_end(http_parser *p)
{
    struct exchange *x = p->data;
    x->response_done = true;
    http_parser_pause(p, 1);
    return 0;
}

static const http_parser_settings request_settings = {
    .on_url = on_target,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_request_head,
    .on_body = on_request_body,
    .on_message_complete = on_request_end,
};

static const http_parser_settings response_settings = {
    .on_status = on_target,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_response_head,
    .on_body = on_response_body,
    .on_message_complete = on_response_end,
};

/* Feed at most `max` bytes. False when they are not HTTP. */
static bool feed(http_parser *p, const http_parser_settings *settings, struct buffer *in, size_t max)
{
    size_t len = MIN(buffer_len(in), max);
    size_t taken = http_parser_execute(p, settings, (const char *)buffer_data(in), len);
    buffer_skip(in, MIN(taken, len));
    if (HTTP_PARSER_ERRNO(p) == HPE_PAUSED) {
        http_parser_pause(p, 0);
        return true;
    }
    return HTTP_PARSER_ERRNO(p) == HPE_OK;
}

/* ---- requests ---- */

static void next_request(struct exchange *x)
{
    x->state = EXCHANGE_WAITS;
    x->head_done = x->request_done = x->request_chunked = x->old_client = x->head_only = false;
    x->response_begun = x->interim = x->response_done = x->response_chunked = false;
    x->close_client = x->masked = false;
    http_head_begin(&x->head);
    http_parser_init(&x->request, HTTP_REQUEST);
    x->request.data = x;
}

static void begin_response(struct exchange *x)
{
    http_head_begin(&x->head);
    http_parser_init(&x->response, HTTP_RESPONSE);
    x->response.data = x;
}

/* The head is complete. */
static void take_request(struct exchange *x)
{
    struct http_request r;
    const struct http_request_options options = {
        .swap = x->options->swap, .only_host = x->only_host, .tls = x->tls, .parser = &x->request};
    x->head_only = x->request.method == HTTP_HEAD;
    int status = http_request_write(&options, &x->head, &x->server_out, &r);
    if (r.host != x->host && x->connected)
        x->drop_server = true;
    x->host = r.host;
    if (status) {
        buffer_clear(&x->server_out);
        refuse(x, status, r.why);
        return;
    }
    tell(x, EXCHANGE_REQUEST, NULL);
    if (r.replaced)
        tell(x, EXCHANGE_REPLACED, NULL);
    x->state = EXCHANGE_BUSY;
    x->request_chunked = r.chunked;
    x->old_client = x->request.http_minor == 0;
    x->close_client = x->old_client || !http_should_keep_alive(&x->request);
    begin_response(x);
}

static bool request_head(struct exchange *x)
{
    /* What went before must be on its way, so that there is room for a whole head, and so that nothing
     * of it goes to another server. */
    if (x->drop_server || buffer_len(&x->server_out) || !buffer_len(&x->client_in))
        return false;
    bool fine = feed(&x->request, &request_settings, &x->client_in, SIZE_MAX);
    if (x->head_done) {
        take_request(x);
    } else if (!fine) {
        x->host = x->only_host;
        if (x->head.too_large)
            refuse(x, 431, "the request's head is too large");
        else
            refuse(x, 400, "this is no request that is understood here");
    }
    return true;
}

static bool request_body(struct exchange *x)
{
    if (!buffer_len(&x->client_in) || buffer_room(&x->server_out) < FEED_BYTES + CHUNK_ROOM)
        return false;
    if (x->request_chunked)
        begin_chunk(x, &x->server_out);
    bool fine = feed(&x->request, &request_settings, &x->client_in, FEED_BYTES);
    if (x->request_chunked)
        end_chunk(x, &x->server_out);
    if (!fine) {
        x->close_client = true;
        refuse(x, 400, "the request's body is not well-formed");
    } else if (x->request_done && x->request_chunked) {
        buffer_text(&x->server_out, "0\r\n\r\n");
    }
    return true;
}

/* ---- responses ---- */

static void response_fails(struct exchange *x, const char *why)
{
    exchange_server_fails(x, 502, why);
}

static void take_response(struct exchange *x)
{
    struct http_response r;
    bool interim = x->response.status_code < 200;
    /* Before all of the request has come, nobody can tell where the next one would begin. */
    if (!interim && !x->request_done)
        x->close_client = true;
    const struct http_response_options options = {.echo = x->options->echoes[x->host],
                                                  .parser = &x->response,
                                                  .head_only = x->head_only,
                                                  .old_client = x->old_client,
                                                  .close = x->close_client};
    if (interim && x->old_client) { /* who would take it for the answer */
        x->interim = true;
        return;
    }
    const char *why = http_response_write(&options, &x->head, &x->client_out, &r);
    if (why) {
        buffer_clear(&x->client_out); /* was empty before */
        response_fails(x, why);
        return;
    }
    x->masked |= r.masked;
    x->interim = interim;
    x->response_begun = !interim;
    x->response_chunked = r.chunked;
    x->close_client |= r.must_close;
    echo_begin(&x->echo, x->options->echoes[x->host], r.keep_length);
}

static bool response_head(struct exchange *x)
{
    if (buffer_len(&x->client_out) || !buffer_len(&x->server_in))
        return false;
    bool fine = feed(&x->response, &response_settings, &x->server_in, SIZE_MAX);
    if (x->head.complete)
        take_response(x);
    else if (!fine)
        response_fails(x, x->head.too_large ? "the head of the server's response is too large"
                                            : "the server's response is not well-formed");
    return true;
}

static void finish_response(struct exchange *x)
{
    if (x->interim) { /* the one that counts is to come */
        x->interim = x->response_done = false;
        begin_response(x);
        return;
    }
    if (x->response_chunked)
        buffer_text(&x->client_out, "0\r\n\r\n");
    if (x->masked)
        tell(x, EXCHANGE_MASKED, NULL);
    x->drop_server |=
        !http_should_keep_alive(&x->response) || !x->request_done || buffer_len(&x->server_in);
    x->server_used = true;
    if (x->close_client || x->client_ended)
        x->state = EXCHANGE_ENDS;
    else
        next_request(x);
    x->drop_server |= x->state == EXCHANGE_ENDS;
}

static bool response_body(struct exchange *x)
{
    bool bare = x->interim;
    if (!buffer_len(&x->server_in) ||
        buffer_room(&x->client_out) < ECHO_GROWTH(FEED_BYTES) + CHUNK_ROOM)
        return false;
    if (x->response_chunked && !bare)
        begin_chunk(x, &x->client_out);
    bool fine = feed(&x->response, &response_settings, &x->server_in, FEED_BYTES);
    if (x->response_done && !bare)
        echo_end(&x->echo, &x->client_out);
    if (x->response_chunked && !bare)
        end_chunk(x, &x->client_out);
    if (!fine)
        response_fails(x, "the server's response is not well-formed");
    else if (x->response_done)
        finish_response(x);
    return true;
}

/* ---- from outside ---- */

void exchange_begin(struct exchange *x, const struct exchange_options *options, int only_host)
{
    uint8_t *p = x->memory;
    x->options = options;
    x->client_in = (struct buffer){.bytes = p, .size = EXCHANGE_IN_BYTES};
    x->server_in = (struct buffer){.bytes = p + EXCHANGE_IN_BYTES, .size = EXCHANGE_IN_BYTES};
    x->client_out = (struct buffer){.bytes = p + 2 * EXCHANGE_IN_BYTES, .size = EXCHANGE_OUT_BYTES};
    x->server_out = (struct buffer){.bytes = p + 2 * EXCHANGE_IN_BYTES + EXCHANGE_OUT_BYTES,
                                    .size = EXCHANGE_OUT_BYTES};
    x->tls = only_host >= 0;
    x->only_host = only_host;
    x->host = -1;
    x->connected = x->drop_server = x->client_ended = x->server_used = false;
    next_request(x);
}

static bool one_step(struct exchange *x)
{
    if (x->state == EXCHANGE_WAITS)
        return request_head(x);
    if (x->state != EXCHANGE_BUSY)
        return false;
    if (x->connected && !x->drop_server && (x->head.complete ? response_body(x) : response_head(x)))
        return true;
    return x->state == EXCHANGE_BUSY && !x->request_done && request_body(x);
}

void exchange_run(struct exchange *x)
{
    while (one_step(x)) {
        if (x->client_out.full || x->server_out.full) /* the sums above are wrong: rather stop */
            x->state = EXCHANGE_BREAKS;
    }
    if (x->client_ended && x->state == EXCHANGE_WAITS && !buffer_len(&x->client_in))
        x->state = EXCHANGE_ENDS;
    if (x->client_ended && x->state == EXCHANGE_BUSY && !x->request_done && !buffer_len(&x->client_in))
        x->state = EXCHANGE_BREAKS;
}

bool exchange_takes_client(const struct exchange *x)
{
    bool wanted = x->state == EXCHANGE_WAITS || (x->state == EXCHANGE_BUSY && !x->request_done);
    return wanted && !x->client_ended && buffer_room(&x->client_in);
}

bool exchange_takes_server(const struct exchange *x)
{
    return x->state == EXCHANGE_BUSY && buffer_room(&x->server_in);
}

void exchange_client_ended(struct exchange *x)
{
    x->client_ended = true;
    exchange_run(x);
}

void exchange_server_ended(struct exchange *x, bool clean)
{
    exchange_run(x);
    if (x->state == EXCHANGE_BUSY && !x->drop_server && buffer_len(&x->server_in))
        return; /* there is no room for it yet */
    x->drop_server = true;
    if (x->state != EXCHANGE_BUSY)
        return;
    if (!x->head.complete && !x->response_begun) {
        /* One that was kept open may have been closed as the request went out: whoever speaks to it
         * directly sees just that, and tries again. */
        if (x->server_used && x->response.nread == 0)
            x->state = EXCHANGE_BREAKS;
        else
            response_fails(x, "the server ended the connection without a response");
        return;
    }
    if (clean && http_parser_execute(&x->response, &response_settings, NULL, 0) == 0 &&
        x->response_done) {
        if (x->response_chunked)
            begin_chunk(x, &x->client_out);
        echo_end(&x->echo, &x->client_out);
        if (x->response_chunked)
            end_chunk(x, &x->client_out);
        finish_response(x);
        return;
    }
    response_fails(x, "the server broke off its response");
}

void exchange_dropped(struct exchange *x)
{
    x->connected = x->drop_server = x->server_used = false;
    buffer_clear(&x->server_in);
    if (x->state != EXCHANGE_BUSY)
        buffer_clear(&x->server_out);
}

bool exchange_is_idle(const struct exchange *x)
{
    return x->state == EXCHANGE_WAITS && !x->request.nread && !buffer_len(&x->client_in) &&
           !buffer_len(&x->client_out);
}
