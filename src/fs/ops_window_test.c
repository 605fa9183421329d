/* SPDX-License-Identifier: Apache-2.0 */
/* The DAX window over the protocol: who is told of it, what may be mapped, and when that ends. */
#include <sys/uio.h>

#include "fs/testing_fs.h"
#include "fs/window.h"
#include "util/arith.h"

#define WINDOW (4 * WINDOW_RANGE)
#define PAGE   UINT64_C(4096)

/* What the guest sees there; -EFAULT: nothing. */
static int peek(struct share *s, uint64_t at)
{
    uint8_t byte;
    uint64_t bytes;
    struct iovec here = {&byte, 1}, there = {(uint8_t *)fs_window(s->fs, &bytes) + at, 1};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1 ? byte : -errno;
}

static void begin_with(struct share *s, struct fs_idmap idmap, bool read_only)
{
    const struct fs_options options = {.window_bytes = WINDOW};
    share_begin_with(s, "/dev/shm", &options, idmap, read_only);
}

static void begin(struct share *s)
{
    begin_with(s, own_idmap(), false);
}

/* A file of the host, whose pages begin with their number and one. */
static void host_pages(struct share *s, const char *name, unsigned pages)
{
    int fd = openat(s->dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    for (unsigned i = 0; i < pages; i++) {
        uint8_t byte = (uint8_t)(i + 1);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(i * PAGE)), 1);
    }
    assert_int_equal(ftruncate(fd, (off_t)(pages * PAGE)), 0);
    close(fd);
}

static int call_setup(struct share *s, uint64_t node, const struct fuse_setupmapping_in *in)
{
    const struct client_part part = {in, sizeof(*in)};
    return client_call(s->c, FUSE_SETUPMAPPING, node, &part, 1, NULL, NULL);
}

/* As Linux does: a whole range, by no handle. */
static int map(struct share *s, uint64_t node, uint64_t offset, uint64_t at, bool write)
{
    const struct fuse_setupmapping_in in = {
        .fh = UINT64_MAX,
        .foffset = offset,
        .len = WINDOW_RANGE,
        .flags = FUSE_SETUPMAPPING_FLAG_READ | (write ? FUSE_SETUPMAPPING_FLAG_WRITE : 0),
        .moffset = at,
    };
    return call_setup(s, node, &in);
}

static int unmap(struct share *s, uint32_t count, const struct fuse_removemapping_one *ones,
                 unsigned sent)
{
    const struct fuse_removemapping_in in = {.count = count};
    const struct client_part parts[] = {{&in, sizeof(in)}, {ones, sent * sizeof(*ones)}};
    return client_call(s->c, FUSE_REMOVEMAPPING, 12345, parts, 2, NULL, NULL);
}

static uint32_t mapped(struct share *s)
{
    struct fs_stats stats;
    fs_get_stats(s->fs, &stats);
    return stats.mapped;
}

static void it_is_announced_where_it_is_shown(void **state)
{
    struct share s;
    struct fuse_init_out init;
    struct fuse_attr attr;
    uint64_t bytes;
    begin(&s);
    fs_window(s.fs, &bytes);
    assert_int_equal(bytes, WINDOW);
    assert_true(s.flags & FUSE_MAP_ALIGNMENT);
    fs_show_window(s.fs, false);
    assert_int_equal(client_init(s.c, ALL_OFFERED, &init), 0);
    assert_false(init.flags & FUSE_MAP_ALIGNMENT);
    assert_false((uint64_t)init.flags2 << 32 & FUSE_HAS_INODE_DAX);
    host_pages(&s, "file", 64);
    uint64_t node = node_of(&s, ROOT, "file");
    assert_int_equal(client_getattr(s.c, node, &attr), 0);
    assert_int_equal(attr.flags & FUSE_ATTR_DAX, 0);
    assert_int_equal(map(&s, node, 0, 0, false), -ENOSYS);
    assert_int_equal(unmap(&s, 0, NULL, 0), -ENOSYS);

    fs_show_window(s.fs, true);
    assert_int_equal(client_init(s.c, ALL_OFFERED & ~FUSE_HAS_INODE_DAX, &init), 0);
    assert_true(init.flags & FUSE_MAP_ALIGNMENT);
    assert_int_equal(init.map_alignment, 21);
    assert_int_equal(client_getattr(s.c, node_of(&s, ROOT, "file"), &attr), 0);
    assert_int_equal(attr.flags & FUSE_ATTR_DAX, 0); /* it did not ask */
    share_end(&s);

    share_begin(&s); /* without one */
    assert_null(fs_window(s.fs, &bytes));
    assert_int_equal(bytes, 0);
    assert_false(s.flags & FUSE_MAP_ALIGNMENT);
    share_end(&s);
}

