/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_RESOLV_CONF_H
#define NET_RESOLV_CONF_H

#include <sys/socket.h>

/*
 * The servers that resolv.conf(5) names, at most `max`, with port 53. Lines that cannot be read are
 * passed over. As for the C library, no file and no server in it mean one on this host. Returns how
 * many.
 */
unsigned resolv_conf_read(const char *path, struct sockaddr_storage *out, unsigned max);

/* The same from a text. */
unsigned resolv_conf_parse(char *text, struct sockaddr_storage *out, unsigned max);

#endif
