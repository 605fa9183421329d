/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_TRUST_H
#define AGENT_TRUST_H

#include <stddef.h>

/*
 * Have the programs of the root file system at `root` ("" for one's own) trust a certificate, which is
 * given as PEM: it is appended to each file of certificates that is there, and laid where Debian's
 * update-ca-certificates finds it when it makes such a file anew, as
 * /usr/local/share/ca-certificates/dayfly-border.crt. Afterwards there is a file
 * /etc/ssl/certs/ca-certificates.crt, whatever the image had: programs that look elsewhere can be told
 * of it. Returns 0 or -errno.
 */
int trust_add(const char *root, const void *pem, size_t len);

#endif
