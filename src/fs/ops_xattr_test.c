/* SPDX-License-Identifier: Apache-2.0 */

/* Extended attributes: sizes, which are seen and set for whom, ACLs and their ids. */

#include <sys/xattr.h>

#include "fs/testing_fs.h"
#include "util/arith.h"

#define ACL "system.posix_acl_access"

/* On ext4: tmpfs has no user.* before Linux 6.6. */
static uint64_t begin(struct share *s, const struct fs_options *options, struct fs_idmap idmap)
{
    uint64_t node;
    share_begin_with(s, "/var/tmp", options, idmap, false);
    new_file(s, "file", &node);
    return node;
}

static ssize_t host_xattr(struct share *s, const char *name, void *buf, size_t len)
{
    char path[100];
    snprintf(path, sizeof(path), "%s/file", s->path);
    return lgetxattr(path, name, buf, len);
}

static void host_set_xattr(struct share *s, const char *name, const void *value, size_t len)
{
    char path[100];
    snprintf(path, sizeof(path), "%s/file", s->path);
    assert_int_equal(lsetxattr(path, name, value, len, 0), 0);
}

static int remove_xattr(struct share *s, uint64_t node, const char *name)
{
    return client_send(s->c, FUSE_REMOVEXATTR, node, CLIENT_TEXT(name));
}

static ssize_t list(struct share *s, uint64_t node, void *buf, size_t len)
{
    struct fuse_getxattr_in in = {.size = (uint32_t)len};
    struct fuse_getxattr_out out;
    if (len == 0) {
        int rc = client_ask(s->c, FUSE_LISTXATTR, node, &out, CLIENT_PART(&in));
        return rc < 0 ? rc : (ssize_t)out.size;
    }
    int rc = client_call(s->c, FUSE_LISTXATTR, node, CLIENT_PARTS(CLIENT_PART(&in)), 1, buf, &len);
    return rc < 0 ? rc : (ssize_t)len;
}

static void values_are_set_and_read_at_any_size(void **state)
{
    struct share s;
    char buf[4096], value[3000];
    uint64_t node = begin(&s, NULL, own_idmap());
    memset(value, 'v', sizeof(value));
    const size_t sizes[] = {0, 1, 511, 512, 513, 3000};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
        size_t len = sizes[i];
        assert_int_equal(client_setxattr(s.c, node, "user.x", value, len, 0, 0), 0);
        assert_int_equal(host_xattr(&s, "user.x", buf, sizeof(buf)), len);
        assert_int_equal(client_getxattr(s.c, node, "user.x", NULL, 0), len);
        assert_int_equal(client_getxattr(s.c, node, "user.x", buf, sizeof(buf)), len);
        assert_memory_equal(buf, value, len);
        if (len > 1)
            assert_int_equal(client_getxattr(s.c, node, "user.x", buf, len - 1), -ERANGE);
    }
    assert_int_equal(client_setxattr(s.c, node, "user.x", "1", 1, XATTR_CREATE, 0), -EEXIST);
    assert_int_equal(client_setxattr(s.c, node, "user.y", "1", 1, XATTR_REPLACE, 0), -ENODATA);
    assert_int_equal(client_setxattr(s.c, node, "user.y", "1", 1, 0, 0), 0);
    assert_int_equal(list(&s, node, NULL, 0), 14);
    assert_int_equal(list(&s, node, buf, 14), 14);
    assert_int_equal(list(&s, node, buf, 13), -ERANGE);
    assert_int_equal(remove_xattr(&s, node, "user.x"), 0);
    assert_int_equal(remove_xattr(&s, node, "user.x"), -ENODATA);
    assert_int_equal(client_getxattr(s.c, node, "user.x", NULL, 0), -ENODATA);
    assert_int_equal(list(&s, node, buf, sizeof(buf)), 7);
    assert_string_equal(buf, "user.y");
    share_end(&s);
}

