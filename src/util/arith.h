/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_ARITH_H
#define UTIL_ARITH_H

/* Arithmetic on numbers that come from outside: it says when it overflows, it never wraps. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* True when a + b (a * b) does not fit; *out is then unspecified. */
static inline bool add_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
    return __builtin_add_overflow(a, b, out);
}

static inline bool mul_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
    return __builtin_mul_overflow(a, b, out);
}

/* True when [start, start + len) lies within [0, limit). A zero length may stand at the limit. */
static inline bool range_within(uint64_t start, uint64_t len, uint64_t limit)
{
    return start <= limit && len <= limit - start;
}

/* `align` is a power of two. align_up saturates nothing: the caller has bounded v. */
static inline uint64_t align_down(uint64_t v, uint64_t align)
{
    return v & ~(align - 1);
}

static inline uint64_t align_up(uint64_t v, uint64_t align)
{
    return (v + align - 1) & ~(align - 1);
}

static inline bool is_aligned(uint64_t v, uint64_t align)
{
    return (v & (align - 1)) == 0;
}

#endif
