/* SPDX-License-Identifier: Apache-2.0 */
#include "border/http_request.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

static int refuse(struct http_request *r, int status, const char *why)
{
    r->why = why;
    return status;
}

/* A path and a query, or OPTIONS' asterisk: what a client says to a server, and not to a proxy. */
static bool is_target(const struct http_head *h, unsigned method)
{
    for (unsigned i = 0; i < h->target_len; i++)
        if (h->text[i] <= ' ' || h->text[i] > '~')
            return false;
    return h->target_len > 0 &&
           (h->text[0] == '/' || (method == HTTP_OPTIONS && h->target_len == 1 && h->text[0] == '*'));
}

/* The host's index, by the one Host field; its port can only be the one that this came to. */
static int find_host(const struct http_request_options *o, const struct http_head *h,
                     struct http_request *r)
{
    const struct http_field *field;
    const char *port = o->tls ? ":443" : ":80";
    if (http_head_count(h, "Host", &field) != 1)
        return refuse(r, 400, "a request needs one Host field");
    const char *name = http_field_value(h, field);
    size_t len = field->value_len, port_len = strlen(port);
    if (len > port_len && memcmp(name + len - port_len, port, port_len) == 0)
        len -= port_len;
    int host = swap_host(o->swap, name, len);
    if (host < 0 || (o->only_host >= 0 && host != o->only_host))
        return refuse(r, 421, "this host is not served on this connection");
    r->host = host;
    return 0;
}

static enum swap_place place_of(const struct http_head *h, const struct http_field *field)
{
    return http_field_is(h, field, "Authorization") ? SWAP_BASIC : SWAP_FIELD;
}

/* Where the query begins: behind the first question mark. */
static size_t path_len(const struct http_head *h)
{
    const char *mark = memchr(h->text, '?', h->target_len);
    return mark ? (size_t)(mark - h->text) + 1 : h->target_len;
}

/* The secrets that would be put in. */
static uint32_t find_secrets(const struct http_request_options *o, const struct http_head *h,
                             unsigned host)
{
    size_t path = path_len(h);
    uint32_t found = swap_find(o->swap, host, SWAP_QUERY, h->text + path, h->target_len - path);
    for (unsigned i = 0; i < h->field_count; i++) {
        const struct http_field *field = &h->fields[i];
        if (!http_field_is(h, field, "Host") && !http_field_is_local(h, field))
            found |= swap_find(o->swap, host, place_of(h, field), http_field_value(h, field),
                               field->value_len);
    }
    return found;
}

static bool may_go_bare(const struct swap *swap, uint32_t secrets)
{
    for (unsigned i = 0; i < swap->secret_count; i++)
        if ((secrets >> i & 1) && !swap->secrets[i].allow_http)
            return false;
    return true;
}

static void put_field(const struct http_head *h, const struct http_field *field, struct buffer *out)
{
    buffer_put(out, http_field_name(h, field), field->name_len);
    buffer_text(out, ": ");
}

/* What asks for a coding would have values come back unseen. */
static void write_fields(const struct http_request_options *o, const struct http_head *h,
                         const struct http_request *r, struct buffer *out)
{
    for (unsigned i = 0; i < h->field_count; i++) {
        const struct http_field *field = &h->fields[i];
        if (http_field_is(h, field, "Host") || http_field_is_local(h, field) ||
            (r->replaced && http_field_is(h, field, "Accept-Encoding")))
            continue;
        put_field(h, field, out);
        swap_text(o->swap, (unsigned)r->host, place_of(h, field), http_field_value(h, field),
                  field->value_len, out);
        buffer_text(out, "\r\n");
    }
    if (r->replaced)
        buffer_text(out, "Accept-Encoding: identity\r\n");
}

static void write_head(const struct http_request_options *o, const struct http_head *h,
                       const struct http_request *r, enum http_body body, struct buffer *out)
{
    char length[64];
    size_t path = path_len(h);
    buffer_text(out, http_method_str((enum http_method)o->parser->method));
    buffer_text(out, " ");
    buffer_put(out, h->text, path);
    swap_text(o->swap, (unsigned)r->host, SWAP_QUERY, h->text + path, h->target_len - path, out);
    buffer_text(out, " HTTP/1.1\r\nHost: ");
    buffer_text(out, o->swap->hosts[r->host]);
    buffer_text(out, "\r\n");
    write_fields(o, h, r, out);
    if (body == HTTP_BODY_CHUNKED)
        buffer_text(out, "Transfer-Encoding: chunked\r\n");
    if (body == HTTP_BODY_LENGTH) {
        snprintf(length, sizeof(length), "Content-Length: %" PRIu64 "\r\n", o->parser->content_length);
        buffer_text(out, length);
    }
    buffer_text(out, "\r\n");
}

int http_request_write(const struct http_request_options *o, struct http_head *h, struct buffer *out,
                       struct http_request *r)
{
    const struct http_parser *p = o->parser;
    *r = (struct http_request){.host = -1};
    if (!http_head_finish(h) || !is_target(h, p->method))
        return refuse(r, 400, "this is no request that is understood here");
    int status = find_host(o, h, r);
    if (status)
        return status;
    if (p->http_major != 1 || p->http_minor > 1)
        return refuse(r, 505, "HTTP/1.1 is spoken here");
    if (p->method == HTTP_CONNECT || p->method == HTTP_TRACE)
        return refuse(r, 405, "this method is not passed on for a secret's host");
    if (http_head_lists(h, "Upgrade", "websocket", 9))
        return refuse(r, 501, "no other protocol is passed on for a secret's host");
    enum http_body body = http_head_body(h, p);
    if (body == HTTP_BODY_UNCLEAR || (body == HTTP_BODY_CHUNKED && p->http_minor == 0))
        return refuse(r, 400, "where the request's body ends is not clear");
    r->chunked = body == HTTP_BODY_CHUNKED;
    r->replaced = find_secrets(o, h, (unsigned)r->host);
    if (!o->tls && !may_go_bare(o->swap, r->replaced))
        return refuse(r, 403,
                      "a secret does not go out without TLS: use https, or allow http for this secret");
    write_head(o, h, r, body, out);
    return out->full ? refuse(r, 431, "the request's head is too large") : 0;
}