static void names_and_values_have_their_bounds(void **state)
{
    struct share s;
    char name[300];
    uint64_t node = begin(&s, NULL, own_idmap());
    memset(name, 'n', sizeof(name));
    memcpy(name, "user.", 5);
    name[256] = '\0';
    assert_int_equal(client_setxattr(s.c, node, name, "", 0, 0, 0), -ERANGE);
    name[255] = '\0';
    assert_int_equal(client_setxattr(s.c, node, name, "", 0, 0, 0), 0);
    assert_int_equal(client_setxattr(s.c, node, "", "", 0, 0, 0), -EINVAL);
    assert_int_equal(client_setxattr(s.c, node, "bogus", "", 0, 0, 0), -EOPNOTSUPP);
    char *value = calloc(1, FS_XATTR_BYTES_MAX + 1);
    assert_int_equal(client_setxattr(s.c, node, "user.x", value, FS_XATTR_BYTES_MAX + 1, 0, 0), -E2BIG);
    int rc = client_setxattr(s.c, node, "user.x", value, FS_XATTR_BYTES_MAX, 0, 0);
    assert_true(rc == -ENOSPC || rc == 0); /* the host's file system decides */
    free(value);
    /* A value shorter than it says. */
    struct fuse_setxattr_in in = {.size = 10};
    assert_int_equal(
        client_send(s.c, FUSE_SETXATTR, node, CLIENT_PART(&in), CLIENT_TEXT("user.x"), {"12345", 5}),
        -EINVAL);
    share_end(&s);
}

static void requests_of_both_sizes_are_understood(void **state)
{
    struct share s;
    struct fuse_init_out init;
    uint64_t node = begin(&s, NULL, own_idmap());
    assert_true(s.flags & FUSE_SETXATTR_EXT);
    assert_int_equal(client_setxattr(s.c, node, "user.x", "1", 1, 0, 0), 0);
    assert_int_equal(client_init(s.c, ALL_OFFERED & ~(uint64_t)FUSE_SETXATTR_EXT, &init), 0);
    node = node_of(&s, ROOT, "file");
    assert_int_equal(client_setxattr(s.c, node, "user.x", "22", 2, 0, 0), 0);
    assert_int_equal(client_getxattr(s.c, node, "user.x", NULL, 0), 2);
    share_end(&s);
}

static void without_xattrs_there_are_none(void **state)
{
    struct share s;
    struct fs_options options = {.no_xattr = true};
    uint64_t node = begin(&s, &options, own_idmap());
    assert_int_equal(client_setxattr(s.c, node, "user.x", "1", 1, 0, 0), -ENOSYS);
    assert_int_equal(client_getxattr(s.c, node, "user.x", NULL, 0), -ENOSYS);
    assert_int_equal(list(&s, node, NULL, 0), -ENOSYS);
    assert_int_equal(remove_xattr(&s, node, "user.x"), -ENOSYS);
    share_end(&s);
}

/* Links and special files: the attributes of the thing itself, and nothing is opened. */
static void special_files_have_their_own(void **state)
{
    struct share s;
    struct fuse_entry_out entry;
    skip_unless_root();
    begin(&s, NULL, own_idmap());
    assert_int_equal(client_symlink(s.c, ROOT, "link", "file", &entry), 0);
    assert_int_equal(client_setxattr(s.c, entry.nodeid, "user.x", "1", 1, 0, 0), -EPERM);
    assert_int_equal(client_getxattr(s.c, entry.nodeid, "user.x", NULL, 0), -ENODATA);
    assert_int_equal(list(&s, entry.nodeid, NULL, 0), 0);
    assert_int_equal(client_mknod(s.c, ROOT, "fifo", S_IFIFO | 0644, 0, &entry), 0);
    assert_int_equal(list(&s, entry.nodeid, NULL, 0), 0);
    assert_int_equal(host_xattr(&s, "user.x", NULL, 0), -1);
    share_end(&s);
}

static const struct fs_idmap squash_of_root = {.kind = FS_IDMAP_SQUASH};
static const struct fs_idmap map = {
    .kind = FS_IDMAP_MAP, .uids = {{{0, 100000, 1000}}, 1}, .gids = {{{0, 200000, 1000}}, 1}};

/* A file capability (version 2: of everybody's root): cap_net_raw, permitted and effective. */
static const uint32_t capability[5] = {0x02000001, 1 << 13};

