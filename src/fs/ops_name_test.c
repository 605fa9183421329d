/* SPDX-License-Identifier: Apache-2.0 */

/* Names: looked up, made, moved, removed; and the names that lead nowhere. */

#include <limits.h>
#include <linux/fs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "fs/testing_fs.h"
#include "util/arith.h"

/* -- look-ups ------------------------------------------------------------------------------------ */

static void lookups_say_what_is_there(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    share_begin(&s);
    host_write(&s, "file", "12345");
    assert_int_equal(client_lookup(s.c, ROOT, "file", &entry), 0);
    struct stat st = host_stat(&s, "file");
    assert_int_equal(entry.attr.size, 5);
    assert_int_equal(entry.attr.ino, st.st_ino);
    assert_int_equal(entry.attr.mode, st.st_mode);
    assert_int_equal(entry.attr.mtime, st.st_mtim.tv_sec);
    assert_int_equal(entry.attr.mtimensec, st.st_mtim.tv_nsec);
    assert_int_equal(entry.attr.uid, 0);
    assert_int_equal(entry.entry_valid, FS_AUTO_SECONDS);
    assert_int_equal(entry.attr_valid, FS_AUTO_SECONDS);
    uint64_t node = entry.nodeid;
    assert_int_equal(client_lookup(s.c, node, "below", &entry), -ENOTDIR);
    assert_int_equal(client_lookup(s.c, ROOT, ".", &entry), 0);
    assert_int_equal(entry.nodeid, ROOT);
    assert_int_equal(client_lookup(s.c, ROOT, "..", &entry), 0);
    assert_int_equal(entry.nodeid, ROOT);
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &entry), 0);
    assert_int_equal(client_lookup(s.c, entry.nodeid, "..", &entry), 0);
    assert_int_equal(entry.nodeid, ROOT);
    share_end(&s);
}

static void missing_names_are_believed_by_the_cache_policy(void **state)
{
    static const struct {
        enum fs_cache cache;
        int rc;
        uint64_t seconds;
    } cases[] = {
        {FS_CACHE_AUTO, 0, FS_AUTO_SECONDS},
        {FS_CACHE_ALWAYS, 0, FS_ALWAYS_SECONDS},
        {FS_CACHE_NONE, -ENOENT, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct share s;
        struct fuse_entry_out entry = {.nodeid = 99};
        struct fs_options options = {.cache = cases[i].cache};
        share_begin_with(&s, "/dev/shm", &options, own_idmap(), false);
        assert_int_equal(client_lookup(s.c, ROOT, "none", &entry), cases[i].rc);
        if (cases[i].rc == 0) {
            assert_int_equal(entry.nodeid, 0);
            assert_int_equal(entry.entry_valid, cases[i].seconds);
        }
        assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &entry), 0);
        assert_int_equal(entry.entry_valid, cases[i].seconds);
        assert_int_equal(entry.attr_valid, cases[i].seconds);
        share_end(&s);
    }
}

static void forgotten_nodes_are_stale(void **state)
{
    struct share s;
    struct fuse_attr attr;
    share_begin(&s);
    host_write(&s, "a", "");
    host_write(&s, "b", "");
    uint64_t a = node_of(&s, ROOT, "a"), b = node_of(&s, ROOT, "b");
    assert_int_equal(node_of(&s, ROOT, "a"), a);
    client_forget(s.c, a, 1);
    assert_int_equal(client_getattr(s.c, a, &attr), 0);
    struct fuse_batch_forget_in in = {.count = 3};
    struct fuse_forget_one some[] = {{a, 1}, {b, 1}, {12345, 7}};
    assert_int_equal(client_send(s.c, FUSE_BATCH_FORGET, 0, CLIENT_PART(&in), {some, sizeof(some)}),
                     CLIENT_NO_REPLY);
    assert_int_equal(client_getattr(s.c, a, &attr), -ESTALE);
    assert_int_equal(client_getattr(s.c, b, &attr), -ESTALE);
    /* More than were sent, more than were counted, and the root: nothing comes of it. */
    in.count = UINT32_MAX;
    some[0] = (struct fuse_forget_one){ROOT, UINT64_MAX};
    assert_int_equal(client_send(s.c, FUSE_BATCH_FORGET, 0, CLIENT_PART(&in), {some, sizeof(some)}),
                     CLIENT_NO_REPLY);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), 0);
    share_end(&s);
}

