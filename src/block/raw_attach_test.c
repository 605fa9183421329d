/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a raw image is attached: past the page cache or through it, with flushes or without, and who else
 * may have it open, in another process and through another node of the same device.
 */
#include "block/testing_stack.h"

#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "util/io.h"
#include "util/testing_files.h"

#define SIZE (UINT64_C(8) << 20)

/* A file on a real file system: /tmp may be memory, which is nothing but page cache. */
static int make_file(char path[32])
{
    snprintf(path, 32, "/var/tmp/unit-attach-XXXXXX");
    int fd = mkostemp(path, O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)SIZE), 0);
    return fd;
}

static struct block *attach(const struct block_raw_options *options)
{
    struct dayfly_err err = {0};
    struct block *block = NULL;
    int rc = block_raw_open(&block, options, &err);
    if (rc == -EOPNOTSUPP && options->direct)
        skip();
    if (rc < 0)
        fail_msg("%s", err.msg);
    return block;
}

/* -- the page cache ------------------------------------------------------------------------------ */

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

struct cache {
    uint64_t cached, dirty, writeback, evicted, recently_evicted; /* pages */
};

/* Linux 6.5. */
static struct cache look_at_cache(int fd)
{
    uint64_t range[2] = {0, 0};
    struct cache now = {0};
    if (syscall(SYS_cachestat, fd, range, &now, 0) < 0)
        skip();
    return now;
}

static void write_some(struct block *block, void *buf, uint64_t len)
{
    memset(buf, 7, len);
    assert_int_equal(run_one(block, BLOCK_WRITE, 4096, buf, len), 0);
}

static void test_a_flush_leaves_nothing_to_the_cache(void **state)
{
    static const enum block_io ios[] = {BLOCK_IO_AUTO, BLOCK_IO_THREADS};
    for (unsigned i = 0; i < ARRAY_SIZE(ios); i++) {
        char path[32];
        uint8_t buf[65536];
        bool was_dirty = false;
        int fd = make_file(path);
        unlink(path);
        struct block *block =
            attach(&(struct block_raw_options){.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .io = ios[i]});
        for (unsigned n = 0; n < 20 && !was_dirty; n++) { /* the kernel may be quicker */
            write_some(block, buf, sizeof(buf));
            was_dirty = look_at_cache(fd).dirty > 0;
        }
        if (!was_dirty)
            skip();
        assert_int_equal(run_one(block, BLOCK_FLUSH, 0, NULL, 0), 0);
        struct cache after = look_at_cache(fd);
        assert_int_equal(after.dirty + after.writeback, 0);
        assert_true(after.cached > 0);
        block_destroy(block);
        close(fd);
    }
}

static void test_without_sync_a_flush_does_nothing(void **state)
{
    char path[32];
    uint8_t buf[65536];
    uint64_t dirty = 0;
    int fd = make_file(path);
    unlink(path);
    struct block *block =
        attach(&(struct block_raw_options){.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .unsynced = true});
    for (unsigned n = 0; n < 20 && !dirty; n++) {
        write_some(block, buf, sizeof(buf));
        assert_int_equal(run_one(block, BLOCK_FLUSH, 0, NULL, 0), 0);
        dirty = look_at_cache(fd).dirty;
    }
    assert_true(dirty > 0);
    block_drain(block);
    block_destroy(block);
    close(fd);
}

static void test_direct_leaves_the_cache_alone(void **state)
{
    static const enum block_io ios[] = {BLOCK_IO_AUTO, BLOCK_IO_THREADS};
    for (unsigned i = 0; i < ARRAY_SIZE(ios); i++) {
        char path[32];
        struct stat st;
        uint8_t *buf = aligned_alloc(65536, 131072);
        int fd = make_file(path);
        struct block *block = attach(&(struct block_raw_options){
            .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0), .direct = true, .io = ios[i]});
        assert_int_equal(block->size_bytes, SIZE);
        assert_int_equal(block->unit_bytes, 512);
        assert_int_equal(fcntl(fd, F_GETFL) & O_DIRECT, 0); /* the caller's descriptor is as it was */
        write_some(block, buf, 65536);
        write_some(block, buf + 1, 65536);
        write_some(block, buf + 3, 512);
        assert_int_equal(run_one(block, BLOCK_READ, 4096, buf, 65536), 0);
        assert_int_equal(run_one(block, BLOCK_READ, 4608, buf + 1, 512), 0);
        assert_int_equal(look_at_cache(fd).cached, 0);
        assert_int_equal(run_one(block, BLOCK_FLUSH, 0, NULL, 0), 0);
        memset(buf, 0, 65536);
        assert_int_equal(pread(fd, buf, 65536, 4096), 65536);
        for (unsigned at = 0; at < 65536; at++)
            assert_int_equal(buf[at], 7);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, SIZE);
        block_destroy(block);
        unlink(path);
        close(fd);
        free(buf);
    }
}

