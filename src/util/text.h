/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_TEXT_H
#define UTIL_TEXT_H

/*
 * Text from outside, on its way to a terminal or into JSON: make it valid UTF-8 without control
 * characters, in place. A byte that is no part of a well-formed character (RFC 3629: no surrogates, no
 * overlong forms, nothing above U+10FFFF), and each byte of a control character (C0, DEL, C1), becomes
 * '?'. The length stays.
 */
void text_make_printable(char *text);

#endif
