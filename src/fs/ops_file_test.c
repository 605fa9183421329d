/* SPDX-License-Identifier: Apache-2.0 */

/* Open files: flags, data in and out, and what caches may keep. */

#include <linux/falloc.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <time.h>

#include "fs/testing_fs.h"
#include "util/arith.h"

static void data_comes_back_however_it_is_cut(void **state)
{
    static uint8_t data[FS_TRANSFER_MAX], back[FS_TRANSFER_MAX + 4096];
    struct share s;
    uint64_t node;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    for (enum client_cut cut = 0; cut < CLIENT_CUTS; cut++) {
        const size_t lengths[] = {0, 1, 15, 16, 17, 4095, 4096, 65537, FS_TRANSFER_MAX};
        share_begin_with(&s, "/var/tmp", NULL, own_idmap(), false);
        client_cut(s.c, cut);
        uint64_t fh = new_file(&s, "file", &node);
        for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
            size_t len = lengths[i];
            uint64_t at = UINT64_C(0x100000000) + i * 5000000; /* beyond 4 GiB */
            assert_int_equal(client_write(s.c, node, fh, data, len, at, 0), len);
            memset(back, 0, sizeof(back));
            assert_int_equal(client_read(s.c, node, fh, back, len, at), len);
            assert_memory_equal(back, data, len);
            int fd = openat(s.dir, "file", O_RDONLY | O_CLOEXEC);
            assert_int_equal(pread(fd, back, len, (off_t)at), len);
            assert_memory_equal(back, data, len);
            close(fd);
        }
        /* Across the end: as much as there is. */
        uint64_t end = (uint64_t)host_stat(&s, "file").st_size;
        assert_int_equal(client_read(s.c, node, fh, back, 8192, end - 100), 100);
        assert_int_equal(client_read(s.c, node, fh, back, 8192, end), 0);
        assert_int_equal(client_read(s.c, node, fh, back, 8192, end + 5), 0);
        share_end(&s);
    }
}

static void transfers_have_their_bounds(void **state)
{
    static uint8_t data[FS_TRANSFER_MAX + 1];
    struct share s;
    struct fuse_write_in in = {0};
    struct fuse_write_out out;
    uint64_t node;
    share_begin(&s);
    uint64_t fh = new_file(&s, "file", &node);
    assert_int_equal(client_write(s.c, node, fh, data, sizeof(data), 0, 0), -EINVAL);
    assert_int_equal(client_read(s.c, node, fh, data, sizeof(data), 0), -EINVAL);
    assert_int_equal(client_read(s.c, node, fh, data, 1, UINT64_MAX), -EINVAL);
    assert_int_equal(client_read(s.c, node, fh, data, 2, INT64_MAX - 1), -EINVAL);
    assert_int_equal(client_write(s.c, node, fh, data, 1, UINT64_MAX, 0), -EFBIG);
    /* More than was sent. */
    in = (struct fuse_write_in){.fh = fh, .size = 11};
    assert_int_equal(client_ask(s.c, FUSE_WRITE, node, &out, CLIENT_PART(&in), {"0123456789", 10}),
                     -EINVAL);
    assert_int_equal(host_stat(&s, "file").st_size, 0);
    /* Less: the rest is nothing. */
    in.size = 4;
    assert_int_equal(client_ask(s.c, FUSE_WRITE, node, &out, CLIENT_PART(&in), {"0123456789", 10}), 0);
    assert_int_equal(host_stat(&s, "file").st_size, 4);
    /* A guest that gives less room than it asks for gets what fits. */
    struct fuse_read_in read = {.fh = fh, .size = 4};
    size_t room = 3;
    assert_int_equal(
        client_call(s.c, FUSE_READ, node, CLIENT_PARTS(CLIENT_PART(&read)), 1, data, &room), 0);
    assert_int_equal(room, 3);
    assert_memory_equal(data, "012", 3);
    share_end(&s);
}

static void files_that_shrink_end_where_they_end(void **state)
{
    struct share s;
    uint64_t node;
    char buf[100];
    share_begin(&s);
    uint64_t fh = new_file(&s, "file", &node);
    assert_int_equal(client_write(s.c, node, fh, "0123456789", 10, 0, 0), 10);
    host_write(&s, "file", "abc");
    assert_int_equal(client_read(s.c, node, fh, buf, sizeof(buf), 0), 3);
    assert_memory_equal(buf, "abc", 3);
    assert_int_equal(client_read(s.c, node, fh, buf, sizeof(buf), 5), 0);
    share_end(&s);
}

