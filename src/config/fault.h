/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_FAULT_H
#define CONFIG_FAULT_H

/* Telling the caller of a fault: counted, and the first error kept for the caller's dayfly_err. */

#include <stdarg.h>

#include "config/config.h"

struct reporter {
    const char *file;
    dayfly_report_fn *report; /* may be NULL */
    void *opaque;
    struct dayfly_err *err; /* may be NULL; written at the first error */
    unsigned errors;
};

/* hint may be NULL; line 0 says that the value came from a call. */
void fault_at(struct reporter *reporter, enum dayfly_severity severity, unsigned line, unsigned column,
              const char *where, const char *hint, const char *fmt, va_list args)
    __attribute__((format(printf, 7, 0)));

#endif
