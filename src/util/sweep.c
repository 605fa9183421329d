/* SPDX-License-Identifier: Apache-2.0 */
#include "util/sweep.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

bool sweep_removes(const struct sweep *sweep)
{
    return !sweep || !sweep->dry_run;
}

void sweep_tell(const struct sweep *sweep, const char *kind, int error, const char *fmt, ...)
{
    char *name;
    va_list args;
    if (!sweep || !sweep->tell)
        return;
    va_start(args, fmt);
    int n = vasprintf(&name, fmt, args);
    va_end(args);
    sweep->tell(sweep->opaque, kind, n < 0 ? "?" : name, error);
    if (n >= 0)
        free(name);
}
