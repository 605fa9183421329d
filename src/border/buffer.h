/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_BUFFER_H
#define BORDER_BUFFER_H

/* Bytes on their way, in memory of a fixed size that is somebody else's. What does not fit is not
 * taken, and `full` remembers that. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buffer {
    uint8_t *bytes;
    size_t size, start, end;
    bool full;
};

static inline size_t buffer_len(const struct buffer *b)
{
    return b->end - b->start;
}

static inline const uint8_t *buffer_data(const struct buffer *b)
{
    return b->bytes + b->start;
}

/* What can be put. */
static inline size_t buffer_room(const struct buffer *b)
{
    return b->size - buffer_len(b);
}

static inline void buffer_clear(struct buffer *b)
{
    b->start = b->end = 0;
    b->full = false;
}

static inline void buffer_skip(struct buffer *b, size_t len)
{
    b->start += len;
    if (b->start == b->end)
        b->start = b->end = 0;
}

/* Where buffer_room bytes can be written; buffer_grow then counts those that were. */
static inline uint8_t *buffer_space(struct buffer *b)
{
    if (b->start) {
        memmove(b->bytes, b->bytes + b->start, buffer_len(b));
        b->end -= b->start;
        b->start = 0;
    }
    return b->bytes + b->end;
}

static inline void buffer_grow(struct buffer *b, size_t len)
{
    b->end += len;
}

/* All of it, or nothing. */
static inline void buffer_put(struct buffer *b, const void *bytes, size_t len)
{
    if (b->full || len > buffer_room(b)) {
        b->full = true;
        return;
    }
    if (len)
        memcpy(buffer_space(b), bytes, len);
    b->end += len;
}

static inline void buffer_text(struct buffer *b, const char *text)
{
    buffer_put(b, text, strlen(text));
}

#endif
