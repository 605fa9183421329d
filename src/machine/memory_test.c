/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/memory.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/testing.h"

static const struct memory_layout two_regions[] = {
    {.gpa = 0, .size_bytes = 0x10000},
    {.gpa = 0x100000, .size_bytes = 0x10000},
};

static void test_spans_stay_within_one_region(void **state)
{
    (void)state;
    struct memory mem;
    assert_int_equal(memory_create(&mem, two_regions, 2, NULL), 0);
    assert_ptr_equal(memory_span(&mem, 0x100, 0x10), mem.regions[0].hva + 0x100);
    assert_non_null(memory_span(&mem, 0, 0x10000));
    assert_null(memory_span(&mem, 0, 0x10001));
    assert_null(memory_span(&mem, 0xffff, 2));
    assert_null(memory_span(&mem, 0x10000, 1));
    assert_null(memory_span(&mem, 0x100, 0));
    assert_null(memory_span(&mem, UINT64_MAX, 2));
    assert_null(memory_span(&mem, 0x100000, UINT64_MAX));
    memory_finish(&mem);
    memory_finish(&mem);
}

static void test_copies_cross_adjacent_regions_only(void **state)
{
    (void)state;
    const struct memory_layout adjacent[] = {
        {.gpa = 0x1000, .size_bytes = 0x1000},
        {.gpa = 0x2000, .size_bytes = 0x1000},
    };
    struct memory mem;
    char out[16];
    assert_int_equal(memory_create(&mem, adjacent, 2, NULL), 0);
    assert_int_equal(memory_write(&mem, 0x1ff8, "0123456789abcdef", 16), 0);
    assert_int_equal(memory_read(&mem, 0x1ff8, out, 16), 0);
    assert_memory_equal(out, "0123456789abcdef", 16);
    assert_memory_equal(mem.regions[1].hva, "89abcdef", 8);
    assert_int_equal(memory_write(&mem, 0x2ff8, "0123456789abcdef", 16), -EFAULT);
    assert_int_equal(memory_read(&mem, 0x2ff8, out, 8), 0);
    assert_memory_equal(out, "\0\0\0\0\0\0\0\0", 8); /* nothing of a refused write arrived */
    assert_int_equal(memory_read(&mem, 0, out, 1), -EFAULT);
    memory_finish(&mem);
}

static int file_of(size_t bytes)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    return fd;
}

static void test_foreign_regions_are_checked(void **state)
{
    (void)state;
    struct memory mem = {0};
    struct dayfly_err err;
    assert_int_equal(memory_add_fd(&mem, 0x4000, 0x2000, file_of(0x4000), 0x1000, &err), 0);
    assert_int_equal(memory_add_fd(&mem, 0x5000, 0x1000, file_of(0x4000), 0, &err), -EEXIST);
    assert_int_equal(memory_add_fd(&mem, 0x8000, 0x4001, file_of(0x4000), 0, &err), -EINVAL);
    assert_int_equal(memory_add_fd(&mem, 0x8000, 0x1000, file_of(0x4000), UINT64_MAX - 1, &err),
                     -EINVAL);
    assert_int_equal(memory_add_fd(&mem, UINT64_MAX, 0x1000, file_of(0x4000), 0, &err), -EINVAL);
    assert_int_equal(memory_add_fd(&mem, 0x8000, 0, file_of(0x4000), 0, &err), -EINVAL);
    /* Lower addresses sort in front; an offset that is no page boundary is honoured. */
    int fd = file_of(0x4000);
    assert_int_equal(pwrite(fd, "x", 1, 0x123), 1);
    assert_int_equal(memory_add_fd(&mem, 0x1000, 0x100, fd, 0x123, &err), 0);
    assert_int_equal(mem.count, 2);
    assert_int_equal(mem.regions[0].gpa, 0x1000);
    assert_int_equal(*(char *)memory_span(&mem, 0x1000, 1), 'x');
    memory_finish(&mem);
}

static void private_memory_is_aligned_as_the_guest_sees_it(void **state)
{
    struct memory mem;
    const struct memory_layout layout[] = {{.gpa = 0x1000, .size_bytes = 0x300000},
                                           {.gpa = 0x100000000, .size_bytes = 0x200000}};
    assert_int_equal(memory_create_private(&mem, layout, 2, NULL), 0);
    assert_int_equal(mem.count, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(((uintptr_t)mem.regions[i].hva - mem.regions[i].gpa) % (2 << 20), 0);
        assert_int_equal(mem.regions[i].fd, -1);
        /* Every byte is there. */
        memset(memory_span(&mem, layout[i].gpa, layout[i].size_bytes), 1, layout[i].size_bytes);
    }
    memory_finish(&mem);

    const struct memory_layout wrong[] = {{.gpa = 0, .size_bytes = 0x2000},
                                          {.gpa = 0x1000, .size_bytes = 0x1000}};
    assert_int_equal(memory_create_private(&mem, wrong, 2, NULL), -EEXIST);
    assert_int_equal(mem.count, 0);
    assert_int_equal(memory_create_private(&mem, (struct memory_layout[]){{0, 0}}, 1, NULL), -EINVAL);
}

/* True when a child of ours finds these bytes in its address space. */
static bool child_sees(void *hva)
{
    pid_t child = fork();
    if (child == 0) {
        unsigned char resident;
        void *page = (void *)((uintptr_t)hva & ~UINT64_C(0xfff));
        _exit(mincore(page, 0x1000, &resident) == 0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) == 1;
}

static void guest_memory_is_not_inherited(void **state)
{
    struct memory mem;
    assert_int_equal(memory_create(&mem, two_regions, 2, NULL), 0);
    assert_false(child_sees(mem.regions[0].hva));
    assert_false(child_sees(mem.regions[1].hva));
    memory_finish(&mem);
    assert_int_equal(memory_create_private(&mem, two_regions, 2, NULL), 0);
    assert_false(child_sees(mem.regions[0].hva));
    memory_finish(&mem);
    assert_true(child_sees(&mem));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(private_memory_is_aligned_as_the_guest_sees_it),
        cmocka_unit_test(test_spans_stay_within_one_region),
        cmocka_unit_test(test_copies_cross_adjacent_regions_only),
        cmocka_unit_test(test_foreign_regions_are_checked),
        cmocka_unit_test(guest_memory_is_not_inherited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
