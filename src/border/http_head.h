/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_HTTP_HEAD_H
#define BORDER_HTTP_HEAD_H

/*
 * The head of an HTTP/1.1 message (RFC 9112) as fields, and what they say together. http_parser finds
 * the pieces; what may stand in them is decided here, more strictly than it does, and a head that goes
 * on is written anew from the fields. So two ends can never read the same head differently: neither a
 * bare line feed nor a folded line, a space before a colon or a second length gets through.
 */

#include <http_parser.h>

#include "border/buffer.h"

#define HTTP_HEAD_MAX   32768 /* target, names and values */
#define HTTP_FIELDS_MAX 128

struct http_field {
    uint16_t name, name_len, value, value_len; /* in http_head.text */
};

struct http_head {
    char text[HTTP_HEAD_MAX];
    uint32_t used;
    uint16_t target_len; /* of a request's target or a response's reason, in front */
    uint16_t field_count;
    bool in_value;  /* the field's value has begun */
    bool too_large; /* not all of it is here */
    bool complete;
    struct http_field fields[HTTP_FIELDS_MAX];
};

void http_head_begin(struct http_head *head);

/* From http_parser's callbacks, in pieces. They return 0, or 1 when the head is too large. */
int http_head_target(struct http_head *head, const char *at, size_t len);
int http_head_name(struct http_head *head, const char *at, size_t len);
int http_head_value(struct http_head *head, const char *at, size_t len);

static inline const char *http_field_name(const struct http_head *head, const struct http_field *field)
{
    return head->text + field->name;
}

static inline const char *http_field_value(const struct http_head *head, const struct http_field *field)
{
    return head->text + field->value;
}

bool http_field_is(const struct http_head *head, const struct http_field *field, const char *name);

/* The head is complete: trim values. False when a name is no token, or a value or the text in front
 * has a control character in it. */
bool http_head_finish(struct http_head *head);

/* How many fields have this name; *last is one of them. */
unsigned http_head_count(const struct http_head *head, const char *name,
                         const struct http_field **last);

/* Whether the list of words that is the value of one or several such fields has the word in it. */
bool http_head_lists(const struct http_head *head, const char *name, const char *word, size_t word_len);

/* How the body ends, by the fields; and by http_parser's reading of them, which has to be the same. */
enum http_body {
    HTTP_BODY_NONE_SAID,
    HTTP_BODY_LENGTH,
    HTTP_BODY_CHUNKED,
    HTTP_BODY_UNCLEAR, /* several lengths, a length and a coding, a coding other than chunked, ... */
};

enum http_body http_head_body(const struct http_head *head, const struct http_parser *parser);

/* Whether the field is about this connection alone, and so not to be passed on: those of RFC 9110,
 * section 7.6.1, those that Connection names, and those that say where the body ends. */
bool http_field_is_local(const struct http_head *head, const struct http_field *field);

#endif
