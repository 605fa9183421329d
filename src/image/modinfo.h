/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_MODINFO_H
#define IMAGE_MODINFO_H

/*
 * What a kernel module says about itself: the "key=value" strings of its ELF section .modinfo.
 * Debian's kernel packages carry no modules.dep (depmod writes it on the machine), so dependencies are
 * read from the modules. A module file is hostile: every offset and length is checked.
 */

#include <stdbool.h>
#include <stddef.h>

/*
 * Find the value of `key` in the module of `len` bytes; `from` is NULL for the first one, or what the
 * last call returned for the next. NULL when there is no (further) one, or the file is no 64-bit
 * little-endian ELF. The string lies in `module` and ends with a NUL within it.
 */
const char *modinfo_get(const void *module, size_t len, const char *key, const char *from);

/*
 * The length of the module without the signature behind it; `len` where there is none that fits. To
 * verify one is three quarters of what loading Debian's modules takes a guest (doc/boot.md).
 */
size_t modinfo_unsigned_len(const void *module, size_t len);

/* Module names are the same whether written with '-' or '_'. Compares up to `len` characters of a,
 * which must be all of it, with the whole of b. */
bool modinfo_same_name(const char *a, size_t len, const char *b);

#endif
