/* SPDX-License-Identifier: Apache-2.0 */
/* The NAT's helper as it is (src/net/nat_main.c and all its parts), but for what the linker puts in the
 * place of serving: the payload, and its result as a line for the log. Never installed. */
#include <stdio.h>

#include "net/nat_serve.h"
#include "payload.h"
#include "util/helper_main.h"

void __wrap_nat_serve_run(struct nat_serve *serve);

void __wrap_nat_serve_run(struct nat_serve *serve)
{
    char line[40];
    (void)serve;
    snprintf(line, sizeof(line), "breaches %llx", (unsigned long long)payload_run());
    helper_main_log(NULL, LOG_ERROR, line);
}
