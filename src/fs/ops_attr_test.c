/* SPDX-License-Identifier: Apache-2.0 */

/* Attributes: read, set, and who may. */

#include <sys/statfs.h>

#include "fs/testing_fs.h"
#include "util/arith.h"

static int set(struct share *s, uint64_t node, struct fuse_setattr_in in, struct fuse_attr *attr)
{
    return client_setattr(s->c, node, &in, attr);
}

#define SET(s, node, attr, ...) set(s, node, (struct fuse_setattr_in){__VA_ARGS__}, attr)

static void attributes_are_the_hosts(void **state)
{
    struct share s;
    struct fuse_attr attr;
    struct fuse_statx_out out;
    struct fuse_statx_in in = {.sx_mask = STATX_BASIC_STATS | STATX_BTIME};
    struct statx stx;
    share_begin_with(&s, "/var/tmp", NULL, own_idmap(), false);
    host_write(&s, "file", "0123456789");
    uint64_t node = node_of(&s, ROOT, "file");
    struct timespec times[2] = {{1000000001, 123456789}, {2000000002, 987654321}};
    assert_int_equal(utimensat(s.dir, "file", times, 0), 0);
    assert_int_equal(statx(s.dir, "file", 0, STATX_BASIC_STATS | STATX_BTIME, &stx), 0);
    assert_int_equal(client_getattr(s.c, node, &attr), 0);
    assert_int_equal(attr.size, 10);
    assert_int_equal(attr.blocks, stx.stx_blocks);
    assert_int_equal(attr.blksize, stx.stx_blksize);
    assert_int_equal(attr.nlink, 1);
    assert_int_equal(attr.atime, 1000000001);
    assert_int_equal(attr.atimensec, 123456789);
    assert_int_equal(attr.mtimensec, 987654321);
    assert_int_equal(attr.ctime, stx.stx_ctime.tv_sec);
    assert_int_equal(attr.ctimensec, stx.stx_ctime.tv_nsec);

    assert_int_equal(client_ask(s.c, FUSE_STATX, node, &out, CLIENT_PART(&in)), 0);
    assert_int_equal(out.stat.mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    assert_int_equal(out.stat.size, 10);
    assert_int_equal(out.stat.mode, stx.stx_mode);
    assert_int_equal(out.stat.mtime.tv_nsec, 987654321);
    assert_int_equal(out.stat.mask & STATX_BTIME, stx.stx_mask & STATX_BTIME);
    if (stx.stx_mask & STATX_BTIME)
        assert_int_equal(out.stat.btime.tv_nsec, stx.stx_btime.tv_nsec);
    assert_int_equal(out.stat.uid, attr.uid);
    share_end(&s);
}

static void attributes_come_by_the_open_file(void **state)
{
    struct share s;
    uint64_t node;
    share_begin(&s);
    uint64_t fh = new_file(&s, "file", &node);
    assert_int_equal(client_unlink(s.c, ROOT, "file"), 0);
    struct fuse_getattr_in in = {.getattr_flags = FUSE_GETATTR_FH, .fh = fh};
    struct fuse_attr_out out;
    assert_int_equal(client_ask(s.c, FUSE_GETATTR, node, &out, CLIENT_PART(&in)), 0);
    assert_int_equal(out.attr.nlink, 0);
    /* Another's handle says nothing of this node. */
    uint64_t other;
    in.fh = new_file(&s, "other", &other);
    assert_int_equal(client_ask(s.c, FUSE_GETATTR, node, &out, CLIENT_PART(&in)), 0);
    assert_int_equal(out.attr.nlink, 0);
    share_end(&s);
}

static void times_are_set_to_the_nanosecond(void **state)
{
    struct share s;
    struct fuse_attr attr;
    uint64_t node;
    share_begin_with(&s, "/var/tmp", NULL, own_idmap(), false);
    new_file(&s, "file", &node);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_ATIME | FATTR_MTIME, .atime = 11,
                         .atimensec = 999999999, .mtime = 22, .mtimensec = 1),
                     0);
    struct stat st = host_stat(&s, "file");
    assert_int_equal(st.st_atim.tv_sec, 11);
    assert_int_equal(st.st_atim.tv_nsec, 999999999);
    assert_int_equal(st.st_mtim.tv_sec, 22);
    assert_int_equal(st.st_mtim.tv_nsec, 1);
    /* One of them, the other stays. */
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_MTIME, .mtime = 33), 0);
    st = host_stat(&s, "file");
    assert_int_equal(st.st_atim.tv_sec, 11);
    assert_int_equal(st.st_mtim.tv_sec, 33);
    /* Now. */
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_ATIME | FATTR_ATIME_NOW), 0);
    st = host_stat(&s, "file");
    assert_true(st.st_atim.tv_sec > 1000000000);
    assert_int_equal(st.st_mtim.tv_sec, 33);
    /* Before 1970. */
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_MTIME, .mtime = (uint64_t)-5), 0);
    assert_int_equal(host_stat(&s, "file").st_mtim.tv_sec, -5);
    assert_int_equal(attr.mtime, (uint64_t)-5);
    /* The change time alone is nothing. */
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_CTIME, .ctime = 5), 0);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_MTIME, .mtimensec = UTIME_NOW), -EINVAL);
    share_end(&s);
}