static void large_files_are_for_the_window(void **state)
{
    struct share s;
    struct fuse_attr attr;
    struct fuse_entry_out entry;
    begin(&s);
    assert_true(s.flags & FUSE_HAS_INODE_DAX);
    host_pages(&s, "small", 15);
    host_pages(&s, "large", 16);
    assert_int_equal(client_lookup(s.c, ROOT, "small", &entry), 0);
    assert_int_equal(entry.attr.flags & FUSE_ATTR_DAX, 0);
    assert_int_equal(client_lookup(s.c, ROOT, "large", &entry), 0);
    assert_int_equal(entry.attr.flags & FUSE_ATTR_DAX, FUSE_ATTR_DAX);
    assert_int_equal(client_getattr(s.c, entry.nodeid, &attr), 0);
    assert_int_equal(attr.flags & FUSE_ATTR_DAX, FUSE_ATTR_DAX);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), 0);
    assert_int_equal(attr.flags & FUSE_ATTR_DAX, 0);
    share_end(&s);
}

static void the_guest_maps_and_unmaps(void **state)
{
    struct share s;
    begin(&s);
    host_pages(&s, "file", 1024);
    uint64_t node = node_of(&s, ROOT, "file");
    for (enum client_cut cut = 0; cut < CLIENT_CUTS; cut++) {
        client_cut(s.c, cut);
        assert_int_equal(map(&s, node, 0, WINDOW_RANGE, false), 0);
        assert_int_equal(map(&s, node, WINDOW_RANGE, 0, false), 0);
        assert_int_equal(map(&s, node, WINDOW_RANGE, 0, true), 0); /* now it wants to write */
        assert_int_equal(mapped(&s), 2);
        assert_int_equal(peek(&s, WINDOW_RANGE + 3 * PAGE), 4);
        assert_int_equal(peek(&s, 3 * PAGE), (512 + 4) % 256);
        const struct fuse_removemapping_one ones[] = {{WINDOW_RANGE, WINDOW_RANGE}, {0, WINDOW_RANGE}};
        assert_int_equal(unmap(&s, 2, ones, 2), 0);
        assert_int_equal(mapped(&s), 0);
        assert_int_equal(peek(&s, 0), -EFAULT);
    }
    share_end(&s);
}

