/* SPDX-License-Identifier: Apache-2.0 */
#include "config/fault.h"

#include <errno.h>
#include <stdio.h>

#include "util/err.h"
#include "util/text.h"

/* What stands in dayfly_err, a single line: "machine.yaml:3:9: disks[0].path: no such file; hint". */
static void keep_first(struct reporter *reporter, const struct dayfly_fault *fault)
{
    char place[128] = "";
    if (fault->line)
        snprintf(place, sizeof(place), "%.80s:%u:%u: ", fault->file ? fault->file : "line", fault->line,
                 fault->column);
    err_set(reporter->err, EINVAL, "%s%s%s%s%s%s", place, fault->where, fault->where[0] ? ": " : "",
            fault->message, fault->hint ? "; " : "", fault->hint ? fault->hint : "");
}

void fault_at(struct reporter *reporter, enum dayfly_severity severity, unsigned line, unsigned column,
              const char *where, const char *hint, const char *fmt, va_list args)
{
    /* Both quote what strangers wrote: key names, file names. */
    char message[512], remedy[384];
    vsnprintf(message, sizeof(message), fmt, args);
    text_make_printable(message);
    snprintf(remedy, sizeof(remedy), "%s", hint ? hint : "");
    text_make_printable(remedy);
    const struct dayfly_fault fault = {
        .size = sizeof(fault),
        .severity = severity,
        .file = line ? reporter->file : NULL,
        .line = line,
        .column = column,
        .where = where,
        .message = message,
        .hint = hint ? remedy : NULL,
    };
    if (severity == DAYFLY_FAULT_ERROR && reporter->errors++ == 0)
        keep_first(reporter, &fault);
    if (reporter->report)
        reporter->report(reporter->opaque, &fault);
}
