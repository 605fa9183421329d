/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAYFLY_VERSION_H
#define DAYFLY_VERSION_H

/* Which version this is: the headers' numbers, for #if, and the library's own, which a program that was
 * built against other headers may be running with. A program goes with every library of the same
 * soname. */

#ifdef __cplusplus
extern "C" {
#endif

#define DAYFLY_VERSION_MAJOR 0
#define DAYFLY_VERSION_MINOR 1
#define DAYFLY_VERSION_PATCH 0

/* "0.1.0". It is never freed. */
const char *dayfly_version(void);

#ifdef __cplusplus
}
#endif
#endif
