/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of ELF kernels (System V ABI, chapters 4 and 5; notes: chapter 5, "Note Section").
 *
 * Only 64-bit little-endian x86 files with program headers are taken; sections are never looked at.
 * The PVH entry point stands in a note of owner "Xen" and type XEN_ELFNOTE_PHYS32_ENTRY (Xen's
 * public/elfnote.h): an address of 4 or 8 bytes.
 *
 * Every table is copied out of the file once, at a bounded size, and only the copy is used.
 */
#include "arch/x86_64/elf.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "arch/x86_64/layout.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define MAX_NOTE_BYTES           (64 * 1024)

static int read_exactly(int fd, void *buf, size_t len, uint64_t offset, const char *what,
                        struct dayfly_err *err)
{
    ssize_t n = io_pread_full(fd, buf, len, (off_t)offset);
    if (n < 0)
        return err_errno(err, (int)-n, "the kernel's %s cannot be read", what);
    if ((size_t)n < len)
        return err_set(err, EBADMSG, "the kernel file is truncated: it ends within its %s", what);
    return 0;
}

static int check_header(const Elf64_Ehdr *header, struct dayfly_err *err)
{
    const unsigned char *id = header->e_ident;
    if (id[EI_CLASS] != ELFCLASS64 || id[EI_DATA] != ELFDATA2LSB || header->e_machine != EM_X86_64)
        return err_set(err, ENOEXEC, "the kernel is an ELF file, but not for x86-64");
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return err_set(err, ENOEXEC,
                       "the kernel is an ELF file of type %u, not an executable: give the vmlinux "
                       "of a finished build",
                       header->e_type);
    if (header->e_phnum == 0)
        return err_set(err, ENOEXEC, "the kernel is an ELF file without program headers");
    if (header->e_phentsize != sizeof(Elf64_Phdr))
        return err_set(err, EBADMSG, "the kernel's program headers are %u bytes each, not %zu",
                       header->e_phentsize, sizeof(Elf64_Phdr));
    if (header->e_phnum > ELF_MAX_SEGMENTS)
        return err_set(err, EBADMSG, "the kernel has %u program headers; at most %d are accepted",
                       header->e_phnum, ELF_MAX_SEGMENTS);
    return 0;
}

static int add_segment(struct elf_kernel *out, const Elf64_Phdr *ph, uint64_t size,
                       struct dayfly_err *err)
{
    if (ph->p_filesz > ph->p_memsz)
        return err_set(err, EBADMSG,
                       "the kernel has a segment with more bytes in the file than in "
                       "memory");
    if (ph->p_memsz == 0)
        return 0;
    if (!range_within(ph->p_offset, ph->p_filesz, size))
        return err_set(err, EBADMSG,
                       "the kernel file is truncated: %" PRIu64 " bytes at %" PRIu64
                       " are promised, it has %" PRIu64,
                       ph->p_filesz, ph->p_offset, size);
    if (ph->p_paddr < X86_HIGH_START || !range_within(ph->p_paddr, ph->p_memsz, X86_GAP_START))
        return err_set(err, ENOEXEC,
                       "the kernel wants 0x%" PRIx64 " bytes at physical address 0x%" PRIx64
                       ": outside of 1 MiB to 3 GiB",
                       ph->p_memsz, ph->p_paddr);
    for (size_t i = 0; i < out->count; i++) {
        const struct elf_segment *other = &out->segments[i];
        if (ph->p_paddr < other->gpa + other->mem_bytes && other->gpa < ph->p_paddr + ph->p_memsz)
            return err_set(err, EBADMSG, "the kernel's segments overlap at 0x%" PRIx64,
                           MAX(ph->p_paddr, other->gpa));
    }
    out->segments[out->count++] = (struct elf_segment){
        .offset = ph->p_offset,
        .file_bytes = ph->p_filesz,
        .gpa = ph->p_paddr,
        .mem_bytes = ph->p_memsz,
    };
    return 0;
}

