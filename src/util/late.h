/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_LATE_H
#define UTIL_LATE_H

/*
 * Libraries that are loaded when they are needed first, and not with the program.
 *
 * Most runs read no archive, and many encrypt nothing; but finding, mapping and binding libarchive with
 * all that it needs (libxml2, ICU, the C++ library) takes longer than making a whole sandbox. So
 * nothing here is linked with those libraries. Each of their functions that we call is a jump of our
 * own, of the same name, to where late_NAME has found it; callers include the library's own header and
 * notice nothing.
 *
 * Before that, such a function does nothing and returns 0 or NULL: a constructor fails, and a
 * destructor has nothing to do. So late_NAME is called where the first object of the library is made,
 * and what is made from that object needs no more.
 *
 * A library stays loaded to the end of the process and is the same for all its threads and machines:
 * hence the one static variable. Load it before a thread or process locks itself up.
 *
 * To call one more function, add its name to the list in late_NAME.c. To add a library, write such a
 * file, and have meson.build tell its soname.
 *
 * Limits: x86-64, as the jumps are written in its assembler; functions only, no variables.
 */

#include <stddef.h>

#include "dayfly/error.h"

/* 0, or -ENOENT, -ENOSYS with the library's or function's name in err. Any thread; cheap when loaded.
 */
int late_archive(struct dayfly_err *err);
int late_crypto(struct dayfly_err *err);

/* -- for late_NAME.c -------------------------------------------------------------------------- */

struct late_function {
    const char *name;
    void **slot;
};

/* Find all of them, or change none. */
int late_load(const char *soname, const struct late_function *functions, size_t count,
              struct dayfly_err *err);

/* One function: where it is, and the jump. */
#define LATE_DEFINE(name)                                                                              \
    extern void *late_slot_##name __attribute__((visibility("hidden")));                               \
    __asm__(".pushsection .data.late,\"aw\"\n"                                                         \
            ".balign 8\n"                                                                              \
            ".hidden late_slot_" #name "\n.globl late_slot_" #name "\n"                                \
            "late_slot_" #name ": .quad late_nothing\n"                                                \
            ".popsection\n"                                                                            \
            ".pushsection .text,\"ax\"\n"                                                              \
            ".balign 16\n"                                                                             \
            ".hidden " #name "\n.globl " #name "\n.type " #name ", @function\n" #name ":\n"            \
            ".cfi_startproc\n"                                                                         \
            "jmp *late_slot_" #name "(%rip)\n"                                                         \
            ".cfi_endproc\n"                                                                           \
            ".size " #name ", . - " #name "\n"                                                         \
            ".popsection\n");
#define LATE_ROW(name) {#name, &late_slot_##name},

#endif
