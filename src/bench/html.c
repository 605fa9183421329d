/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "bench/say.h"

void html_text(FILE *out, const char *text)
{
    static const char *const names[] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&quot;", ['\''] = "&#39;"};
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < sizeof(names) / sizeof(*names) && names[c])
            fputs(names[c], out);
        /* Other control characters are allowed nowhere in HTML. */
        else if ((c >= ' ' && c != 0x7f) || c == '\n' || c == '\t')
            fputc(c, out);
    }
}
