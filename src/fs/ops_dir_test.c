/* SPDX-License-Identifier: Apache-2.0 */

/* Reading directories: everything once, at any buffer size, from any place, while names come and go. */

#include <dirent.h>

#include "fs/server.h"
#include "fs/testing_fs.h"
#include "util/arith.h"

#define FILES  300
#define PROBES 3 /* at 8, 32 and 128 */

struct listing {
    unsigned count;
    unsigned seen[FILES];
    bool dot, dotdot;
    uint64_t offsets[FILES + 2]; /* behind each entry */
    uint64_t nodes[FILES];
    unsigned node_count;
};

/* Take the entries of one reply; the offset behind the last one. */
static uint64_t take(struct listing *l, const uint8_t *buf, size_t len, bool plus)
{
    uint64_t offset = 0;
    for (size_t at = 0; at < len;) {
        size_t skip = plus ? sizeof(struct fuse_entry_out) : 0;
        struct fuse_dirent d;
        struct fuse_entry_out e = {0};
        assert_true(at + skip + FUSE_NAME_OFFSET <= len);
        if (plus)
            memcpy(&e, buf + at, sizeof(e));
        memcpy(&d, buf + at + skip, FUSE_NAME_OFFSET);
        size_t record = FUSE_DIRENT_ALIGN(skip + FUSE_NAME_OFFSET + d.namelen);
        assert_true(at + record <= len && d.namelen > 0 && d.namelen <= FS_NAME_MAX);
        char name[FS_NAME_MAX + 1] = {0};
        memcpy(name, buf + at + skip + FUSE_NAME_OFFSET, d.namelen);
        assert_int_equal(strlen(name), d.namelen);
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
            *(name[1] ? &l->dotdot : &l->dot) = true;
            assert_int_equal(e.nodeid, 0);
        } else {
            unsigned i = (unsigned)atoi(name + 1);
            assert_true(i < FILES);
            l->seen[i]++;
            if (plus && e.nodeid) {
                assert_true(S_ISREG(e.attr.mode));
                assert_int_equal(e.attr.ino, d.ino);
                assert_int_equal(e.attr.size, i);
                l->nodes[l->node_count++] = e.nodeid;
            }
        }
        assert_true(l->count < ARRAY_SIZE(l->offsets));
        l->offsets[l->count++] = offset = d.off;
        at += record;
    }
    return offset;
}

static void list_all(struct share *s, size_t size, bool plus, struct listing *l)
{
    struct fuse_open_out open;
    uint64_t offset = 0;
    ssize_t n;
    uint8_t *buf = malloc(size);
    *l = (struct listing){0};
    assert_int_equal(client_opendir(s->c, ROOT, &open), 0);
    while ((n = client_readdir(s->c, ROOT, open.fh, offset, buf, size, plus)) > 0)
        offset = take(l, buf, (size_t)n, plus);
    assert_int_equal(n, 0);
    assert_int_equal(client_readdir(s->c, ROOT, open.fh, offset, buf, size, plus), 0);
    assert_int_equal(client_releasedir(s->c, ROOT, open.fh), 0);
    free(buf);
}

static void fill(struct share *s)
{
    char name[100];
    for (unsigned i = 0; i < FILES; i++) {
        /* Names of all lengths, so that records end everywhere. */
        snprintf(name, sizeof(name), "f%03u%.*s", i, (int)(i % 70),
                 "......................................................................");
        int fd = openat(s->dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, i), 0);
        close(fd);
    }
}

static void everything_is_listed_once(void **state)
{
    static const char *const bases[] = {"/dev/shm", "/var/tmp"};
    static const size_t sizes[] = {280, 512, 4096, 65536, 1 << 20};
    for (unsigned b = 0; b < ARRAY_SIZE(bases); b++) {
        struct share s;
        share_begin_with(&s, bases[b], NULL, own_idmap(), false);
        fill(&s);
        for (unsigned i = 0; i < ARRAY_SIZE(sizes) * 2; i++) {
            static struct listing l;
            bool plus = i & 1;
            struct fs_stats before, after;
            fs_get_stats(s.fs, &before);
            list_all(&s, sizes[i / 2], plus, &l);
            assert_true(l.dot && l.dotdot);
            assert_int_equal(l.count, FILES + 2);
            for (unsigned j = 0; j < FILES; j++)
                assert_int_equal(l.seen[j], 1);
            /* All come with attributes but the probes (foresight.h), of which "." may be one. */
            assert_in_range(l.node_count, plus ? FILES - PROBES : 0, plus ? FILES - PROBES + 2 : 0);
            fs_get_stats(s.fs, &after);
            assert_int_equal(after.inodes, before.inodes + l.node_count);
            assert_int_equal(after.inode_fds, before.inode_fds); /* nothing was opened */
            for (unsigned j = 0; j < l.node_count; j++)
                client_forget(s.c, l.nodes[j], 1);
            fs_get_stats(s.fs, &after);
            assert_int_equal(after.inodes, before.inodes);
        }
        share_end(&s);
    }
}

