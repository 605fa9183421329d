/* SPDX-License-Identifier: Apache-2.0 */
#include "block/cipher.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include <openssl/evp.h>

#include "util/err.h"
#include "util/late.h"

static EVP_CIPHER_CTX *context(const EVP_CIPHER *kind, const uint8_t *key, int encrypt)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (!ctx || !EVP_CipherInit_ex2(ctx, kind, key, NULL, encrypt, NULL)) {
        EVP_CIPHER_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

int cipher_init(struct cipher *cipher, const uint8_t key[CIPHER_KEY_BYTES], struct dayfly_err *err)
{
    *cipher = (struct cipher){0};
    if (memcmp(key, key + CIPHER_KEY_BYTES / 2, CIPHER_KEY_BYTES / 2) == 0)
        return err_set(err, EINVAL, "both halves of the key are the same");
    int r = late_crypto(err);
    if (r < 0)
        return r;
    EVP_CIPHER *kind = EVP_CIPHER_fetch(NULL, "AES-256-XTS", NULL);
    if (!kind)
        return err_set(err, ENOTSUP, "this OpenSSL has no AES-256-XTS");
    cipher->encrypt = context(kind, key, 1);
    cipher->decrypt = context(kind, key, 0);
    EVP_CIPHER_free(kind);
    if (!cipher->encrypt || !cipher->decrypt) {
        cipher_finish(cipher);
        return err_set(err, ENOMEM, "out of memory for AES-256-XTS");
    }
    return 0;
}

void cipher_finish(struct cipher *cipher)
{
    EVP_CIPHER_CTX_free(cipher->encrypt);
    EVP_CIPHER_CTX_free(cipher->decrypt);
    *cipher = (struct cipher){0};
}

static int run(EVP_CIPHER_CTX *ctx, uint64_t unit, const void *in, void *out)
{
    const uint64_t tweak[2] = {htole64(unit), 0};
    int len;
    if (!EVP_CipherInit_ex2(ctx, NULL, NULL, (const uint8_t *)tweak, -1, NULL) ||
        !EVP_CipherUpdate(ctx, out, &len, in, CIPHER_UNIT_BYTES) || len != CIPHER_UNIT_BYTES)
        return -EIO;
    return 0;
}

int cipher_encrypt(struct cipher *cipher, uint64_t unit, const void *in, void *out)
{
    return run(cipher->encrypt, unit, in, out);
}

int cipher_decrypt(struct cipher *cipher, uint64_t unit, const void *in, void *out)
{
    return run(cipher->decrypt, unit, in, out);
}