static int try_ramfs(const char *folder)
{
    struct dayfly_err err = {0};
    struct block *block;
    char path[64];
    snprintf(path, sizeof(path), "%s/disk", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 4096) < 0)
        return 77;
    int rc = block_raw_open(&block, &(struct block_raw_options){.fd = fd, .direct = true}, &err);
    if (rc != -EOPNOTSUPP || !strstr(err.msg, path) || !strstr(err.msg, "cache: cached")) {
        fprintf(stderr, "%d: %s\n", rc, err.msg);
        return 1;
    }
    return 0;
}

static void test_a_file_system_without_direct_is_named(void **state)
{
    with_ramfs(try_ramfs);
}

/* -- a flush that failed ------------------------------------------------------------------------- */

/* A descriptor that cannot be synced is as good as a medium that fails. */
static void test_a_flush_that_failed_is_not_forgotten(void **state)
{
    char path[32];
    int file = make_file(path), bad[2];
    unlink(path);
    int theirs = fcntl(file, F_DUPFD_CLOEXEC, 0), kept = fcntl(file, F_DUPFD_CLOEXEC, 0);
    struct block *block = attach(&(struct block_raw_options){.fd = theirs, .io = BLOCK_IO_THREADS});
    assert_int_equal(run_one(block, BLOCK_FLUSH, 0, NULL, 0), 0);
    /* A pipe takes the file's place for a while. */
    assert_true(kept >= 0);
    assert_int_equal(pipe2(bad, O_CLOEXEC), 0);
    assert_int_equal(dup2(bad[0], theirs), theirs);
    struct waited flushes[20];
    for (unsigned i = 0; i < ARRAY_SIZE(flushes); i++) {
        prepare(&flushes[i], BLOCK_FLUSH, 0, NULL, 0);
        assert_int_equal(block_submit(block, &flushes[i].request), 0);
    }
    block_drain(block);
    for (unsigned i = 0; i < ARRAY_SIZE(flushes); i++)
        assert_int_equal(flushes[i].result, -EINVAL);
    assert_int_equal(dup2(kept, theirs), theirs);
    assert_int_equal(run_one(block, BLOCK_FLUSH, 0, NULL, 0), -EINVAL);
    uint8_t buf[512] = {1};
    assert_int_equal(run_one(block, BLOCK_WRITE, 0, buf, sizeof(buf)), 0);
    assert_int_equal(run_one(block, BLOCK_FLUSH, 0, NULL, 0), -EINVAL);
    block_destroy(block);
    close(bad[0]);
    close(bad[1]);
    close(kept);
    close(file);
}

/* -- who else ------------------------------------------------------------------------------------ */

