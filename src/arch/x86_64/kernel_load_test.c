/* SPDX-License-Identifier: Apache-2.0 */
#include "arch/x86_64/kernel_load.h"

#include <errno.h>
#include <stdlib.h>

#include "arch/x86_64/testing_kernel.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/late.h"

#define MEMORY_BYTES (4u << 20)

struct fixture {
    struct test_kernel kernel;
    unsigned char memory[MEMORY_BYTES];
    struct kernel_target target;
    struct kernel_info info;
};

static void *span(void *opaque, uint64_t gpa, uint64_t len)
{
    struct fixture *f = opaque;
    assert_true(len > 0);
    return range_within(gpa, len, MEMORY_BYTES) ? f->memory + gpa : NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    test_kernel_init(&f->kernel);
    f->target = (struct kernel_target){.opaque = f, .span = span};
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static int load(struct fixture *f, struct dayfly_err *err)
{
    _cleanup_close_ int fd = test_file(&f->kernel, sizeof(f->kernel));
    return kernel_load(fd, &f->target, &f->info, err);
}

static void assert_refused(struct fixture *f, int code, const char *message)
{
    struct dayfly_err err = {0};
    int rc = load(f, &err);
    if (rc != -code || !strstr(err.msg, message))
        fail_msg("got %d \"%s\", not %d \"...%s...\"", rc, err.msg, -code, message);
    /* Low memory belongs to the boot data. */
    static const unsigned char none[TEST_TEXT_GPA];
    assert_memory_equal(f->memory, none, sizeof(none));
    test_kernel_init(&f->kernel);
}

static void assert_loaded(struct fixture *f)
{
    static const unsigned char zero[TEST_ZEROES];
    assert_int_equal(f->info.entry, TEST_TEXT_GPA + 16);
    assert_int_equal(f->info.start, TEST_TEXT_GPA);
    assert_int_equal(f->info.end, TEST_DATA_GPA + f->kernel.data_ph.p_memsz);
    assert_memory_equal(f->memory + TEST_TEXT_GPA, f->kernel.text, sizeof(f->kernel.text));
    assert_memory_equal(f->memory + TEST_DATA_GPA, zero, TEST_ZEROES);
    assert_memory_equal(f->memory + TEST_DATA_GPA + TEST_ZEROES, f->kernel.data,
                        sizeof(f->kernel.data));
    assert_memory_equal(f->memory + TEST_DATA_GPA + TEST_ZEROES + sizeof(f->kernel.data), zero,
                        TEST_BSS);
}

static void test_segments_go_to_their_addresses(void **state)
{
    struct fixture *f = *state;
    struct dayfly_err err = {0};
    if (load(f, &err) < 0)
        fail_msg("%s", err.msg);
    assert_loaded(f);
}

static void test_holes_are_skipped_data_is_not(void **state)
{
    struct fixture *f = *state;
    _cleanup_close_ int fd = memfd_create("test", 0);
    const size_t head = offsetof(struct test_kernel, zeroes), tail = head + TEST_ZEROES;
    assert_int_equal(io_pwrite_full(fd, &f->kernel, head, 0), 0);
    assert_int_equal(io_pwrite_full(fd, f->kernel.data, sizeof(f->kernel.data), (off_t)tail), 0);
    assert_int_equal(kernel_load(fd, &f->target, &f->info, NULL), 0);
    assert_loaded(f);

    /* A segment that ends in a hole: the file's last data is before it. */
    memset(f->memory, 0, sizeof(f->memory));
    assert_int_equal(ftruncate(fd, (off_t)tail), 0);
    assert_int_equal(ftruncate(fd, sizeof(f->kernel)), 0);
    memset(f->kernel.data, 0, sizeof(f->kernel.data));
    assert_int_equal(kernel_load(fd, &f->target, &f->info, NULL), 0);
    assert_loaded(f);
}

static void test_a_note_may_hold_four_bytes(void **state)
{
    struct fixture *f = *state;
    f->kernel.note.pvh.n_descsz = 4;
    f->kernel.note_ph.p_filesz -= 4;
    f->kernel.note.entry[1] = 0xffffffff;
    assert_int_equal(load(f, NULL), 0);
    assert_int_equal(f->info.entry, TEST_TEXT_GPA + 16);
}

static void test_not_a_kernel(void **state)
{
    struct fixture *f = *state;
    f->kernel.ehdr.e_ident[0] = 'x';
    assert_refused(f, ENOEXEC, "not an ELF file");
    f->kernel.ehdr.e_ident[EI_CLASS] = ELFCLASS32;
    assert_refused(f, ENOEXEC, "not for x86-64");
    f->kernel.ehdr.e_machine = EM_AARCH64;
    assert_refused(f, ENOEXEC, "not for x86-64");
    f->kernel.ehdr.e_type = ET_REL;
    assert_refused(f, ENOEXEC, "vmlinux");
    f->kernel.ehdr.e_phnum = 0;
    assert_refused(f, ENOEXEC, "without program headers");
    f->kernel.text_ph.p_type = f->kernel.data_ph.p_type = PT_NULL;
    assert_refused(f, ENOEXEC, "nothing to load");
}

static void test_no_pvh_note(void **state)
{
    struct fixture *f = *state;
    f->kernel.note_ph.p_type = PT_NULL;
    assert_refused(f, ENOEXEC, "no PVH note");
    f->kernel.note_ph.p_filesz = 0;
    assert_refused(f, ENOEXEC, "no PVH note");
    f->kernel.note.pvh.n_type = 1;
    assert_refused(f, ENOEXEC, "no PVH note");
    memcpy(f->kernel.note.name, "Xem", 4);
    assert_refused(f, ENOEXEC, "no PVH note");
    f->kernel.note.pvh.n_namesz = 3;
    assert_refused(f, ENOEXEC, "no PVH note");
    f->kernel.note.pvh.n_descsz = 6;
    assert_refused(f, ENOEXEC, "no PVH note");
}

static void test_hostile_notes(void **state)
{
    struct fixture *f = *state;
    static const uint32_t sizes[] = {9, 16, 0x7fffffff, 0xfffffff0, 0xffffffff};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        f->kernel.note.pvh.n_descsz = sizes[i];
        assert_refused(f, ENOEXEC, "no PVH note");
        f->kernel.note.pvh.n_namesz = sizes[i] + 1;
        assert_refused(f, ENOEXEC, "no PVH note");
        f->kernel.note.other.n_descsz = sizes[i];
        assert_refused(f, ENOEXEC, "no PVH note");
        f->kernel.note.other.n_namesz = sizes[i];
        assert_refused(f, ENOEXEC, "no PVH note");
    }
    for (size_t cut = 1; cut <= sizeof(f->kernel.note); cut++) {
        f->kernel.note_ph.p_filesz -= cut;
        assert_refused(f, ENOEXEC, "no PVH note");
    }
    f->kernel.note_ph.p_filesz = 65537;
    assert_refused(f, EBADMSG, "bytes of notes");
    f->kernel.note_ph.p_offset = sizeof(f->kernel);
    assert_refused(f, EBADMSG, "truncated");
    f->kernel.note_ph.p_offset = UINT64_MAX;
    assert_refused(f, EBADMSG, "truncated");
}

