/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_HTTP_REQUEST_H
#define BORDER_HTTP_REQUEST_H

/* The head of a guest's request, as it goes on to the server: checked, and with secrets put in. Pure.
 */

#include "border/http_head.h"
#include "border/swap.h"

struct http_request_options {
    const struct swap *swap;
    int only_host; /* whose TLS this is, or -1 */
    bool tls;
    const struct http_parser *parser; /* at the end of the head */
};

struct http_request {
    int host;          /* whom it is for, or -1 */
    uint32_t replaced; /* secrets that were put in, as bits */
    bool chunked;      /* so its body has to be */
    const char *why;   /* when it is refused */
};

/* Append the head to `out`. Returns 0, or the status of an answer that refuses it; what was appended is
 * then to be thrown away. */
int http_request_write(const struct http_request_options *options, struct http_head *head,
                       struct buffer *out, struct http_request *request);

#endif
