/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAYFLY_ERROR_H
#define DAYFLY_ERROR_H

/*
 * How every call of the library reports a failure.
 *
 * A call that can fail returns 0 (or a non-negative result) when it succeeds and a negative errno
 * value when it does not. Calls that a person's input can make fail also take a `struct dayfly_err`
 * as their last argument. The caller owns it; NULL is allowed and means "the number is enough".
 * It is written only on failure, so one may be reused for many calls.
 */

#ifdef __cplusplus
extern "C" {
#endif

#define DAYFLY_ERR_MSG_BYTES 256

struct dayfly_err {
    int code;                       /* a positive errno value; 0 when nothing failed */
    char msg[DAYFLY_ERR_MSG_BYTES]; /* one line: the thing, the cause, the remedy; no newline */
};

#ifdef __cplusplus
}
#endif
#endif
