/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_HELPER_MAIN_H
#define UTIL_HELPER_MAIN_H

/* The helper's own side of helper.h. Linked into helpers alone. */

#include <stdbool.h>

#include "util/helper.h"

/* Map the shared memory, which is to be `bytes` long and this parent's; see that this process dies with
 * its parent, is out of reach of the terminal's signals and of SIGPIPE. NULL when it was not started by
 * the library; that has been said. */
void *helper_main_begin(const char *name, size_t bytes);

/* No core dump, no file that grows, `bytes` of memory. */
void helper_main_limit(uint64_t bytes);

/* Say so. Returns main's result. */
int helper_main_fail(const struct dayfly_err *err);

/* Say so. False when nobody is there. */
bool helper_main_ready(void);

/* A `write` of struct log. Lost when nobody reads. */
void helper_main_log(void *opaque, enum log_level level, const char *line);

#endif
