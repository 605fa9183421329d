/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A read-only directory, against each opcode that the server's table has. An opcode without a sample
 * here fails the test, so that none can be added and forgotten.
 */

#include <dirent.h>
#include <linux/fs.h>
#include <sys/xattr.h>

#include "fs/server.h"
#include "fs/testing_fs.h"
#include "util/arith.h"

#define OPCODES 64 /* more than there are */

struct nodes {
    uint64_t file, dir, link;
    uint64_t fh, dir_fh;
};

/* The arguments of one request that would succeed, and would change something, where it might. */
struct sample {
    uint64_t node;
    union {
        struct fuse_access_in access;
        struct fuse_copy_file_range_in copy;
        struct fuse_create_in create;
        struct fuse_fallocate_in fallocate;
        struct fuse_flush_in flush;
        struct fuse_fsync_in fsync;
        struct fuse_getattr_in getattr;
        struct fuse_getxattr_in getxattr;
        struct fuse_link_in link;
        struct fuse_lk_in lk;
        struct fuse_lseek_in lseek;
        struct fuse_mkdir_in mkdir;
        struct fuse_mknod_in mknod;
        struct fuse_open_in open;
        struct fuse_read_in read;
        struct fuse_rename_in rename;
        struct fuse_rename2_in rename2;
        struct fuse_setattr_in setattr;
        struct fuse_setupmapping_in map;
        struct fuse_setxattr_in setxattr;
        struct fuse_statx_in statx;
        struct fuse_syncfs_in syncfs;
        struct fuse_write_in write;
    } in;
    struct client_part parts[3];
    unsigned count;
};

#define ARGS(member, ...)                                                                              \
    (s->in.member = (__typeof__(s->in.member)){__VA_ARGS__},                                           \
     s->parts[s->count++] = (struct client_part){&s->in.member, sizeof(s->in.member)})
#define NAME(text) (s->parts[s->count++] = CLIENT_TEXT(text))

