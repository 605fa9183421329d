/* SPDX-License-Identifier: Apache-2.0 */
/* The table: what it is made of, its bounds, what a guest may say to it, its end. */
#include "fs/testing_inode.h"

static const struct variant *const here = &variants[2]; /* tmpfs, by name */

static void test_nonsense_is_forgotten(void **state)
{
    struct fixture f;
    struct statx stx;
    begin(&f, here, (struct fs_options){0});
    host_write(&f, "a", "123");
    uint64_t id = look(&f, "a");
    look(&f, "a");
    inode_forget(f.table, 0, 1);
    inode_forget(f.table, ROOT, UINT64_MAX);
    inode_forget(f.table, UINT64_MAX, UINT64_MAX);
    inode_forget(f.table, id + 1, 1);
    inode_forget(f.table, id, 0);
    inode_forget(f.table, id, 1);
    assert_int_equal(stat_node(&f, id, &stx), 0);
    inode_forget(f.table, id, UINT64_MAX);
    assert_int_equal(stat_node(&f, id, &stx), -ESTALE);
    inode_forget(f.table, id, 1);
    inode_closed(f.table, id);
    inode_closed(f.table, UINT64_MAX);
    assert_int_equal(stat_node(&f, ROOT, &stx), 0);
    uint64_t again = look(&f, "a");
    assert_true(again > id); /* never used twice */
    assert_int_equal(stats(&f).inodes, 2);
    end(&f);
}

/* In use when it is forgotten: it goes when it is put. */
static void test_forgotten_while_in_use(void **state)
{
    struct fixture f;
    struct inode_ref ref, again;
    begin(&f, here, (struct fs_options){0});
    host_mkdir(&f, "d");
    host_write(&f, "d/a", "123");
    uint64_t d = look(&f, "d"), id = look(&f, "d/a");
    assert_int_equal(inode_get(f.table, id, &ref), 0);
    assert_int_equal(inode_open(f.table, &ref), 0);
    inode_forget(f.table, id, UINT64_MAX);
    inode_forget(f.table, d, UINT64_MAX);
    assert_int_equal(inode_get(f.table, id, &again), -ESTALE);
    assert_int_equal(inode_get(f.table, d, &again), -ESTALE);
    struct stat st;
    assert_int_equal(fstat(ref.fd, &st), 0);
    assert_int_equal(st.st_size, 3);
    assert_int_equal(stats(&f).inodes, 3);
    /* Counted again before that, it stays what it was. */
    assert_int_equal(look(&f, "d"), d);
    assert_int_equal(look(&f, "d/a"), id);
    inode_put(f.table, &ref);
    assert_int_equal(size_of(&f, id), 3);
    inode_forget(f.table, d, 2);
    assert_int_equal(stats(&f).inodes, 3); /* it holds the other's place */
    inode_forget(f.table, id, 1);
    assert_int_equal(stats(&f).inodes, 1);
    end(&f);
}

static void test_too_many_inodes(void **state)
{
    enum { MOST = 100 };
    struct fixture f;
    uint64_t id;
    char name[32];
    begin(&f, here, (struct fs_options){.inodes_max = MOST});
    for (int i = 0; i < MOST; i++) {
        snprintf(name, sizeof(name), "%d", i);
        host_write(&f, name, "");
        assert_int_equal(look_in(&f, ROOT, name, &id), i < MOST - 1 ? 0 : -ENOMEM);
    }
    assert_int_equal(look_in(&f, ROOT, "5", &id), 0);
    inode_forget(f.table, id, 2);
    assert_int_equal(look_in(&f, ROOT, name, &id), 0);
    assert_int_equal(look_in(&f, ROOT, "5", &id), -ENOMEM);
    end(&f);
}

static void test_reset(void **state)
{
    struct fixture f;
    struct inode_ref ref;
    struct statx stx;
    uint64_t last = 0;
    begin(&f, here, (struct fs_options){0});
    unsigned before = open_descriptors();
    host_mkdir(&f, "d");
    for (int round = 0; round < 3; round++) {
        char name[32];
        uint64_t id = 0;
        for (int i = 0; i < 1000; i++) { /* the tables grow */
            snprintf(name, sizeof(name), "d/%d", i);
            host_write(&f, name, "1");
            id = look(&f, name);
            assert_true(id > last);
            assert_int_equal(size_of(&f, id), 1);
        }
        guest_open(&f, id);
        assert_int_equal(guest_unlink(&f, look(&f, "d"), "999", 0), 0);
        inode_table_reset(f.table);
        last = id;
        assert_int_equal(stat_node(&f, id, &stx), -ESTALE);
        assert_int_equal(stats(&f).inodes, 1);
        assert_int_equal(stats(&f).inode_fds, 0);
        assert_int_equal(open_descriptors(), before);
        inode_closed(f.table, id); /* what the session closes after all */
    }
    assert_int_equal(inode_get(f.table, ROOT, &ref), 0);
    assert_int_equal(inode_open(f.table, &ref), 0);
    inode_put(f.table, &ref);
    end(&f);
    assert_int_equal(open_descriptors(), before - 3); /* /proc, and the share twice */
}

