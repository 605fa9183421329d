/* SPDX-License-Identifier: Apache-2.0 */
#define ERR_IMPLEMENTATION
#include "util/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* vsnprintf into `out`, always terminated; returns the length that stands there. */
static size_t format(char *out, size_t size, const char *fmt, va_list args)
{
    int n = vsnprintf(out, size, fmt, args);
    if (n < 0) {
        out[0] = '\0';
        return 0;
    }
    return (size_t)n < size ? (size_t)n : size - 1;
}

int err_set(struct dayfly_err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list args;
        err->code = code;
        va_start(args, fmt);
        format(err->msg, sizeof(err->msg), fmt, args);
        va_end(args);
    }
    return -code;
}

int err_errno(struct dayfly_err *err, int code, const char *fmt, ...)
{
    if (err) {
        char reason[64];
        va_list args;
        err->code = code;
        va_start(args, fmt);
        size_t len = format(err->msg, sizeof(err->msg), fmt, args);
        va_end(args);
        snprintf(err->msg + len, sizeof(err->msg) - len, ": %s",
                 strerror_r(code, reason, sizeof(reason)));
    }
    return -code;
}

int err_wrap(struct dayfly_err *err, const char *fmt, ...)
{
    if (!err)
        return -EIO;
    char inner[sizeof(err->msg)];
    va_list args;
    memcpy(inner, err->msg, sizeof(inner));
    va_start(args, fmt);
    size_t len = format(err->msg, sizeof(err->msg), fmt, args);
    va_end(args);
    snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", inner);
    return -err->code;
}
