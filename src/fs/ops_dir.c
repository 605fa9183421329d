/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading directories. The host is asked for a few dozen entries at a time; those that did not fit into
 * a reply wait in the handle for the next request, which goes on at the offset of the last one given.
 * Any other offset (rewinddir, seekdir) is sought on the host, whose offsets the guest's are.
 *
 * READDIRPLUS adds what a LOOKUP of each name would have said, where somebody is likely to want it
 * (foresight.h): one statx an entry, nothing is opened.
 *
 * The made-up root has offsets of its own: 1 behind ".", 2 behind "..", then one for each directory.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fs/server.h"
#include "util/arith.h"

#define ENTRIES_BYTES 2048
#define READDIR_MAX   (64u << 10)

/* What getdents64(2) gives. */
struct host_entry {
    uint64_t ino;
    int64_t off;
    uint16_t reclen;
    uint8_t type;
    char name[];
};

/* -- opening ------------------------------------------------------------------------------------- */

static int open_directory(struct request *r)
{
    int rc = inode_open(r->fs->inodes, &r->node);
    return rc < 0 ? rc : fs_fd_open(&r->node, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
}

int dir_open(struct request *r, struct open_file **file)
{
    int fd = -1;
    int rc = open_table_check(&r->fs->files);
    if (rc == 0 && r->node.export)
        rc = fd = open_directory(r);
    if (rc >= 0)
        rc = open_add(&r->fs->files, fd, r->node.nodeid, true, file);
    if (rc < 0)
        return rc;
    inode_opened(r->fs->inodes, &r->node);
    return 0;
}

int op_opendir(struct request *r)
{
    struct open_file *file = NULL;
    if (r->fs->without_opens)
        return -ENOSYS;
    if (!S_ISDIR(r->node.type))
        return -ENOTDIR;
    int rc = dir_open(r, &file);
    if (rc < 0)
        return rc;
    struct fuse_open_out out = {.fh = file->fh};
    if (r->fs->cache == FS_CACHE_ALWAYS)
        out.open_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
    open_put(file);
    return request_reply(r, &out, sizeof(out));
}

/* -- writing an entry ---------------------------------------------------------------------------- */

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A fuse_dirent with its name and padding; false when it does not fit any more. */
static bool put_dirent(struct request *r, const struct dir_entry *e, const struct fuse_entry_out *plus)
{
    union {
        struct fuse_direntplus plus;
        uint8_t bytes[FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + FS_NAME_MAX)];
    } record = {.bytes = {0}};
    size_t skip = plus ? 0 : offsetof(struct fuse_direntplus, dirent);
    size_t len = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS - skip + e->name_bytes);
    struct fuse_dirent *dirent = &record.plus.dirent;
    if (plus)
        record.plus.entry_out = *plus;
    dirent->ino = e->ino;
    dirent->off = e->next;
    dirent->namelen = (uint32_t)e->name_bytes;
    dirent->type = e->type;
    memcpy(record.bytes + FUSE_NAME_OFFSET_DIRENTPLUS, e->name, e->name_bytes);
    return request_reply(r, record.bytes + skip, len) == 0;
}

static size_t dirent_bytes(const struct dir_entry *e, bool plus)
{
    return FUSE_DIRENT_ALIGN((plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET) + e->name_bytes);
}

int dir_put(struct request *r, const struct dir_entry *e, enum dir_form form, uint64_t limit)
{
    struct fuse_entry_out out = {.attr = {.ino = e->ino, .mode = e->type << 12}};
    /* vfat and FUSE have names that are longer in bytes; no request could name such a file. */
    if (e->name_bytes > FS_NAME_MAX)
        return 0;
    if (dirent_bytes(e, form != DIR_ENTRY) > limit - MIN(limit, r->reply_bytes))
        return 1;
    if (form == DIR_ENTRY_PLUS && !is_dots(e->name)) {
        struct inode_ref ref = {.fd = -1};
        struct statx stx;
        int rc = inode_lookup(r->fs->inodes, &r->node, e->name, &ref, &stx);
        if (rc == -ENOENT)
            return 0; /* gone since it was read */
        if (rc == 0) {
            entry_fill(r, &r->node, &ref, &stx, &out);
            inode_put(r->fs->inodes, &ref);
        }
        /* Else node id 0: the guest's kernel looks it up itself when it needs it. */
    }
    return put_dirent(r, e, form == DIR_ENTRY ? NULL : &out) ? 0 : 1;
}