/* -- names that lead nowhere --------------------------------------------------------------------- */

/* Whatever a name is, it is refused or is one component of this directory. */
static void names_cannot_leave_the_share(void **state)
{
    static const char *const bad[] = {".", "..", "/", "a/b", "../x", "/etc/passwd", "dir/..", "..//"};
    struct share s;
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    share_begin(&s);
    host_write(&s, "file", "");
    uint64_t file = node_of(&s, ROOT, "file");
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        const char *name = bad[i];
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            assert_int_equal(client_lookup(s.c, ROOT, name, &entry), -EINVAL);
        assert_int_equal(client_create(s.c, ROOT, name, O_RDWR, 0644, &entry, &open), -EINVAL);
        assert_int_equal(client_mkdir(s.c, ROOT, name, 0755, &entry), -EINVAL);
        assert_int_equal(client_mknod(s.c, ROOT, name, S_IFREG | 0644, 0, &entry), -EINVAL);
        assert_int_equal(client_symlink(s.c, ROOT, name, "x", &entry), -EINVAL);
        assert_int_equal(client_link(s.c, file, ROOT, name, &entry), -EINVAL);
        assert_int_equal(client_unlink(s.c, ROOT, name), -EINVAL);
        assert_int_equal(client_rmdir(s.c, ROOT, name), -EINVAL);
        assert_int_equal(client_rename(s.c, ROOT, name, ROOT, "new", 0), -EINVAL);
        assert_int_equal(client_rename(s.c, ROOT, "file", ROOT, name, 0), -EINVAL);
        assert_int_equal(client_rename(s.c, ROOT, "file", ROOT, name, RENAME_NOREPLACE), -EINVAL);
    }
    share_end(&s);
}

static void symbolic_links_are_not_followed(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    char outside[] = "/dev/shm/unit-outside-XXXXXX";
    int fd = mkstemp(outside);
    share_begin(&s);
    assert_int_equal(symlinkat("/", s.dir, "slash"), 0);
    assert_int_equal(symlinkat("..", s.dir, "up"), 0);
    assert_int_equal(symlinkat(outside, s.dir, "out"), 0);
    uint64_t slash = node_of(&s, ROOT, "slash"), out = node_of(&s, ROOT, "out");
    assert_int_equal(client_lookup(s.c, slash, "etc", &entry), -ENOTDIR);
    assert_int_equal(client_lookup(s.c, node_of(&s, ROOT, "up"), "x", &entry), -ENOTDIR);
    assert_int_equal(client_mkdir(s.c, slash, "x", 0755, &entry), -ENOTDIR);
    assert_int_equal(client_open(s.c, out, O_RDWR, &open), -ELOOP);
    assert_int_equal(client_opendir(s.c, slash, &open), -ENOTDIR);
    struct fuse_setattr_in in = {.valid = FATTR_SIZE, .size = 7};
    assert_int_equal(client_setattr(s.c, out, &in, NULL), -EINVAL);
    in = (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0777};
    assert_int_equal(client_setattr(s.c, out, &in, NULL), -EOPNOTSUPP);
    in = (struct fuse_setattr_in){.valid = FATTR_MTIME, .mtime = 1};
    assert_int_equal(client_setattr(s.c, out, &in, NULL), 0);
    assert_int_equal(host_stat(&s, "out").st_mtim.tv_sec, 1);
    assert_int_equal(client_create(s.c, ROOT, "out", O_RDWR | O_TRUNC, 0644, &entry, &open), -ESTALE);
    assert_int_equal(client_create(s.c, ROOT, "out", O_RDWR | O_EXCL, 0644, &entry, &open), -EEXIST);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(st.st_mtim.tv_sec > 1);
    unlink(outside);
    close(fd);
    share_end(&s);
}

