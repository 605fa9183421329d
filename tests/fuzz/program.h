/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_PROGRAM_H
#define TESTS_FUZZ_PROGRAM_H

/* A fuzzer's input, read as a program: numbers in a row, little-endian, zeroes behind its end. */

#include <stdlib.h>

#include "util/testing_input.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline uint16_t u16(struct input *in)
{
    uint16_t low = u8(in);
    return (uint16_t)(low | u8(in) << 8);
}

static inline uint32_t u32(struct input *in)
{
    uint32_t low = u16(in);
    return low | (uint32_t)u16(in) << 16;
}

static inline uint64_t u64(struct input *in)
{
    uint64_t low = u32(in);
    return low | (uint64_t)u32(in) << 32;
}

/* What a target promises besides the sanitizers' findings. */
static inline void check(int promise)
{
    if (!promise)
        abort();
}

#endif
