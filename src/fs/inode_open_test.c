/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptors of inodes: bounded, found again, kept where the name goes. */
#include <sys/resource.h>

#include "fs/testing_inode.h"

#define FDS_HARD (FDS_FEW + FDS_FEW / 2 + 64)

static const struct fs_options few = {.fds_max = FDS_FEW};

/* -- many --------------------------------------------------------------------------------------------
 */

static void test_more_files_than_descriptors(const struct variant *v)
{
    enum { FILES = 100 };
    const int dirs = v->place == PLACE_TMPFS ? 300 : 5; /* disks make files slowly */
    struct fixture f;
    struct statx stx;
    uint64_t *ids = calloc((size_t)dirs * FILES, sizeof(*ids));
    char name[32];
    begin(&f, v, (struct fs_options){.fds_max = 64});
    unsigned before = open_descriptors();
    for (int d = 0; d < dirs; d++) {
        snprintf(name, sizeof(name), "%d", d);
        host_mkdir(&f, name);
        uint64_t dir = look(&f, name);
        for (int i = 0; i < FILES; i++) {
            snprintf(name, sizeof(name), "%d/%d", d, i);
            host_write(&f, name, "x");
            assert_int_equal(look_in(&f, dir, strchr(name, '/') + 1, &ids[d * FILES + i]), 0);
        }
    }
    assert_int_equal(stats(&f).inodes, 1 + dirs + dirs * FILES);
    for (int i = 0; i < dirs * FILES; i++) {
        int k = (int)((unsigned)i * 7919u % (unsigned)(dirs * FILES)); /* in no order */
        if (i % 2)
            assert_int_equal(size_of(&f, ids[k]), 1);
        else
            assert_int_equal(stat_node(&f, ids[k], &stx), 0);
        assert_true(stats(&f).inode_fds <= 64);
    }
    assert_true(open_descriptors() <= before + 64);
    /* Directories go with the last of their files, in whatever order they are forgotten. */
    for (uint64_t id = ROOT + 1; id <= ROOT + (uint64_t)dirs * (FILES + 1); id++)
        inode_forget(f.table, id, 1);
    assert_int_equal(stats(&f).inodes, 1);
    assert_int_equal(stats(&f).inode_fds, 0);
    assert_int_equal(open_descriptors(), before);
    free(ids);
    end(&f);
}

static void test_a_deep_directory(const struct variant *v)
{
    const int depth = v->place == PLACE_TMPFS ? 1000 : 100;
    struct fixture f;
    uint64_t id = ROOT;
    begin(&f, v, few);
    int dir = dup(f.dir);
    for (int i = 0; i < depth; i++) {
        assert_int_equal(mkdirat(dir, "d", 0755), 0);
        int below = openat(dir, "d", O_PATH | O_CLOEXEC);
        close(dir);
        dir = below;
        assert_int_equal(look_in(&f, id, "d", &id), 0);
    }
    close(dir);
    drop_cache(&f);
    assert_true(size_of(&f, id) >= 0);
    assert_true(stats(&f).inode_fds <= FDS_FEW);
    end(&f);
}

/* -- bounds ------------------------------------------------------------------------------------------
 */

static void test_too_many_in_use(const struct variant *v)
{
    struct fixture f;
    struct inode_ref refs[FDS_HARD + 1];
    char name[32];
    begin(&f, v, few);
    int rc = 0, n;
    for (n = 0; rc == 0 && n <= FDS_HARD; n++) {
        snprintf(name, sizeof(name), "%d", n);
        host_write(&f, name, "");
        assert_int_equal(inode_get(f.table, look(&f, name), &refs[n]), 0);
        rc = inode_open(f.table, &refs[n]);
    }
    assert_int_equal(n, FDS_HARD + 1);
    assert_int_equal(rc, -ENFILE);
    assert_int_equal(stats(&f).inode_fds, FDS_HARD);
    inode_put(f.table, &refs[0]);
    assert_int_equal(inode_open(f.table, &refs[FDS_HARD]), 0);
    for (n = 0; n <= FDS_HARD; n++) {
        inode_put(f.table, &refs[n]);
        inode_put(f.table, &refs[n]); /* safe twice */
    }
    assert_int_equal(stats(&f).inode_fds, FDS_FEW);
    end(&f);
}