/* A write of two bytes, with the flags that the file has in the guest. */
static int write_flags(struct share *s, uint64_t node, uint64_t fh, const char *two, uint64_t offset,
                       uint32_t file_flags, uint32_t flags)
{
    struct fuse_write_in in = {
        .fh = fh, .offset = offset, .size = 2, .flags = file_flags, .write_flags = flags};
    struct fuse_write_out out;
    int rc = client_ask(s->c, FUSE_WRITE, node, &out, CLIENT_PART(&in), {two, 2});
    return rc < 0 ? rc : (int)out.size;
}

static void open_flags_are_kept(void **state)
{
    struct share s;
    struct fuse_open_out rd, wr, app1, app2;
    char buf[16];
    share_begin(&s);
    host_write(&s, "file", "0123");
    uint64_t node = node_of(&s, ROOT, "file");
    assert_int_equal(client_open(s.c, node, O_RDONLY, &rd), 0);
    assert_int_equal(client_write(s.c, node, rd.fh, "x", 1, 0, 0), -EBADF);
    assert_int_equal(client_open(s.c, node, O_WRONLY, &wr), 0);
    assert_int_equal(client_read(s.c, node, wr.fh, buf, 1, 0), -EBADF);
    /* Two writers that append: nothing is lost, whatever offset the guest believes in. */
    assert_int_equal(client_open(s.c, node, O_WRONLY | O_APPEND, &app1), 0);
    assert_int_equal(client_open(s.c, node, O_WRONLY | O_APPEND, &app2), 0);
    assert_int_equal(write_flags(&s, node, app1.fh, "aa", 4, O_WRONLY | O_APPEND, 0), 2);
    assert_int_equal(write_flags(&s, node, app2.fh, "bb", 4, O_WRONLY | O_APPEND, 0), 2);
    assert_int_equal(client_read(s.c, node, rd.fh, buf, sizeof(buf), 0), 8);
    assert_memory_equal(buf, "0123aabb", 8);
    /* A page of a mapping keeps its place, by whichever handle it comes; and fcntl took O_APPEND away.
     */
    assert_int_equal(write_flags(&s, node, app1.fh, "AA", 4, O_WRONLY | O_APPEND, FUSE_WRITE_CACHE), 2);
    assert_int_equal(write_flags(&s, node, app2.fh, "BB", 6, O_WRONLY, 0), 2);
    assert_int_equal(client_read(s.c, node, rd.fh, buf, sizeof(buf), 0), 8);
    assert_memory_equal(buf, "0123AABB", 8);
    assert_int_equal(client_open(s.c, node, O_WRONLY | O_TRUNC, &wr), 0);
    assert_int_equal(host_stat(&s, "file").st_size, 0);
    assert_int_equal(client_open(s.c, node, O_RDWR | O_DIRECT | O_NOFOLLOW | 0x20, &wr), 0);
    assert_int_equal(client_write(s.c, node, wr.fh, "odd", 3, 1, 0), 3);
    assert_int_equal(client_open(s.c, ROOT, O_RDONLY, &rd), -EISDIR);
    share_end(&s);
}

static void a_writeback_cache_reads_by_any_handle_and_says_where(void **state)
{
    struct share s;
    struct fs_options options = {.writeback = true};
    struct fuse_open_out open;
    char buf[16];
    share_begin_with(&s, "/dev/shm", &options, own_idmap(), false);
    host_write(&s, "file", "0123");
    uint64_t node = node_of(&s, ROOT, "file");
    assert_int_equal(client_open(s.c, node, O_WRONLY | O_APPEND, &open), 0);
    assert_int_equal(client_read(s.c, node, open.fh, buf, sizeof(buf), 0), 4);
    assert_int_equal(client_write(s.c, node, open.fh, "XX", 2, 1, FUSE_WRITE_CACHE), 2);
    assert_int_equal(client_read(s.c, node, open.fh, buf, sizeof(buf), 0), 4);
    assert_memory_equal(buf, "0XX3", 4);
    /* Where data is, only the guest knows. */
    struct fuse_lseek_in seek = {.fh = open.fh, .whence = SEEK_DATA};
    struct fuse_lseek_out out;
    assert_int_equal(client_ask(s.c, FUSE_LSEEK, node, &out, CLIENT_PART(&seek)), -ENOSYS);
    share_end(&s);
}

static uint32_t open_flags_with(struct fs_options options, uint32_t flags)
{
    struct share s;
    struct fuse_open_out open;
    share_begin_with(&s, "/dev/shm", &options, own_idmap(), false);
    host_write(&s, "file", "");
    assert_int_equal(client_open(s.c, node_of(&s, ROOT, "file"), flags, &open), 0);
    share_end(&s);
    return open.open_flags;
}

