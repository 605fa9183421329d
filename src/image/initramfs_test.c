/* SPDX-License-Identifier: Apache-2.0 */
#include "image/initramfs.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/cpio.h"
#include "util/arith.h"
#include "util/io.h"
#include "util/late.h"
#include "util/testing.h"

static const struct initramfs_module MODULES[] = {
    {"vsock", "not really", 10},
    {"virtio_blk", "a module", 8},
    {"empty", "", 0},
};

static struct archive *open_archive(int fd)
{
    struct archive *a = archive_read_new();
    assert_int_equal(archive_read_support_format_cpio(a), ARCHIVE_OK);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(archive_read_open_fd(a, fd, 4096), ARCHIVE_OK);
    return a;
}

static void test_holds_agent_and_modules(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        mode_t mode;
        const char *text;
    } want[] = {
        {"dev", S_IFDIR | 0755, NULL},
        {"proc", S_IFDIR | 0755, NULL},
        {"sys", S_IFDIR | 0755, NULL},
        {"lib", S_IFDIR | 0755, NULL},
        {"lib/modules", S_IFDIR | 0755, NULL},
        {"dev/console", S_IFCHR | 0600, NULL},
        {"init", S_IFREG | 0700, NULL},
        {"lib/modules/vsock.ko", S_IFREG | 0600, "not really"},
        {"lib/modules/virtio_blk.ko", S_IFREG | 0600, "a module"},
        {"lib/modules/empty.ko", S_IFREG | 0600, ""},
        {"lib/modules/load", S_IFREG | 0600,
         "/lib/modules/vsock.ko\n/lib/modules/virtio_blk.ko\n/lib/modules/empty.ko\n"},
    };
    const void *agent;
    size_t agent_len;
    int fd;
    struct dayfly_err err;
    initramfs_agent(&agent, &agent_len);
    assert_true(agent_len > 10000 && agent_len < 200 * 1024);
    assert_memory_equal(agent, "\177ELF", 4);

    assert_int_equal(initramfs_build(MODULES, ARRAY_SIZE(MODULES), &fd, &err), 0);
    struct archive *a = open_archive(fd);
    struct archive_entry *e;
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
        assert_string_equal(archive_entry_pathname(e), want[i].path);
        assert_int_equal(archive_entry_mode(e), want[i].mode);
        assert_int_equal(archive_entry_uid(e), 0);
        assert_int_equal(archive_entry_mtime(e), 0);
        if (S_ISCHR(want[i].mode)) {
            assert_int_equal(archive_entry_rdevmajor(e), 5);
            assert_int_equal(archive_entry_rdevminor(e), 1);
        }
        if (!S_ISREG(want[i].mode))
            continue;
        const void *data = want[i].text ? (const void *)want[i].text : agent;
        size_t len = want[i].text ? strlen(want[i].text) : agent_len;
        char *got = malloc(len + 1);
        assert_int_equal(archive_entry_size(e), len);
        assert_int_equal(archive_read_data(a, got, len + 1), len);
        assert_memory_equal(got, data, len);
        free(got);
    }
    assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_EOF);
    archive_read_free(a);
    close(fd);
}

static void test_is_the_same_each_time_and_sealed(void **state)
{
    (void)state;
    char *bytes[2];
    size_t len[2];
    for (int i = 0; i < 2; i++) {
        int fd;
        assert_int_equal(initramfs_build(MODULES, ARRAY_SIZE(MODULES), &fd, NULL), 0);
        assert_int_equal(write(fd, "x", 1), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(ftruncate(fd, 0), -1);
        struct stat st;
        assert_int_equal(fstat(fd, &st), 0);
        len[i] = (size_t)st.st_size;
        bytes[i] = malloc(len[i]);
        assert_int_equal(io_pread_full(fd, bytes[i], len[i], 0), len[i]);
        close(fd);
    }
    assert_int_equal(len[0], len[1]);
    assert_int_equal(len[0] % 4, 0);
    assert_memory_equal(bytes[0], bytes[1], len[0]);
    free(bytes[0]);
    free(bytes[1]);
}

static void test_refuses_names_that_are_none(void **state)
{
    (void)state;
    static const char *const names[] = {"", "../x", "a/b", "a\nb", ".."};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct initramfs_module m = {names[i], "", 0};
        struct dayfly_err err = {0};
        int fd = -1;
        assert_int_equal(initramfs_build(&m, 1, &fd, &err), -EINVAL);
        assert_int_equal(fd, -1);
        assert_non_null(strstr(err.msg, "module"));
    }
}

/* The size that the archive gives a module of these bytes. */
static size_t stored_size(const void *data, size_t len)
{
    struct initramfs_module m = {"m", data, len};
    struct archive_entry *e;
    size_t size = 0;
    int fd;
    assert_int_equal(initramfs_build(&m, 1, &fd, NULL), 0);
    struct archive *a = open_archive(fd);
    while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
        if (strcmp(archive_entry_pathname(e), "lib/modules/m.ko") == 0)
            size = (size_t)archive_entry_size(e);
    }
    archive_read_free(a);
    close(fd);
    return size;
}

static void test_leaves_signatures_out(void **state)
{
    (void)state;
#define MARK "~Module signature appended~\n"
    static const char good[] = "codeSIGN\0\0\0\0\0\0\0\0\0\0\0\4" MARK;
    static const char beyond[] = "codeSIGN\0\0\0\0\0\0\0\0\0\0\0\11" MARK;
    static const char whole[] = "codeSIGN\0\0\0\0\0\0\0\0\377\377\377\377" MARK;
    assert_int_equal(stored_size(good, sizeof(good) - 1), 4);
    assert_int_equal(stored_size(beyond, sizeof(beyond) - 1), sizeof(beyond) - 1);
    assert_int_equal(stored_size(whole, sizeof(whole) - 1), sizeof(whole) - 1);
    assert_int_equal(stored_size(MARK, sizeof(MARK) - 1), sizeof(MARK) - 1);
}

static void test_writer_makes_every_kind(void **state)
{
    (void)state;
    struct cpio c;
    int fd;
    struct archive_entry *e;
    assert_int_equal(cpio_init(&c, NULL), 0);
    assert_int_equal(cpio_add_dir(&c, "d", 01777, NULL), 0);
    assert_int_equal(cpio_add_node(&c, "d/disk", S_IFBLK | 0660, 8, 1, NULL), 0);
    assert_int_equal(cpio_add_node(&c, "d/no", S_IFREG | 0660, 8, 1, NULL), -EINVAL);
    assert_int_equal(cpio_add_file(&c, "/abs", 0600, "", 0, NULL), -EINVAL);
    assert_int_equal(cpio_finish(&c, &fd, NULL), 0);
    cpio_abandon(&c);
    struct archive *a = open_archive(fd);
    assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
    assert_int_equal(archive_entry_mode(e), S_IFDIR | 01777);
    assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_OK);
    assert_int_equal(archive_entry_mode(e), S_IFBLK | 0660);
    assert_int_equal(archive_entry_rdevmajor(e), 8);
    assert_int_equal(archive_read_next_header(a, &e), ARCHIVE_EOF);
    archive_read_free(a);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds_agent_and_modules),
        cmocka_unit_test(test_is_the_same_each_time_and_sealed),
        cmocka_unit_test(test_refuses_names_that_are_none),
        cmocka_unit_test(test_leaves_signatures_out),
        cmocka_unit_test(test_writer_makes_every_kind),
    };
    late_archive(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
