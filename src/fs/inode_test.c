/* SPDX-License-Identifier: Apache-2.0 */
/* What an inode is and where it is found. Descriptors: inode_open_test.c; threads: inode_race_test.c.
 */
#include <sys/mount.h>

#include "fs/testing_inode.h"

static const struct fs_options few = {.fds_max = FDS_FEW};

static void test_names_are_components(const struct variant *v)
{
    struct fixture f;
    uint64_t id;
    begin(&f, v, few);
    host_mkdir(&f, "d");
    char longest[FS_NAME_MAX + 2];
    memset(longest, 'n', sizeof(longest));
    longest[FS_NAME_MAX + 1] = '\0';
    assert_int_equal(look_in(&f, ROOT, "", &id), -EINVAL);
    assert_int_equal(look_in(&f, ROOT, ".", &id), -EINVAL);
    assert_int_equal(look_in(&f, ROOT, "..", &id), -EINVAL);
    assert_int_equal(look_in(&f, ROOT, "d/x", &id), -EINVAL);
    assert_int_equal(look_in(&f, ROOT, "/etc", &id), -EINVAL);
    assert_int_equal(look_in(&f, ROOT, longest, &id), -ENAMETOOLONG);
    longest[FS_NAME_MAX] = '\0';
    assert_int_equal(look_in(&f, ROOT, longest, &id), -ENOENT);
    host_write(&f, longest, "long");
    assert_int_equal(look_in(&f, ROOT, longest, &id), 0);
    drop_cache(&f);
    assert_int_equal(size_of(&f, id), 4);
    host_write(&f, "...", "dots");
    assert_int_equal(size_of(&f, look(&f, "...")), 4);
    assert_int_equal(look_in(&f, look(&f, "..."), "x", &id), -ENOTDIR);
    assert_int_equal(look_in(&f, ROOT, "none", &id), -ENOENT);
    assert_int_equal(look_in(&f, 12345, "none", &id), -ESTALE);
    end(&f);
}

static void test_rename_and_links_keep_the_node(const struct variant *v)
{
    struct fixture f;
    struct statx stx;
    begin(&f, v, few);
    host_mkdir(&f, "d");
    host_write(&f, "a", "12345");
    assert_int_equal(linkat(f.dir, "a", f.dir, "d/link", 0), 0);
    uint64_t id = look(&f, "a");
    assert_true(id > ROOT);
    assert_int_equal(look(&f, "a"), id);
    assert_int_equal(look(&f, "d/link"), id);
    host_rename(&f, "a", "d/b");
    assert_int_equal(look(&f, "d/b"), id);
    host_rename(&f, "d", "e");
    assert_int_equal(look(&f, "e/b"), id);
    drop_cache(&f);
    assert_int_equal(stat_node(&f, id, &stx), 0);
    assert_int_equal(stx.stx_nlink, 2);
    /* The newest place serves when the older is gone. */
    host_unlink(&f, "e/link");
    drop_cache(&f);
    assert_int_equal(stat_node(&f, id, &stx), 0);
    assert_int_equal(size_of(&f, id), 5);
    assert_int_equal(forget_all(&f), 1);
    end(&f);
}

static void test_a_name_with_another_file_is_stale(const struct variant *v)
{
    struct fixture f;
    struct statx stx;
    begin(&f, v, few);
    host_write(&f, "a", "old");
    uint64_t id = look(&f, "a");
    drop_cache(&f);
    host_write(&f, "b", "other");
    host_rename(&f, "b", "a");
    assert_int_equal(stat_node(&f, id, &stx), -ESTALE);
    assert_int_equal(size_of(&f, id), -ESTALE);
    uint64_t now = look(&f, "a");
    assert_true(now != id && now != 0);
    assert_int_equal(size_of(&f, now), 5);
    host_unlink(&f, "a");
    drop_cache(&f);
    assert_int_equal(stat_node(&f, now, &stx), -ESTALE);
    assert_int_equal(size_of(&f, now), -ESTALE);
    assert_int_equal(forget_all(&f), 1);
    assert_int_equal(stat_node(&f, now, &stx), -ESTALE);
    end(&f);
}