static void caches_keep_what_the_policy_says(void **state)
{
    assert_int_equal(open_flags_with((struct fs_options){.cache = FS_CACHE_NONE}, O_RDWR),
                     FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES);
    assert_int_equal(open_flags_with((struct fs_options){.cache = FS_CACHE_ALWAYS}, O_RDWR),
                     FOPEN_KEEP_CACHE);
    assert_int_equal(open_flags_with((struct fs_options){.cache = FS_CACHE_AUTO}, O_RDWR), 0);
}

/* A close is told where it may end a lock, or write back what the guest has gathered. */
static void closes_are_told_where_they_matter(void **state)
{
    assert_int_equal(open_flags_with((struct fs_options){0}, O_RDONLY), FOPEN_NOFLUSH);
    assert_int_equal(open_flags_with((struct fs_options){0}, O_WRONLY | O_TRUNC), FOPEN_NOFLUSH);
    assert_int_equal(open_flags_with((struct fs_options){0}, O_WRONLY), 0);
    assert_int_equal(open_flags_with((struct fs_options){0}, O_RDWR | O_APPEND), 0);
    assert_int_equal(open_flags_with((struct fs_options){.writeback = true}, O_RDONLY), 0);
}

/* ramfs stands for all file systems that are not known to be local. */
static void closes_are_told_where_they_may_fail(void **state)
{
    char path[] = "/tmp/unit-ramfs-XXXXXX";
    struct share s;
    struct fuse_open_out open;
    skip_unless_root();
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        skip();
    assert_non_null(mkdtemp(path));
    assert_int_equal(mount("ramfs", path, "ramfs", 0, NULL), 0);
    share_begin_with(&s, path, NULL, own_idmap(), false);
    host_write(&s, "file", "");
    uint64_t node = node_of(&s, ROOT, "file");
    assert_int_equal(client_open(s.c, node, O_RDONLY, &open), 0);
    assert_true(open.open_flags & FOPEN_NOFLUSH);
    assert_int_equal(client_open(s.c, node, O_WRONLY | O_TRUNC, &open), 0);
    assert_false(open.open_flags & FOPEN_NOFLUSH);
    assert_int_equal(client_flush(s.c, node, open.fh, 1), 0);
    share_end(&s);
    assert_int_equal(umount2(path, MNT_DETACH), 0);
    assert_int_equal(rmdir(path), 0);
}

static uint32_t open_and_close(struct share *s, uint64_t node)
{
    struct fuse_open_out open;
    assert_int_equal(client_open(s->c, node, O_RDONLY, &open), 0);
    assert_int_equal(client_release(s->c, node, open.fh), 0);
    return open.open_flags & ~(uint32_t)FOPEN_NOFLUSH;
}

/* With cache=auto a file's pages stay from one open to the next while the file is the same. */
static void pages_stay_while_a_file_is_the_same(void **state)
{
    struct share s;
    share_begin(&s);
    host_write(&s, "file", "old");
    uint64_t node = node_of(&s, ROOT, "file");
    assert_int_equal(open_and_close(&s, node), 0);
    /* It has just been written: until its times have settled nothing is kept. */
    assert_int_equal(open_and_close(&s, node), 0);
    struct timespec now, changed = host_stat(&s, "file").st_ctim;
    uint64_t age_ns;
    do {
        clock_gettime(CLOCK_REALTIME, &now);
        age_ns = (uint64_t)(now.tv_sec - changed.tv_sec) * 1000000000u + (uint64_t)now.tv_nsec -
                 (uint64_t)changed.tv_nsec;
    } while (age_ns < 60000000);
    assert_int_equal(open_and_close(&s, node), 0);
    assert_int_equal(open_and_close(&s, node), FOPEN_KEEP_CACHE);
    assert_int_equal(open_and_close(&s, node), FOPEN_KEEP_CACHE);
    host_write(&s, "file", "new");
    assert_int_equal(open_and_close(&s, node), 0);
    share_end(&s);
}

