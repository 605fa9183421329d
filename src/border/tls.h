/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BORDER_TLS_H
#define BORDER_TLS_H

/*
 * TLS on both sides of the border. To the guest we are each secret's host, by certificates of an
 * authority that is made for this one border, lives in its memory alone, and can sign for these hosts
 * and nothing else (name constraints). To a host we are a client that verifies by the host machine's
 * trust store. TLS 1.2 or 1.3, and HTTP/1.1 on it alone. Everything is loaded and made in tls_new;
 * nothing is opened afterwards.
 */

#include <openssl/ssl.h>

#include "border/swap.h"
#include "dayfly/error.h"

#define TLS_CA_PEM_BYTES 32768

struct tls;

/* `swap` has the hosts' names; borrowed for good. `trust_file`: certificates as PEM; NULL: where
 * systems keep them. `ca_pem` receives the authority's certificate. */
int tls_new(struct tls **out, const struct swap *swap, const char *trust_file,
            char ca_pem[static TLS_CA_PEM_BYTES], struct dayfly_err *err);
void tls_free(struct tls *tls);

/* The server's side of a connection of the guest's; NULL without memory. */
SSL *tls_accept(struct tls *tls, int fd);
/* After the handshake: the host that the guest asked for. */
int tls_host(const SSL *ssl);

/* The client's side of one to a host. */
SSL *tls_connect(struct tls *tls, int fd, unsigned host);
/* Why the handshake failed, in a person's words. */
const char *tls_why(const SSL *ssl);

#endif
