/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_UNITS_H
#define UTIL_UNITS_H

/*
 * Quantities as people write them, the same on the command line and in YAML.
 *
 *   size      1024, 64K, 512MiB, 2G, 2GiB      K M G T are powers of 1024, as KiB MiB GiB TiB are
 *   duration  500ms, 90s, 30m, 1h30m, 2d       each unit once, the largest first; a unit is needed
 *   number    42
 *
 * Strict: no sign, no space, no fraction, no rest behind the unit, no overflow. "MB" is refused
 * because half of its readers mean 10^6 and half 2^20.
 *
 * Each returns 0, -EINVAL (malformed) or -ERANGE (too large, or outside the bounds), and then `err`
 * quotes the text and says what is accepted. *out is written only on success.
 */

#include <stddef.h>
#include <stdint.h>

#include "dayfly/error.h"

int units_parse_size(const char *text, uint64_t *bytes, struct dayfly_err *err);
int units_parse_duration(const char *text, uint64_t *ns, struct dayfly_err *err);

/* A whole number within [min, max]. */
int units_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                       struct dayfly_err *err);

#define UNITS_FORMAT_BYTES 24

/* "512MiB": the largest unit that leaves a whole number, so that it reads back to the same size. */
const char *units_format_size(uint64_t bytes, char out[UNITS_FORMAT_BYTES]);

#endif