static void space_is_allocated_and_holes_are_found(void **state)
{
    struct share s;
    struct fuse_fallocate_in in;
    struct fuse_lseek_in seek;
    struct fuse_lseek_out out;
    uint64_t node;
    share_begin_with(&s, "/var/tmp", NULL, own_idmap(), false);
    uint64_t fh = new_file(&s, "file", &node);
#define FALLOCATE(how, at, len)                                                                        \
    (in = (struct fuse_fallocate_in){.fh = fh, .mode = (how), .offset = (at), .length = (len)},        \
     client_send(s.c, FUSE_FALLOCATE, node, CLIENT_PART(&in)))
#define SEEK(how, at)                                                                                  \
    (seek = (struct fuse_lseek_in){.fh = fh, .whence = (how), .offset = (at)},                         \
     client_ask(s.c, FUSE_LSEEK, node, &out, CLIENT_PART(&seek)))
    assert_int_equal(FALLOCATE(0, 0, 65536), 0);
    assert_int_equal(host_stat(&s, "file").st_size, 65536);
    assert_int_equal(FALLOCATE(FALLOC_FL_KEEP_SIZE, 65536, 65536), 0);
    assert_int_equal(host_stat(&s, "file").st_size, 65536);
    char *data = malloc(65536);
    memset(data, 'd', 65536);
    assert_int_equal(client_write(s.c, node, fh, data, 65536, 0, 0), 65536);
    free(data);
    assert_int_equal(FALLOCATE(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 16384, 16384), 0);
    assert_int_equal(SEEK(SEEK_HOLE, 0), 0);
    assert_int_equal(out.offset, 16384);
    assert_int_equal(SEEK(SEEK_DATA, 16384), 0);
    assert_int_equal(out.offset, 32768);
    assert_int_equal(SEEK(SEEK_DATA, 65536), -ENXIO);
    assert_int_equal(SEEK(SEEK_SET, 0), -EINVAL);
    assert_int_equal(SEEK(SEEK_DATA, UINT64_MAX), -EINVAL);
    assert_int_equal(FALLOCATE(FALLOC_FL_ZERO_RANGE, 0, 4096), 0);
    assert_int_equal(FALLOCATE(0, UINT64_MAX, 1), -EFBIG);
    assert_int_equal(FALLOCATE(0, 0, 0), -EINVAL);
    assert_int_equal(FALLOCATE(0x4000, 0, 4096), -EOPNOTSUPP);
    share_end(&s);
}

static void ranges_are_copied(void **state)
{
    struct share s;
    struct fuse_copy_file_range_in in;
    struct fuse_write_out out;
    struct fuse_open_out rd;
    uint64_t from, to;
    char buf[32];
    share_begin_with(&s, "/var/tmp", NULL, own_idmap(), false);
    uint64_t in_fh = new_file(&s, "from", &from), out_fh = new_file(&s, "to", &to);
    assert_int_equal(client_write(s.c, from, in_fh, "0123456789", 10, 0, 0), 10);
    in = (struct fuse_copy_file_range_in){
        .fh_in = in_fh, .off_in = 2, .nodeid_out = to, .fh_out = out_fh, .off_out = 1, .len = 5};
    assert_int_equal(client_ask(s.c, FUSE_COPY_FILE_RANGE, from, &out, CLIENT_PART(&in)), 0);
    assert_int_equal(out.size, 5);
    assert_int_equal(client_read(s.c, to, out_fh, buf, sizeof(buf), 0), 6);
    assert_memory_equal(buf, "\00023456", 6);
    in.len = UINT64_MAX; /* to the end */
    assert_int_equal(client_ask(s.c, FUSE_COPY_FILE_RANGE, from, &out, CLIENT_PART(&in)), 0);
    assert_int_equal(out.size, 8);
    in.flags = 1;
    assert_int_equal(client_ask(s.c, FUSE_COPY_FILE_RANGE, from, &out, CLIENT_PART(&in)), -EINVAL);
    in.flags = 0;
    in.nodeid_out = from;
    assert_int_equal(client_ask(s.c, FUSE_COPY_FILE_RANGE, from, &out, CLIENT_PART(&in)), -EBADF);
    assert_int_equal(client_open(s.c, to, O_RDONLY, &rd), 0);
    in.nodeid_out = to;
    in.fh_out = rd.fh;
    assert_int_equal(client_ask(s.c, FUSE_COPY_FILE_RANGE, from, &out, CLIENT_PART(&in)), -EBADF);
    share_end(&s);
}

