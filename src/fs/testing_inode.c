/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/testing_inode.h"
#include "util/tree.h"

#include <sched.h>
#include <sys/mount.h>

const struct variant variants[VARIANTS] = {
    {"disk, by name", PLACE_DISK, FS_IDMAP_SQUASH},
    {"disk, by handle", PLACE_DISK, FS_IDMAP_IDENTITY},
    {"tmpfs, by name", PLACE_TMPFS, FS_IDMAP_SQUASH},
    {"tmpfs, by handle", PLACE_TMPFS, FS_IDMAP_IDENTITY},
    {"overlay, by name", PLACE_OVERLAY, FS_IDMAP_SQUASH},
};

/* -- a directory -------------------------------------------------------------------------------------
 */

bool private_mounts(void)
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

static void remove_files(struct fixture *f)
{
    close_fd(&f->dir);
    umount2(f->share, MNT_DETACH);
    assert_int_equal(tree_remove(AT_FDCWD, f->base), 0);
}

void begin(struct fixture *f, const struct variant *v, struct fs_options options)
{
    *f = (struct fixture){.variant = v, .options = options, .dir = -1};
    if (v->kind == FS_IDMAP_IDENTITY && geteuid() != 0)
        skip();
    strcpy(f->base, v->place == PLACE_TMPFS ? "/dev/shm/unit-XXXXXX" : "/var/tmp/unit-XXXXXX");
    assert_non_null(mkdtemp(f->base));
    snprintf(f->share, sizeof(f->share), "%s/share", f->base);
    assert_int_equal(mkdir(f->share, 0755), 0);
    if (v->place == PLACE_OVERLAY && !mount_overlay(f)) {
        remove_files(f);
        skip();
    }
    f->dir = open(f->share, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(f->dir >= 0);
    f->directories[0] = (struct fs_directory){
        .fd = f->dir, .idmap = {.kind = v->kind, .host_uid = geteuid(), .host_gid = getegid()}};
    f->options.directories = f->directories;
    f->options.directory_count = 1;
    assert_int_equal(inode_table_new(&f->table, &f->options, NULL), 0);
    unsigned count;
    if (v->kind == FS_IDMAP_SQUASH)
        assert_false(inode_exports(f->table, &count)->by_handle);
}

void end(struct fixture *f)
{
    inode_table_free(f->table);
    remove_files(f);
}

/* -- the host ----------------------------------------------------------------------------------------
 */

void host_write(struct fixture *f, const char *path, const char *text)
{
    int fd = openat(f->dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

void host_mkdir(struct fixture *f, const char *path)
{
    assert_int_equal(mkdirat(f->dir, path, 0755), 0);
}

void host_rename(struct fixture *f, const char *from, const char *to)
{
    assert_int_equal(renameat(f->dir, from, f->dir, to), 0);
}

void host_unlink(struct fixture *f, const char *path)
{
    assert_int_equal(unlinkat(f->dir, path, 0), 0);
}

struct statx host_stat(struct fixture *f, const char *path)
{
    struct statx stx;
    assert_int_equal(
        statx(f->dir, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &stx),
        0);
    return stx;
}

unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* -- the guest ---------------------------------------------------------------------------------------
 */

int look_in(struct fixture *f, uint64_t dir, const char *name, uint64_t *nodeid)
{
    struct inode_ref parent, ref = {.fd = -1};
    struct statx stx;
    int rc = inode_get(f->table, dir, &parent);
    if (rc == 0)
        rc = inode_lookup(f->table, &parent, name, &ref, &stx);
    if (rc == 0) {
        assert_int_equal(ref.type, stx.stx_mode & S_IFMT);
        *nodeid = ref.nodeid;
    }
    inode_put(f->table, &ref);
    inode_put(f->table, &parent);
    return rc;
}

uint64_t look(struct fixture *f, const char *path)
{
    char copy[256], *save, *name;
    uint64_t nodeid = ROOT;
    snprintf(copy, sizeof(copy), "%s", path);
    for (name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save))
        if (look_in(f, nodeid, name, &nodeid) < 0)
            return 0;
    return nodeid;
}

int stat_node(struct fixture *f, uint64_t nodeid, struct statx *stx)
{
    struct inode_ref ref;
    int rc = inode_get(f->table, nodeid, &ref);
    if (rc == 0)
        rc = inode_stat(f->table, &ref, stx);
    inode_put(f->table, &ref);
    return rc;
}

int64_t size_of(struct fixture *f, uint64_t nodeid)
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

void guest_open(struct fixture *f, uint64_t nodeid)
{
    struct inode_ref ref;
    assert_int_equal(inode_get(f->table, nodeid, &ref), 0);
    assert_int_equal(inode_open(f->table, &ref), 0);
    inode_opened(f->table, &ref);
    inode_put(f->table, &ref);
}

int guest_unlink(struct fixture *f, uint64_t dir, const char *name, int flags)
{
    struct inode_ref ref;
    assert_int_equal(inode_get(f->table, dir, &ref), 0);
    assert_int_equal(inode_open(f->table, &ref), 0);
    inode_unlinking(f->table, &ref, name);
    int rc = unlinkat(ref.fd, name, flags) < 0 ? -errno : 0;
    if (rc < 0)
        inode_unlink_failed(f->table, &ref, name, rc);
    inode_put(f->table, &ref);
    return rc;
}

void guest_rename(struct fixture *f, uint64_t from, const char *from_name, uint64_t to,
                  const char *to_name, unsigned flags)
{
    struct inode_ref a, b;
    assert_int_equal(inode_get(f->table, from, &a), 0);
    assert_int_equal(inode_open(f->table, &a), 0);
    assert_int_equal(inode_get(f->table, to, &b), 0);
    assert_int_equal(inode_open(f->table, &b), 0);
    if (!(flags & RENAME_EXCHANGE))
        inode_unlinking(f->table, &b, to_name);
    assert_int_equal(renameat2(a.fd, from_name, b.fd, to_name, flags), 0);
    inode_renamed(f->table, &a, from_name, &b, to_name, flags & RENAME_EXCHANGE);
    inode_put(f->table, &a);
    inode_put(f->table, &b);
}

struct fs_stats stats(struct fixture *f)
{
    struct fs_stats s = {0};
    inode_table_stats(f->table, &s);
    return s;
}

void drop_cache(struct fixture *f)
{
    uint64_t ids[FDS_FEW];
    char name[32];
    assert_int_equal(f->options.fds_max, FDS_FEW);
    if (mkdirat(f->dir, "others", 0755) == 0)
        for (int i = 0; i < FDS_FEW; i++) {
            snprintf(name, sizeof(name), "others/%d", i);
            host_write(f, name, "");
        }
    for (int i = 0; i < FDS_FEW; i++) {
        snprintf(name, sizeof(name), "others/%d", i);
        ids[i] = look(f, name);
        assert_int_equal(size_of(f, ids[i]), 0);
    }
    uint64_t others = look(f, "others");
    for (int i = 0; i < FDS_FEW; i++)
        inode_forget(f->table, ids[i], UINT64_MAX);
    inode_forget(f->table, others, UINT64_MAX);
}

uint32_t forget_all(struct fixture *f)
{
    for (uint64_t nodeid = ROOT + 1; nodeid < 1000; nodeid++)
        inode_forget(f->table, nodeid, UINT64_MAX);
    return stats(f).inodes;
}

/* -- the matrix --------------------------------------------------------------------------------------
 */

struct planned {
    const struct variant *variant;
    const struct variant_case *variant_case;
    char name[128];
};

static void run_planned(void **state)
{
    const struct planned *p = *state;
    p->variant_case->run(p->variant);
}

int run_cases(const char *group, const struct variant_case *cases, size_t count)
{
    struct planned *plans = calloc(count * VARIANTS, sizeof(*plans));
    struct CMUnitTest *tests = calloc(count * VARIANTS, sizeof(*tests));
    size_t n = 0;
    if (!plans || !tests)
        return 1;
    for (size_t v = 0; v < VARIANTS; v++)
        for (size_t i = 0; i < count; i++, n++) {
            plans[n] = (struct planned){&variants[v], &cases[i], ""};
            snprintf(plans[n].name, sizeof(plans[n].name), "%s: %s", variants[v].name, cases[i].name);
            tests[n] = (struct CMUnitTest){plans[n].name, run_planned, NULL, NULL, &plans[n]};
        }
    int failed = _cmocka_run_group_tests(group, tests, n, NULL, NULL);
    free(plans);
    free(tests);
    return failed;
}
