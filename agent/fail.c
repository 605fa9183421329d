/* SPDX-License-Identifier: Apache-2.0 */
#include "fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int fail(struct proto_fail *f, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(f->text, sizeof(f->text), fmt, args);
    va_end(args);
    if (code && n >= 0 && (size_t)n < sizeof(f->text))
        snprintf(f->text + n, sizeof(f->text) - (size_t)n, ": %s", strerror(code));
    f->code = (uint32_t)(code ? code : EIO);
    return -(int)f->code;
}
