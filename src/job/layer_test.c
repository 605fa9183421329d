/* SPDX-License-Identifier: Apache-2.0 */
#include "job/layer.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/digest.h"
#include "util/testing.h"

#define MIB (UINT64_C(1) << 20)

static void test_it_is_ext4_sparse_and_nameless(void **state)
{
    (void)state;
    struct dayfly_err err;
    int fd = layer_make("/tmp", 256 * MIB + 17, &err);
    assert_true(fd >= 0);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 256 * MIB);
    assert_int_equal(st.st_nlink, 0);
    assert_true((uint64_t)st.st_blocks * 512 < 2 * MIB);
    uint8_t magic[2];
    assert_int_equal(pread(fd, magic, 2, 1024 + 0x38), 2); /* s_magic of the superblock */
    assert_int_equal(magic[0], 0x53);
    assert_int_equal(magic[1], 0xef);
    close(fd);
}

static struct digest digest_of_layer(void)
{
    struct digest digest;
    int fd = layer_make("/tmp", 64 * MIB, NULL);
    assert_true(fd >= 0);
    assert_int_equal(digest_of_fd(fd, &digest, NULL), 0);
    close(fd);
    return digest;
}

static void test_the_same_size_gives_the_same_bytes(void **state)
{
    (void)state;
    struct digest one = digest_of_layer();
    time_t then = time(NULL);
    while (time(NULL) == then)
        ; /* mke2fs stamps whole seconds */
    struct digest two = digest_of_layer();
    assert_true(digest_equal(&one, &two));
}

static void test_sizes_out_of_range_are_refused(void **state)
{
    (void)state;
    struct dayfly_err err;
    assert_int_equal(layer_make("/tmp", LAYER_MIN_BYTES - 1, &err), -EINVAL);
    assert_int_equal(layer_make("/tmp", LAYER_MAX_BYTES + 4096, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "16 MiB to 16 TiB"));
}

static void test_a_folder_that_is_not_there_is_gone_round(void **state)
{
    (void)state;
    int fd = layer_make("/nonexistent", 64 * MIB, NULL);
    assert_true(fd >= 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_ext4_sparse_and_nameless),
        cmocka_unit_test(test_the_same_size_gives_the_same_bytes),
        cmocka_unit_test(test_sizes_out_of_range_are_refused),
        cmocka_unit_test(test_a_folder_that_is_not_there_is_gone_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
