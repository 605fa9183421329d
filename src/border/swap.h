/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_SWAP_H
#define BORDER_SWAP_H

/* Placeholders in a request become values, for one host. Pure. */

#include "border/buffer.h"
#include "net/rule.h"

#define SWAP_SECRETS_MAX 16
#define SWAP_HOSTS_MAX   64
#define SWAP_VALUE_MIN   8 /* a shorter one cannot be told from other text in a response */
#define SWAP_VALUE_MAX   4096

#define SWAP_PLACEHOLDER_PREFIX "dayfly-secret-"
#define SWAP_PLACEHOLDER_LEN    (sizeof(SWAP_PLACEHOLDER_PREFIX) - 1 + 32)

struct swap_secret {
    char placeholder[SWAP_PLACEHOLDER_LEN + 1];
    bool allow_http; /* into requests that go out without TLS, too */
    bool no_query;   /* not into the target's query */
    uint64_t hosts;  /* bits by index of struct swap's */
    size_t value_len;
    uint8_t value[SWAP_VALUE_MAX];
};

struct swap {
    unsigned secret_count, host_count;
    struct swap_secret secrets[SWAP_SECRETS_MAX];
    char hosts[SWAP_HOSTS_MAX][NET_NAME_BYTES]; /* lower case */
};

/* Whether a value can stand in a header field: its length, and no control characters. */
bool swap_value_fits(const uint8_t *value, size_t len);

/* The index of a host by its name in any case, or -1. */
int swap_host(const struct swap *swap, const char *name, size_t len);

enum swap_place {
    SWAP_FIELD, /* a header field's value */
    SWAP_BASIC, /* the same, where credentials of the Basic scheme (RFC 7617) are looked into */
    SWAP_QUERY, /* the query of a target: the value is percent-encoded */
};

/* Append `text` to `out` with the placeholders of the host's secrets replaced by their values. Returns
 * the secrets that were put in, as bits. */
uint32_t swap_text(const struct swap *swap, unsigned host, enum swap_place place, const char *text,
                   size_t len, struct buffer *out);

/* The secrets that swap_text would put in, as bits. */
uint32_t swap_find(const struct swap *swap, unsigned host, enum swap_place place, const char *text,
                   size_t len);

/* Append with everything but RFC 3986's unreserved characters percent-encoded. */
void swap_percent(const uint8_t *bytes, size_t len, struct buffer *out);

#endif