/* -- several directories -----------------------------------------------------------------------------
 */

static void make_two(struct fixture *f)
{
    begin(f, here, (struct fs_options){0});
    host_mkdir(f, "sub");
    host_write(f, "sub/file", "123");
    inode_table_free(f->table);
    f->directories[1] = f->directories[0];
    f->directories[0].name = "all";
    f->directories[1].name = "part";
    f->directories[1].fd = openat(f->dir, "sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->directories[1].read_only = true;
    f->options.directory_count = 2;
    assert_int_equal(inode_table_new(&f->table, &f->options, NULL), 0);
    close(f->directories[1].fd); /* the table has its own */
}

static void test_a_made_up_root(void **state)
{
    struct fixture f;
    struct inode_ref root, ref, parent;
    struct statx stx;
    uint64_t id;
    make_two(&f);
    assert_int_equal(inode_get(f.table, ROOT, &root), 0);
    assert_null(root.export);
    assert_int_equal(root.type, S_IFDIR);
    assert_int_equal(inode_open(f.table, &root), -EPERM);
    assert_int_equal(inode_stat(f.table, &root, &stx), -EPERM);
    assert_int_equal(inode_lookup(f.table, &root, "none", &ref, &stx), -ENOENT);
    assert_int_equal(inode_adopt(f.table, &root, "all", f.dir, &ref, &stx), -ENOTDIR);
    assert_int_equal(inode_lookup(f.table, &root, "part", &ref, &stx), 0);
    assert_true(ref.export->read_only);
    assert_true(inode_is_submount(f.table, &root, &ref));
    assert_int_equal(inode_parent(f.table, &ref, &parent), 0);
    assert_int_equal(parent.nodeid, ROOT);
    inode_unlinking(f.table, &root, "part");
    inode_put(f.table, &parent);
    inode_put(f.table, &root);
    uint64_t part = ref.nodeid;
    inode_put(f.table, &ref);

    /* One file through two exports is two inodes, each with the rights of its own. */
    uint64_t writable = look(&f, "all/sub/file"), read_only = look(&f, "part/file");
    assert_true(writable != read_only);
    assert_int_equal(inode_get(f.table, writable, &ref), 0);
    assert_false(ref.export->read_only);
    inode_put(f.table, &ref);
    assert_int_equal(inode_get(f.table, read_only, &ref), 0);
    assert_true(ref.export->read_only);
    inode_put(f.table, &ref);
    assert_int_equal(size_of(&f, read_only), 3);
    assert_int_equal(look(&f, "part/sub"), 0);

    /* Roots are never forgotten. */
    inode_forget(f.table, part, UINT64_MAX);
    assert_int_equal(look_in(&f, part, "file", &id), 0);
    assert_int_equal(id, read_only);
    inode_table_reset(f.table);
    assert_int_equal(stats(&f).inodes, 3);
    assert_int_equal(look_in(&f, part, "file", &id), 0);
    end(&f);
}

static void test_what_cannot_be_shared(void **state)
{
    struct fixture f;
    struct inode_table *table;
    struct dayfly_err err;
    make_two(&f);
    struct fs_options options = f.options;
    struct fs_directory *dirs = f.directories;
    dirs[1].fd = f.dir;
    static const char *const bad[] = {"", ".", "..", "a/b", "all", NULL};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        dirs[1].name = bad[i];
        assert_int_equal(inode_table_new(&table, &options, &err), -EINVAL);
    }
    assert_string_equal(err.msg, "several directories under one tag need a name each");
    dirs[1].name = "other";
    options.directory_count = 0;
    assert_int_equal(inode_table_new(&table, &options, &err), -EINVAL);
    options.directory_count = FS_DIRECTORIES_MAX + 1;
    assert_int_equal(inode_table_new(&table, &options, &err), -EINVAL);
    options.directory_count = 2;
    unsigned before = open_descriptors();
    dirs[1].idmap.host_uid = UINT32_MAX;
    assert_int_equal(inode_table_new(&table, &options, &err), -EINVAL);
    dirs[1].idmap = dirs[0].idmap;
    host_write(&f, "file", "");
    dirs[1].fd = openat(f.dir, "file", O_RDONLY | O_CLOEXEC);
    assert_int_equal(inode_table_new(&table, &options, &err), -ENOTDIR);
    assert_string_equal(err.msg, "other: Not a directory");
    close(dirs[1].fd);
    dirs[1].fd = -1;
    assert_int_equal(inode_table_new(&table, &options, &err), -EBADF);
    assert_int_equal(open_descriptors(), before);
    inode_table_free(NULL);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nonsense_is_forgotten), cmocka_unit_test(test_forgotten_while_in_use),
        cmocka_unit_test(test_too_many_inodes),       cmocka_unit_test(test_reset),
        cmocka_unit_test(test_a_made_up_root),        cmocka_unit_test(test_what_cannot_be_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