static void test_the_process_has_no_descriptor_left(const struct variant *v)
{
    enum { FILES = 100 };
    struct fixture f;
    struct rlimit limit, low;
    uint64_t ids[FILES + 1];
    char name[32];
    begin(&f, v, (struct fs_options){.fds_max = 1000});
    for (int i = 0; i <= FILES; i++) {
        snprintf(name, sizeof(name), "%d", i);
        host_write(&f, name, "x");
        ids[i] = look(&f, name);
    }
    for (int i = 0; i < FILES; i++)
        assert_int_equal(size_of(&f, ids[i]), 1);
    assert_int_equal(stats(&f).inode_fds, FILES);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    int next = dup(f.dir);
    close(next);
    low.rlim_cur = (rlim_t)next;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    bool full = dup(f.dir) < 0 && errno == EMFILE;
    int64_t size = size_of(&f, ids[FILES]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(full);
    assert_int_equal(size, 1); /* half of the idle ones made room */
    assert_int_equal(stats(&f).inode_fds, FILES / 2 + 1);
    end(&f);
}

/* -- names that go -----------------------------------------------------------------------------------
 */

static void test_open_files_outlive_their_name(const struct variant *v)
{
    struct fixture f;
    struct statx stx;
    begin(&f, v, few);
    host_write(&f, "open", "123");
    host_write(&f, "replaced", "4567");
    host_write(&f, "closed", "123");
    uint64_t opened = look(&f, "open"), replaced = look(&f, "replaced"), closed = look(&f, "closed");
    guest_open(&f, opened);
    guest_open(&f, replaced);
    assert_int_equal(guest_unlink(&f, ROOT, "open", 0), 0);
    assert_int_equal(guest_unlink(&f, ROOT, "closed", 0), 0);
    host_write(&f, "new", "");
    host_rename(&f, "new", "replaced");
    drop_cache(&f);
    assert_int_equal(stat_node(&f, opened, &stx), 0);
    assert_int_equal(stx.stx_nlink, 0);
    assert_int_equal(size_of(&f, opened), 3);
    assert_int_equal(size_of(&f, replaced), 4);
    assert_int_equal(stat_node(&f, closed, &stx), -ESTALE);
    /* The host's change is kept for as long as it is open, the guest's until it forgets. */
    inode_closed(f.table, replaced);
    inode_closed(f.table, opened);
    inode_closed(f.table, opened); /* once too often */
    drop_cache(&f);
    assert_int_equal(size_of(&f, replaced), -ESTALE);
    assert_int_equal(size_of(&f, opened), 3);
    assert_int_equal(forget_all(&f), 1);
    assert_int_equal(stats(&f).inode_fds, 0);
    end(&f);
}

static void test_opened_without_a_descriptor(const struct variant *v)
{
    struct fixture f;
    struct inode_ref ref;
    begin(&f, v, few);
    host_write(&f, "a", "123");
    uint64_t id = look(&f, "a");
    assert_int_equal(inode_get(f.table, id, &ref), 0);
    inode_opened(f.table, &ref);
    inode_put(f.table, &ref);
    assert_int_equal(stats(&f).inode_fds, 0);
    assert_int_equal(guest_unlink(&f, ROOT, "a", 0), 0); /* opens it, as the last chance */
    drop_cache(&f);
    assert_int_equal(size_of(&f, id), 3);
    end(&f);
}

static void test_a_removed_working_directory(const struct variant *v)
{
    struct fixture f;
    struct statx stx;
    begin(&f, v, few);
    host_mkdir(&f, "d");
    host_mkdir(&f, "e");
    host_mkdir(&f, "e/full");
    uint64_t d = look(&f, "d"), e = look(&f, "e");
    drop_cache(&f);
    assert_int_equal(guest_unlink(&f, ROOT, "d", AT_REMOVEDIR), 0);
    int rc = guest_unlink(&f, ROOT, "e", AT_REMOVEDIR);
    assert_true(rc == -ENOTEMPTY || rc == -EEXIST);
    drop_cache(&f);
    assert_int_equal(stat_node(&f, d, &stx), 0);
    assert_int_equal(stx.stx_nlink, v->place == PLACE_OVERLAY ? stx.stx_nlink : 0);
    uint64_t id;
    assert_int_equal(look_in(&f, d, "x", &id), -ENOENT);
    /* What could not be removed is kept no longer. */
    assert_int_equal(stats(&f).inode_fds, 1);
    assert_true(size_of(&f, e) >= 0);
    inode_forget(f.table, d, 1);
    assert_int_equal(stats(&f).inode_fds, 1);
    end(&f);
}

static void test_a_removed_fifo(const struct variant *v)
{
    struct fixture f;
    struct statx stx;
    begin(&f, v, few);
    assert_int_equal(mkfifoat(f.dir, "p", 0600), 0);
    uint64_t p = look(&f, "p");
    drop_cache(&f);
    assert_int_equal(guest_unlink(&f, ROOT, "p", 0), 0);
    drop_cache(&f);
    assert_int_equal(stat_node(&f, p, &stx), 0);
    assert_true(S_ISFIFO(stx.stx_mode));
    inode_forget(f.table, p, 1);
    assert_int_equal(stats(&f).inode_fds, 0);
    end(&f);
}

static void test_a_removed_file_of_a_writeback_cache(const struct variant *v)
{
    struct fixture f;
    begin(&f, v, (struct fs_options){.fds_max = FDS_FEW, .writeback = true});
    host_write(&f, "a", "123");
    uint64_t a = look(&f, "a");
    assert_int_equal(guest_unlink(&f, ROOT, "a", 0), 0);
    drop_cache(&f);
    assert_int_equal(size_of(&f, a), 3);
    inode_forget(f.table, a, 1);
    assert_int_equal(stats(&f).inode_fds, 0);
    end(&f);
}

/* A guest that removes and never forgets: its own requests still find a descriptor. */
static void test_kept_descriptors_are_bounded(const struct variant *v)
{
    struct fixture f;
    char name[32];
    begin(&f, v, few);
    for (int i = 0; i < 3 * FDS_FEW; i++) {
        snprintf(name, sizeof(name), "%d", i);
        host_mkdir(&f, name);
        look(&f, name);
        assert_int_equal(guest_unlink(&f, ROOT, name, AT_REMOVEDIR), 0);
    }
    assert_true(stats(&f).inode_fds <= FDS_FEW + 1);
    host_write(&f, "file", "12");
    assert_int_equal(size_of(&f, look(&f, "file")), 2);
    assert_int_equal(forget_all(&f), 1);
    assert_int_equal(stats(&f).inode_fds, 0);
    end(&f);
}

/* -- created by the guest ----------------------------------------------------------------------------
 */

static void test_a_created_file_is_adopted(const struct variant *v)
{
    struct fixture f;
    struct inode_ref dir, ref;
    struct statx stx;
    begin(&f, v, few);
    assert_int_equal(inode_get(f.table, ROOT, &dir), 0);
    int fd = openat(f.dir, "new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, "12", 2), 2);
    assert_int_equal(inode_adopt(f.table, &dir, "a/b", fd, &ref, &stx), -EINVAL);
    assert_int_equal(inode_adopt(f.table, &dir, "new", fd, &ref, &stx), 0);
    assert_int_equal(stx.stx_size, 2);
    uint64_t id = ref.nodeid;
    inode_put(f.table, &ref);
    inode_put(f.table, &dir);
    close(fd);
    assert_int_equal(stats(&f).inode_fds, 0);
    assert_int_equal(size_of(&f, id), 2);
    assert_int_equal(look(&f, "new"), id);
    inode_forget(f.table, id, 1); /* of two */
    assert_int_equal(size_of(&f, id), 2);
    end(&f);
}

static void test_a_file_without_a_name_is_adopted(const struct variant *v)
{
    struct fixture f;
    struct inode_ref dir, ref;
    struct statx stx;
    char path[32];
    begin(&f, v, few);
    int fd = openat(f.dir, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0644);
    if (fd < 0 && errno == EOPNOTSUPP) {
        end(&f);
        skip();
    }
    assert_int_equal(write(fd, "123", 3), 3);
    assert_int_equal(inode_get(f.table, ROOT, &dir), 0);
    assert_int_equal(inode_adopt(f.table, &dir, NULL, fd, &ref, &stx), 0);
    uint64_t id = ref.nodeid;
    inode_put(f.table, &ref);
    drop_cache(&f);
    assert_int_equal(size_of(&f, id), 3);
    /* A name at last: no descriptor has to be kept any more. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    assert_int_equal(linkat(AT_FDCWD, path, f.dir, "named", AT_SYMLINK_FOLLOW), 0);
    assert_int_equal(inode_adopt(f.table, &dir, "named", fd, &ref, &stx), 0);
    assert_int_equal(ref.nodeid, id);
    inode_put(f.table, &ref);
    inode_put(f.table, &dir);
    close(fd);
    drop_cache(&f);
    unsigned cached = stats(&f).inode_fds;
    inode_forget(f.table, id, 1);
    assert_int_equal(size_of(&f, id), 3);
    inode_forget(f.table, id, 1);
    assert_int_equal(stats(&f).inode_fds, cached);
    end(&f);
}

int main(void)
{
    static const struct variant_case cases[] = {
        {"more files than descriptors", test_more_files_than_descriptors},
        {"a deep directory", test_a_deep_directory},
        {"too many in use", test_too_many_in_use},
        {"the process has no descriptor left", test_the_process_has_no_descriptor_left},
        {"open files outlive their name", test_open_files_outlive_their_name},
        {"opened without a descriptor", test_opened_without_a_descriptor},
        {"a removed working directory", test_a_removed_working_directory},
        {"a removed FIFO", test_a_removed_fifo},
        {"a removed file of a write-back cache", test_a_removed_file_of_a_writeback_cache},
        {"kept descriptors are bounded", test_kept_descriptors_are_bounded},
        {"a created file is adopted", test_a_created_file_is_adopted},
        {"a file without a name is adopted", test_a_file_without_a_name_is_adopted},
    };
    return run_cases("fs-inode-open", cases, ARRAY_SIZE(cases));
}