/* False: this opcode says nothing about directories. */
static bool make_sample(uint32_t opcode, const struct nodes *n, struct sample *s)
{
    *s = (struct sample){.node = ROOT};
    switch (opcode) {
    case FUSE_INIT:
    case FUSE_DESTROY:
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_REMOVEMAPPING:
        return false;
    case FUSE_LOOKUP:
        NAME("file");
        return true;
    case FUSE_UNLINK:
        NAME("file");
        return true;
    case FUSE_RMDIR:
        NAME("dir");
        return true;
    case FUSE_REMOVEXATTR:
        s->node = n->file;
        NAME("user.x");
        return true;
    case FUSE_GETATTR:
        ARGS(getattr, 0);
        return true;
    case FUSE_STATX:
        ARGS(statx, 0);
        return true;
    case FUSE_SETATTR:
        s->node = n->file;
        ARGS(setattr, .valid = FATTR_MODE | FATTR_MTIME | FATTR_SIZE | FATTR_FH, .fh = n->fh);
        return true;
    case FUSE_READLINK:
        s->node = n->link;
        return true;
    case FUSE_SYMLINK:
        NAME("new");
        NAME("target");
        return true;
    case FUSE_MKNOD:
        ARGS(mknod, .mode = S_IFREG | 0644);
        NAME("new");
        return true;
    case FUSE_MKDIR:
        ARGS(mkdir, .mode = 0755);
        NAME("new");
        return true;
    case FUSE_RENAME:
        ARGS(rename, .newdir = n->dir);
        NAME("file");
        NAME("new");
        return true;
    case FUSE_RENAME2:
        ARGS(rename2, .newdir = n->dir, .flags = RENAME_NOREPLACE);
        NAME("file");
        NAME("new");
        return true;
    case FUSE_LINK:
        ARGS(link, .oldnodeid = n->file);
        NAME("new");
        return true;
    case FUSE_OPEN:
        s->node = n->file;
        ARGS(open, .flags = O_RDONLY | O_TRUNC);
        return true;
    case FUSE_OPENDIR:
        ARGS(open, 0);
        return true;
    case FUSE_READ:
        s->node = n->file;
        ARGS(read, .fh = n->fh, .size = 100);
        return true;
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
        ARGS(read, .fh = n->dir_fh, .size = 1000);
        return true;
    case FUSE_WRITE:
        s->node = n->file;
        ARGS(write, .fh = n->fh, .size = 3);
        NAME("xy");
        return true;
    case FUSE_STATFS:
        return true;
    case FUSE_SYNCFS:
        ARGS(syncfs, 0);
        return true;
    case FUSE_FSYNC:
        s->node = n->file;
        ARGS(fsync, .fh = n->fh);
        return true;
    case FUSE_FSYNCDIR:
        ARGS(fsync, .fh = n->dir_fh);
        return true;
    case FUSE_SETXATTR:
        s->node = n->file;
        ARGS(setxattr, .size = 1);
        NAME("user.x");
        NAME("");
        return true;
    case FUSE_GETXATTR:
        s->node = n->file;
        ARGS(getxattr, .size = 100);
        NAME("user.x");
        return true;
    case FUSE_LISTXATTR:
        s->node = n->file;
        ARGS(getxattr, .size = 100);
        return true;
    case FUSE_FLUSH:
        s->node = n->file;
        ARGS(flush, .fh = n->fh);
        return true;
    case FUSE_GETLK:
    case FUSE_SETLK:
    case FUSE_SETLKW:
        s->node = n->file;
        ARGS(lk, .fh = n->fh, .owner = 1, .lk = {0, 9, F_RDLCK, 1});
        return true;
    case FUSE_ACCESS:
        ARGS(access, .mask = 2);
        return true;
    case FUSE_CREATE:
        ARGS(create, .flags = O_RDWR, .mode = S_IFREG | 0644);
        NAME("new");
        return true;
    case FUSE_TMPFILE:
        ARGS(create, .flags = O_RDWR, .mode = S_IFREG | 0644);
        NAME("/");
        return true;
    case FUSE_FALLOCATE:
        s->node = n->file;
        ARGS(fallocate, .fh = n->fh, .length = 4096);
        return true;
    case FUSE_LSEEK:
        s->node = n->file;
        ARGS(lseek, .fh = n->fh, .whence = SEEK_DATA);
        return true;
    case FUSE_SETUPMAPPING:
        s->node = n->file;
        ARGS(map, .fh = UINT64_MAX, .len = 4096, .flags = FUSE_SETUPMAPPING_FLAG_WRITE);
        return true;
    case FUSE_COPY_FILE_RANGE:
        s->node = n->file;
        ARGS(copy, .fh_in = n->fh, .nodeid_out = n->file, .fh_out = n->fh, .off_out = 100, .len = 4);
        return true;
    }
    fail_msg("opcode %u has no sample: say what it may change in a read-only directory", opcode);
    return false;
}

/* -- what the directory is ----------------------------------------------------------------------- */

static void describe(int dir, const char *name, char *text, size_t size)
{
    struct stat st;
    assert_int_equal(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    size_t len = strlen(text);
    snprintf(text + len, size - len, "%s %o %u:%u %lu %ld %ld.%09ld %ld.%09ld %ld.%09ld\n", name,
             st.st_mode, st.st_uid, st.st_gid, (unsigned long)st.st_nlink, (long)st.st_size,
             (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec,
             /* Listing a directory from here touches it. */
             S_ISDIR(st.st_mode) ? 0 : (long)st.st_atim.tv_sec,
             S_ISDIR(st.st_mode) ? 0 : st.st_atim.tv_nsec);
}

static void picture(struct share *s, char *text, size_t size)
{
    struct dirent **names;
    text[0] = '\0';
    int count = scandir(s->path, &names, NULL, alphasort);
    assert_true(count >= 0);
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i]->d_name, "..") != 0)
            describe(s->dir, names[i]->d_name, text, size);
        free(names[i]);
    }
    free(names);
    describe(s->dir, "dir/inner", text, size);
}

/* -- cases --------------------------------------------------------------------------------------- */