static void a_listing_goes_on_from_any_place(void **state)
{
    static struct listing whole, part;
    static uint8_t buf[4096];
    struct share s;
    struct fuse_open_out open;
    share_begin_with(&s, "/var/tmp", NULL, own_idmap(), false);
    fill(&s);
    list_all(&s, 4096, false, &whole);
    assert_int_equal(client_opendir(s.c, ROOT, &open), 0);
    for (unsigned from = 0; from < FILES; from += 37) {
        part = (struct listing){0};
        ssize_t n = client_readdir(s.c, ROOT, open.fh, whole.offsets[from], buf, sizeof(buf), false);
        assert_true(n > 0);
        take(&part, buf, (size_t)n, false);
        for (unsigned i = 0; i < part.count; i++)
            assert_int_equal(part.offsets[i], whole.offsets[from + 1 + i]);
    }
    /* Offsets that nobody was given: an error or a place, no more. */
    const uint64_t wild[] = {1, 12345, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX};
    for (unsigned i = 0; i < ARRAY_SIZE(wild); i++)
        (void)client_readdir(s.c, ROOT, open.fh, wild[i], buf, sizeof(buf), true);
    assert_true(client_readdir(s.c, ROOT, open.fh, 0, buf, sizeof(buf), false) > 0);
    assert_int_equal(client_readdir(s.c, ROOT, open.fh, 0, buf, 16, false), 0);
    share_end(&s);
}

/* What rm -rf does: read some, remove them, read on. */
static void removing_while_reading_leaves_nothing(void **state)
{
    static const char *const bases[] = {"/dev/shm", "/var/tmp"};
    for (unsigned b = 0; b < ARRAY_SIZE(bases); b++) {
        struct share s;
        struct fuse_open_out open;
        uint8_t buf[1024];
        uint64_t offset = 0;
        ssize_t n;
        unsigned removed = 0;
        share_begin_with(&s, bases[b], NULL, own_idmap(), false);
        fill(&s);
        assert_int_equal(client_opendir(s.c, ROOT, &open), 0);
        while ((n = client_readdir(s.c, ROOT, open.fh, offset, buf, sizeof(buf), false)) > 0) {
            for (size_t at = 0; at < (size_t)n;) {
                struct fuse_dirent d;
                char name[FS_NAME_MAX + 1] = {0};
                memcpy(&d, buf + at, FUSE_NAME_OFFSET);
                memcpy(name, buf + at + FUSE_NAME_OFFSET, d.namelen);
                at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + d.namelen);
                offset = d.off;
                if (name[0] != '.') {
                    assert_int_equal(client_unlink(s.c, ROOT, name), 0);
                    removed++;
                }
            }
        }
        assert_int_equal(removed, FILES);
        assert_int_equal(client_releasedir(s.c, ROOT, open.fh), 0);
        share_end(&s);
    }
}

static void names_that_went_since_are_left_out(void **state)
{
    struct share s;
    struct fuse_open_out open;
    struct listing l = {0};
    uint8_t buf[4096];
    share_begin(&s);
    host_write(&s, "f0", "");
    host_write(&s, "f1", "1");
    assert_int_equal(client_opendir(s.c, ROOT, &open), 0);
    /* Room for one dot: the rest has been read from the host, and waits. */
    assert_true(client_readdir(s.c, ROOT, open.fh, 0, buf, 32, false) > 0);
    struct fuse_dirent d;
    memcpy(&d, buf, FUSE_NAME_OFFSET);
    assert_int_equal(unlinkat(s.dir, "f0", 0), 0);
    ssize_t n = client_readdir(s.c, ROOT, open.fh, d.off, buf, sizeof(buf), true);
    assert_true(n > 0);
    take(&l, buf, (size_t)n, true);
    assert_int_equal(l.seen[0], 0);
    assert_int_equal(l.seen[1], 1);
    share_end(&s);
}

