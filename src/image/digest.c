/* SPDX-License-Identifier: Apache-2.0 */
#include "image/digest.h"

#include <errno.h>
#include <string.h>

#include "util/io.h"

#define PREFIX "sha256:"

void hasher_begin(struct hasher *hasher)
{
    sha256_init(&hasher->sha256);
}

void hasher_add(struct hasher *hasher, const void *data, size_t len)
{
    sha256_update(&hasher->sha256, len, data);
}

void hasher_digest(const struct hasher *hasher, struct digest *out)
{
    struct sha256_ctx copy = hasher->sha256;
    sha256_digest(&copy, sizeof(out->bytes), out->bytes);
}

void digest_of(const void *data, size_t len, struct digest *out)
{
    struct hasher hasher;
    hasher_begin(&hasher);
    hasher_add(&hasher, data, len);
    hasher_digest(&hasher, out);
}

int digest_of_fd(int fd, struct digest *out, uint64_t *size)
{
    struct hasher hasher;
    hasher_begin(&hasher);
    char buf[65536];
    off_t at = 0;
    ssize_t n;
    while ((n = io_pread_full(fd, buf, sizeof(buf), at)) > 0) {
        hasher_add(&hasher, buf, (size_t)n);
        at += n;
    }
    if (n < 0)
        return (int)n;
    hasher_digest(&hasher, out);
    if (size)
        *size = (uint64_t)at;
    return 0;
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return !memcmp(a->bytes, b->bytes, DIGEST_BYTES);
}

const char *digest_hex(const struct digest *d, char out[DIGEST_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[d->bytes[i] >> 4];
        out[2 * i + 1] = digits[d->bytes[i] & 15];
    }
    out[2 * DIGEST_BYTES] = '\0';
    return out;
}

const char *digest_str(const struct digest *d, char out[DIGEST_STR_BYTES])
{
    memcpy(out, PREFIX, strlen(PREFIX));
    digest_hex(d, out + strlen(PREFIX));
    return out;
}

/* OCI allows lower-case digits only: one digest has one spelling, and one file name. */
static int nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool digest_parse(const char *text, struct digest *out)
{
    if (strncmp(text, PREFIX, strlen(PREFIX)) != 0)
        return false;
    text += strlen(PREFIX);
    if (strnlen(text, DIGEST_HEX_BYTES) != DIGEST_HEX_BYTES - 1)
        return false;
    for (size_t i = 0; i < DIGEST_BYTES; i++) {
        int high = nibble(text[2 * i]), low = nibble(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
