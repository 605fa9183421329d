/* SPDX-License-Identifier: Apache-2.0 */
#include "image/digest.h"

#include <errno.h>
#include <string.h>
#include <openssl/evp.h>

#include "util/io.h"

#define PREFIX "sha256:"

int hasher_begin(struct hasher *hasher)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    *hasher = (struct hasher){.evp = ctx};
    if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(ctx);
        hasher->evp = NULL;
        return -ENOMEM;
    }
    return 0;
}

void hasher_add(struct hasher *hasher, const void *data, size_t len)
{
    if (EVP_DigestUpdate(hasher->evp, data, len) != 1)
        hasher->failed = true;
}

int hasher_finish(struct hasher *hasher, struct digest *out)
{
    if (!hasher->evp)
        return -EIO;
    struct digest d;
    if (EVP_DigestFinal_ex(hasher->evp, d.bytes, NULL) != 1)
        hasher->failed = true;
    EVP_MD_CTX_free(hasher->evp);
    hasher->evp = NULL;
    if (hasher->failed)
        return -EIO;
    if (out)
        *out = d;
    return 0;
}

int digest_of(const void *data, size_t len, struct digest *out)
{
    struct hasher hasher;
    int rc = hasher_begin(&hasher);
    if (rc)
        return rc;
    hasher_add(&hasher, data, len);
    return hasher_finish(&hasher, out);
}

int digest_of_fd(int fd, struct digest *out, uint64_t *size)
{
    struct hasher hasher;
    int rc = hasher_begin(&hasher);
    if (rc)
        return rc;
    char buf[65536];
    off_t at = 0;
    ssize_t n;
    while ((n = io_pread_full(fd, buf, sizeof(buf), at)) > 0) {
        hasher_add(&hasher, buf, (size_t)n);
        at += n;
    }
    rc = hasher_finish(&hasher, out);
    if (n < 0)
        return (int)n;
    if (size)
        *size = (uint64_t)at;
    return rc;
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