static void attributes_that_decide_about_the_host_are_its_own(void **state)
{
    static const struct {
        const char *name;
        int set;
    } hidden[] = {
        {"security.capability", -EPERM},
        {"security.selinux", -EPERM},
        {"trusted.x", -EPERM},
        {"system.nfs4_acl", -EOPNOTSUPP},
    };
    const struct fs_idmap maps[] = {squash_of_root, map};
    char buf[256];
    skip_unless_root();
    for (unsigned m = 0; m < ARRAY_SIZE(maps); m++) {
        struct share s;
        share_begin_with(&s, "/var/tmp", NULL, maps[m], false);
        host_write(&s, "file", "");
        assert_int_equal(fchownat(s.dir, "file", maps[m].kind == FS_IDMAP_MAP ? 100000 : 0,
                                  maps[m].kind == FS_IDMAP_MAP ? 200000 : 0, 0),
                         0);
        host_set_xattr(&s, "security.capability", capability, sizeof(capability));
        host_set_xattr(&s, "trusted.x", "1", 1);
        host_set_xattr(&s, "user.x", "1", 1);
        uint64_t node = node_of(&s, ROOT, "file");
        for (unsigned i = 0; i < ARRAY_SIZE(hidden); i++) {
            const char *name = hidden[i].name;
            assert_int_equal(client_getxattr(s.c, node, name, buf, sizeof(buf)), -ENODATA);
            assert_int_equal(client_setxattr(s.c, node, name, "1", 1, 0, 0), hidden[i].set);
            assert_int_equal(remove_xattr(&s, node, name), -ENODATA);
        }
        assert_int_equal(list(&s, node, buf, sizeof(buf)), 7);
        assert_string_equal(buf, "user.x");
        assert_int_equal(client_getxattr(s.c, node, "user.x", buf, sizeof(buf)), 1);
        assert_int_equal(host_xattr(&s, "security.capability", buf, sizeof(buf)), sizeof(capability));
        share_end(&s);
    }
    struct share s;
    uint64_t node = begin(&s, NULL, own_idmap()); /* identity */
    assert_int_equal(
        client_setxattr(s.c, node, "security.capability", capability, sizeof(capability), 0, 0), 0);
    assert_int_equal(host_xattr(&s, "security.capability", buf, sizeof(buf)), sizeof(capability));
    share_end(&s);
}

/* -- ACLs ---------------------------------------------------------------------------------------- */

struct acl {
    uint32_t version;
    struct {
        uint16_t tag, perm;
        uint32_t id;
    } entries[5];
};

/* rwx for the owner, `uid` and the group `gid` besides. */
static struct acl acl_of(uint32_t uid, uint32_t gid)
{
    return (struct acl){2,
                        {{0x01, 7, UINT32_MAX},
                         {0x02, 6, uid},
                         {0x04, 5, UINT32_MAX},
                         {0x10, 7, UINT32_MAX},
                         {0x20, 0, UINT32_MAX}}};
}

static void acls_are_translated(void **state)
{
    struct share s;
    struct acl acl = acl_of(5, 0), back;
    uint64_t node;
    skip_unless_root();
    node = begin(&s, NULL, map);
    assert_true(s.flags & FUSE_POSIX_ACL);
    assert_int_equal(client_setxattr(s.c, node, ACL, &acl, sizeof(acl), 0, 0), 0);
    assert_int_equal(host_xattr(&s, ACL, &back, sizeof(back)), sizeof(back));
    assert_int_equal(back.entries[1].id, 100005);
    assert_int_equal(client_getxattr(s.c, node, ACL, &back, sizeof(back)), sizeof(back));
    assert_memory_equal(&back, &acl, sizeof(acl));
    acl.entries[1].id = 1000; /* nobody on the host */
    assert_int_equal(client_setxattr(s.c, node, ACL, &acl, sizeof(acl), 0, 0), -EPERM);
    acl = acl_of(7, 0);
    host_set_xattr(&s, ACL, &acl, sizeof(acl));
    assert_int_equal(client_getxattr(s.c, node, ACL, &back, sizeof(back)), sizeof(back));
    assert_int_equal(back.entries[1].id, FS_NOBODY);
    /* Forms that are none. */
    assert_int_equal(client_setxattr(s.c, node, ACL, &acl, 3, 0, 0), -EINVAL);
    assert_int_equal(client_setxattr(s.c, node, ACL, &acl, sizeof(acl) - 1, 0, 0), -EINVAL);
    acl.version = 3;
    assert_int_equal(client_setxattr(s.c, node, ACL, &acl, sizeof(acl), 0, 0), -EOPNOTSUPP);
    share_end(&s);

    node = begin(&s, NULL, own_idmap()); /* identity */
    acl = acl_of(1234, 0);
    assert_int_equal(client_setxattr(s.c, node, ACL, &acl, sizeof(acl), 0, 0), 0);
    assert_int_equal(host_xattr(&s, ACL, &back, sizeof(back)), sizeof(back));
    assert_memory_equal(&back, &acl, sizeof(acl));
    share_end(&s);

    node = begin(&s, NULL, squash_of_root);
    assert_false(s.flags & FUSE_POSIX_ACL);
    assert_int_equal(client_setxattr(s.c, node, ACL, &acl, sizeof(acl), 0, 0), -EOPNOTSUPP);
    assert_int_equal(client_getxattr(s.c, node, ACL, NULL, 0), -ENODATA);
    share_end(&s);
}

