/* SPDX-License-Identifier: Apache-2.0 */
/* What only a host with the right devices and file systems can refuse a disk for. (What any host can:
 * validate_test.c.) */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"
#include "util/testing.h"
#include "util/testing_files.h"

/* The first fault of a machine with this disk is in err; "" if there is none. */
static void check(const struct dayfly_disk *disk, struct dayfly_err *err)
{
    struct dayfly_config *config;
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    *err = (struct dayfly_err){0};
    boot.kernel = "/proc/self/exe";
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(dayfly_config_set_linux(config, &boot), 0);
    assert_int_equal(dayfly_config_add_disk(config, disk), 0);
    dayfly_config_validate(config, NULL, NULL, err);
    dayfly_config_free(config);
}

static void assert_says(const struct dayfly_err *err, const char *where, const char *what)
{
    if (!strstr(err->msg, where) || !strstr(err->msg, what))
        fail_msg("it says: %s", err->msg);
}

/* A loop device, gone with its last user; skips where the machine gives none. */
static int make_loop(bool read_only, char path[32])
{
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    if (control >= 0)
        close(control);
    snprintf(path, 32, "/dev/loop%d", number);
    int fd = number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
    int file = memfd_create("disk", MFD_CLOEXEC);
    struct loop_config config = {.fd = (uint32_t)file, .block_size = 512};
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
    if (fd < 0 || file < 0 || ftruncate(file, 1 << 20) < 0 || ioctl(fd, LOOP_CONFIGURE, &config) < 0)
        skip();
    close(file);
    return fd;
}

static void test_a_read_only_device(void **state)
{
    struct dayfly_disk disk = DAYFLY_DISK_INIT;
    struct dayfly_err err;
    char path[32];
    int fd = make_loop(true, path);
    disk.path = path;
    check(&disk, &err);
    assert_says(&err, path, "is a read-only device");
    disk.read_only = true;
    check(&disk, &err);
    assert_string_equal(err.msg, "");
    close(fd);
}

static void test_a_device_that_somebody_holds(void **state)
{
    struct dayfly_disk disk = DAYFLY_DISK_INIT;
    struct dayfly_err err;
    char path[32];
    int fd = make_loop(false, path);
    disk.path = path;
    check(&disk, &err);
    assert_string_equal(err.msg, "");
    int holder = open(path, O_RDONLY | O_EXCL | O_CLOEXEC); /* as a mount does */
    assert_true(holder >= 0);
    check(&disk, &err);
    assert_says(&err, path, "is mounted, or held by another program");
    disk.read_only = true;
    check(&disk, &err);
    assert_string_equal(err.msg, "");
    close(holder);
    close(fd);
}

static int try_ramfs(const char *folder)
{
    struct dayfly_disk disk = DAYFLY_DISK_INIT;
    struct dayfly_err err;
    char path[64];
    snprintf(path, sizeof(path), "%s/disk", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 4096) < 0)
        return 77;
    disk.path = path;
    check(&disk, &err);
    if (*err.msg)
        return 1;
    disk.cache = DAYFLY_DISK_CACHE_DIRECT;
    check(&disk, &err);
    return strstr(err.msg, "disks[0].cache") && strstr(err.msg, "without direct I/O") ? 0 : 1;
}

static void test_direct_where_there_is_none(void **state)
{
    with_ramfs(try_ramfs);
}

static void test_words_that_are_none(void **state)
{
    struct dayfly_disk disk = DAYFLY_DISK_INIT;
    struct dayfly_err err;
    disk.path = "/dev/null";
    disk.sync = (enum dayfly_disk_sync)9;
    check(&disk, &err);
    assert_says(&err, "disks[0].sync", "9 is not one of auto, full, fsync, none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_read_only_device),
        cmocka_unit_test(test_a_device_that_somebody_holds),
        cmocka_unit_test(test_direct_where_there_is_none),
        cmocka_unit_test(test_words_that_are_none),
    };
    return cmocka_run_group_tests_name("config-validate-disk", tests, NULL, NULL);
}
