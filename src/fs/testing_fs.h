/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_TESTING_FS_H
#define FS_TESTING_FS_H

/*
 * A temporary directory, a server that shares it, and a client: what the file server's tests begin
 * with. As root files keep their owners (identity), else they are the test's user's (squash). Included
 * by *_test.c files only.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/testing_client.h"
#include "util/testing.h"
#include "util/tree.h"

#define ROOT        UINT64_C(1)
#define ALL_OFFERED (~(UINT64_C(1) << 31)) /* all but FUSE_INIT_RESERVED */

struct share {
    char path[64];
    int dir; /* the same, open, for looks from the host */
    struct fs *fs;
    struct client *c;
    uint64_t flags; /* agreed */
};

static inline struct fs_idmap own_idmap(void)
{
    return geteuid() == 0 ? (struct fs_idmap){.kind = FS_IDMAP_IDENTITY}
                          : (struct fs_idmap){
                                .kind = FS_IDMAP_SQUASH, .host_uid = geteuid(), .host_gid = getegid()};
}

static inline void share_start(struct share *s, const struct fs_options *options)
{
    struct dayfly_err err = {0};
    struct fuse_init_out init;
    int rc = fs_new(&s->fs, options, &err);
    if (rc < 0)
        fail_msg("%s", err.msg);
    fs_show_window(s->fs, true);
    s->c = client_new(s->fs);
    client_cut(s->c, CLIENT_LINUX);
    assert_int_equal(client_init(s->c, ALL_OFFERED, &init), 0);
    s->flags = init.flags | (uint64_t)init.flags2 << 32;
}

static inline void share_make_directory(struct share *s, const char *base)
{
    *s = (struct share){.dir = -1};
    snprintf(s->path, sizeof(s->path), "%s/dayfly-fs-XXXXXX", base);
    assert_non_null(mkdtemp(s->path));
    assert_int_equal(chmod(s->path, 0755), 0);
    s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(s->dir >= 0);
}

/* A share of a new directory in `base`. Of `like`, all but the directories counts; NULL: defaults. */
static inline void share_begin_with(struct share *s, const char *base, const struct fs_options *like,
                                    struct fs_idmap idmap, bool read_only)
{
    share_make_directory(s, base);
    if (idmap.kind == FS_IDMAP_MAP) /* the directory of the guest's root */
        assert_int_equal(fchown(s->dir, idmap.uids.extents[0].host, idmap.gids.extents[0].host), 0);
    struct fs_directory directory = {.fd = s->dir, .read_only = read_only, .idmap = idmap};
    struct fs_options options = like ? *like : (struct fs_options){0};
    options.directories = &directory;
    options.directory_count = 1;
    share_start(s, &options);
}

static inline void share_begin(struct share *s)
{
    share_begin_with(s, "/dev/shm", NULL, own_idmap(), false);
}

static inline void share_end(struct share *s)
{
    client_free(s->c);
    fs_free(s->fs);
    close(s->dir);
    assert_int_equal(tree_remove(AT_FDCWD, s->path), 0);
}

static inline void skip_unless_root(void)
{
    if (geteuid() != 0)
        skip();
}

/* -- the host's side ----------------------------------------------------------------------------- */

static inline void host_write(struct share *s, const char *name, const char *text)
{
    int fd = openat(s->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static inline struct stat host_stat(struct share *s, const char *name)
{
    struct stat st;
    assert_int_equal(fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st;
}

static inline bool host_has(struct share *s, const char *name)
{
    return faccessat(s->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* -- the guest's side ---------------------------------------------------------------------------- */

static inline uint64_t node_of(struct share *s, uint64_t dir, const char *name)
{
    struct fuse_entry_out entry;
    assert_int_equal(client_lookup(s->c, dir, name, &entry), 0);
    assert_true(entry.nodeid != 0);
    return entry.nodeid;
}

/* A new file, open for reading and writing. */
static inline uint64_t new_file(struct share *s, const char *name, uint64_t *nodeid)
{
    struct fuse_entry_out entry;
    struct fuse_open_out open;
    assert_int_equal(client_create(s->c, ROOT, name, O_RDWR, 0644, &entry, &open), 0);
    *nodeid = entry.nodeid;
    return open.fh;
}

#endif
