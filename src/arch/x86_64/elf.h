/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_ELF_H
#define ARCH_X86_64_ELF_H

/* What of an ELF file matters to a boot: its loadable segments and its PVH entry, all checked. */

#include <stddef.h>
#include <stdint.h>

#include "dayfly/error.h"

#define ELF_MAX_SEGMENTS 64 /* program headers of any type; Linux has 5 */

struct elf_segment {
    uint64_t offset; /* [offset, offset + file_bytes) lies within the file */
    uint64_t file_bytes;
    uint64_t gpa;       /* [gpa, gpa + mem_bytes) lies within [X86_HIGH_START, X86_GAP_START) */
    uint64_t mem_bytes; /* > 0, >= file_bytes */
};

struct elf_kernel {
    struct elf_segment segments[ELF_MAX_SEGMENTS]; /* no two overlap in guest memory */
    size_t count;                                  /* >= 1 */
    uint64_t entry; /* within what the file gives to one of the segments */
};

/*
 * Read and check the headers and notes of fd, which is hostile. Errors as kernel_load().
 * The file may change behind our back: *out is consistent in itself, a later read may still be short.
 */
int elf_read(int fd, struct elf_kernel *out, struct dayfly_err *err);

#endif