static void files_and_file_systems_are_synced(void **state)
{
    struct share s;
    struct fuse_fsync_in in = {0};
    struct fuse_syncfs_in sync = {0};
    struct fuse_open_out dir;
    uint64_t node;
    share_begin_with(&s, "/var/tmp", NULL, own_idmap(), false);
    in.fh = new_file(&s, "file", &node);
    assert_int_equal(client_send(s.c, FUSE_FSYNC, node, CLIENT_PART(&in)), 0);
    in.fsync_flags = FUSE_FSYNC_FDATASYNC;
    assert_int_equal(client_send(s.c, FUSE_FSYNC, node, CLIENT_PART(&in)), 0);
    assert_int_equal(client_send(s.c, FUSE_FSYNC, ROOT, CLIENT_PART(&in)), -EBADF);
    assert_int_equal(client_opendir(s.c, ROOT, &dir), 0);
    in.fh = dir.fh;
    assert_int_equal(client_send(s.c, FUSE_FSYNCDIR, ROOT, CLIENT_PART(&in)), 0);
    assert_int_equal(client_send(s.c, FUSE_SYNCFS, ROOT, CLIENT_PART(&sync)), 0);
    assert_int_equal(client_send(s.c, FUSE_SYNCFS, node, CLIENT_PART(&sync)), -ENOTDIR);
    share_end(&s);
}

/* Handles of directories and handles of files are not exchanged. */
static void handles_are_what_they_are(void **state)
{
    struct share s;
    struct fuse_open_out dir;
    uint64_t node;
    char buf[4096];
    share_begin(&s);
    uint64_t fh = new_file(&s, "file", &node);
    assert_int_equal(client_opendir(s.c, ROOT, &dir), 0);
    assert_int_equal(client_read(s.c, ROOT, dir.fh, buf, 1, 0), -EISDIR);
    assert_int_equal(client_write(s.c, ROOT, dir.fh, buf, 1, 0, 0), -EISDIR);
    assert_int_equal(client_readdir(s.c, node, fh, 0, buf, sizeof(buf), false), -ENOTDIR);
    assert_int_equal(client_read(s.c, ROOT, fh, buf, 1, 0), -EBADF);
    assert_int_equal(client_read(s.c, node, fh ^ UINT64_C(1) << 32, buf, 1, 0), -EBADF);
    assert_int_equal(client_read(s.c, node, fh + 1, buf, 1, 0), -EBADF);
    share_end(&s);
}

/* A page cache drops clean pages when it is asked to, though not always, and the disk may bring them
 * again in no time: what counts is that never fewer bytes come, which would be the end of the file. */
static void what_the_disk_has_to_bring_waits(void **state)
{
    enum { BYTES = 1 << 20 };
    struct share s;
    uint64_t node;
    char *data = malloc(BYTES), *back = malloc(BYTES);
    unsigned waited = 0;
    share_begin_with(&s, "/var/tmp", NULL, own_idmap(), false);
    memset(data, 'd', BYTES);
    uint64_t fh = new_file(&s, "file", &node);
    int fd = openat(s.dir, "file", O_RDONLY | O_CLOEXEC);
    client_at_once(s.c, true);
    assert_int_equal(client_write(s.c, node, fh, data, BYTES, 0, 0), BYTES);
    for (int i = 0; i < 100 && waited < 2; i++) {
        assert_int_equal(fdatasync(fd), 0);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        if (i % 2) /* a part is there */
            assert_int_equal(pread(fd, back, 1, 0), 1);
        ssize_t n = client_read(s.c, node, fh, back, BYTES, 0);
        if (n == CLIENT_WAITS) {
            client_at_once(s.c, false);
            n = client_read(s.c, node, fh, back, BYTES, 0);
            client_at_once(s.c, true);
            waited++;
        }
        assert_int_equal(n, BYTES);
        assert_memory_equal(data, back, BYTES);
        memset(back, 0, BYTES);
    }
    close(fd);
    share_end(&s);
    free(data);
    free(back);
    if (waited == 0) /* a file system that cannot tell */
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_comes_back_however_it_is_cut),
        cmocka_unit_test(transfers_have_their_bounds),
        cmocka_unit_test(files_that_shrink_end_where_they_end),
        cmocka_unit_test(open_flags_are_kept),
        cmocka_unit_test(a_writeback_cache_reads_by_any_handle_and_says_where),
        cmocka_unit_test(caches_keep_what_the_policy_says),
        cmocka_unit_test(closes_are_told_where_they_matter),
        cmocka_unit_test(closes_are_told_where_they_may_fail),
        cmocka_unit_test(pages_stay_while_a_file_is_the_same),
        cmocka_unit_test(space_is_allocated_and_holes_are_found),
        cmocka_unit_test(ranges_are_copied),
        cmocka_unit_test(files_and_file_systems_are_synced),
        cmocka_unit_test(what_the_disk_has_to_bring_waits),
        cmocka_unit_test(handles_are_what_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