static void hostile_mappings_are_refused(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    begin(&s);
    host_pages(&s, "file", 16);
    uint64_t node = node_of(&s, ROOT, "file");
    assert_int_equal(client_mknod(s.c, ROOT, "fifo", S_IFIFO | 0644, 0, &entry), 0);
    assert_int_equal(map(&s, entry.nodeid, 0, 0, false), -EACCES);
    assert_int_equal(map(&s, ROOT, 0, 0, false), -EISDIR);
    assert_int_equal(map(&s, 999, 0, 0, false), -ESTALE);
    static const struct fuse_setupmapping_in bad[] = {
        {.fh = UINT64_MAX, .len = 0},
        {.fh = UINT64_MAX, .len = 1},
        {.fh = UINT64_MAX, .len = PAGE, .moffset = PAGE},
        {.fh = UINT64_MAX, .len = PAGE, .foffset = PAGE},
        {.fh = UINT64_MAX, .len = WINDOW_RANGE, .moffset = WINDOW},
        {.fh = UINT64_MAX, .len = 2 * WINDOW_RANGE, .moffset = WINDOW - WINDOW_RANGE},
        {.fh = UINT64_MAX, .len = WINDOW_RANGE, .moffset = 0 - WINDOW_RANGE},
        {.fh = UINT64_MAX, .len = 0 - WINDOW_RANGE, .moffset = WINDOW_RANGE},
        {.fh = UINT64_MAX, .len = WINDOW_RANGE, .foffset = UINT64_C(1) << 63},
        {.fh = UINT64_MAX, .len = WINDOW_RANGE, .foffset = 0 - WINDOW_RANGE},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(call_setup(&s, node, &bad[i]), -EINVAL);

    static const struct fuse_removemapping_one wrong[] = {
        {0, 0}, {PAGE, PAGE}, {WINDOW, WINDOW_RANGE}, {0, WINDOW + PAGE}, {0 - WINDOW_RANGE, PAGE}};
    assert_int_equal(map(&s, node, 0, 0, true), 0);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(unmap(&s, 1, &wrong[i], 1), -EINVAL);
    assert_int_equal(unmap(&s, 2, wrong, 1), -EINVAL); /* fewer than it says */
    assert_int_equal(unmap(&s, UINT32_MAX, wrong, 1), -EINVAL);
    assert_int_equal(unmap(&s, 0, NULL, 0), 0);
    assert_int_equal(mapped(&s), 1);
    assert_int_equal(peek(&s, 0), 1);
    share_end(&s);
}

static void handles_give_what_they_were_opened_for(void **state)
{
    struct share s;
    struct fuse_open_out reads, writes, other;
    begin(&s);
    host_pages(&s, "file", 16);
    host_pages(&s, "other", 16);
    uint64_t node = node_of(&s, ROOT, "file"), node2 = node_of(&s, ROOT, "other");
    assert_int_equal(client_open(s.c, node, O_RDONLY, &reads), 0);
    assert_int_equal(client_open(s.c, node, O_RDWR, &writes), 0);
    assert_int_equal(client_open(s.c, node2, O_RDWR, &other), 0);
    struct fuse_setupmapping_in in = {.fh = reads.fh, .len = WINDOW_RANGE};
    in.flags = FUSE_SETUPMAPPING_FLAG_WRITE;
    assert_int_equal(call_setup(&s, node, &in), -EACCES);
    in.fh = other.fh;
    assert_int_equal(call_setup(&s, node, &in), -EBADF);
    in.fh = 0;
    assert_int_equal(call_setup(&s, node, &in), -EBADF);
    in.fh = writes.fh;
    assert_int_equal(call_setup(&s, node, &in), 0);
    in.fh = reads.fh;
    in.flags = 0;
    in.moffset = WINDOW_RANGE;
    assert_int_equal(call_setup(&s, node, &in), 0);

    /* What is mapped stays when the file is closed. */
    assert_int_equal(client_release(s.c, node, writes.fh), 0);
    assert_int_equal(client_release(s.c, node, reads.fh), 0);
    assert_int_equal(peek(&s, PAGE), 2);
    assert_int_equal(mapped(&s), 2);
    share_end(&s);
}

static void what_is_read_only_is_mapped_so(void **state)
{
    struct share s;
    begin_with(&s, own_idmap(), true);
    host_pages(&s, "file", 16);
    uint64_t node = node_of(&s, ROOT, "file");
    assert_int_equal(map(&s, node, 0, 0, true), -EROFS);
    assert_int_equal(map(&s, node, 0, 0, false), 0);
    uint64_t bytes;
    uint8_t byte = 9;
    struct iovec here = {&byte, 1}, there = {fs_window(s.fs, &bytes), 1};
    assert_int_equal(process_vm_writev(getpid(), &here, 1, &there, 1, 0), -1);
    assert_int_equal(map(&s, node, 0, 0, true), -EROFS); /* also where it is mapped */
    assert_int_equal(peek(&s, 0), 1);
    share_end(&s);
}

/* git does so: a file that nobody may write to any more, open for writing. */
static void an_open_file_may_be_mapped_whatever_its_mode(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    const struct fs_idmap squash = {
        .kind = FS_IDMAP_SQUASH, .host_uid = geteuid() ?: 1000, .host_gid = getegid() ?: 1000};
    begin_with(&s, squash, false);
    assert_int_equal(chmod(s.path, 0777), 0);
    assert_int_equal(client_create(s.c, ROOT, "file", O_RDWR, 0444, &entry, &open), 0);
    assert_int_equal(client_write(s.c, entry.nodeid, open.fh, "x", 1, 0, 0), 1);
    assert_int_equal(map(&s, entry.nodeid, 0, 0, true), 0);
    assert_int_equal(peek(&s, 0), 'x');
    const struct fuse_removemapping_one all = {0, WINDOW};
    assert_int_equal(unmap(&s, 1, &all, 1), 0);
    assert_int_equal(client_release(s.c, entry.nodeid, open.fh), 0);
    assert_int_equal(map(&s, entry.nodeid, 0, 0, true), -EACCES);
    assert_int_equal(map(&s, entry.nodeid, 0, 0, false), 0);
    share_end(&s);
}

static void sessions_end_with_an_empty_window(void **state)
{
    struct share s;
    struct fuse_init_out init;
    begin(&s);
    host_pages(&s, "file", 16);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(map(&s, node_of(&s, ROOT, "file"), 0, 0, true), 0);
        assert_int_equal(mapped(&s), 1);
        if (i == 0)
            assert_int_equal(client_init(s.c, ALL_OFFERED, &init), 0);
        else if (i == 1)
            assert_int_equal(client_call(s.c, FUSE_DESTROY, 0, NULL, 0, NULL, NULL), 0);
        else
            fs_reset(s.fs);
        assert_int_equal(mapped(&s), 0);
        assert_int_equal(peek(&s, 0), -EFAULT);
        assert_int_equal(client_init(s.c, ALL_OFFERED, &init), 0);
    }
    share_end(&s);
}

