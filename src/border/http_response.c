/* SPDX-License-Identifier: Apache-2.0 */
#include "border/http_response.h"

#include <inttypes.h>
#include <stdio.h>

bool http_response_is_bare(const struct http_parser *p, bool head_only)
{
    return head_only || p->status_code < 200 || p->status_code == 204 || p->status_code == 304;
}

/* How the guest is told where the body ends. */
static void choose_framing(const struct http_response_options *o, enum http_body body,
                           struct http_response *r)
{
    if (http_response_is_bare(o->parser, o->head_only))
        return;
    r->keep_length = body == HTTP_BODY_LENGTH;
    r->chunked = !r->keep_length && !o->old_client;
    r->must_close = !r->keep_length && o->old_client;
}

static void write_framing(const struct http_response_options *o, enum http_body body,
                          const struct http_response *r, struct buffer *out)
{
    char length[64];
    unsigned status = o->parser->status_code;
    if (body == HTTP_BODY_LENGTH && status >= 200 && status != 204) {
        snprintf(length, sizeof(length), "Content-Length: %" PRIu64 "\r\n", o->parser->content_length);
        buffer_text(out, length);
    }
    if (r->chunked)
        buffer_text(out, "Transfer-Encoding: chunked\r\n");
    if (status >= 200 && (o->close || r->must_close))
        buffer_text(out, "Connection: close\r\n");
}

/* Alt-Svc would lead past the border, to another protocol or host. */
const char *http_response_write(const struct http_response_options *o, struct http_head *h,
                                struct buffer *out, struct http_response *r)
{
    char line[32];
    unsigned status = o->parser->status_code, masked = 0;
    *r = (struct http_response){0};
    if (!http_head_finish(h) || o->parser->http_major != 1 || status < 100 || status > 999)
        return "the server's response is not well-formed";
    if (status == 101)
        return "the server changes to another protocol";
    enum http_body body = http_head_body(h, o->parser);
    if (body == HTTP_BODY_UNCLEAR)
        return "where the server's response ends is not clear";
    choose_framing(o, body, r);
    snprintf(line, sizeof(line), "HTTP/1.1 %u ", status);
    buffer_text(out, line);
    masked += echo_text(o->echo, h->text, h->target_len, out);
    buffer_text(out, "\r\n");
    for (unsigned i = 0; i < h->field_count; i++) {
        const struct http_field *field = &h->fields[i];
        if (http_field_is_local(h, field) || http_field_is(h, field, "Alt-Svc"))
            continue;
        masked += echo_text(o->echo, http_field_name(h, field), field->name_len, out);
        buffer_text(out, ": ");
        masked += echo_text(o->echo, http_field_value(h, field), field->value_len, out);
        buffer_text(out, "\r\n");
    }
    write_framing(o, body, r, out);
    buffer_text(out, "\r\n");
    r->masked = masked > 0;
    return out->full ? "the head of the server's response is too large" : NULL;
}