/* What the host moves elsewhere is found by its handle alone, which it has once it was opened. */
static void test_moved_out_of_sight(const struct variant *v)
{
    struct fixture f;
    unsigned count;
    begin(&f, v, few);
    bool by_handle = inode_exports(f.table, &count)->by_handle;
    host_write(&f, "a", "123");
    host_mkdir(&f, "d");
    uint64_t file = look(&f, "a"), dir = look(&f, "d"), id;
    assert_int_equal(size_of(&f, file), 3);
    assert_true(size_of(&f, dir) >= 0);
    drop_cache(&f);
    host_rename(&f, "a", "d/unseen");
    host_rename(&f, "d", "e");
    assert_int_equal(size_of(&f, file), by_handle ? 3 : -ESTALE);
    assert_int_equal(look_in(&f, dir, "unseen", &id), by_handle ? 0 : -ESTALE);
    assert_int_equal(look(&f, "e"), dir);
    assert_int_equal(look_in(&f, dir, "unseen", &id), 0);
    assert_int_equal(id, file);
    end(&f);
}

/* Delete and make until the number comes again with another birth, as ext4 does at once. */
static bool reuse_number(struct fixture *f, const char *path, struct statx was)
{
    for (unsigned i = 0; i < 20000; i++) {
        host_unlink(f, path);
        host_write(f, path, "new");
        struct statx now = host_stat(f, path);
        if (now.stx_ino == was.stx_ino && (now.stx_btime.tv_sec != was.stx_btime.tv_sec ||
                                           now.stx_btime.tv_nsec != was.stx_btime.tv_nsec))
            return true;
    }
    return false;
}

static void test_a_number_used_again_is_another_inode(const struct variant *v)
{
    struct fixture f;
    struct statx stx;
    if (v->place != PLACE_DISK)
        skip(); /* tmpfs counts up; overlayfs has no births to tell by */
    begin(&f, v, few);
    host_write(&f, "a", "old!");
    uint64_t old = look(&f, "a");
    if (!reuse_number(&f, "a", host_stat(&f, "a"))) {
        end(&f);
        skip(); /* not this file system */
    }
    uint64_t now = look(&f, "a");
    assert_int_not_equal(now, old);
    assert_int_equal(size_of(&f, now), 3);
    assert_int_equal(stat_node(&f, old, &stx), -ESTALE);
    assert_int_equal(size_of(&f, old), -ESTALE);
    end(&f);
}