/* Look for the PVH note in a copy of a PT_NOTE segment. Damaged notes end the search. */
static bool find_pvh_entry(const unsigned char *notes, size_t len, size_t align, uint64_t *entry)
{
    size_t pos = 0;
    while (len - pos >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        memcpy(&note, notes + pos, sizeof(note));
        uint64_t name = pos + sizeof(note);
        /* 32-bit sizes in 64-bit sums: nothing wraps. */
        uint64_t desc = align_up(name + note.n_namesz, align);
        if (!range_within(desc, note.n_descsz, len))
            return false;
        if (note.n_type == XEN_ELFNOTE_PHYS32_ENTRY && note.n_namesz == sizeof("Xen") &&
            memcmp(notes + name, "Xen", sizeof("Xen")) == 0) {
            if (note.n_descsz != 4 && note.n_descsz != 8)
                return false;
            *entry = 0;
            memcpy(entry, notes + desc, note.n_descsz);
            return true;
        }
        pos = align_up(desc + note.n_descsz, align);
        if (pos > len)
            return false;
    }
    return false;
}

static int read_notes(int fd, const Elf64_Phdr *ph, uint64_t size, bool *found, uint64_t *entry,
                      struct dayfly_err *err)
{
    if (ph->p_filesz > MAX_NOTE_BYTES)
        return err_set(err, EBADMSG,
                       "the kernel has %" PRIu64 " bytes of notes; at most %d are accepted",
                       ph->p_filesz, MAX_NOTE_BYTES);
    if (!range_within(ph->p_offset, ph->p_filesz, size))
        return err_set(err, EBADMSG, "the kernel file is truncated: its notes are missing");
    if (ph->p_filesz == 0)
        return 0;
    _cleanup_free_ unsigned char *notes = malloc(ph->p_filesz);
    if (!notes)
        return err_errno(err, ENOMEM, "the kernel's notes");
    int rc = read_exactly(fd, notes, ph->p_filesz, ph->p_offset, "notes", err);
    if (rc < 0)
        return rc;
    *found = find_pvh_entry(notes, ph->p_filesz, ph->p_align == 8 ? 8 : 4, entry);
    return 0;
}

int elf_read(int fd, struct elf_kernel *out, struct dayfly_err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "the kernel file");
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "the kernel is not a regular file");
    uint64_t size = (uint64_t)st.st_size;

    Elf64_Ehdr header = {0};
    ssize_t n = io_pread_full(fd, &header, sizeof(header), 0);
    if (n < 0)
        return err_errno(err, (int)-n, "the kernel file cannot be read");
    if (n < SELFMAG || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return err_set(err, ENOEXEC, "the kernel is not an ELF file");
    if ((size_t)n < sizeof(header))
        return err_set(err, EBADMSG, "the kernel file is truncated: it ends within its ELF header");
    int rc = check_header(&header, err);
    if (rc < 0)
        return rc;

    Elf64_Phdr table[ELF_MAX_SEGMENTS];
    if (!range_within(header.e_phoff, header.e_phnum * sizeof(Elf64_Phdr), size))
        return err_set(err, EBADMSG, "the kernel file is truncated: its program headers are missing");
    rc = read_exactly(fd, table, header.e_phnum * sizeof(Elf64_Phdr), header.e_phoff, "program headers",
                      err);
    if (rc < 0)
        return rc;

    /* Notes first: that a program is no kernel is the better answer than where it wants to be. */
    *out = (struct elf_kernel){0};
    bool found = false;
    for (size_t i = 0; i < header.e_phnum && !found; i++) {
        if (table[i].p_type != PT_NOTE)
            continue;
        rc = read_notes(fd, &table[i], size, &found, &out->entry, err);
        if (rc < 0)
            return rc;
    }
    if (!found)
        return err_set(err, ENOEXEC,
                       "the kernel has no PVH note: take one that was built with CONFIG_PVH=y");
    for (size_t i = 0; i < header.e_phnum; i++) {
        if (table[i].p_type != PT_LOAD)
            continue;
        rc = add_segment(out, &table[i], size, err);
        if (rc < 0)
            return rc;
    }
    if (out->count == 0)
        return err_set(err, ENOEXEC, "the kernel is an ELF file with nothing to load");
    for (size_t i = 0; i < out->count; i++) {
        const struct elf_segment *s = &out->segments[i];
        if (out->entry >= s->gpa && out->entry - s->gpa < s->file_bytes)
            return 0;
    }
    return err_set(err, EBADMSG, "the kernel's PVH entry 0x%" PRIx64 " is in none of its segments",
                   out->entry);
}