/* A node is its file, whatever its name has become: a symlink put there leads nowhere. */
static void swapped_names_lead_to_what_was_looked_up(void **state)
{
    struct share s;
    struct fuse_open_out open;
    struct fuse_entry_out entry;
    share_begin(&s);
    host_write(&s, "file", "mine");
    assert_int_equal(mkdirat(s.dir, "dir", 0755), 0);
    uint64_t file = node_of(&s, ROOT, "file"), dir = node_of(&s, ROOT, "dir");
    assert_int_equal(unlinkat(s.dir, "file", 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", s.dir, "file"), 0);
    assert_int_equal(unlinkat(s.dir, "dir", AT_REMOVEDIR), 0);
    assert_int_equal(symlinkat("/etc", s.dir, "dir"), 0);
    int rc = client_open(s.c, file, O_RDONLY, &open);
    assert_true(rc == -ESTALE || rc == -ENOENT);
    rc = client_lookup(s.c, dir, "passwd", &entry);
    assert_true(rc == -ESTALE || rc == -ENOENT || (rc == 0 && entry.nodeid == 0));
    share_end(&s);
}

static void names_have_their_bounds(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    char name[300];
    uint8_t reply[256];
    share_begin(&s);
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    assert_int_equal(client_mkdir(s.c, ROOT, name, 0755, &entry), -ENAMETOOLONG);
    assert_int_equal(client_lookup(s.c, ROOT, name, &entry), -ENAMETOOLONG);
    name[255] = '\0';
    assert_int_equal(client_mkdir(s.c, ROOT, name, 0755, &entry), 0);
    assert_int_equal(client_lookup(s.c, ROOT, name, &entry), 0);
    assert_int_equal(client_rmdir(s.c, ROOT, name), 0);
    assert_int_equal(client_lookup(s.c, ROOT, "", &entry), -EINVAL);
    /* Without a NUL, or without its second name. */
    assert_int_equal(client_call(s.c, FUSE_LOOKUP, ROOT, CLIENT_PARTS({"abc", 3}), 1, reply,
                                 &(size_t){sizeof(reply)}),
                     -EINVAL);
    struct fuse_rename_in in = {.newdir = ROOT};
    assert_int_equal(client_send(s.c, FUSE_RENAME, ROOT, CLIENT_PART(&in), CLIENT_TEXT("abc")),
                     -EINVAL);
    char *target = malloc(PATH_MAX + 1);
    memset(target, 't', PATH_MAX);
    target[PATH_MAX] = '\0';
    assert_int_equal(client_symlink(s.c, ROOT, "link", target, &entry), -ENAMETOOLONG);
    free(target);
    share_end(&s);
}

/* -- making -------------------------------------------------------------------------------------- */

static void create_makes_new_files_only(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    share_begin(&s);
    assert_int_equal(client_create(s.c, ROOT, "new", O_WRONLY | O_EXCL, 0640, &entry, &open), 0);
    assert_int_equal(host_stat(&s, "new").st_mode, S_IFREG | 0640);
    assert_int_equal(entry.attr.mode, S_IFREG | 0640);
    assert_int_equal(node_of(&s, ROOT, "new"), entry.nodeid);
    assert_int_equal(client_write(s.c, entry.nodeid, open.fh, "x", 1, 0, 0), 1);
    assert_int_equal(client_create(s.c, ROOT, "new", O_WRONLY | O_EXCL, 0640, &entry, &open), -EEXIST);
    assert_int_equal(client_create(s.c, ROOT, "new", O_WRONLY | O_TRUNC, 0640, &entry, &open), -ESTALE);
    assert_int_equal(host_stat(&s, "new").st_size, 1);
    assert_int_equal(mkfifoat(s.dir, "fifo", 0644), 0);
    assert_int_equal(client_create(s.c, ROOT, "fifo", O_WRONLY, 0640, &entry, &open), -ESTALE);
    share_end(&s);
}

static void the_guests_umask_holds(void **state)
{
    struct share s;
    struct fuse_mkdir_in mkdir_in = {.mode = 0777, .umask = 027};
    struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 0666, .umask = 077};
    struct fuse_entry_out entry;
    share_begin(&s);
    assert_int_equal(
        client_ask(s.c, FUSE_MKDIR, ROOT, &entry, CLIENT_PART(&mkdir_in), CLIENT_TEXT("d")), 0);
    assert_int_equal(entry.attr.mode, S_IFDIR | 0750);
    assert_int_equal(
        client_ask(s.c, FUSE_MKNOD, ROOT, &entry, CLIENT_PART(&mknod_in), CLIENT_TEXT("f")), 0);
    assert_int_equal(entry.attr.mode, S_IFREG | 0600);
    assert_int_equal(client_mkdir(s.c, ROOT, "e", 01777, &entry), 0);
    assert_int_equal(entry.attr.mode, S_IFDIR | 01777);
    share_end(&s);
}

static void special_files_are_made_and_not_opened(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    share_begin(&s);
    assert_int_equal(client_mknod(s.c, ROOT, "fifo", S_IFIFO | 0644, 0, &entry), 0);
    assert_true(S_ISFIFO(host_stat(&s, "fifo").st_mode));
    assert_int_equal(client_open(s.c, entry.nodeid, O_RDWR, &open), -ENXIO);
    assert_int_equal(client_mknod(s.c, ROOT, "socket", S_IFSOCK | 0644, 0, &entry), 0);
    assert_true(S_ISSOCK(host_stat(&s, "socket").st_mode));
    assert_int_equal(client_mknod(s.c, ROOT, "dir", S_IFDIR | 0755, 0, &entry), -EPERM);
    assert_int_equal(client_mknod(s.c, ROOT, "fifo", S_IFREG | 0644, 0, &entry), -EEXIST);
    share_end(&s);
}

static void device_nodes_are_for_who_is_root_on_the_host(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    skip_unless_root();
    share_begin(&s); /* identity */
    assert_int_equal(client_mknod(s.c, ROOT, "null", S_IFCHR | 0666, 0x103, &entry), 0);
    struct stat st = host_stat(&s, "null");
    assert_int_equal(major(st.st_rdev), 1);
    assert_int_equal(minor(st.st_rdev), 3);
    assert_int_equal(entry.attr.rdev, 0x103);
    assert_int_equal(client_open(s.c, entry.nodeid, O_RDWR, &open), -ENXIO);
    /* A minor number of more than 8 bits. */
    assert_int_equal(
        client_mknod(s.c, ROOT, "far", S_IFBLK | 0600, 0xabc00000 | 0x812 << 8 | 0xde, &entry), 0);
    assert_int_equal(entry.attr.rdev, 0xabc00000 | 0x812 << 8 | 0xde);
    assert_int_equal(minor(host_stat(&s, "far").st_rdev), 0xabcde);
    share_end(&s);

    struct fs_idmap squash = {.kind = FS_IDMAP_SQUASH};
    share_begin_with(&s, "/dev/shm", NULL, squash, false);
    assert_int_equal(client_mknod(s.c, ROOT, "null", S_IFCHR | 0666, 0x103, &entry), -EPERM);
    assert_int_equal(client_mknod(s.c, ROOT, "disk", S_IFBLK | 0666, 0x103, &entry), -EPERM);
    assert_int_equal(client_mknod(s.c, ROOT, "fifo", S_IFIFO | 0666, 0, &entry), 0);
    /* A whiteout of the guest's overlayfs is no device. */
    assert_int_equal(client_mknod(s.c, ROOT, "whiteout", S_IFCHR, 0, &entry), 0);
    share_end(&s);
}

static void links_are_made_and_read(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    char target[PATH_MAX];
    size_t len = sizeof(target);
    share_begin(&s);
    assert_int_equal(client_symlink(s.c, ROOT, "link", "../some/where", &entry), 0);
    assert_true(S_ISLNK(entry.attr.mode));
    uint64_t link = entry.nodeid;
    assert_int_equal(client_call(s.c, FUSE_READLINK, link, NULL, 0, target, &len), 0);
    assert_int_equal(len, 13);
    assert_memory_equal(target, "../some/where", 13);
    len = 4; /* a guest that gives less room gets less */
    assert_int_equal(client_call(s.c, FUSE_READLINK, link, NULL, 0, target, &len), 0);
    assert_int_equal(len, 4);
    len = sizeof(target);
    assert_int_equal(client_call(s.c, FUSE_READLINK, ROOT, NULL, 0, target, &len), -EINVAL);

    host_write(&s, "file", "");
    uint64_t file = node_of(&s, ROOT, "file");
    assert_int_equal(client_link(s.c, file, ROOT, "other", &entry), 0);
    assert_int_equal(entry.nodeid, file);
    assert_int_equal(entry.attr.nlink, 2);
    assert_int_equal(client_link(s.c, file, ROOT, "other", &entry), -EEXIST);
    assert_int_equal(client_link(s.c, ROOT, ROOT, "again", &entry), -EPERM);
    assert_int_equal(client_link(s.c, 4711, ROOT, "again", &entry), -ESTALE);
    /* Of a symbolic link itself. */
    assert_int_equal(client_link(s.c, link, ROOT, "link2", &entry), 0);
    assert_int_equal(host_stat(&s, "link2").st_ino, host_stat(&s, "link").st_ino);
    share_end(&s);
}

static void tmpfiles_have_no_name_until_they_are_linked(void **state)
{
    struct share s;
    struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out;
    struct fuse_entry_out entry;
    struct fuse_attr attr;
    share_begin(&s);
    assert_int_equal(client_ask(s.c, FUSE_TMPFILE, ROOT, &out, CLIENT_PART(&in), CLIENT_TEXT("/")), 0);
    uint64_t node = out.entry.nodeid;
    assert_int_equal(out.entry.attr.nlink, 0);
    assert_int_equal(client_write(s.c, node, out.open.fh, "tmp", 3, 0, 0), 3);
    assert_int_equal(client_getattr(s.c, node, &attr), 0);
    assert_int_equal(attr.size, 3);
    assert_int_equal(client_link(s.c, node, ROOT, "named", &entry), 0);
    assert_int_equal(entry.nodeid, node);
    assert_int_equal(host_stat(&s, "named").st_size, 3);
    assert_int_equal(client_release(s.c, node, out.open.fh), 0);
    share_end(&s);
}

/* -- removing and moving ------------------------------------------------------------------------- */

static void what_is_removed_stays_while_it_is_open(void **state)
{
    struct share s;
    struct fuse_attr attr;
    struct fuse_entry_out entry;
    char buf[8];
    uint64_t node;
    share_begin(&s);
    uint64_t fh = new_file(&s, "file", &node);
    assert_int_equal(client_write(s.c, node, fh, "kept", 4, 0, 0), 4);
    assert_int_equal(client_unlink(s.c, ROOT, "file"), 0);
    assert_int_equal(client_getattr(s.c, node, &attr), 0);
    assert_int_equal(attr.nlink, 0);
    assert_int_equal(client_read(s.c, node, fh, buf, sizeof(buf), 0), 4);
    struct fuse_setattr_in in = {.valid = FATTR_SIZE, .size = 2};
    assert_int_equal(client_setattr(s.c, node, &in, &attr), 0);
    assert_int_equal(attr.size, 2);
    assert_int_equal(client_release(s.c, node, fh), 0);

    assert_int_equal(client_unlink(s.c, ROOT, "file"), -ENOENT);
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &entry), 0);
    assert_int_equal(client_unlink(s.c, ROOT, "dir"), -EISDIR);
    host_write(&s, "dir/x", "");
    assert_int_equal(client_rmdir(s.c, ROOT, "dir"), -ENOTEMPTY);
    assert_int_equal(client_unlink(s.c, entry.nodeid, "x"), 0);
    assert_int_equal(client_rmdir(s.c, ROOT, "dir"), 0);
    host_write(&s, "f", "");
    assert_int_equal(client_rmdir(s.c, ROOT, "f"), -ENOTDIR);
    share_end(&s);
}

