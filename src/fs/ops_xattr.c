/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Extended attributes. Which of them a guest may see and set depends on whose files it works on:
 *
 *   user.*                   always
 *   system.posix_acl_*       identity; map, with the ids in them translated
 *   security.*, trusted.*,
 *   other system.*           identity: whoever sets them decides about the host (file capabilities,
 *                            labels), so only a guest whose root is the host's may
 *
 * What a guest may not see is not there (ENODATA). What it may not set is refused: with EPERM what
 * needs a right that it has not, with EOPNOTSUPP what programs then know not to be there (ACLs).
 */

#include <errno.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "fs/server.h"
#include "util/cleanup.h"

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* include/uapi/linux/posix_acl_xattr.h, which is little-endian wherever it is. */
#define ACL_VERSION 2
struct acl_header {
    uint32_t version;
};
struct acl_entry {
    uint16_t tag, perm;
    uint32_t id;
};
#define ACL_TAG_USER  0x02
#define ACL_TAG_GROUP 0x08

_Static_assert(XATTR_NAME_MAX == FS_NAME_MAX, "one buffer for both");

static bool starts(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_acl(const char *name)
{
    return strcmp(name, ACL_ACCESS) == 0 || strcmp(name, ACL_DEFAULT) == 0;
}

static bool allowed(const struct export *export, const char *name)
{
    switch (export->idmap.kind) {
    case FS_IDMAP_IDENTITY:
        return true;
    case FS_IDMAP_MAP:
        return starts(name, "user.") || is_acl(name);
    case FS_IDMAP_SQUASH:
        break;
    }
    return starts(name, "user.");
}

/* Rewrite the ids of an ACL in place. Towards the host an id may have none: -EPERM. */
static int translate_acl(const struct fs_idmap *map, uint8_t *value, size_t bytes, bool to_host)
{
    struct acl_header header;
    if (map->kind == FS_IDMAP_IDENTITY || bytes == 0)
        return 0;
    if (bytes < sizeof(header) || (bytes - sizeof(header)) % sizeof(struct acl_entry) != 0)
        return -EINVAL;
    memcpy(&header, value, sizeof(header));
    if (header.version != ACL_VERSION)
        return -EOPNOTSUPP;
    for (size_t at = sizeof(header); at < bytes; at += sizeof(struct acl_entry)) {
        struct acl_entry e;
        memcpy(&e, value + at, sizeof(e));
        if (e.tag == ACL_TAG_USER) {
            if (!to_host)
                e.id = fs_idmap_uid_to_guest(map, e.id);
            else if (!fs_idmap_uid_to_host(map, e.id, &e.id))
                return -EPERM;
        } else if (e.tag == ACL_TAG_GROUP) {
            if (!to_host)
                e.id = fs_idmap_gid_to_guest(map, e.id);
            else if (!fs_idmap_gid_to_host(map, e.id, &e.id))
                return -EPERM;
        }
        memcpy(value + at, &e, sizeof(e));
    }
    return 0;
}

/* The calls take a path: the descriptor's in /proc, which leads to the inode itself, also where that is
 * a symbolic link or a FIFO. */
/* `name`: of FS_NAME_MAX + 1 bytes, or NULL where the request has none. */
static int begin(struct request *r, char *name)
{
    int rc = r->fs->no_xattr ? -ENOSYS : 0;
    if (rc == 0 && name)
        rc = request_text(r, name, FS_NAME_MAX + 1);
    if (rc == -ENAMETOOLONG)
        rc = -ERANGE; /* as setxattr(2) says it */
    if (rc == 0 && !r->node.export)
        rc = -EOPNOTSUPP;
    return rc;
}

/* -- reading ------------------------------------------------------------------------------------- */

/* What a program asked for with a buffer of `size` bytes: the value, or with 0 its length. */
static int reply_value(struct request *r, const void *value, size_t len, uint32_t size)
{
    if (size == 0) {
        struct fuse_getxattr_out out = {.size = (uint32_t)len};
        return request_reply(r, &out, sizeof(out));
    }
    if (len > size || len > request_room(r))
        return -ERANGE;
    return request_reply(r, value, len);
}

int op_getxattr(struct request *r)
{
    char name[FS_NAME_MAX + 1], buf[FS_FD_PATH_BYTES];
    struct fuse_getxattr_in in;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = begin(r, name);
    if (rc == 0 && !allowed(r->node.export, name))
        rc = -ENODATA;
    if (rc == 0)
        rc = inode_open(r->fs->inodes, &r->node);
    if (rc < 0)
        return rc;
    uint8_t small[512];
    _cleanup_free_ uint8_t *large = NULL;
    uint8_t *value = small;
    const char *path = fs_fd_path(r->node.fd, buf);
    ssize_t len = getxattr(path, name, small, sizeof(small));
    if (len < 0 && errno == ERANGE) {
        value = large = malloc(FS_XATTR_BYTES_MAX);
        if (!large)
            return -ENOMEM;
        len = getxattr(path, name, large, FS_XATTR_BYTES_MAX);
    }
    if (len < 0)
        return -errno;
    if (is_acl(name))
        rc = translate_acl(&r->node.export->idmap, value, (size_t)len, false);
    return rc < 0 ? rc : reply_value(r, value, (size_t)len, in.size);
}

/* Leave only the names that the guest may see. */
static size_t filter(const struct export *export, char *names, size_t len)
{
    size_t kept = 0;
    for (size_t at = 0; at < len;) {
        size_t one = strlen(names + at) + 1;
        if (allowed(export, names + at)) {
            memmove(names + kept, names + at, one);
            kept += one;
        }
        at += one;
    }
    return kept;
}

int op_listxattr(struct request *r)
{
    char buf[FS_FD_PATH_BYTES];
    struct fuse_getxattr_in in;
    int rc = request_args(r, &in);
    if (rc == 0)
        rc = begin(r, NULL);
    if (rc == 0)
        rc = inode_open(r->fs->inodes, &r->node);
    if (rc < 0)
        return rc;
    /* One byte more than the list can have ends it, whatever the host says. */
    _cleanup_free_ char *names = malloc(FS_XATTR_BYTES_MAX + 1);
    if (!names)
        return -ENOMEM;
    ssize_t len = listxattr(fs_fd_path(r->node.fd, buf), names, FS_XATTR_BYTES_MAX);
    if (len < 0)
        return -errno;
    names[len] = '\0';
    return reply_value(r, names, filter(r->node.export, names, (size_t)len), in.size);
}

/* -- changing ------------------------------------------------------------------------------------ */

/* FUSE_SETXATTR_ACL_KILL_SGID: the guest's user may not keep the bit that chmod would take from it. */
static int kill_setgid(struct request *r, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return -errno;
    if (!(st.st_mode & S_ISGID))
        return 0;
    return chmod(path, st.st_mode & 07777 & ~(mode_t)S_ISGID) < 0 ? -errno : 0;
}

int op_setxattr(struct request *r)
{
    char name[FS_NAME_MAX + 1], buf[FS_FD_PATH_BYTES];
    struct fuse_setxattr_in in = {0};
    bool extended = r->fs->flags & FUSE_SETXATTR_EXT;
    int rc = request_bytes(r, &in, extended ? sizeof(in) : FUSE_COMPAT_SETXATTR_IN_SIZE);
    if (rc == 0)
        rc = begin(r, name);
    if (rc == 0 && in.size > FS_XATTR_BYTES_MAX)
        rc = -E2BIG;
    if (rc == 0 && !allowed(r->node.export, name))
        rc = starts(name, "security.") || starts(name, "trusted.") ? -EPERM : -EOPNOTSUPP;
    if (rc < 0)
        return rc;
    _cleanup_free_ uint8_t *value = malloc(in.size + 1); /* never of 0 bytes */
    rc = value ? request_bytes(r, value, in.size) : -ENOMEM;
    if (rc == 0 && is_acl(name))
        rc = translate_acl(&r->node.export->idmap, value, in.size, true);
    if (rc == 0)
        rc = inode_open(r->fs->inodes, &r->node);
    if (rc == 0 && is_acl(name)) /* an ACL sets the mode */
        rc = fs_thread_keep_setid(r->thread, r->node.export, true);
    if (rc < 0)
        return rc;
    const char *path = fs_fd_path(r->node.fd, buf);
    if (setxattr(path, name, value, in.size, (int)in.flags) < 0)
        return -errno;
    if ((in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) && strcmp(name, ACL_ACCESS) == 0)
        return kill_setgid(r, path);
    return 0;
}

int op_removexattr(struct request *r)
{
    char name[FS_NAME_MAX + 1], buf[FS_FD_PATH_BYTES];
    int rc = begin(r, name);
    if (rc == 0 && !allowed(r->node.export, name))
        rc = -ENODATA;
    if (rc == 0)
        rc = inode_open(r->fs->inodes, &r->node);
    if (rc < 0)
        return rc;
    return removexattr(fs_fd_path(r->node.fd, buf), name) < 0 ? -errno : 0;
}

int xattr_set_label(struct request *r, int fd, const struct request_extensions *ext)
{
    char buf[FS_FD_PATH_BYTES];
    if (!(r->fs->flags & FUSE_SECURITY_CTX))
        return 0;
    if (!starts(ext->label_name, "security.") || !allowed(r->node.export, ext->label_name))
        return -EPERM;
    if (setxattr(fs_fd_path(fd, buf), ext->label_name, ext->label, ext->label_bytes, 0) == 0)
        return 0;
    /* A host without that security module may not let it be stored: then the file has no label, as all
     * those that were there before. */
    return errno == EPERM || errno == EOPNOTSUPP ? 0 : -errno;
}
