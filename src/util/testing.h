/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_TESTING_H
#define UTIL_TESTING_H

/* cmocka with the four headers it wants before it. Included by *_test.c files only. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