static void begin(struct share *s, struct nodes *n)
{
    struct fuse_open_out open;
    char path[100];
    share_make_directory(s, "/var/tmp");
    host_write(s, "file", "0123456789");
    snprintf(path, sizeof(path), "%s/file", s->path);
    setxattr(path, "user.x", "1", 1, 0);
    /* Access times older than the others are what reading updates (relatime). */
    struct timespec old[2] = {{1000000000, 0}, {.tv_nsec = UTIME_OMIT}};
    assert_int_equal(utimensat(s->dir, "file", old, 0), 0);
    assert_int_equal(mkdirat(s->dir, "dir", 0755), 0);
    host_write(s, "dir/inner", "");
    assert_int_equal(symlinkat("target", s->dir, "link"), 0);
    assert_int_equal(utimensat(s->dir, "link", old, AT_SYMLINK_NOFOLLOW), 0);
    struct fs_directory directory = {.fd = s->dir, .read_only = true, .idmap = own_idmap()};
    share_start(s, &(struct fs_options){
                       .directories = &directory, .directory_count = 1, .window_bytes = FS_WINDOW_MIN});
    n->file = node_of(s, ROOT, "file");
    n->dir = node_of(s, ROOT, "dir");
    n->link = node_of(s, ROOT, "link");
    assert_int_equal(client_open(s->c, n->file, O_RDONLY, &open), 0);
    n->fh = open.fh;
    assert_int_equal(client_opendir(s->c, ROOT, &open), 0);
    n->dir_fh = open.fh;
}

static void no_opcode_changes_a_read_only_directory(void **state)
{
    struct share s;
    struct nodes n;
    char before[4096], after[4096];
    uint8_t reply[4096];
    begin(&s, &n);
    picture(&s, before, sizeof(before));
    for (uint32_t opcode = 0; opcode < OPCODES; opcode++) {
        const struct row *row = session_row(opcode);
        struct sample sample;
        if (!row || !make_sample(opcode, &n, &sample))
            continue;
        int rc = client_call(s.c, opcode, sample.node, sample.parts, sample.count, reply,
                             &(size_t){sizeof(reply)});
        if ((row->flags & ROW_CHANGES) && rc != -EROFS)
            fail_msg("%s answered %d, not EROFS", row->name, rc);
        picture(&s, after, sizeof(after));
        /* READLINK alone cannot be told to leave the access time. */
        if (opcode == FUSE_READLINK)
            picture(&s, before, sizeof(before));
        if (strcmp(before, after) != 0)
            fail_msg("%s changed something:\n%sis now\n%s", row->name, before, after);
    }
    share_end(&s);
}

/* The same requests, where they may: none of the samples is refused for another reason. */
static void the_same_requests_succeed_where_they_may(void **state)
{
    struct share s;
    for (uint32_t opcode = 0; opcode < OPCODES; opcode++) {
        const struct row *row = session_row(opcode);
        struct nodes n;
        struct sample sample;
        uint8_t reply[4096];
        if (!row || !(row->flags & ROW_CHANGES))
            continue;
        begin(&s, &n);
        client_free(s.c);
        fs_free(s.fs); /* once more, writable */
        struct fs_directory directory = {.fd = s.dir, .idmap = own_idmap()};
        share_start(&s, &(struct fs_options){.directories = &directory, .directory_count = 1});
        struct fuse_open_out open;
        n.file = node_of(&s, ROOT, "file");
        n.dir = node_of(&s, ROOT, "dir");
        assert_int_equal(client_open(s.c, n.file, O_RDWR, &open), 0);
        n.fh = open.fh;
        assert_int_equal(unlinkat(s.dir, "dir/inner", 0), 0);
        assert_true(make_sample(opcode, &n, &sample));
        int rc = client_call(s.c, opcode, sample.node, sample.parts, sample.count, reply,
                             &(size_t){sizeof(reply)});
        if (rc != 0)
            fail_msg("%s answered %d", row->name, rc);
        share_end(&s);
    }
}

static void files_are_not_opened_for_writing(void **state)
{
    static const uint32_t flags[] = {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_APPEND,
                                     O_ACCMODE};
    struct share s;
    struct nodes n;
    struct fuse_open_out open;
    begin(&s, &n);
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
        assert_int_equal(client_open(s.c, n.file, flags[i], &open), -EROFS);
    assert_int_equal(client_open(s.c, n.file, O_RDONLY | O_APPEND | O_SYNC, &open), 0);
    share_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_opcode_changes_a_read_only_directory),
        cmocka_unit_test(the_same_requests_succeed_where_they_may),
        cmocka_unit_test(files_are_not_opened_for_writing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