static void files_are_truncated_with_and_without_a_handle(void **state)
{
    struct share s;
    struct fuse_attr attr;
    struct fuse_open_out open;
    struct fuse_entry_out dir;
    uint64_t node;
    share_begin(&s);
    uint64_t fh = new_file(&s, "file", &node);
    assert_int_equal(client_write(s.c, node, fh, "0123456789", 10, 0, 0), 10);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_SIZE, .size = 5), 0);
    assert_int_equal(attr.size, 5);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_SIZE | FATTR_FH, .fh = fh, .size = 3), 0);
    assert_int_equal(host_stat(&s, "file").st_size, 3);
    /* Far beyond its end, and by a handle that is for reading only. */
    assert_int_equal(client_open(s.c, node, O_RDONLY, &open), 0);
    assert_int_equal(
        SET(&s, node, &attr, .valid = FATTR_SIZE | FATTR_FH, .fh = open.fh, .size = UINT64_C(5) << 30),
        0);
    assert_int_equal(attr.size, UINT64_C(5) << 30);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_SIZE, .size = UINT64_MAX), -EFBIG);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_SIZE | FATTR_FH, .fh = 4711), -EBADF);
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &dir), 0);
    assert_int_equal(SET(&s, dir.nodeid, &attr, .valid = FATTR_SIZE), -EISDIR);
    assert_int_equal(client_mknod(s.c, ROOT, "fifo", S_IFIFO | 0644, 0, &dir), 0);
    assert_int_equal(SET(&s, dir.nodeid, &attr, .valid = FATTR_SIZE), -EINVAL);
    /* A file that its mode makes read-only is truncated by the handle that may. */
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_MODE, .mode = 0400), 0);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_SIZE | FATTR_FH, .fh = fh, .size = 1), 0);
    share_end(&s);
}

static void modes_are_set_as_they_are_said(void **state)
{
    struct share s;
    struct fuse_attr attr;
    struct fuse_entry_out dir;
    uint64_t node;
    skip_unless_root();
    share_begin(&s);
    new_file(&s, "file", &node);
    assert_int_equal(fchownat(s.dir, "file", 1234, 5678, 0), 0);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_MODE, .mode = 06755), 0);
    assert_int_equal(host_stat(&s, "file").st_mode, S_IFREG | 06755);
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &dir), 0);
    assert_int_equal(fchownat(s.dir, "dir", 1234, 5678, 0), 0);
    assert_int_equal(SET(&s, dir.nodeid, &attr, .valid = FATTR_MODE, .mode = 03777), 0);
    assert_int_equal(host_stat(&s, "dir").st_mode, S_IFDIR | 03777);
    share_end(&s);
}

