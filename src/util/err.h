/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_ERR_H
#define UTIL_ERR_H

/*
 * Making and wrapping the caller-owned error of include/dayfly/error.h.
 *
 * The message is made once, where the call failed, and names the thing and the cause; each caller
 * that knows more puts its context in front. A NULL err is always legal. Both return -code, so that a
 * failing function can end with `return err_set(err, EINVAL, ...)`.
 */

#include "dayfly/error.h"

#define ERR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Set err to `code` (a positive errno value) and the formatted message. Returns -code. */
int err_set(struct dayfly_err *err, int code, const char *fmt, ...) ERR_PRINTF(3, 4);

/* As err_set, with ": <strerror(code)>" behind the message. */
int err_errno(struct dayfly_err *err, int code, const char *fmt, ...) ERR_PRINTF(3, 4);

/* Put "<context>: " in front of the message that is there. Returns -err->code (-EIO if err is NULL). */
int err_wrap(struct dayfly_err *err, const char *fmt, ...) ERR_PRINTF(2, 3);

#if defined(__clang_analyzer__) && !defined(ERR_IMPLEMENTATION)
/* The analyzer sees one file, and would follow paths on which a failure returns 0. */
#define err_set(err, code, ...)   ((void)(err_set)(err, code, __VA_ARGS__), -(code))
#define err_errno(err, code, ...) ((void)(err_errno)(err, code, __VA_ARGS__), -(code))
#endif

#endif
