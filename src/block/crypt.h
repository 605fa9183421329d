/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BLOCK_CRYPT_H
#define BLOCK_CRYPT_H

#include "block/block.h"
#include "util/log.h"

#define BLOCK_CRYPT_KEY_BYTES 64

struct block_crypt_options {
    struct block *lower; /* where the ciphertext goes; taken, even on failure */
    /* BLOCK_CRYPT_KEY_BYTES, read by block_crypt_open alone. NULL: a random one, which nobody else ever
     * has. */
    const uint8_t *key;
    const struct log *log; /* used by block_crypt_open alone */
    /* For the cipher, besides the caller's; 0: as many as the host has processors beside the caller's.
     * They use what is idle of them. */
    unsigned threads;
};

/*
 * A disk that is AES-256-XTS ciphertext on the one below, byte for byte, in units of 4096 bytes (what
 * is behind the last whole unit is left out).
 *
 *   what was never written   reads as noise: zeroes below are no ciphertext of zeroes
 *   DISCARD                  goes to the layer below; what it discarded reads as noise
 *   WRITE_ZEROES             writes the ciphertext of zeroes, unmap or not
 *
 * So a disk which is to begin with zeroes, or to give space back and read as zeroes then, stands on top
 * of this one and knows what it wrote: block/overlay.h does. The other way round, an overlay below and
 * this above it, would have to keep its base encrypted with a key that no two jobs share.
 */
int block_crypt_open(struct block **out, const struct block_crypt_options *options,
                     struct dayfly_err *err);

#endif
