/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/boot.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/testing.h"

/* A kernel whose text has `words` at `at`. */
static bool patches_itself(const char *words, off_t at)
{
    int file = memfd_create("kernel", MFD_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, 300000), 0);
    assert_int_equal(pwrite(file, words, strlen(words), at), strlen(words));
    bool patches = boot_kernel_patches_itself(file);
    close(file);
    return patches;
}

static void test_a_kernel_with_jump_labels_is_known(void **state)
{
    static const char mark[] = "\0012jump_label: Fatal kernel bug, unexpected op at %pS";
    (void)state;
    assert_true(patches_itself(mark, 0));
    for (off_t at = 65536 - (off_t)sizeof(mark); at <= 65536; at++)
        assert_true(patches_itself(mark, at));
    assert_true(patches_itself(mark, 299990)); /* to its last byte */
    assert_false(patches_itself("jump_label: Fatal kernel", 299990));
    assert_false(patches_itself("", 0));
}

static void test_a_kernel_that_cannot_be_read_may(void **state)
{
    (void)state;
    assert_true(boot_kernel_patches_itself(-1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_kernel_with_jump_labels_is_known),
        cmocka_unit_test(test_a_kernel_that_cannot_be_read_may),
    };
    return cmocka_run_group_tests_name("engine-boot", tests, NULL, NULL);
}