static void owners_are_changed_by_the_map(void **state)
{
    struct share s;
    struct fuse_attr attr;
    uint64_t node;
    skip_unless_root();
    share_begin(&s); /* identity */
    new_file(&s, "file", &node);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_MODE, .mode = 06755), 0);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_UID | FATTR_KILL_SUIDGID, .uid = 77), 0);
    assert_int_equal(attr.uid, 77);
    assert_int_equal(attr.gid, 0);
    assert_int_equal(attr.mode, S_IFREG | 0755);
    /* Owner and mode together: the mode is what was said. */
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_UID | FATTR_GID | FATTR_MODE, .uid = 5,
                         .gid = 6, .mode = 04711),
                     0);
    assert_int_equal(attr.mode, S_IFREG | 04711);
    assert_int_equal(host_stat(&s, "file").st_gid, 6);
    share_end(&s);

    struct fs_idmap map = {
        .kind = FS_IDMAP_MAP, .uids = {{{0, 100000, 1000}}, 1}, .gids = {{{0, 200000, 1000}}, 1}};
    share_begin_with(&s, "/dev/shm", NULL, map, false);
    new_file(&s, "file", &node);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_UID | FATTR_GID, .uid = 1, .gid = 2), 0);
    assert_int_equal(host_stat(&s, "file").st_uid, 100001);
    assert_int_equal(host_stat(&s, "file").st_gid, 200002);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_UID, .uid = 1000), -EPERM);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_UID, .uid = FS_NOBODY), -EPERM);
    host_write(&s, "hosts", "");
    assert_int_equal(client_getattr(s.c, node_of(&s, ROOT, "hosts"), &attr), 0);
    assert_int_equal(attr.uid, FS_NOBODY);
    share_end(&s);
}

/* As in a user namespace: its root is nobody special to files whose owner or group it does not have. */
static void roots_rights_end_with_the_map(void **state)
{
    static const struct fs_idmap map = {
        .kind = FS_IDMAP_MAP, .uids = {{{0, 100000, 1000}}, 1}, .gids = {{{0, 200000, 1000}}, 1}};
    struct share s;
    struct fuse_attr attr;
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    skip_unless_root();
    share_begin_with(&s, "/dev/shm", NULL, map, false);
    host_write(&s, "hosts", "secret");
    assert_int_equal(fchmodat(s.dir, "hosts", 0600, 0), 0);
    assert_int_equal(mkdirat(s.dir, "dir", 0755), 0);
    host_write(&s, "dir/file", "");
    uint64_t hosts = node_of(&s, ROOT, "hosts"), dir = node_of(&s, ROOT, "dir");
    for (int half = 0; half < 2; half++) { /* nobody's; then only the group is */
        assert_int_equal(client_open(s.c, hosts, O_RDONLY, &open), -EACCES);
        assert_int_equal(SET(&s, hosts, &attr, .valid = FATTR_MODE, .mode = 04777), -EPERM);
        assert_int_equal(SET(&s, hosts, &attr, .valid = FATTR_UID | FATTR_GID), -EPERM);
        assert_int_equal(client_setxattr(s.c, hosts, "user.x", "1", 1, 0, 0), -EACCES);
        assert_int_equal(client_mkdir(s.c, dir, "new", 0755, &entry), -EACCES);
        assert_int_equal(client_rename(s.c, dir, "file", ROOT, "mine", 0), -EACCES);
        assert_int_equal(client_rename(s.c, ROOT, "hosts", dir, "hosts", 0), -EACCES);
        assert_int_equal(fchownat(s.dir, "hosts", 100005, 0, 0), 0);
    }
    assert_int_equal(fchownat(s.dir, "hosts", 100005, 200005, 0), 0);
    assert_int_equal(client_open(s.c, hosts, O_RDONLY, &open), 0);
    assert_int_equal(SET(&s, hosts, &attr, .valid = FATTR_MODE, .mode = 04777), 0);
    share_end(&s);
}

static void squash_accepts_owners_and_ignores_them(void **state)
{
    struct share s;
    struct fuse_attr attr;
    uint64_t node;
    struct fs_idmap squash = {.kind = FS_IDMAP_SQUASH,
                              .host_uid = geteuid(),
                              .host_gid = getegid(),
                              .shown_uid = 1000,
                              .shown_gid = 1000};
    share_begin_with(&s, "/dev/shm", NULL, squash, false);
    new_file(&s, "file", &node);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_UID | FATTR_GID, .uid = 5, .gid = 6), 0);
    assert_int_equal(attr.uid, 1000);
    assert_int_equal(attr.gid, 1000);
    assert_int_equal(host_stat(&s, "file").st_uid, geteuid());
    share_end(&s);
}