static void a_removed_directory_is_empty(void **state)
{
    struct share s;
    struct fuse_entry_out dir;
    struct fuse_open_out open;
    uint8_t buf[4096];
    share_begin(&s);
    assert_int_equal(client_mkdir(s.c, ROOT, "dir", 0755, &dir), 0);
    assert_int_equal(client_opendir(s.c, dir.nodeid, &open), 0);
    assert_int_equal(client_rmdir(s.c, ROOT, "dir"), 0);
    assert_int_equal(client_readdir(s.c, dir.nodeid, open.fh, 0, buf, sizeof(buf), true), 0);
    assert_int_equal(client_releasedir(s.c, dir.nodeid, open.fh), 0);
    share_end(&s);
}

static void the_made_up_root_lists_its_directories(void **state)
{
    struct share a, s = {.dir = -1};
    struct fuse_open_out open;
    struct fuse_entry_out e;
    struct fuse_dirent d;
    uint8_t buf[4096];
    share_make_directory(&a, "/dev/shm");
    share_make_directory(&s, "/dev/shm");
    struct fs_directory directories[] = {
        {.name = "one", .fd = a.dir, .idmap = own_idmap()},
        {.name = "two", .fd = s.dir, .idmap = own_idmap()},
    };
    struct fs_options options = {.directories = directories, .directory_count = 2};
    static const char *const want[] = {".", "..", "one", "two"};
    share_start(&s, &options);
    assert_int_equal(client_opendir(s.c, ROOT, &open), 0);
    for (int plus = 0; plus < 2; plus++) {
        uint64_t offset = 0;
        for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
            /* One at a time. */
            size_t skip = plus ? sizeof(e) : 0;
            size_t size = FUSE_DIRENT_ALIGN(skip + FUSE_NAME_OFFSET + strlen(want[i]));
            assert_int_equal(client_readdir(s.c, ROOT, open.fh, offset, buf, size, plus), size);
            memcpy(&d, buf + skip, FUSE_NAME_OFFSET);
            assert_int_equal(d.namelen, strlen(want[i]));
            assert_memory_equal(buf + skip + FUSE_NAME_OFFSET, want[i], d.namelen);
            memcpy(&e, buf, sizeof(e));
            assert_true(!plus || i < 2 || (e.attr.flags & FUSE_ATTR_SUBMOUNT));
            offset = d.off;
        }
        assert_int_equal(client_readdir(s.c, ROOT, open.fh, offset, buf, sizeof(buf), plus), 0);
        assert_int_equal(client_readdir(s.c, ROOT, open.fh, UINT64_MAX, buf, sizeof(buf), plus), 0);
    }
    assert_int_equal(client_releasedir(s.c, ROOT, open.fh), 0);
    share_end(&s);
    close(a.dir);
    tree_remove(AT_FDCWD, a.path);
}

/* As vfat has them, whose names are of 255 characters, not bytes. */
static void too_long_names_are_left_out(void **state)
{
    struct share s;
    char name[3 * FS_NAME_MAX + 1];
    uint8_t reply[4096];
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    share_begin(&s);
    for (enum dir_form form = DIR_ENTRY; form <= DIR_ENTRY_PLUS; form++) {
        struct iovec out = {reply, sizeof(reply)};
        struct fs_request raw = {.out = &out, .out_count = 1, .out_bytes = sizeof(reply)};
        struct request r = {.fs = s.fs, .raw = &raw, .node.fd = -1};
        assert_int_equal(inode_get(s.fs->inodes, ROOT, &r.node), 0);
        struct dir_entry e = {
            .name = name, .name_bytes = strlen(name), .ino = 5, .next = 1, .type = DT_REG};
        assert_int_equal(dir_put(&r, &e, form, sizeof(reply)), 0);
        assert_int_equal(r.reply_bytes, 0);
        e.name = ".";
        e.name_bytes = 1;
        assert_int_equal(dir_put(&r, &e, form, sizeof(reply)), 0);
        assert_true(r.reply_bytes > 0);
        inode_put(s.fs->inodes, &r.node);
    }
    share_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_listed_once),
        cmocka_unit_test(a_listing_goes_on_from_any_place),
        cmocka_unit_test(removing_while_reading_leaves_nothing),
        cmocka_unit_test(names_that_went_since_are_left_out),
        cmocka_unit_test(a_removed_directory_is_empty),
        cmocka_unit_test(too_long_names_are_left_out),
        cmocka_unit_test(the_made_up_root_lists_its_directories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
