/* SPDX-License-Identifier: Apache-2.0 */
/* Which layers a disk's options ask for, and what `auto` means. */
#include "engine/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/testing.h"

static void test_layers(void **state)
{
    static const struct {
        struct config_disk disk;
        const char *layer; /* the uppermost */
    } cases[] = {
        {{.on_full = DAYFLY_DISK_FULL_AUTO}, "patient"},
        {{.on_full = DAYFLY_DISK_FULL_PAUSE}, "patient"},
        {{.on_full = DAYFLY_DISK_FULL_FAIL}, "raw"},
        {{.on_full = DAYFLY_DISK_FULL_PAUSE, .read_only = true}, "raw"},
        {{.on_full = DAYFLY_DISK_FULL_AUTO, .ephemeral = true}, "overlay"},
        {{.on_full = DAYFLY_DISK_FULL_FAIL, .ephemeral = true}, "overlay"},
        {{.on_full = DAYFLY_DISK_FULL_PAUSE, .ephemeral = true}, "patient"},
    };
    int fd = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct config_disk disk = cases[i].disk;
        struct attached_disk attached;
        struct dayfly_err err = {0};
        disk.fd = fd;
        if (disk_attach(&attached, &disk, NULL, &err) < 0)
            fail_msg("%s", err.msg);
        assert_string_equal(attached.block->ops->name, cases[i].layer);
        assert_ptr_equal(attached.patient,
                         strcmp(cases[i].layer, "patient") == 0 ? attached.block : NULL);
        assert_int_equal(attached.block->read_only, disk.read_only);
        block_destroy(attached.block);
    }
    close(fd);
}

static void test_direct(void **state)
{
    char path[] = "/var/tmp/unit-direct-XXXXXX";
    struct config_disk disk = {
        .path = path, .fd = -1, .cache = DAYFLY_DISK_CACHE_DIRECT, .on_full = DAYFLY_DISK_FULL_FAIL};
    struct attached_disk attached;
    struct dayfly_err err = {0};
    int fd = mkostemp(path, O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 1 << 20), 0);
    close(fd);
    int rc = disk_attach(&attached, &disk, NULL, &err);
    unlink(path);
    if (rc == -EOPNOTSUPP)
        skip();
    assert_int_equal(rc, 0);
    assert_string_equal(attached.block->ops->name, "fit");
    block_destroy(attached.block);
}

static void test_what_cannot_be_opened_is_named(void **state)
{
    struct config_disk disk = {.path = (char *)"/nowhere/at/all.img", .fd = -1};
    struct attached_disk attached;
    struct dayfly_err err = {0};
    assert_int_equal(disk_attach(&attached, &disk, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "/nowhere/at/all.img"));
    assert_null(attached.block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_direct),
        cmocka_unit_test(test_what_cannot_be_opened_is_named),
    };
    return cmocka_run_group_tests_name("engine-disk", tests, NULL, NULL);
}
