/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_MEMINFO_H
#define UTIL_MEMINFO_H

#include <stdint.h>

/* Bytes that may be spent on files in memory now: half of what the kernel says is available. 0 when it
 * does not say. */
uint64_t meminfo_budget(void);

#endif