/* How the guest comes to know that a file is larger. */
enum growth { BY_WRITE, BY_SETATTR, BY_FALLOCATE, BY_HOST, BY_HOST_LOOKUP, GROWTHS };

static void grow(struct share *s, enum growth how, uint64_t node, uint64_t fh)
{
    struct fuse_attr attr;
    struct fuse_entry_out entry;
    const struct fuse_setattr_in size = {.valid = FATTR_SIZE, .size = 64 * PAGE};
    const struct fuse_fallocate_in more = {.fh = fh, .length = 64 * PAGE};
    const struct client_part part = {&more, sizeof(more)};
    switch (how) {
    case BY_WRITE:
        assert_int_equal(client_write(s->c, node, fh, "x", 1, 63 * PAGE, 0), 1);
        break;
    case BY_SETATTR:
        assert_int_equal(client_setattr(s->c, node, &size, &attr), 0);
        break;
    case BY_FALLOCATE:
        assert_int_equal(client_call(s->c, FUSE_FALLOCATE, node, &part, 1, NULL, NULL), 0);
        break;
    case BY_HOST:
        host_pages(s, "file", 64);
        assert_int_equal(client_getattr(s->c, node, &attr), 0);
        break;
    default:
        host_pages(s, "file", 64);
        assert_int_equal(client_lookup(s->c, ROOT, "file", &entry), 0);
        break;
    }
}

static void what_was_cut_is_the_file_again_when_it_grows(void **state)
{
    struct share s;
    struct fuse_open_out open;
    uint8_t byte = 77;
    uint64_t bytes;
    begin(&s);
    for (enum growth how = 0; how < GROWTHS; how++) {
        host_pages(&s, "file", 64);
        uint64_t node = node_of(&s, ROOT, "file");
        assert_int_equal(client_open(s.c, node, O_RDWR, &open), 0);
        assert_int_equal(map(&s, node, 0, 0, true), 0);
        int fd = openat(s.dir, "file", O_RDWR | O_CLOEXEC);
        assert_int_equal(ftruncate(fd, PAGE), 0);
        assert_int_equal(peek(&s, 10 * PAGE), -EFAULT);
        if (how % 2)
            fs_heed_window(s.fs);
        else
            assert_true(fs_mend_window(s.fs));
        assert_int_equal(peek(&s, 10 * PAGE), 0);
        grow(&s, how, node, open.fh);
        /* What is written on one side is seen on the other. */
        struct iovec here = {&byte, 1}, there = {(uint8_t *)fs_window(s.fs, &bytes) + 10 * PAGE + 1, 1};
        assert_int_equal(process_vm_writev(getpid(), &here, 1, &there, 1, 0), 1);
        uint8_t seen = 0;
        assert_int_equal(pread(fd, &seen, 1, 10 * PAGE + 1), 1);
        assert_int_equal(seen, byte);
        close(fd);
        assert_int_equal(client_release(s.c, node, open.fh), 0);
    }
    share_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_announced_where_it_is_shown),
        cmocka_unit_test(large_files_are_for_the_window),
        cmocka_unit_test(the_guest_maps_and_unmaps),
        cmocka_unit_test(hostile_mappings_are_refused),
        cmocka_unit_test(handles_give_what_they_were_opened_for),
        cmocka_unit_test(what_is_read_only_is_mapped_so),
        cmocka_unit_test(an_open_file_may_be_mapped_whatever_its_mode),
        cmocka_unit_test(sessions_end_with_an_empty_window),
        cmocka_unit_test(what_was_cut_is_the_file_again_when_it_grows),
    };
    return cmocka_run_group_tests_name("fs-ops-window", tests, NULL, NULL);
}
