/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ARCH_X86_64_TESTING_KERNEL_H
#define ARCH_X86_64_TESTING_KERNEL_H

/* Kernels made by hand, for tests: an ELF file as a struct, and bzImages around it. */

#include <archive.h>
#include <archive_entry.h>
#include <elf.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/testing.h"

#include "util/io.h"

#define TEST_TEXT_GPA 0x100000
#define TEST_DATA_GPA 0x200000
#define TEST_BSS      4096 /* memory of the second segment that the file does not have */
#ifndef TEST_ZEROES
#define TEST_ZEROES (192 * 1024) /* enough for holes */
#endif

struct test_kernel {
    Elf64_Ehdr ehdr;
    Elf64_Phdr text_ph, data_ph, note_ph;
    struct {
        Elf64_Nhdr other;
        char other_name[4];
        char other_desc[8];
        Elf64_Nhdr pvh;
        char name[4];
        uint32_t entry[2];
    } note;
    unsigned char text[256];
    unsigned char zeroes[TEST_ZEROES];
    unsigned char data[128];
};

static inline void test_kernel_init(struct test_kernel *k)
{
    memset(k, 0, sizeof(*k));
    memcpy(k->ehdr.e_ident, ELFMAG, SELFMAG);
    k->ehdr.e_ident[EI_CLASS] = ELFCLASS64;
    k->ehdr.e_ident[EI_DATA] = ELFDATA2LSB;
    k->ehdr.e_ident[EI_VERSION] = EV_CURRENT;
    k->ehdr.e_type = ET_EXEC;
    k->ehdr.e_machine = EM_X86_64;
    k->ehdr.e_version = EV_CURRENT;
    k->ehdr.e_ehsize = sizeof(Elf64_Ehdr);
    k->ehdr.e_phoff = offsetof(struct test_kernel, text_ph);
    k->ehdr.e_phentsize = sizeof(Elf64_Phdr);
    k->ehdr.e_phnum = 3;
    k->text_ph = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = offsetof(struct test_kernel, text),
        .p_paddr = TEST_TEXT_GPA,
        .p_filesz = sizeof(k->text),
        .p_memsz = sizeof(k->text),
    };
    k->data_ph = (Elf64_Phdr){
        .p_type = PT_LOAD,
        .p_offset = offsetof(struct test_kernel, zeroes),
        .p_paddr = TEST_DATA_GPA,
        .p_filesz = sizeof(k->zeroes) + sizeof(k->data),
        .p_memsz = sizeof(k->zeroes) + sizeof(k->data) + TEST_BSS,
    };
    k->note_ph = (Elf64_Phdr){
        .p_type = PT_NOTE,
        .p_offset = offsetof(struct test_kernel, note),
        .p_filesz = sizeof(k->note),
        .p_align = 4,
    };
    k->note.other = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 7, .n_type = 18};
    memcpy(k->note.other_name, "GNU", 4);
    k->note.pvh = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 8, .n_type = 18};
    memcpy(k->note.name, "Xen", 4);
    k->note.entry[0] = TEST_TEXT_GPA + 16;
    memset(k->text, 0xf4, sizeof(k->text));
    memset(k->data, 0xda, sizeof(k->data));
}

/* A file without a name that holds these bytes. */
static inline int test_file(const void *bytes, size_t len)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(io_pwrite_full(fd, bytes, len, 0), 0);
    return fd;
}

/* What libarchive's writer of that filter makes of the bytes. Returns its length. */
static inline size_t test_compress(int (*filter)(struct archive *), const void *bytes, size_t len,
                                   unsigned char *out, size_t cap)
{
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    size_t used = 0;
    assert_int_equal(filter(a), ARCHIVE_OK);
    assert_int_equal(archive_write_set_format_raw(a), ARCHIVE_OK);
    archive_write_set_bytes_in_last_block(a, 1);
    assert_int_equal(archive_write_open_memory(a, out, cap, &used), ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, bytes, len), len);
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_entry_free(entry);
    archive_write_free(a);
    return used;
}

/* An LZ4 legacy frame, which libarchive does not write: one block, all literals. */
static inline size_t test_lz4_legacy(const void *bytes, size_t len, unsigned char *out)
{
    unsigned char *p = out + 8;
    size_t rest = len - 15;
    *p++ = 0xf0;
    for (; rest >= 255; rest -= 255)
        *p++ = 255;
    *p++ = (unsigned char)rest;
    memcpy(p, bytes, len);
    p += len;
    uint32_t block = (uint32_t)(p - out - 8);
    memcpy(out, "\x02\x21\x4c\x18", 4);
    memcpy(out + 4, &block, 4);
    return (size_t)(p - out);
}

#define TEST_BZIMAGE_PAYLOAD (5 * 512 + 64) /* where the payload starts */

/* A bzImage around a payload. Room for TEST_BZIMAGE_PAYLOAD + payload_len + 512 bytes is in out. */
static inline size_t test_bzimage(const unsigned char *payload, uint32_t payload_len,
                                  unsigned char *out)
{
    size_t len = TEST_BZIMAGE_PAYLOAD + payload_len + 512;
    uint32_t offset = 64;
    memset(out, 0, len);
    out[0x1f1] = 4;
    memcpy(out + 0x1fe, "\x55\xaaxxHdrS\x0f\x02", 10);
    memcpy(out + 0x248, &offset, 4);
    memcpy(out + 0x24c, &payload_len, 4);
    memcpy(out + TEST_BZIMAGE_PAYLOAD, payload, payload_len);
    return len;
}

#endif
