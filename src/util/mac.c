/* SPDX-License-Identifier: Apache-2.0 */
#include "util/mac.h"

#include <errno.h>
#include <sys/random.h>

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool mac_parse(const char *text, uint8_t out[MAC_BYTES])
{
    for (int i = 0; i < MAC_BYTES; i++, text += 3) {
        int high = digit(text[0]), low = high < 0 ? -1 : digit(text[1]);
        if (low < 0 || text[2] != (i + 1 < MAC_BYTES ? ':' : '\0'))
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

int mac_random(uint8_t out[MAC_BYTES])
{
    if (getrandom(out, MAC_BYTES, 0) < 0)
        return -errno;
    out[0] = (uint8_t)((out[0] & ~1u) | 2u);
    return 0;
}
