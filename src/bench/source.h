/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_SOURCE_H
#define BENCH_SOURCE_H

/*
 * Where the sources of the real project come from: Debian's source package, fetched once by apt, from
 * the mirrors that this host uses and with its keys, into the data directory. Nothing of the host's own
 * apt is changed: the lists of packages are kept beside it.
 */

#include <limits.h>

#include "dayfly/error.h"

/*
 * The path of the upstream archive of `package`, which is fetched when it is not there yet. `say` is
 * told what takes long. On failure the message says what to do instead.
 */
int source_fetch(const char *package, void (*say)(void *opaque, const char *text), void *opaque,
                 char out[PATH_MAX], struct dayfly_err *err);

#endif