static void acls_take_the_set_group_id_bit_when_the_guest_asks(void **state)
{
    struct share s;
    struct acl acl = acl_of(5, 0);
    struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 02755};
    skip_unless_root();
    uint64_t node = begin(&s, NULL, own_idmap());
    assert_int_equal(fchownat(s.dir, "file", 1, 2, 0), 0);
    assert_int_equal(client_setattr(s.c, node, &in, NULL), 0);
    assert_int_equal(client_setxattr(s.c, node, ACL, &acl, sizeof(acl), 0, 0), 0);
    assert_true(host_stat(&s, "file").st_mode & S_ISGID);
    assert_int_equal(client_setxattr(s.c, node, ACL, &acl, sizeof(acl), 0, FUSE_SETXATTR_ACL_KILL_SGID),
                     0);
    assert_false(host_stat(&s, "file").st_mode & S_ISGID);
    share_end(&s);
}

static void default_acls_replace_the_umask(void **state)
{
    struct share s;
    struct acl acl = acl_of(5, 0);
    struct fuse_mkdir_in in = {.mode = 0777, .umask = 077};
    struct fuse_entry_out dir, entry;
    skip_unless_root();
    begin(&s, NULL, own_idmap());
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &dir), 0);
    assert_int_equal(
        client_setxattr(s.c, dir.nodeid, "system.posix_acl_default", &acl, sizeof(acl), 0, 0), 0);
    assert_int_equal(
        client_ask(s.c, FUSE_MKDIR, dir.nodeid, &entry, CLIENT_PART(&in), CLIENT_TEXT("d")), 0);
    assert_int_equal(entry.attr.mode & 0777, 0770);
    share_end(&s);
}

/* -- labels -------------------------------------------------------------------------------------- */

static void labels_are_stored_at_creation(void **state)
{
    struct share s;
    struct fuse_mkdir_in in = {.mode = 0755};
    struct fuse_entry_out entry;
    struct {
        struct fuse_secctx_header header;
        struct fuse_secctx secctx;
        char name_and_value[24];
    } ext = {{sizeof(ext), 1}, {4, 0}, "security.test\0abcd"};
    char buf[16], path[100];
    skip_unless_root();
    begin(&s, NULL, own_idmap());
    assert_true(s.flags & FUSE_SECURITY_CTX);
    client_extensions(s.c, sizeof(ext));
    assert_int_equal(client_ask(s.c, FUSE_MKDIR, ROOT, &entry, CLIENT_PART(&in), CLIENT_TEXT("dir"),
                                CLIENT_PART(&ext)),
                     0);
    /* Where the host lets a serving thread store it at all (on most that takes CAP_SYS_ADMIN). */
    snprintf(path, sizeof(path), "%s/dir", s.path);
    ssize_t len = lgetxattr(path, "security.test", buf, sizeof(buf));
    assert_true(len == 4 || (len < 0 && errno == ENODATA));
    /* No other attribute comes in by that door. */
    memcpy(ext.name_and_value, "trusted.x1234\0abcd", 18);
    assert_int_equal(client_ask(s.c, FUSE_MKDIR, ROOT, &entry, CLIENT_PART(&in), CLIENT_TEXT("dir2"),
                                CLIENT_PART(&ext)),
                     -EPERM);
    assert_false(host_has(&s, "dir2"));
    share_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_set_and_read_at_any_size),
        cmocka_unit_test(names_and_values_have_their_bounds),
        cmocka_unit_test(requests_of_both_sizes_are_understood),
        cmocka_unit_test(without_xattrs_there_are_none),
        cmocka_unit_test(special_files_have_their_own),
        cmocka_unit_test(attributes_that_decide_about_the_host_are_its_own),
        cmocka_unit_test(acls_are_translated),
        cmocka_unit_test(acls_take_the_set_group_id_bit_when_the_guest_asks),
        cmocka_unit_test(default_acls_replace_the_umask),
        cmocka_unit_test(labels_are_stored_at_creation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
