/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_APT_SOURCES_H
#define IMAGE_APT_SOURCES_H

/*
 * The Debian mirrors that this host uses, for building an image from the same ones: reads sources.list,
 * sources.list.d/ *.list (one line each) and *.sources (deb822), see sources.list(5).
 *
 * Taken is what looks like Debian's own archive: type deb, component main among others, and a suite
 * that is the host's release or one of its companions (bookworm-updates, bookworm-security, ...). The
 * host's release in the suites is replaced by the wanted one. Third parties' archives are left out: an
 * image is not to depend on what else the host has installed. So are options other than signed-by and
 * trusted.
 */

#include <stdbool.h>

#include "dayfly/error.h"

/* The release of a Debian host ("bookworm"); false on any other system, whose mirrors are of no use. */
#define APT_RELEASE_BYTES 64
bool apt_sources_host(char out[APT_RELEASE_BYTES]);

/*
 * `etc_apt` is the directory ("/etc/apt"), `host` the host's release ("bookworm"), `suite` the wanted
 * one. *out receives lines for a sources.list, "" when nothing fits; the caller frees it. A file that
 * cannot be read or understood is passed over. Returns 0 or -ENOMEM.
 */
int apt_sources_collect(const char *etc_apt, const char *host, const char *suite, char **out,
                        struct dayfly_err *err);

#endif
