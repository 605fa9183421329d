/* SPDX-License-Identifier: Apache-2.0 */
#include "job/layer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/digest.h"
#include "util/testing.h"
#include "util/tree.h"

#define MIB (UINT64_C(1) << 20)

/* A data directory of the test's own. */
static char home[64];
static int home_fd;

static int make_home(void **state)
{
    strcpy(home, "/tmp/unit-layer-XXXXXX");
    assert_non_null(mkdtemp(home));
    home_fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(home_fd >= 0);
    return 0;
}

static int remove_home(void **state)
{
    close(home_fd);
    return tree_remove(AT_FDCWD, home);
}

static int must_open(uint64_t bytes)
{
    struct dayfly_err err;
    int fd = layer_open(home_fd, home, bytes, &err);
    if (fd < 0)
        fail_msg("%s", err.msg);
    return fd;
}

static unsigned templates(void)
{
    unsigned count = 0;
    int fd = openat(home_fd, "templates", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fdopendir(fd);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void test_it_is_an_empty_ext4_and_sparse(void **state)
{
    int fd = must_open(256 * MIB + 17);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 256 * MIB);
    assert_true((uint64_t)st.st_blocks * 512 < 2 * MIB);
    uint8_t magic[2];
    assert_int_equal(pread(fd, magic, 2, 1024 + 0x38), 2); /* s_magic of the superblock */
    assert_int_equal(magic[0], 0x53);
    assert_int_equal(magic[1], 0xef);
    close(fd);
}

static void test_it_is_made_once(void **state)
{
    struct stat first, second;
    int one = must_open(64 * MIB), two = must_open(64 * MIB);
    assert_int_equal(fstat(one, &first), 0);
    assert_int_equal(fstat(two, &second), 0);
    assert_int_equal(first.st_ino, second.st_ino);
    assert_int_equal(templates(), 1);
    assert_int_equal(fcntl(two, F_GETFL) & O_ACCMODE, O_RDONLY);
    close(one);
    close(two);
}

/* Cut off, it is no file system: it is made again. */
static void test_a_damaged_one_is_replaced(void **state)
{
    char path[128];
    close(must_open(64 * MIB));
    snprintf(path, sizeof(path), "%s/templates/ext4-1-%llu", home, (unsigned long long)(64 * MIB));
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, 4096), 0);
    struct stat st;
    int fd = must_open(64 * MIB);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 64 * MIB);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 64 * MIB);
    close(fd);
}

static struct digest digest_of_layer(void)
{
    struct digest digest;
    int fd = must_open(64 * MIB);
    assert_int_equal(digest_of_fd(fd, &digest, NULL), 0);
    close(fd);
    return digest;
}

static void test_the_same_size_gives_the_same_bytes(void **state)
{
    struct digest one = digest_of_layer();
    remove_home(NULL);
    make_home(NULL);
    time_t then = time(NULL);
    while (time(NULL) == then)
        ; /* mke2fs stamps whole seconds */
    struct digest two = digest_of_layer();
    assert_true(digest_equal(&one, &two));
}

static void test_they_do_not_pile_up(void **state)
{
    for (uint64_t i = 0; i < LAYER_TEMPLATES_MAX + 5; i++)
        close(must_open(16 * MIB + 4096 * i));
    assert_int_equal(templates(), LAYER_TEMPLATES_MAX);
}

static void test_sizes_out_of_range_are_refused(void **state)
{
    struct dayfly_err err;
    assert_int_equal(layer_open(home_fd, home, LAYER_MIN_BYTES - 1, &err), -EINVAL);
    assert_int_equal(layer_open(home_fd, home, LAYER_MAX_BYTES + 4096, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "16 MiB to 16 TiB"));
}

static void test_without_a_place_to_keep_it_it_is_nameless(void **state)
{
    struct stat st;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC); /* no directory */
    int fd = layer_open(null, "/nonexistent", 64 * MIB, NULL);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    close(fd);
    close(null);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_home, remove_home)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_it_is_an_empty_ext4_and_sparse),
        TEST(test_it_is_made_once),
        TEST(test_a_damaged_one_is_replaced),
        TEST(test_the_same_size_gives_the_same_bytes),
        TEST(test_they_do_not_pile_up),
        TEST(test_sizes_out_of_range_are_refused),
        TEST(test_without_a_place_to_keep_it_it_is_nameless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
