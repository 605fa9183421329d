/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_OPTIONS_H
#define UTIL_OPTIONS_H

/*
 * Taking in a public options struct that begins with `size_t size` and grows from version to version.
 */

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* The length of a public struct's first version: up to the end of its then last member. */
#define FIRST_BYTES(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

/*
 * Copy the caller's struct over *known, which holds this version's defaults in known_bytes. An older,
 * shorter struct leaves the fields it lacks at their defaults; a newer, longer one is accepted while
 * the bytes that we do not know are zero. first_bytes: how long the struct was in its first version.
 * Returns 0, -EINVAL (too short to be one) or -E2BIG.
 */
static inline int options_take(void *known, size_t known_bytes, size_t first_bytes, const void *given)
{
    size_t given_bytes;
    memcpy(&given_bytes, given, sizeof(given_bytes));
    if (given_bytes < first_bytes)
        return -EINVAL;
    for (size_t i = known_bytes; i < given_bytes; i++) {
        if (((const unsigned char *)given)[i])
            return -E2BIG;
    }
    memcpy(known, given, given_bytes < known_bytes ? given_bytes : known_bytes);
    return 0;
}

#endif
