/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_JSON_H
#define UTIL_JSON_H

/*
 * Scope-bound ownership, as in util/cleanup.h, of one reference to a JSON value:
 *
 *     _cleanup_json_ json_t *doc = json_loads(...);
 */

#include <jansson.h>
#include <stdint.h>

#include "util/cleanup.h"

/* NULL is legal. */
static inline void cleanup_json(json_t **json)
{
    json_decref(*json);
}

#define _cleanup_json_ _cleanup_(cleanup_json)

/* A duration in milliseconds. Microseconds are as fine as anybody measures; more digits only look
 * precise. */
static inline json_t *json_ms(uint64_t ns)
{
    uint64_t us = ns / 1000;
    return json_real((double)us / 1000.0);
}

#endif