static void test_hostile_headers(void **state)
{
    struct fixture *f = *state;
    f->kernel.ehdr.e_phentsize = 32;
    assert_refused(f, EBADMSG, "32 bytes each");
    f->kernel.ehdr.e_phnum = 65;
    assert_refused(f, EBADMSG, "65 program headers");
    f->kernel.ehdr.e_phnum = PN_XNUM;
    assert_refused(f, EBADMSG, "65535 program headers");
    f->kernel.ehdr.e_phoff = UINT64_MAX;
    assert_refused(f, EBADMSG, "truncated");
    f->kernel.ehdr.e_phoff = sizeof(f->kernel) - 1;
    assert_refused(f, EBADMSG, "truncated");
}

static void test_hostile_segments(void **state)
{
    struct fixture *f = *state;
    Elf64_Phdr *text = &f->kernel.text_ph, *data = &f->kernel.data_ph;

    data->p_memsz = data->p_filesz - 1;
    assert_refused(f, EBADMSG, "more bytes in the file");
    data->p_offset += 1;
    assert_refused(f, EBADMSG, "truncated");
    data->p_offset = UINT64_MAX - 10;
    assert_refused(f, EBADMSG, "truncated");
    data->p_filesz = data->p_memsz = UINT64_MAX;
    assert_refused(f, EBADMSG, "truncated");

    /* Below 1 MiB is the boot data, above 3 GiB the devices. */
    data->p_paddr = 0xfffff;
    assert_refused(f, ENOEXEC, "outside of 1 MiB");
    data->p_paddr = 0;
    assert_refused(f, ENOEXEC, "outside of 1 MiB");
    data->p_paddr = 0xbffff000;
    assert_refused(f, ENOEXEC, "outside of 1 MiB");
    data->p_paddr = UINT64_MAX - 10;
    assert_refused(f, ENOEXEC, "outside of 1 MiB");
    data->p_memsz = UINT64_MAX;
    assert_refused(f, ENOEXEC, "outside of 1 MiB");
    data->p_paddr = UINT64_MAX;
    data->p_memsz = UINT64_MAX;
    assert_refused(f, ENOEXEC, "outside of 1 MiB");

    data->p_paddr = TEST_TEXT_GPA + 255;
    assert_refused(f, EBADMSG, "overlap");
    text->p_paddr = TEST_DATA_GPA + data->p_memsz - 1;
    assert_refused(f, EBADMSG, "overlap");

    data->p_memsz = MEMORY_BYTES;
    assert_refused(f, ENOMEM, "up to 6 MiB");
}

static void test_the_entry_is_in_a_segment(void **state)
{
    struct fixture *f = *state;
    static const uint64_t entries[] = {
        0,
        TEST_TEXT_GPA - 1,
        TEST_TEXT_GPA + 256,
        UINT64_MAX,
        UINT64_C(1) << 32 | TEST_TEXT_GPA,
        TEST_DATA_GPA + TEST_ZEROES + 128, /* its .bss */
    };
    for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
        memcpy(f->kernel.note.entry, &entries[i], 8);
        assert_refused(f, EBADMSG, "in none of its segments");
    }
}

static void test_segments_side_by_side_do_not_overlap(void **state)
{
    struct fixture *f = *state;
    f->kernel.data_ph.p_paddr = TEST_TEXT_GPA + sizeof(f->kernel.text);
    assert_int_equal(load(f, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_segments_go_to_their_addresses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_holes_are_skipped_data_is_not, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_note_may_hold_four_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_not_a_kernel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_pvh_note, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_notes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_headers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hostile_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_entry_is_in_a_segment, setup, teardown),
        cmocka_unit_test_setup_teardown(test_segments_side_by_side_do_not_overlap, setup, teardown),
    };
    late_archive(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