/* On overlayfs the first write is a birth, and yet the same file. */
static void test_a_copied_up_file_stays_the_same(const struct variant *v)
{
    struct fixture f;
    struct statx stx;
    char lower[160];
    if (v->place != PLACE_OVERLAY)
        skip();
    begin(&f, v, few);
    snprintf(lower, sizeof(lower), "%s/lower/below", f.base);
    int fd = open(lower, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    close(fd);
    uint64_t id = look(&f, "below");
    assert_true(id > ROOT);
    struct statx before = host_stat(&f, "below");
    do { /* until the clock of births has moved */
        host_write(&f, "tick", "");
        stx = host_stat(&f, "tick");
        host_unlink(&f, "tick");
    } while (stx.stx_btime.tv_nsec == before.stx_btime.tv_nsec);
    host_write(&f, "below", "up");
    assert_int_not_equal(host_stat(&f, "below").stx_btime.tv_nsec, before.stx_btime.tv_nsec);
    assert_int_equal(look(&f, "below"), id);
    drop_cache(&f);
    assert_int_equal(size_of(&f, id), 2);
    end(&f);
}

/* -- places ------------------------------------------------------------------------------------------
 */

static void test_a_rename_by_the_guest_needs_no_lookup(const struct variant *v)
{
    struct fixture f;
    begin(&f, v, few);
    host_mkdir(&f, "d");
    host_write(&f, "a", "1");
    host_write(&f, "b", "22");
    host_write(&f, "d/c", "333");
    uint64_t a = look(&f, "a"), b = look(&f, "b"), c = look(&f, "d/c"), d = look(&f, "d");
    guest_rename(&f, ROOT, "a", d, "a2", 0);
    drop_cache(&f);
    assert_int_equal(size_of(&f, a), 1);
    guest_rename(&f, ROOT, "b", d, "c", RENAME_EXCHANGE);
    drop_cache(&f);
    assert_int_equal(size_of(&f, b), 2);
    assert_int_equal(size_of(&f, c), 3);
    guest_rename(&f, d, "c", ROOT, "b", 0); /* over the other */
    drop_cache(&f);
    assert_int_equal(size_of(&f, b), 2);
    assert_int_equal(size_of(&f, c), 3); /* kept, since its descriptor was there */
    guest_rename(&f, ROOT, "d", ROOT, "e", 0);
    drop_cache(&f);
    assert_int_equal(size_of(&f, a), 1);
    guest_rename(&f, ROOT, "e", ROOT, "e", 0); /* nothing */
    /* Names that the guest never looked up. */
    host_write(&f, "unseen", "");
    guest_rename(&f, ROOT, "unseen", ROOT, "b", RENAME_EXCHANGE);
    drop_cache(&f);
    assert_int_equal(size_of(&f, b), 2);
    guest_rename(&f, ROOT, "b", ROOT, "b2", 0);
    drop_cache(&f);
    assert_int_equal(size_of(&f, b), 2);
    assert_int_equal(forget_all(&f), 1);
    end(&f);
}

/* a/b/c becomes c/a/b behind the table's back: c is remembered in b, b in a, and now a in c. */
static void make_circle(struct fixture *f, uint64_t *b)
{
    uint64_t id;
    host_mkdir(f, "a");
    host_mkdir(f, "a/b");
    host_mkdir(f, "a/b/c");
    uint64_t a = look(f, "a"), c = look(f, "a/b/c");
    *b = look(f, "a/b");
    assert_true(size_of(f, c) >= 0); /* so that it is found although it moves */
    host_rename(f, "a/b/c", "c");
    host_rename(f, "a", "c/a");
    assert_int_equal(look_in(f, c, "a", &id), 0);
    assert_int_equal(id, a);
}

static void test_a_circle_of_memories_is_broken(const struct variant *v)
{
    struct fixture f;
    uint64_t b;
    begin(&f, v, few);
    make_circle(&f, &b);
    assert_int_equal(forget_all(&f), 1); /* none keeps the other */
    assert_int_equal(stats(&f).inode_fds, 0);
    end(&f);

    begin(&f, v, few);
    make_circle(&f, &b);
    drop_cache(&f);
    int64_t rc = size_of(&f, b);
    assert_true(rc >= 0 || rc == -ESTALE);
    assert_int_equal(look(&f, "c/a/b"), b);
    drop_cache(&f);
    assert_true(size_of(&f, b) >= 0);
    end(&f);
}

/* b is remembered in a, which nothing else keeps, when the guest moves a into b. */
static void test_a_rename_breaks_the_last_memory(const struct variant *v)
{
    struct fixture f;
    begin(&f, v, few);
    host_mkdir(&f, "a");
    host_mkdir(&f, "a/b");
    uint64_t a = look(&f, "a"), b = look(&f, "a/b");
    guest_open(&f, b);
    host_rename(&f, "a/b", "b");
    inode_forget(f.table, a, UINT64_MAX);
    guest_rename(&f, ROOT, "a", b, "x", 0);
    assert_int_equal(stats(&f).inodes, 2); /* root and b */
    assert_int_equal(look(&f, "b"), b);
    assert_true(look(&f, "b/x") > b);
    inode_closed(f.table, b);
    assert_int_equal(forget_all(&f), 1);
    end(&f);
}

static void test_parents(const struct variant *v)
{
    struct fixture f;
    struct inode_ref ref, parent;
    begin(&f, v, few);
    host_mkdir(&f, "a");
    host_mkdir(&f, "a/b");
    host_mkdir(&f, "a/unseen");
    host_write(&f, "file", "");
    uint64_t a = look(&f, "a"), b = look(&f, "a/b");
    assert_int_equal(inode_get(f.table, b, &ref), 0);
    assert_int_equal(inode_parent(f.table, &ref, &parent), 0);
    assert_int_equal(parent.nodeid, a);
    inode_count(f.table, &parent);
    inode_put(f.table, &parent);
    /* Where it is, not where it was. */
    host_rename(&f, "a/b", "b");
    assert_int_equal(inode_parent(f.table, &ref, &parent), 0);
    assert_int_equal(parent.nodeid, ROOT);
    inode_put(f.table, &parent);
    host_rename(&f, "b", "a/unseen/b");
    assert_int_equal(inode_parent(f.table, &ref, &parent), -ESTALE);
    inode_put(f.table, &ref);
    /* Above the root is nothing. */
    assert_int_equal(inode_get(f.table, ROOT, &ref), 0);
    assert_int_equal(inode_parent(f.table, &ref, &parent), 0);
    assert_int_equal(parent.nodeid, ROOT);
    inode_put(f.table, &parent);
    inode_put(f.table, &ref);
    assert_int_equal(inode_get(f.table, look(&f, "file"), &ref), 0);
    assert_int_equal(inode_parent(f.table, &ref, &parent), -ENOTDIR);
    inode_put(f.table, &ref);
    inode_forget(f.table, a, 2); /* look twice, count once */
    assert_int_equal(inode_get(f.table, a, &ref), 0);
    inode_put(f.table, &ref);
    inode_forget(f.table, a, 1);
    assert_int_equal(inode_get(f.table, a, &ref), -ESTALE);
    end(&f);
}

/* -- ways out ----------------------------------------------------------------------------------------
 */

static void test_symbolic_links_are_not_followed(const struct variant *v)
{
    struct fixture f;
    uint64_t id;
    begin(&f, v, few);
    host_mkdir(&f, "d");
    host_write(&f, "d/passwd", "mine");
    assert_int_equal(symlinkat("/etc", f.dir, "etc"), 0);
    assert_int_equal(symlinkat("/etc/passwd", f.dir, "passwd"), 0);
    uint64_t link = look(&f, "passwd");
    drop_cache(&f);
    assert_int_equal(size_of(&f, link), strlen("/etc/passwd"));
    assert_int_equal(look_in(&f, look(&f, "etc"), "passwd", &id), -ENOTDIR);

    /* A directory that is replaced by a link after it was seen. */
    uint64_t d = look(&f, "d"), file = look(&f, "d/passwd");
    drop_cache(&f);
    host_unlink(&f, "d/passwd");
    assert_int_equal(unlinkat(f.dir, "d", AT_REMOVEDIR), 0);
    host_rename(&f, "etc", "d");
    assert_int_equal(look_in(&f, d, "passwd", &id), -ESTALE);
    assert_int_equal(size_of(&f, file), -ESTALE);
    end(&f);
}

static void test_mounts_below_are_entered(const struct variant *v)
{
    struct fixture f;
    struct inode_ref root, below;
    struct statx stx;
    char path[160];
    if (!private_mounts())
        skip();
    begin(&f, v, few);
    host_mkdir(&f, "m");
    snprintf(path, sizeof(path), "%s/m", f.share);
    if (mount("tmpfs", path, "tmpfs", 0, NULL) < 0) {
        end(&f);
        skip();
    }
    host_mkdir(&f, "m/d");
    host_write(&f, "m/d/file", "12");
    host_mkdir(&f, "plain");
    assert_int_equal(inode_get(f.table, ROOT, &root), 0);
    assert_int_equal(inode_lookup(f.table, &root, "m", &below, &stx), 0);
    assert_true(inode_is_submount(f.table, &root, &below));
    inode_put(f.table, &below);
    assert_int_equal(inode_lookup(f.table, &root, "plain", &below, &stx), 0);
    assert_false(inode_is_submount(f.table, &root, &below));
    inode_put(f.table, &below);
    inode_put(f.table, &root);

    uint64_t file = look(&f, "m/d/file");
    drop_cache(&f);
    assert_int_equal(size_of(&f, file), 2);
    assert_int_equal(umount2(path, MNT_DETACH), 0);
    drop_cache(&f);
    assert_int_equal(size_of(&f, file), -ESTALE);
    assert_int_equal(look(&f, "m/d"), 0);
    end(&f);
}

int main(void)
{
    static const struct variant_case cases[] = {
        {"names are components", test_names_are_components},
        {"rename and links keep the node", test_rename_and_links_keep_the_node},
        {"a name with another file is stale", test_a_name_with_another_file_is_stale},
        {"moved out of sight", test_moved_out_of_sight},
        {"a number used again is another inode", test_a_number_used_again_is_another_inode},
        {"a copied-up file stays the same", test_a_copied_up_file_stays_the_same},
        {"a rename by the guest needs no look-up", test_a_rename_by_the_guest_needs_no_lookup},
        {"a circle of memories is broken", test_a_circle_of_memories_is_broken},
        {"a rename breaks the last memory", test_a_rename_breaks_the_last_memory},
        {"parents", test_parents},
        {"symbolic links are not followed", test_symbolic_links_are_not_followed},
        {"mounts below are entered", test_mounts_below_are_entered},
    };
    return run_cases("fs-inode", cases, ARRAY_SIZE(cases));
}
