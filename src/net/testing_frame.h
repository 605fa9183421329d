/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_TESTING_FRAME_H
#define NET_TESTING_FRAME_H

/* Frames that fuzzers make: written from RFC 791, with no code of packet.c's. */

#include <stddef.h>
#include <stdint.h>

static inline void frame_put16(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* Make the checksum of an IPv4 header without options right. A frame too short for one stays. */
static inline void frame_fix_ipv4(uint8_t *frame, size_t len)
{
    uint32_t total = 0;
    if (len < 34)
        return;
    frame_put16(frame + 24, 0);
    for (size_t i = 14; i < 34; i += 2)
        total += (uint32_t)(frame[i] << 8 | frame[i + 1]);
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    frame_put16(frame + 24, ~total & 0xffff);
}

#endif
