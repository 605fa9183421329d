/* SPDX-License-Identifier: Apache-2.0 */
#include "util/text.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The bytes of the well-formed character at `p`, and its code point; 0 when there is none. The NUL at
 * the text's end is no continuation byte, so nothing is read beyond it. */
static size_t decode(const unsigned char *p, uint32_t *code)
{
    static const uint32_t first_of_length[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length;
    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    if (p[0] >= 0xc0 && p[0] < 0xe0) {
        length = 2;
        *code = p[0] & 0x1f;
    } else if (p[0] >= 0xe0 && p[0] < 0xf0) {
        length = 3;
        *code = p[0] & 0x0f;
    } else if (p[0] >= 0xf0 && p[0] < 0xf8) {
        length = 4;
        *code = p[0] & 0x07;
    } else {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (p[i] & 0x3f);
    }
    if (*code < first_of_length[length] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff))
        return 0;
    return length;
}

void text_make_printable(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p;) {
        uint32_t code = 0;
        size_t length = decode(p, &code);
        if (length == 0) {
            *p++ = '?';
            continue;
        }
        if (code < 0x20 || (code >= 0x7f && code < 0xa0))
            memset(p, '?', length);
        p += length;
    }
}