static void renames_keep_what_they_move(void **state)
{
    struct share s;
    struct fuse_entry_out dir, entry;
    struct fuse_attr attr;
    share_begin(&s);
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &dir), 0);
    host_write(&s, "a", "aa");
    host_write(&s, "b", "bbb");
    uint64_t a = node_of(&s, ROOT, "a"), b = node_of(&s, ROOT, "b");
    assert_int_equal(client_rename(s.c, ROOT, "a", dir.nodeid, "c", 0), 0);
    assert_int_equal(client_getattr(s.c, a, &attr), 0);
    assert_int_equal(node_of(&s, dir.nodeid, "c"), a);
    assert_int_equal(client_rename(s.c, ROOT, "b", dir.nodeid, "c", RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(client_rename(s.c, ROOT, "b", dir.nodeid, "c", RENAME_EXCHANGE), 0);
    assert_int_equal(node_of(&s, dir.nodeid, "c"), b);
    assert_int_equal(node_of(&s, ROOT, "b"), a);
    assert_int_equal(client_rename(s.c, ROOT, "none", ROOT, "x", RENAME_EXCHANGE), -ENOENT);
    /* Over what is open. */
    struct fuse_open_out open;
    char buf[8];
    assert_int_equal(client_open(s.c, b, O_RDONLY, &open), 0);
    assert_int_equal(client_rename(s.c, ROOT, "b", dir.nodeid, "c", 0), 0);
    assert_int_equal(client_read(s.c, b, open.fh, buf, sizeof(buf), 0), 3);
    assert_int_equal(client_getattr(s.c, b, &attr), 0);
    assert_int_equal(attr.nlink, 0);
    assert_int_equal(client_rename(s.c, ROOT, "dir", dir.nodeid, "self", 0), -EINVAL);
    assert_int_equal(client_rename(s.c, dir.nodeid, "c", ROOT, "x", 1u << 8), -EINVAL);
    assert_int_equal(client_rename(s.c, dir.nodeid, "c", ROOT, "x", RENAME_NOREPLACE | RENAME_EXCHANGE),
                     -EINVAL);
    assert_int_equal(client_rename(s.c, dir.nodeid, "c", ROOT, "x", RENAME_NOREPLACE), 0);
    assert_int_equal(client_lookup(s.c, ROOT, "x", &entry), 0);
    assert_int_equal(entry.nodeid, a);
    share_end(&s);

    share_begin_with(&s, "/var/tmp", NULL, own_idmap(),
                     false); /* a whiteout is not tmpfs' everywhere */
    host_write(&s, "low", "");
    int rc = client_rename(s.c, ROOT, "low", ROOT, "up", RENAME_WHITEOUT);
    assert_true(rc == 0 || rc == -EINVAL);
    if (rc == 0) {
        assert_true(S_ISCHR(host_stat(&s, "low").st_mode));
        assert_int_equal(host_stat(&s, "low").st_rdev, 0);
    }
    share_end(&s);
}

/* -- several directories ------------------------------------------------------------------------- */

static void several_directories_stay_apart(void **state)
{
    struct share a, b, s = {.dir = -1};
    struct fuse_entry_out entry, ea, eb;
    struct fuse_open_out open;
    share_make_directory(&a, "/dev/shm");
    share_make_directory(&b, "/dev/shm");
    share_make_directory(&s, "/dev/shm");
    struct fs_directory directories[] = {
        {.name = "one", .fd = a.dir, .idmap = own_idmap()},
        {.name = "two", .fd = b.dir, .idmap = own_idmap(), .read_only = true},
        {.name = "three", .fd = s.dir, .idmap = own_idmap()},
    };
    struct fs_options options = {.directories = directories, .directory_count = 3};
    host_write(&a, "file", "a");
    host_write(&b, "file", "b");
    share_start(&s, &options);

    assert_int_equal(client_lookup(s.c, ROOT, "one", &ea), 0);
    assert_int_equal(client_lookup(s.c, ROOT, "two", &eb), 0);
    assert_true(ea.attr.flags & FUSE_ATTR_SUBMOUNT);
    assert_int_equal(client_lookup(s.c, ROOT, "four", &entry), 0);
    assert_int_equal(entry.nodeid, 0);
    /* The made-up root takes nothing. */
    assert_int_equal(client_mkdir(s.c, ROOT, "four", 0755, &entry), -EROFS);
    assert_int_equal(client_rmdir(s.c, ROOT, "one"), -EROFS);
    assert_int_equal(client_rename(s.c, ROOT, "one", ROOT, "uno", 0), -EROFS);
    struct fuse_attr attr;
    assert_int_equal(client_getattr(s.c, ROOT, &attr), 0);
    assert_true(S_ISDIR(attr.mode));
    struct fuse_statfs_out statfs;
    assert_int_equal(client_call_exact(s.c, FUSE_STATFS, ROOT, NULL, 0, &statfs, sizeof(statfs)), 0);
    assert_int_equal(client_lookup(s.c, ea.nodeid, "..", &entry), 0);
    assert_int_equal(entry.nodeid, ROOT);
    struct fuse_syncfs_in sync = {0};
    assert_int_equal(client_send(s.c, FUSE_SYNCFS, ROOT, CLIENT_PART(&sync)), 0);

    /* Each has rights of its own, also towards the others. */
    uint64_t fa = node_of(&s, ea.nodeid, "file"), fb = node_of(&s, eb.nodeid, "file");
    assert_int_equal(client_open(s.c, fb, O_RDWR, &open), -EROFS);
    assert_int_equal(client_open(s.c, fa, O_RDWR, &open), 0);
    assert_int_equal(client_rename(s.c, ea.nodeid, "file", eb.nodeid, "x", 0), -EXDEV);
    assert_int_equal(client_rename(s.c, eb.nodeid, "file", ea.nodeid, "x", 0), -EROFS);
    assert_int_equal(client_link(s.c, fb, ea.nodeid, "x", &entry), -EXDEV);
    /* A handle of a writable file does not help with another's node. */
    struct fuse_setattr_in in = {.valid = FATTR_SIZE | FATTR_FH, .size = 0, .fh = open.fh};
    assert_int_equal(client_setattr(s.c, fb, &in, NULL), -EROFS);
    assert_int_equal(client_write(s.c, fb, open.fh, "x", 1, 0, 0), -EROFS);
    struct fuse_open_out other;
    assert_int_equal(client_open(s.c, fb, O_RDONLY, &other), 0);
    in.fh = other.fh;
    assert_int_equal(client_setattr(s.c, fa, &in, NULL), -EBADF);
    assert_int_equal(client_write(s.c, fa, other.fh, "x", 1, 0, 0), -EBADF);
    assert_int_equal(host_stat(&a, "file").st_size, 1);
    share_end(&s);
    close(a.dir);
    close(b.dir);
    tree_remove(AT_FDCWD, a.path);
    tree_remove(AT_FDCWD, b.path);
}

/* -- whose they are ------------------------------------------------------------------------------ */

static void files_belong_to_the_mapped_user(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    skip_unless_root();
    share_begin(&s); /* identity */
    assert_int_equal(fchmod(s.dir, 0777), 0);
    client_user(s.c, 1234, 4321);
    assert_int_equal(client_create(s.c, ROOT, "file", O_RDWR, 0644, &entry, &open), 0);
    assert_int_equal(entry.attr.uid, 1234);
    assert_int_equal(host_stat(&s, "file").st_uid, 1234);
    assert_int_equal(host_stat(&s, "file").st_gid, 4321);
    share_end(&s);

    struct fs_idmap map = {
        .kind = FS_IDMAP_MAP, .uids = {{{0, 100000, 1000}}, 1}, .gids = {{{0, 200000, 1000}}, 1}};
    share_begin_with(&s, "/dev/shm", NULL, map, false);
    client_user(s.c, 5, 6);
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &entry), 0);
    assert_int_equal(entry.attr.uid, 5);
    assert_int_equal(entry.attr.gid, 6);
    assert_int_equal(host_stat(&s, "dir").st_uid, 100005);
    assert_int_equal(host_stat(&s, "dir").st_gid, 200006);
    client_user(s.c, 1000, 6);
    assert_int_equal(client_mkdir(s.c, ROOT, "no", 0755, &entry), -EPERM);
    assert_int_equal(client_mknod(s.c, ROOT, "null", S_IFCHR | 0666, 0x103, &entry), -EPERM);
    share_end(&s);

    struct fs_idmap squash = {
        .kind = FS_IDMAP_SQUASH, .host_uid = 1001, .host_gid = 1002, .shown_uid = 7, .shown_gid = 8};
    share_begin_with(&s, "/dev/shm", NULL, squash, false);
    client_user(s.c, 0, 0);
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &entry), -EACCES); /* root's directory */
    assert_int_equal(fchown(s.dir, 1001, 1002), 0);
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &entry), 0);
    assert_int_equal(entry.attr.uid, 7);
    assert_int_equal(entry.attr.gid, 8);
    assert_int_equal(host_stat(&s, "dir").st_uid, 1001);
    share_end(&s);
}

