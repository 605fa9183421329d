/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_HTTP_RESPONSE_H
#define BORDER_HTTP_RESPONSE_H

/* The head of a server's response, as it goes on to the guest: checked, and without values. Pure. */

#include "border/echo.h"
#include "border/http_head.h"

struct http_response_options {
    const struct echo *echo;
    const struct http_parser *parser; /* at the end of the head */
    bool head_only;                   /* the request was HEAD */
    bool old_client;                  /* of HTTP/1.0 */
    bool close;                       /* the connection is to end with it */
};

struct http_response {
    bool chunked;     /* so its body has to be */
    bool keep_length; /* the body's length has been told */
    bool must_close;  /* the guest's does, too */
    bool masked;
};

/* Whether no body follows the head, whatever it says (RFC 9112, section 6.3). */
bool http_response_is_bare(const struct http_parser *parser, bool head_only);

/* Append the head to `out`. NULL, or why it is not passed on; what was appended is then to be thrown
 * away. */
const char *http_response_write(const struct http_response_options *options, struct http_head *head,
                                struct buffer *out, struct http_response *response);

#endif
