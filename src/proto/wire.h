/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

/*
 * Cursors over a message's bytes, little-endian. A failure (too short, too long, a string without its
 * NUL) is remembered, and everything after it reads as zero or writes nothing; so the caller looks
 * once, at the end. A decoder that leaves bytes behind has failed as well: wire_in_done.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void wire_store16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void wire_store32(uint8_t *p, uint32_t v)
{
    wire_store16(p, (uint16_t)v);
    wire_store16(p + 2, (uint16_t)(v >> 16));
}

static inline uint16_t wire_load16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t wire_load32(const uint8_t *p)
{
    return wire_load16(p) | (uint32_t)wire_load16(p + 2) << 16;
}

struct wire_in {
    const uint8_t *p;
    size_t left;
    bool bad;
};

struct wire_out {
    uint8_t *p;
    size_t len, cap;
    bool bad;
};

static inline const uint8_t *wire_take(struct wire_in *in, size_t n)
{
    if (in->bad || n > in->left) {
        in->bad = true;
        return NULL;
    }
    const uint8_t *p = in->p;
    in->p += n;
    in->left -= n;
    return p;
}

static inline uint16_t wire_get16(struct wire_in *in)
{
    const uint8_t *p = wire_take(in, 2);
    return p ? wire_load16(p) : 0;
}

static inline uint32_t wire_get32(struct wire_in *in)
{
    const uint8_t *p = wire_take(in, 4);
    return p ? wire_load32(p) : 0;
}

static inline uint64_t wire_get64(struct wire_in *in)
{
    uint64_t low = wire_get32(in);
    return low | (uint64_t)wire_get32(in) << 32;
}

/* A NUL-terminated string, borrowed from the message; "" when there is none. */
static inline const char *wire_get_string(struct wire_in *in)
{
    const uint8_t *end = in->bad || !in->left ? NULL : memchr(in->p, '\0', in->left);
    if (!end) {
        in->bad = true;
        return "";
    }
    return (const char *)wire_take(in, (size_t)(end - in->p) + 1);
}

/* The same, copied to out; one that does not fit is a failure. */
static inline void wire_copy_string(struct wire_in *in, char *out, size_t size)
{
    const char *s = wire_get_string(in);
    size_t n = strlen(s);
    if (n >= size) {
        in->bad = true;
        n = 0;
    }
    memcpy(out, s, n);
    out[n] = '\0';
}

static inline bool wire_in_done(const struct wire_in *in)
{
    return !in->bad && in->left == 0;
}

static inline uint8_t *wire_room(struct wire_out *out, size_t n)
{
    if (out->bad || n > out->cap - out->len) {
        out->bad = true;
        return NULL;
    }
    out->len += n;
    return out->p + out->len - n;
}

static inline void wire_put16(struct wire_out *out, uint16_t v)
{
    uint8_t *p = wire_room(out, 2);
    if (p)
        wire_store16(p, v);
}

static inline void wire_put32(struct wire_out *out, uint32_t v)
{
    uint8_t *p = wire_room(out, 4);
    if (p)
        wire_store32(p, v);
}

static inline void wire_put64(struct wire_out *out, uint64_t v)
{
    wire_put32(out, (uint32_t)v);
    wire_put32(out, (uint32_t)(v >> 32));
}

static inline void wire_put_string(struct wire_out *out, const char *s)
{
    size_t n = strlen(s) + 1;
    uint8_t *p = wire_room(out, n);
    if (p)
        memcpy(p, s, n);
}

#endif