/* In another process, keep `path` open until *end is closed. */
static pid_t hold(const char *path, bool read_only, bool direct, int *end)
{
    int ready[2], wait[2];
    uint8_t byte = 0;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(wait, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct block *block;
        struct dayfly_err err;
        close(wait[1]);
        int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
        const struct block_raw_options options = {.fd = fd, .read_only = read_only, .direct = direct};
        byte = block_raw_open(&block, &options, &err) == 0;
        if (write(ready[1], &byte, 1) != 1 || read(wait[0], &byte, 1) != 0)
            _exit(1);
        _exit(0); /* as a machine that is killed: nothing is given back by hand */
    }
    close(ready[1]);
    close(wait[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    close(ready[0]);
    *end = wait[1];
    return pid;
}

static void let_go(pid_t pid, int end)
{
    int status;
    close(end);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static int try_open(const char *path, bool read_only, bool direct)
{
    struct block *block = NULL;
    struct dayfly_err err = {0};
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    assert_true(fd >= 0);
    const struct block_raw_options options = {.fd = fd, .read_only = read_only, .direct = direct};
    int rc = block_raw_open(&block, &options, &err);
    if (rc == -EBUSY)
        assert_non_null(strstr(err.msg, path));
    if (rc == 0)
        block_destroy(block);
    return rc;
}

static void check_sharing(const char *path)
{
    int end;
    for (int direct = 0; direct < 2; direct++) {
        pid_t pid = hold(path, false, direct, &end);
        assert_int_equal(try_open(path, false, false), -EBUSY);
        assert_int_equal(try_open(path, false, true), -EBUSY);
        assert_int_equal(try_open(path, true, false), -EBUSY);
        assert_int_equal(try_open(path, true, true), -EBUSY);
        let_go(pid, end);
        pid = hold(path, true, direct, &end);
        assert_int_equal(try_open(path, true, false), 0);
        assert_int_equal(try_open(path, true, true), 0);
        assert_int_equal(try_open(path, false, false), -EBUSY);
        let_go(pid, end);
        assert_int_equal(try_open(path, false, false), 0);
    }
}

static void test_one_writer_or_many_readers_over_processes(void **state)
{
    char path[32];
    int fd = make_file(path);
    if (try_open(path, true, true) == -EOPNOTSUPP) {
        unlink(path);
        skip();
    }
    check_sharing(path);
    unlink(path);
    close(fd);
}

/* -- block devices ------------------------------------------------------------------------------- */

struct loop_device {
    char path[32], backing[32];
    int fd;
};

/* Skips where the machine gives none. It goes by itself with its last user. */
static struct loop_device make_loop(uint32_t sector_bytes, bool read_only)
{
    struct loop_device loop = {.fd = -1};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    if (control >= 0)
        close(control);
    snprintf(loop.path, sizeof(loop.path), "/dev/loop%d", number);
    loop.fd = number < 0 ? -1 : open(loop.path, O_RDWR | O_CLOEXEC);
    if (loop.fd < 0)
        skip();
    int file = make_file(loop.backing);
    unlink(loop.backing);
    struct loop_config config = {.fd = (uint32_t)file, .block_size = sector_bytes};
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
    int rc = ioctl(loop.fd, LOOP_CONFIGURE, &config);
    close(file);
    if (rc < 0) {
        close(loop.fd);
        skip();
    }
    return loop;
}

static void test_a_device_is_shared_like_a_file(void **state)
{
    struct loop_device loop = make_loop(512, false);
    check_sharing(loop.path);
    close(loop.fd);
}

static void test_another_node_of_a_device_is_the_same_device(void **state)
{
    struct loop_device loop = make_loop(512, false);
    struct stat st;
    char node[] = "/tmp/unit-node-XXXXXX", other[64];
    int end;
    assert_int_equal(fstat(loop.fd, &st), 0);
    assert_non_null(mkdtemp(node));
    snprintf(other, sizeof(other), "%s/disk", node);
    int fd = mknod(other, S_IFBLK | 0600, st.st_rdev) == 0 ? open(other, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        close(fd);
        pid_t pid = hold(loop.path, false, false, &end);
        assert_int_equal(try_open(other, false, false), -EBUSY);
        let_go(pid, end);
        assert_int_equal(try_open(other, false, false), 0);
    }
    unlink(other);
    rmdir(node);
    close(loop.fd);
    if (fd < 0)
        skip(); /* no device nodes here */
}

static void test_a_device_that_is_held_is_refused_to_writers(void **state)
{
    struct loop_device loop = make_loop(512, false);
    int holder = open(loop.path, O_RDONLY | O_EXCL | O_CLOEXEC); /* as a mount does */
    assert_true(holder >= 0);
    assert_int_equal(try_open(loop.path, false, false), -EBUSY);
    assert_int_equal(try_open(loop.path, true, false), 0);
    close(holder);
    assert_int_equal(try_open(loop.path, false, false), 0);
    close(loop.fd);
}

static void test_a_device_shows_its_own_sectors(void **state)
{
    struct loop_device loop = make_loop(4096, false);
    for (int direct = 0; direct < 2; direct++) {
        uint8_t *buf = aligned_alloc(4096, 8192);
        struct block *block = attach(
            &(struct block_raw_options){.fd = open(loop.path, O_RDWR | O_CLOEXEC), .direct = direct});
        assert_int_equal(block->unit_bytes, 4096);
        assert_int_equal(block->size_bytes, SIZE);
        memset(buf, 5, 8192);
        assert_int_equal(run_one(block, BLOCK_WRITE, 4096, buf, 4096), 0);
        assert_int_equal(run_one(block, BLOCK_WRITE, 512, buf, 512), -EINVAL);
        memset(buf, 0, 8192);
        assert_int_equal(run_one(block, BLOCK_READ, 4096 - 512, buf + 1, 1024), 0);
        assert_int_equal(buf[1 + 511], 0);
        assert_int_equal(buf[1 + 512], 5);
        assert_int_equal(run_one(block, BLOCK_WRITE_ZEROES, 4096, NULL, 4096), 0);
        assert_int_equal(run_one(block, BLOCK_DISCARD, 8192, NULL, 4096), 0);
        assert_int_equal(run_one(block, BLOCK_FLUSH, 0, NULL, 0), 0);
        assert_int_equal(run_one(block, BLOCK_READ, 4096, buf, 512), 0);
        assert_int_equal(buf[0], 0);
        block_destroy(block);
        free(buf);
    }
    close(loop.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flush_leaves_nothing_to_the_cache),
        cmocka_unit_test(test_without_sync_a_flush_does_nothing),
        cmocka_unit_test(test_direct_leaves_the_cache_alone),
        cmocka_unit_test(test_a_file_system_without_direct_is_named),
        cmocka_unit_test(test_a_flush_that_failed_is_not_forgotten),
        cmocka_unit_test(test_one_writer_or_many_readers_over_processes),
        cmocka_unit_test(test_a_device_is_shared_like_a_file),
        cmocka_unit_test(test_another_node_of_a_device_is_the_same_device),
        cmocka_unit_test(test_a_device_that_is_held_is_refused_to_writers),
        cmocka_unit_test(test_a_device_shows_its_own_sectors),
    };
    return cmocka_run_group_tests_name("block-raw-attach", tests, NULL, NULL);
}
