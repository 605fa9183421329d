/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same cases over several file systems of the host, by name (squash) and by handle (identity, which
 * needs root). The test is the host: it changes the directory behind the table's back.
 */
#include "fs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"

#define ROOT 1

enum place { PLACE_DISK, PLACE_TMPFS, PLACE_OVERLAY };

struct variant {
    const char *name;
    enum place place;
    enum fs_idmap_kind kind;
};

static const struct variant variants[] = {
    {"disk, by name", PLACE_DISK, FS_IDMAP_SQUASH},
    {"disk, by handle", PLACE_DISK, FS_IDMAP_IDENTITY},
    {"tmpfs, by name", PLACE_TMPFS, FS_IDMAP_SQUASH},
    {"tmpfs, by handle", PLACE_TMPFS, FS_IDMAP_IDENTITY},
    {"overlay, by name", PLACE_OVERLAY, FS_IDMAP_IDENTITY},
};

struct fixture {
    const struct variant *variant;
    struct fs_options options;
    struct fs_directory directory;
    struct inode_table *table;
    char base[64];   /* all of the test's files */
    char share[128]; /* what is shared */
    int dir;         /* the same, open */
};

/* -- the host ----------------------------------------------------------------------------------------
 */

/* Mounts of a test are its own: they go with it. */
static bool private_mounts(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

static bool mount_overlay(struct fixture *f)
{
    static const char *const parts[] = {"lower", "upper", "work"};
    char path[128], data[512];
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
        snprintf(path, sizeof(path), "%s/%s", f->base, parts[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    snprintf(data, sizeof(data), "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", f->base,
             f->base, f->base);
    return private_mounts() && mount("overlay", f->share, "overlay", 0, data) == 0;
}

static void begin_with(struct fixture *f, const struct variant *v, struct fs_options options)
{
    *f = (struct fixture){.variant = v, .options = options, .dir = -1};
    if (v->kind == FS_IDMAP_IDENTITY && geteuid() != 0)
        skip();
    strcpy(f->base, v->place == PLACE_DISK ? "/var/tmp/dayfly-XXXXXX" : "/dev/shm/dayfly-XXXXXX");
    assert_non_null(mkdtemp(f->base));
    snprintf(f->share, sizeof(f->share), "%s/share", f->base);
    assert_int_equal(mkdir(f->share, 0755), 0);
    if (v->place == PLACE_OVERLAY && !mount_overlay(f))
        skip();
    f->dir = open(f->share, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(f->dir >= 0);
    f->directory = (struct fs_directory){
        .fd = f->dir, .idmap = {.kind = v->kind, .host_uid = geteuid(), .host_gid = getegid()}};
    f->options.directories = &f->directory;
    f->options.directory_count = 1;
    assert_int_equal(inode_table_new(&f->table, &f->options, NULL), 0);

    unsigned count;
    bool by_handle = inode_exports(f->table, &count)->by_handle;
    if (v->kind == FS_IDMAP_SQUASH)
        assert_false(by_handle);
}

static void begin(struct fixture *f, const struct variant *v)
{
    begin_with(f, v, (struct fs_options){0});
}

static void end(struct fixture *f)
{
    char command[128];
    inode_table_free(f->table);
    close_fd(&f->dir);
    if (f->variant->place == PLACE_OVERLAY)
        assert_int_equal(umount2(f->share, MNT_DETACH), 0);
    snprintf(command, sizeof(command), "rm -rf %s", f->base);
    assert_int_equal(system(command), 0);
}

static void host_write(struct fixture *f, const char *path, const char *text)
{
    int fd = openat(f->dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void host_mkdir(struct fixture *f, const char *path)
{
    assert_int_equal(mkdirat(f->dir, path, 0755), 0);
}

static void host_rename(struct fixture *f, const char *from, const char *to)
{
    assert_int_equal(renameat(f->dir, from, f->dir, to), 0);
}

/* -- the guest ---------------------------------------------------------------------------------------
 */

static int look_in(struct fixture *f, uint64_t dir, const char *name, uint64_t *nodeid)
{
    struct inode_ref parent, ref;
    struct statx stx;
    int rc = inode_get(f->table, dir, &parent);
    if (rc < 0)
        return rc;
    rc = inode_lookup(f->table, &parent, name, &ref, &stx);
    if (rc == 0) {
        assert_int_equal(ref.type, stx.stx_mode & S_IFMT);
        *nodeid = ref.nodeid;
    }
    inode_put(f->table, &ref);
    inode_put(f->table, &parent);
    return rc;
}

/* As a guest's kernel walks: each directory is looked up. */
static uint64_t look(struct fixture *f, const char *path)
{
    char copy[256], *save, *name;
    uint64_t nodeid = ROOT;
    snprintf(copy, sizeof(copy), "%s", path);
    for (name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save))
        if (look_in(f, nodeid, name, &nodeid) < 0)
            return 0;
    return nodeid;
}

static int stat_node(struct fixture *f, uint64_t nodeid, struct statx *stx)
{
    struct inode_ref ref;
    int rc = inode_get(f->table, nodeid, &ref);
    if (rc == 0)
        rc = inode_stat(f->table, &ref, stx);
    inode_put(f->table, &ref);
    return rc;
}

/* Open by node id; the file's size, or -errno. */
static int64_t size_opened(struct fixture *f, uint64_t nodeid)
{
    struct inode_ref ref;
    struct stat st;
    int rc = inode_get(f->table, nodeid, &ref);
    if (rc == 0)
        rc = inode_open(f->table, &ref);
    if (rc == 0)
        rc = fstat(ref.fd, &st);
    inode_put(f->table, &ref);
    return rc < 0 ? rc : st.st_size;
}

static void begin_open(struct fixture *f, uint64_t nodeid)
{
    struct inode_ref ref;
    assert_int_equal(inode_get(f->table, nodeid, &ref), 0);
    inode_opened(f->table, &ref);
    inode_put(f->table, &ref);
}

static void guest_unlink(struct fixture *f, uint64_t dir, const char *name, int flags)
{
    struct inode_ref ref;
    assert_int_equal(inode_get(f->table, dir, &ref), 0);
    assert_int_equal(inode_open(f->table, &ref), 0);
    inode_unlinking(f->table, &ref, name);
    int rc = unlinkat(ref.fd, name, flags) < 0 ? -errno : 0;
    if (rc < 0)
        inode_unlink_failed(f->table, &ref, name, rc);
    inode_put(f->table, &ref);
}

static struct fs_stats stats(struct fixture *f)
{
    struct fs_stats s = {0};
    inode_table_stats(f->table, &s);
    return s;
}

/* Push every idle descriptor out: more files than fds_max, looked at and forgotten. */
static void drop_caches(struct fixture *f)
{
    enum { OTHERS = 40 };
    uint64_t ids[OTHERS];
    if (faccessat(f->dir, "others", F_OK, 0) < 0) {
        host_mkdir(f, "others");
        for (int i = 0; i < OTHERS; i++) {
            char name[32];
            snprintf(name, sizeof(name), "others/%d", i);
            host_write(f, name, "");
        }
    }
    for (int i = 0; i < OTHERS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "others/%d", i);
        ids[i] = look(f, name);
        assert_int_equal(size_opened(f, ids[i]), 0);
    }
    for (int i = 0; i < OTHERS; i++)
        inode_forget(f->table, ids[i], 1);
}

/* -- cases -------------------------------------------------------------------------------------------
 */

static const struct fs_options small = {.fds_max = 16};

static void test_names_are_components(const struct variant *v)
{
    struct fixture f;
    uint64_t id;
    begin(&f, v);
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
    assert_int_equal(size_opened(&f, look(&f, longest)), 4);
    host_write(&f, "...", "dots");
    assert_int_equal(size_opened(&f, look(&f, "...")), 4);
    host_write(&f, "file", "");
    assert_int_equal(look_in(&f, look(&f, "file"), "x", &id), -ENOTDIR);
    assert_int_equal(look_in(&f, ROOT, "none", &id), -ENOENT);
    end(&f);
}

static void test_rename_and_links_keep_the_node(const struct variant *v)
{
    struct fixture f;
    begin_with(&f, v, small);
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
    drop_caches(&f);
    assert_int_equal(size_opened(&f, id), 5);
    struct statx stx;
    assert_int_equal(stat_node(&f, id, &stx), 0);
    assert_int_equal(stx.stx_nlink, 2);
    /* The newest place serves when the older is gone. */
    assert_int_equal(unlinkat(f.dir, "e/link", 0), 0);
    drop_caches(&f);
    assert_int_equal(size_opened(&f, id), 5);
    end(&f);
}

static void test_a_name_with_another_file_is_stale(const struct variant *v)
{
    struct fixture f;
    struct statx stx;
    begin_with(&f, v, small);
    host_write(&f, "a", "old");
    uint64_t id = look(&f, "a");
    drop_caches(&f);
    host_write(&f, "b", "other");
    host_rename(&f, "b", "a");
    assert_int_equal(stat_node(&f, id, &stx), -ESTALE);
    assert_int_equal(size_opened(&f, id), -ESTALE);
    uint64_t now = look(&f, "a");
    assert_true(now != id && now != 0);
    assert_int_equal(size_opened(&f, now), 5);
    assert_int_equal(unlinkat(f.dir, "a", 0), 0);
    inode_forget(f.table, now, 1);
    assert_int_equal(stat_node(&f, now, &stx), -ESTALE);
    end(&f);
}

static void test_open_files_outlive_their_name(const struct variant *v)
{
    struct fixture f;
    struct statx stx;
    begin_with(&f, v, small);
    host_write(&f, "open", "123");
    host_write(&f, "closed", "123");
    uint64_t opened = look(&f, "open"), closed = look(&f, "closed");
    begin_open(&f, opened);
    guest_unlink(&f, ROOT, "open", 0);
    guest_unlink(&f, ROOT, "closed", 0);
    drop_caches(&f);
    assert_int_equal(stat_node(&f, opened, &stx), 0);
    assert_int_equal(stx.stx_nlink, 0);
    assert_int_equal(size_opened(&f, opened), 3);
    assert_int_equal(stat_node(&f, closed, &stx), -ESTALE);
    inode_closed(f.table, opened);
    inode_forget(f.table, opened, 1);
    inode_forget(f.table, closed, 1);
    /* Only the root and the directory of drop_caches are left. */
    inode_forget(f.table, look(&f, "others"), UINT64_MAX);
    assert_int_equal(stats(&f).inodes, 1);
    assert_int_equal(stats(&f).inode_fds, 0);
    end(&f);
}

/* -- the matrix --------------------------------------------------------------------------------------
 */

struct planned {
    const struct variant *variant;
    void (*run)(const struct variant *v);
    char name[96];
};

static void run_planned(void **state)
{
    const struct planned *p = *state;
    p->run(p->variant);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(const struct variant *v);
    } cases[] = {
        {"names are components", test_names_are_components},
        {"rename and links keep the node", test_rename_and_links_keep_the_node},
        {"a name with another file is stale", test_a_name_with_another_file_is_stale},
        {"open files outlive their name", test_open_files_outlive_their_name},
    };
    static struct planned plans[ARRAY_SIZE(cases) * ARRAY_SIZE(variants)];
    struct CMUnitTest matrix[ARRAY_SIZE(plans)];
    size_t n = 0;
    for (size_t v = 0; v < ARRAY_SIZE(variants); v++) {
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++, n++) {
            plans[n] = (struct planned){&variants[v], cases[i].run, ""};
            snprintf(plans[n].name, sizeof(plans[n].name), "%s: %s", variants[v].name, cases[i].name);
            matrix[n] = (struct CMUnitTest){plans[n].name, run_planned, NULL, NULL, &plans[n]};
        }
    }
    return _cmocka_run_group_tests("fs-inode", matrix, n, NULL, NULL);
}
