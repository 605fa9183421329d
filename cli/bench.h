/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

/* What `dayfly bench` and its subcommands share. */

#include <jansson.h>

#include "command.h"

extern const struct command bench_boot_command;

/* A `say` of what measures: what is being done, in one line of the terminal; NULL takes it away. The
 * opaque is a bool: whether there is a terminal. */
void bench_tell(void *opaque, const char *text);

/* Print and release a table. NULL is one for which memory ran out. Returns 0 or -errno. */
int bench_print_json(json_t *table, struct dayfly_err *err);

#endif
