/* SPDX-License-Identifier: Apache-2.0 */
#include "fault.h"

#include <stdio.h>

const char *fault_severity_name(enum dayfly_severity severity)
{
    return severity == DAYFLY_FAULT_ERROR ? "error" : "warning";
}

void fault_print(const struct dayfly_fault *fault, const char *file)
{
    fprintf(stderr, "%s:%u:%u: %s: %s%s%s\n", fault->file ? fault->file : file, fault->line,
            fault->column, fault_severity_name(fault->severity), fault->where,
            fault->where[0] ? ": " : "", fault->message);
    if (fault->hint)
        fprintf(stderr, "    hint: %s\n", fault->hint);
}
