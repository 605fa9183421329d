/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_TESTING_INPUT_H
#define UTIL_TESTING_INPUT_H

/* What a fuzzer got, byte by byte; behind its end are zeroes. Included by *_fuzz.c files only. */

#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *data;
    size_t left;
};

static inline uint8_t u8(struct input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->data++;
}

#endif
