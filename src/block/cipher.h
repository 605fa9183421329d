/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_CIPHER_H
#define BLOCK_CIPHER_H

/*
 * AES-256-XTS (IEEE 1619) on a disk's data units, by OpenSSL. A unit's tweak is its number on the disk,
 * as 16 bytes, the least first.
 *
 * A unit has 4096 bytes. Each costs OpenSSL some 150 ns to begin, whatever its size: on an EPYC with
 * AES-NI units of 512 bytes come to 1.6 to 2.0 GB/s, of 4096 to 4.0 to 4.5 GB/s.
 *
 * Threads: one at a time.
 */

#include <stdint.h>

#include "dayfly/error.h"

#define CIPHER_UNIT_BYTES 4096u
#define CIPHER_KEY_BYTES  64u /* two keys of AES-256: for the data, and for the tweak */

struct cipher {
    struct evp_cipher_ctx_st *encrypt, *decrypt;
};

/* Does not keep `key`. OpenSSL has what it expands from it on its heap, until cipher_finish wipes that.
 * Returns 0 or -errno; -EINVAL when the key's halves are the same, as the standard has it. */
int cipher_init(struct cipher *cipher, const uint8_t key[CIPHER_KEY_BYTES], struct dayfly_err *err);

/* Safe on a zeroed one and safe to call twice. */
void cipher_finish(struct cipher *cipher);

/* One unit, from `in` to `out`, which are the same or do not overlap. Nothing is read from out. Returns
 * 0 or -EIO. */
int cipher_encrypt(struct cipher *cipher, uint64_t unit, const void *in, void *out);
int cipher_decrypt(struct cipher *cipher, uint64_t unit, const void *in, void *out);

#endif
