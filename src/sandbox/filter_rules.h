/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_FILTER_RULES_H
#define SANDBOX_FILTER_RULES_H

/* Between the rules of filter.h, the program that compiles them when Dayfly is built (filter_build.c),
 * and what hands its work out. */

#include <stddef.h>

#include "isolate/isolate.h"
#include "sandbox/filter.h"

/* Up to here all calls were looked at: removexattrat, of Linux 6.13. What is newer is ENOSYS, as on a
 * kernel that has it not yet. */
#define FILTER_NEWEST 466

#define FILTER_TABLES 7
/* The calls that are refused. Returns how many tables there are. */
size_t filter_tables(const struct filter_options *options, struct isolate_calls tables[FILTER_TABLES]);

/* Compile them: a fresh memfd with the kernel's array of struct sock_filter, or -errno
 * (filter_compile.c). */
int filter_compile(const struct filter_options *options, struct dayfly_err *err);

/* What that comes to, for each set of options, in the file that filter_build.c writes. */
struct filter_program {
    const unsigned char *bytes;
    size_t len;
};

#define FILTER_PROGRAMS 4
extern const struct filter_program filter_programs[FILTER_PROGRAMS];

static inline size_t filter_index(const struct filter_options *options)
{
    return (options->shared_writes ? 1u : 0) + (options->shared_user ? 2u : 0);
}

#endif