/* HANDLE_KILLPRIV_V2: gone where the guest's kernel asks, kept where its user may keep them. */
static void set_id_bits_go_when_the_guest_asks(void **state)
{
    struct share s;
    struct fuse_attr attr;
    uint64_t node;
    skip_unless_root();
    share_begin(&s);
    uint64_t fh = new_file(&s, "file", &node);
#define BITS() assert_int_equal(SET(&s, node, &attr, .valid = FATTR_MODE, .mode = 06755), 0)
#define MODE   (host_stat(&s, "file").st_mode & 07777)
    BITS();
    assert_int_equal(client_write(s.c, node, fh, "x", 1, 0, 0), 1);
    assert_int_equal(MODE, 06755);
    assert_int_equal(client_write(s.c, node, fh, "x", 1, 0, FUSE_WRITE_KILL_SUIDGID), 1);
    assert_int_equal(MODE, 0755);
    BITS();
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_SIZE, .size = 9), 0);
    assert_int_equal(MODE, 06755);
    assert_int_equal(SET(&s, node, &attr, .valid = FATTR_SIZE | FATTR_KILL_SUIDGID, .size = 8), 0);
    assert_int_equal(MODE, 0755);
    BITS();
    assert_int_equal(
        SET(&s, node, &attr, .valid = FATTR_SIZE | FATTR_KILL_SUIDGID | FATTR_FH, .fh = fh, .size = 7),
        0);
    assert_int_equal(MODE, 0755);
    BITS();
    struct fuse_open_in in = {.flags = O_RDWR | O_TRUNC};
    struct fuse_open_out open;
    assert_int_equal(client_ask(s.c, FUSE_OPEN, node, &open, CLIENT_PART(&in)), 0);
    assert_int_equal(MODE, 06755);
    assert_int_equal(host_stat(&s, "file").st_size, 0);
    assert_int_equal(client_write(s.c, node, fh, "x", 1, 0, 0), 1);
    in.open_flags = FUSE_OPEN_KILL_SUIDGID;
    assert_int_equal(client_ask(s.c, FUSE_OPEN, node, &open, CLIENT_PART(&in)), 0);
    assert_int_equal(MODE, 0755);
    /* FALLOCATE has no such flag: the guest's root may keep them. */
    struct fuse_fallocate_in fallocate = {.fh = fh, .length = 4096};
    BITS();
    assert_int_equal(client_send(s.c, FUSE_FALLOCATE, node, CLIENT_PART(&fallocate)), 0);
    assert_int_equal(MODE, 06755);
    client_user(s.c, 1000, 1000);
    assert_int_equal(client_send(s.c, FUSE_FALLOCATE, node, CLIENT_PART(&fallocate)), 0);
    assert_int_equal(MODE, 0755);
    share_end(&s);
}

static void statfs_is_the_hosts(void **state)
{
    struct share s;
    struct fuse_statfs_out out;
    struct statfs st;
    share_begin(&s);
    assert_int_equal(fstatfs(s.dir, &st), 0);
    assert_int_equal(client_call_exact(s.c, FUSE_STATFS, ROOT, NULL, 0, &out, sizeof(out)), 0);
    assert_int_equal(out.st.bsize, st.f_bsize);
    assert_int_equal(out.st.blocks, st.f_blocks);
    assert_int_equal(out.st.namelen, st.f_namelen);
    share_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roots_rights_end_with_the_map),
        cmocka_unit_test(attributes_are_the_hosts),
        cmocka_unit_test(attributes_come_by_the_open_file),
        cmocka_unit_test(times_are_set_to_the_nanosecond),
        cmocka_unit_test(files_are_truncated_with_and_without_a_handle),
        cmocka_unit_test(modes_are_set_as_they_are_said),
        cmocka_unit_test(owners_are_changed_by_the_map),
        cmocka_unit_test(squash_accepts_owners_and_ignores_them),
        cmocka_unit_test(set_id_bits_go_when_the_guest_asks),
        cmocka_unit_test(statfs_is_the_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
