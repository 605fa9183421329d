/* SPDX-License-Identifier: Apache-2.0 */
#include "border/swap.h"

#include <ctype.h>
#include <strings.h>

#include "util/arith.h"

/* Decoded credentials. Longer ones are passed on as they are. */
#define CREDENTIALS_MAX 1024

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool swap_value_fits(const uint8_t *value, size_t len)
{
    if (len < SWAP_VALUE_MIN || len > SWAP_VALUE_MAX || value[0] == ' ' || value[len - 1] == ' ')
        return false;
    for (size_t i = 0; i < len; i++)
        if (value[i] < ' ' || value[i] == 0x7f)
            return false;
    return true;
}

int swap_host(const struct swap *swap, const char *name, size_t len)
{
    for (unsigned i = 0; i < swap->host_count; i++)
        if (strlen(swap->hosts[i]) == len && strncasecmp(swap->hosts[i], name, len) == 0)
            return (int)i;
    return -1;
}

void swap_percent(const uint8_t *bytes, size_t len, struct buffer *out)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < len; i++) {
        uint8_t c = bytes[i];
        if (c < 0x80 && (isalnum(c) || strchr("-._~", c)))
            buffer_put(out, &c, 1);
        else
            buffer_put(out, (const char[]){'%', digits[c >> 4], digits[c & 15]}, 3);
    }
}

/* ---- placeholders in plain text ---- */

/* The secret whose placeholder begins at `text`, or -1. */
static int secret_at(const struct swap *swap, unsigned host, bool query, const char *text, size_t len)
{
    if (len < SWAP_PLACEHOLDER_LEN)
        return -1;
    for (unsigned i = 0; i < swap->secret_count; i++) {
        const struct swap_secret *s = &swap->secrets[i];
        if ((s->hosts >> host & 1) && !(query && s->no_query) &&
            memcmp(text, s->placeholder, SWAP_PLACEHOLDER_LEN) == 0)
            return (int)i;
    }
    return -1;
}

/* `out` may be NULL. */
static uint32_t swap_plain(const struct swap *swap, unsigned host, bool query, const char *text,
                           size_t len, struct buffer *out)
{
    static const char prefix[] = SWAP_PLACEHOLDER_PREFIX;
    uint32_t found = 0;
    while (len) {
        const char *next = memmem(text, len, prefix, sizeof(prefix) - 1);
        size_t before = next ? (size_t)(next - text) : len;
        int secret = next ? secret_at(swap, host, query, next, len - before) : -1;
        size_t taken = secret >= 0 ? before + SWAP_PLACEHOLDER_LEN : MIN(before + 1, len);
        if (out)
            buffer_put(out, text, secret >= 0 ? before : taken);
        if (secret >= 0) {
            const struct swap_secret *s = &swap->secrets[secret];
            found |= UINT32_C(1) << secret;
            if (out && query)
                swap_percent(s->value, s->value_len, out);
            else if (out)
                buffer_put(out, s->value, s->value_len);
        }
        text += taken;
        len -= taken;
    }
    return found;
}

/* ---- base64 (RFC 4648, section 4) ---- */

/* The decoded length, or -1. Padding may be missing, as some clients leave it out. */
static int decode(const char *text, size_t len, uint8_t *out, size_t size)
{
    uint32_t bits = 0;
    unsigned count = 0;
    size_t n = 0;
    while (len && text[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        const char *at = text[i] ? strchr(letters, text[i]) : NULL;
        if (!at)
            return -1;
        bits = bits << 6 | (uint32_t)(at - letters);
        count += 6;
        if (count >= 8) {
            count -= 8;
            if (n == size)
                return -1;
            out[n++] = (uint8_t)(bits >> count);
        }
    }
    return (int)n;
}

static void encode(const uint8_t *bytes, size_t len, struct buffer *out)
{
    for (size_t i = 0; i < len; i += 3) {
        size_t n = MIN(len - i, (size_t)3);
        uint32_t bits = (uint32_t)bytes[i] << 16 | (n > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                        (n > 2 ? bytes[i + 2] : 0);
        char group[4];
        for (size_t k = 0; k < 4; k++)
            group[k] = k <= n ? letters[bits >> (18 - 6 * k) & 63] : '=';
        buffer_put(out, group, sizeof(group));
    }
}

/* Where the credentials stand in a field's value; 0: not of the Basic scheme. */
static size_t credentials_at(const char *text, size_t len)
{
    static const char scheme[] = "basic ";
    size_t at = sizeof(scheme) - 1;
    if (len < at || strncasecmp(text, scheme, at) != 0)
        return 0;
    while (at < len && text[at] == ' ')
        at++;
    return at;
}

static uint32_t swap_basic(const struct swap *swap, unsigned host, const char *text, size_t len,
                           struct buffer *out)
{
    uint8_t plain[CREDENTIALS_MAX], room[CREDENTIALS_MAX + SWAP_VALUE_MAX];
    struct buffer swapped = {.bytes = room, .size = sizeof(room)};
    size_t at = credentials_at(text, len);
    int n = at ? decode(text + at, len - at, plain, sizeof(plain)) : -1;
    uint32_t found = n > 0 ? swap_plain(swap, host, false, (char *)plain, (size_t)n, &swapped) : 0;
    if (!found)
        return swap_plain(swap, host, false, text, len, out);
    if (out) {
        out->full |= swapped.full;
        buffer_put(out, text, at);
        encode(swapped.bytes, buffer_len(&swapped), out);
    }
    explicit_bzero(room, sizeof(room));
    return found;
}

/* ---- */

uint32_t swap_text(const struct swap *swap, unsigned host, enum swap_place place, const char *text,
                   size_t len, struct buffer *out)
{
    if (place == SWAP_BASIC)
        return swap_basic(swap, host, text, len, out);
    return swap_plain(swap, host, place == SWAP_QUERY, text, len, out);
}

uint32_t swap_find(const struct swap *swap, unsigned host, enum swap_place place, const char *text,
                   size_t len)
{
    return swap_text(swap, host, place, text, len, NULL);
}
