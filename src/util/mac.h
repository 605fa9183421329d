/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_MAC_H
#define UTIL_MAC_H

/* Ethernet addresses as text. */

#include <stdbool.h>
#include <stdint.h>

#define MAC_BYTES 6

/* "02:00:5e:10:00:01": six pairs of hexadecimal digits between colons. False: it is not that. */
bool mac_parse(const char *text, uint8_t out[MAC_BYTES]);

/* Whether a device may have it: neither a group's address nor nobody's. */
static inline bool mac_is_one(const uint8_t mac[MAC_BYTES])
{
    return !(mac[0] & 1) && (mac[0] | mac[1] | mac[2] | mac[3] | mac[4] | mac[5]);
}

/* A random one of the kind that is administered locally. Returns 0 or -errno. */
int mac_random(uint8_t out[MAC_BYTES]);

#endif
