/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_JSON_H
#define UTIL_JSON_H

/*
 * Scope-bound ownership, as in util/cleanup.h, of one reference to a JSON value:
 *
 *     _cleanup_json_ json_t *doc = json_loads(...);
 */

#include <jansson.h>

#include "util/cleanup.h"

/* NULL is legal. */
static inline void cleanup_json(json_t **json)
{
    json_decref(*json);
}

#define _cleanup_json_ _cleanup_(cleanup_json)

#endif
