/* SPDX-License-Identifier: Apache-2.0 */
#include "border/http_head.h"

#include <assert.h>
#include <ctype.h>
#include <strings.h>

#include "util/arith.h"

static_assert(HTTP_HEAD_MAX <= UINT16_MAX, "offsets fit");

void http_head_begin(struct http_head *h)
{
    h->used = h->target_len = h->field_count = 0;
    h->in_value = h->too_large = h->complete = false;
}

static int append(struct http_head *h, const char *at, size_t len, uint16_t *counted)
{
    if (len > sizeof(h->text) - h->used) {
        h->too_large = true;
        return 1;
    }
    memcpy(h->text + h->used, at, len);
    h->used += (uint32_t)len;
    *counted = (uint16_t)(*counted + len);
    return 0;
}

int http_head_target(struct http_head *h, const char *at, size_t len)
{
    return append(h, at, len, &h->target_len);
}

int http_head_name(struct http_head *h, const char *at, size_t len)
{
    if (h->field_count == 0 || h->in_value) {
        if (h->field_count == HTTP_FIELDS_MAX) {
            h->too_large = true;
            return 1;
        }
        h->fields[h->field_count++] = (struct http_field){.name = (uint16_t)h->used};
        h->in_value = false;
    }
    return append(h, at, len, &h->fields[h->field_count - 1].name_len);
}

int http_head_value(struct http_head *h, const char *at, size_t len)
{
    if (h->field_count == 0)
        return 1;
    struct http_field *field = &h->fields[h->field_count - 1];
    if (!h->in_value)
        field->value = (uint16_t)h->used;
    h->in_value = true;
    return append(h, at, len, &field->value_len);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!text[i] || (!isalnum((unsigned char)text[i]) && !strchr("!#$%&'*+-.^_`|~", text[i])))
            return false;
    return len > 0;
}

static bool is_value(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)text[i] < ' ' && text[i] != '\t') || text[i] == 0x7f)
            return false;
    return true;
}

static void trim(const struct http_head *h, struct http_field *field)
{
    while (field->value_len && is_space(h->text[field->value])) {
        field->value++;
        field->value_len--;
    }
    while (field->value_len && is_space(h->text[field->value + field->value_len - 1]))
        field->value_len--;
}

bool http_head_finish(struct http_head *h)
{
    h->complete = true;
    for (unsigned i = 0; i < h->field_count; i++) {
        struct http_field *field = &h->fields[i];
        trim(h, field);
        if (!is_token(h->text + field->name, field->name_len) ||
            !is_value(h->text + field->value, field->value_len))
            return false;
    }
    return is_value(h->text, h->target_len);
}

static bool same_word(const char *text, size_t len, const char *word, size_t word_len)
{
    return len == word_len && strncasecmp(text, word, len) == 0;
}

bool http_field_is(const struct http_head *h, const struct http_field *field, const char *name)
{
    return same_word(http_field_name(h, field), field->name_len, name, strlen(name));
}

unsigned http_head_count(const struct http_head *h, const char *name, const struct http_field **last)
{
    unsigned count = 0;
    for (unsigned i = 0; i < h->field_count; i++)
        if (http_field_is(h, &h->fields[i], name)) {
            *last = &h->fields[i];
            count++;
        }
    return count;
}

static bool value_lists(const char *text, size_t len, const char *word, size_t word_len)
{
    while (len) {
        const char *comma = memchr(text, ',', len);
        size_t part = comma ? (size_t)(comma - text) : len, n = part;
        const char *at = text;
        while (n && is_space(*at)) {
            at++;
            n--;
        }
        while (n && is_space(at[n - 1]))
            n--;
        if (same_word(at, n, word, word_len))
            return true;
        text += MIN(part + 1, len);
        len -= MIN(part + 1, len);
    }
    return false;
}

bool http_head_lists(const struct http_head *h, const char *name, const char *word, size_t word_len)
{
    for (unsigned i = 0; i < h->field_count; i++) {
        const struct http_field *field = &h->fields[i];
        if (http_field_is(h, field, name) &&
            value_lists(http_field_value(h, field), field->value_len, word, word_len))
            return true;
    }
    return false;
}

static bool is_number(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isdigit((unsigned char)text[i]))
            return false;
    return len > 0;
}

static enum http_body body_by_fields(const struct http_head *h)
{
    const struct http_field *length = NULL, *coding = NULL;
    unsigned lengths = http_head_count(h, "Content-Length", &length);
    unsigned codings = http_head_count(h, "Transfer-Encoding", &coding);
    if (lengths + codings == 0)
        return HTTP_BODY_NONE_SAID;
    if (lengths + codings > 1)
        return HTTP_BODY_UNCLEAR;
    if (coding)
        return same_word(http_field_value(h, coding), coding->value_len, "chunked", 7)
                   ? HTTP_BODY_CHUNKED
                   : HTTP_BODY_UNCLEAR;
    return is_number(http_field_value(h, length), length->value_len) ? HTTP_BODY_LENGTH
                                                                     : HTTP_BODY_UNCLEAR;
}

enum http_body http_head_body(const struct http_head *h, const struct http_parser *p)
{
    enum http_body body = body_by_fields(h);
    bool length = p->flags & F_CONTENTLENGTH, chunked = p->flags & F_CHUNKED;
    return length == (body == HTTP_BODY_LENGTH) && chunked == (body == HTTP_BODY_CHUNKED)
               ? body
               : HTTP_BODY_UNCLEAR;
}

bool http_field_is_local(const struct http_head *h, const struct http_field *field)
{
    static const char *const names[] = {
        "Connection",          "Content-Length",   "Keep-Alive", "Proxy-Authenticate",
        "Proxy-Authorization", "Proxy-Connection", "TE",         "Trailer",
        "Transfer-Encoding",   "Upgrade"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (http_field_is(h, field, names[i]))
            return true;
    return http_head_lists(h, "Connection", http_field_name(h, field), field->name_len);
}
