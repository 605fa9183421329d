/* SPDX-License-Identifier: Apache-2.0 */
#include "fault.h"

#include <errno.h>
#include <stdio.h>

#include "util/err.h"

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

void fault_tell(void *teller, const struct dayfly_fault *fault)
{
    struct fault_teller *t = teller;
    t->errors += fault->severity == DAYFLY_FAULT_ERROR;
    fault_print(fault, t->file);
}

int fault_told(const struct fault_teller *teller, int rc, struct dayfly_err *err)
{
    if (rc == -EINVAL && teller->errors)
        err_set(err, EINVAL, "%s: %u error%s", teller->file, teller->errors,
                teller->errors == 1 ? "" : "s");
    return rc;
}