/* -- where entries come from --------------------------------------------------------------------- */

/* The next entry of the host's directory. 0, 1 (the end), or -errno. */
static int peek(struct open_file *file, struct dir_entry *e)
{
    struct open_dir *dir = file->dir;
    if (dir->at == dir->end) {
        if (!dir->entries)
            dir->entries = malloc(ENTRIES_BYTES);
        if (!dir->entries)
            return -ENOMEM;
        long n = syscall(SYS_getdents64, file->fd, dir->entries, ENTRIES_BYTES);
        if (n < 0)
            return errno == ENOENT ? 1 : -errno; /* a removed directory is empty */
        dir->at = 0;
        dir->end = (uint32_t)n;
        if (n == 0)
            return 1;
    }
    const struct host_entry *host = (const struct host_entry *)(const void *)(dir->entries + dir->at);
    *e = (struct dir_entry){
        .name = host->name,
        .name_bytes = strlen(host->name),
        .ino = host->ino,
        .next = (uint64_t)host->off,
        .type = host->type,
    };
    return 0;
}

static void take(struct open_dir *dir, const struct dir_entry *e)
{
    const struct host_entry *host = (const struct host_entry *)(const void *)(dir->entries + dir->at);
    dir->at += host->reclen;
    dir->next = e->next;
    dir->place++;
}

static int seek(struct open_file *file, uint64_t offset)
{
    struct open_dir *dir = file->dir;
    if (offset == dir->next)
        return 0;
    if (lseek(file->fd, (off_t)offset, SEEK_SET) < 0)
        return -errno;
    dir->at = dir->end = 0;
    dir->next = offset;
    dir->place = 0;
    return 0;
}

static enum dir_form form_of(struct request *r, const struct open_file *file, const struct dir_entry *e,
                             bool plus)
{
    if (!plus)
        return DIR_ENTRY;
    bool given =
        foresight_gives(&r->fs->foresight, file->nodeid, file->dir->place, e->name, e->name_bytes);
    return given ? DIR_ENTRY_PLUS : DIR_ENTRY_BARE;
}

static int list_host(struct request *r, struct open_file *file, const struct fuse_read_in *in,
                     bool plus)
{
    uint64_t limit = MIN(in->size, READDIR_MAX);
    struct dir_entry e;
    int rc = seek(file, in->offset);
    while (rc == 0) {
        rc = peek(file, &e);
        if (rc == 0)
            rc = dir_put(r, &e, form_of(r, file, &e, plus), limit);
        if (rc == 0)
            take(file->dir, &e);
    }
    /* What was read before an error is given; the error comes again. */
    return rc < 0 && r->reply_bytes == 0 ? rc : 0;
}

static int list_made_up(struct request *r, const struct fuse_read_in *in, bool plus)
{
    uint64_t limit = MIN(in->size, READDIR_MAX);
    unsigned count;
    const struct export *exports = inode_exports(r->fs->inodes, &count);
    for (uint64_t i = in->offset; i < count + 2; i++) {
        const char *name = i == 0 ? "." : i == 1 ? ".." : exports[i - 2].name;
        struct dir_entry e = {
            .name = name,
            .name_bytes = strlen(name),
            .ino = FUSE_ROOT_ID + (i < 2 ? 0 : i),
            .next = i + 1,
            .type = DT_DIR,
        };
        if (dir_put(r, &e, plus ? DIR_ENTRY_PLUS : DIR_ENTRY, limit) != 0)
            break;
    }
    return 0;
}

static int list(struct request *r, bool plus)
{
    struct fuse_read_in in;
    struct open_file *file = NULL;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = request_file(r, in.fh, &file);
    if (rc < 0)
        return rc;
    if (!file->dir)
        rc = -ENOTDIR;
    else if (file->fd < 0)
        rc = list_made_up(r, &in, plus);
    else {
        pthread_mutex_lock(&file->dir->lock);
        rc = list_host(r, file, &in, plus);
        pthread_mutex_unlock(&file->dir->lock);
    }
    open_put(file);
    return rc;
}

int op_readdir(struct request *r)
{
    return list(r, false);
}

int op_readdirplus(struct request *r)
{
    return list(r, true);
}
