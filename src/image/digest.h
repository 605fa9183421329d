/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_DIGEST_H
#define IMAGE_DIGEST_H

/* SHA-256 digests and their OCI spelling, "sha256:" and 64 lower-case hex digits. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <nettle/sha2.h>

#define DIGEST_BYTES     32
#define DIGEST_HEX_BYTES (2 * DIGEST_BYTES + 1) /* with the NUL */
#define DIGEST_STR_BYTES (7 + DIGEST_HEX_BYTES) /* "sha256:", with the NUL */

struct digest {
    uint8_t bytes[DIGEST_BYTES];
};

/* A hash under way. */
struct hasher {
    struct sha256_ctx sha256;
};

void hasher_begin(struct hasher *hasher);
void hasher_add(struct hasher *hasher, const void *data, size_t len);

/* Of all that was added so far; more may be added. */
void hasher_digest(const struct hasher *hasher, struct digest *out);

void digest_of(const void *data, size_t len, struct digest *out);

/* The digest of fd's bytes from offset 0 to its end; the file position is not used.
 * *size (may be NULL) receives how many there were. Returns 0 or -errno. */
int digest_of_fd(int fd, struct digest *out, uint64_t *size);

bool digest_equal(const struct digest *a, const struct digest *b);
const char *digest_hex(const struct digest *d, char out[DIGEST_HEX_BYTES]);
const char *digest_str(const struct digest *d, char out[DIGEST_STR_BYTES]);

/* Read "sha256:<64 hex>", exactly. Returns false for anything else. */
bool digest_parse(const char *text, struct digest *out);

#endif