/* CVE-2022-0358's class: a member of no group makes set-group-id files of a directory's group. */
static void set_group_id_follows_the_group(void **state)
{
    struct share s;
    struct fuse_entry_out entry, dir;
    struct fuse_open_out open;
    skip_unless_root();
    share_begin(&s);
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0777, &dir), 0);
    assert_int_equal(fchownat(s.dir, "dir", 0, 50, 0), 0);
    assert_int_equal(fchmodat(s.dir, "dir", 02777, 0), 0);
    client_user(s.c, 1234, 1234);
    assert_int_equal(client_create(s.c, dir.nodeid, "a", O_RDWR, 02775, &entry, &open), 0);
    assert_int_equal(entry.attr.gid, 50);
    assert_int_equal(entry.attr.mode & 07777, 0775);

    /* Who is in the group says so, and keeps the bit. */
    struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 02775};
    struct {
        struct fuse_ext_header head;
        uint32_t count, group;
    } ext = {{sizeof(ext), FUSE_EXT_GROUPS}, 1, 50};
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out;
    client_extensions(s.c, sizeof(ext));
    assert_int_equal(client_ask(s.c, FUSE_CREATE, dir.nodeid, &out, CLIENT_PART(&in), CLIENT_TEXT("b"),
                                CLIENT_PART(&ext)),
                     0);
    assert_int_equal(out.entry.attr.mode & 07777, 02775);
    /* And only for this one. */
    assert_int_equal(client_create(s.c, dir.nodeid, "c", O_RDWR, 02775, &entry, &open), 0);
    assert_int_equal(entry.attr.mode & 07777, 0775);
    assert_int_equal(client_mkdir(s.c, dir.nodeid, "d", 0775, &entry), 0);
    assert_int_equal(entry.attr.mode & 07777, 02775);
    share_end(&s);
}

static void squash_stores_no_set_id_bits(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    struct fs_idmap squash = {.kind = FS_IDMAP_SQUASH, .host_uid = geteuid(), .host_gid = getegid()};
    share_begin_with(&s, "/dev/shm", NULL, squash, false);
    assert_int_equal(client_create(s.c, ROOT, "a", O_RDWR, 06755, &entry, &open), 0);
    assert_int_equal(host_stat(&s, "a").st_mode, S_IFREG | 0755);
    assert_int_equal(client_mknod(s.c, ROOT, "b", S_IFREG | 06755, 0, &entry), 0);
    assert_int_equal(host_stat(&s, "b").st_mode, S_IFREG | 0755);
    struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 06711};
    assert_int_equal(client_setattr(s.c, entry.nodeid, &in, NULL), 0);
    assert_int_equal(host_stat(&s, "b").st_mode, S_IFREG | 0711);
    share_end(&s);
}

static void broken_extensions_are_refused(void **state)
{
    static const struct {
        const char *what;
        uint32_t words[8];
        size_t bytes;
    } cases[] = {
        {"a size below its header", {4, FUSE_EXT_GROUPS}, 8},
        {"a size beyond the request", {64, FUSE_EXT_GROUPS, 1, 50}, 16},
        {"no group count", {8, FUSE_EXT_GROUPS}, 8},
        {"a label without a head", {8, 1}, 8},
        {"a label longer than what there is", {24, 1, 4096, 0, 0x636573, 0}, 24},
        {"a label without a name's end", {20, 1, 0, 0, 0x41414141}, 20},
    };
    struct share s;
    struct fuse_mkdir_in in = {.mode = 0755};
    struct fuse_entry_out entry;
    share_begin(&s);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        client_extensions(s.c, cases[i].bytes);
        int rc = client_ask(s.c, FUSE_MKDIR, ROOT, &entry, CLIENT_PART(&in), CLIENT_TEXT("dir"),
                            {cases[i].words, cases[i].bytes});
        if (rc != -EINVAL)
            fail_msg("%s: %d", cases[i].what, rc);
        assert_false(host_has(&s, "dir"));
    }
    /* A kind that is not known, and no label at all, are passed over. */
    uint32_t unknown[] = {12, 77, 5, 0, 8, 0};
    assert_int_equal(client_ask(s.c, FUSE_MKDIR, ROOT, &entry, CLIENT_PART(&in), CLIENT_TEXT("dir"),
                                {unknown, sizeof(unknown)}),
                     0);
    share_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookups_say_what_is_there),
        cmocka_unit_test(missing_names_are_believed_by_the_cache_policy),
        cmocka_unit_test(forgotten_nodes_are_stale),
        cmocka_unit_test(names_cannot_leave_the_share),
        cmocka_unit_test(symbolic_links_are_not_followed),
        cmocka_unit_test(swapped_names_lead_to_what_was_looked_up),
        cmocka_unit_test(names_have_their_bounds),
        cmocka_unit_test(create_makes_new_files_only),
        cmocka_unit_test(the_guests_umask_holds),
        cmocka_unit_test(special_files_are_made_and_not_opened),
        cmocka_unit_test(device_nodes_are_for_who_is_root_on_the_host),
        cmocka_unit_test(links_are_made_and_read),
        cmocka_unit_test(tmpfiles_have_no_name_until_they_are_linked),
        cmocka_unit_test(what_is_removed_stays_while_it_is_open),
        cmocka_unit_test(renames_keep_what_they_move),
        cmocka_unit_test(several_directories_stay_apart),
        cmocka_unit_test(files_belong_to_the_mapped_user),
        cmocka_unit_test(set_group_id_follows_the_group),
        cmocka_unit_test(squash_stores_no_set_id_bits),
        cmocka_unit_test(broken_extensions_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
