/* SPDX-License-Identifier: Apache-2.0 */
#include "image/cpio.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "util/cleanup.h"
#include "util/io.h"

#define HEADER_BYTES 110
#define ALIGN_BYTES  4
#define FILE_MAX     UINT32_MAX

int cpio_init(struct cpio *c, struct dayfly_err *err)
{
    *c = (struct cpio){.fd = memfd_create("initramfs", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (c->fd < 0)
        return err_errno(err, errno, "memory for an initramfs");
    return 0;
}

void cpio_abandon(struct cpio *c)
{
    close_fd(&c->fd);
}

static int append(struct cpio *c, const void *data, size_t len)
{
    static const char zeros[ALIGN_BYTES];
    int r = io_write_full(c->fd, data, len);
    c->len += len;
    size_t pad = (size_t)(-c->len & (ALIGN_BYTES - 1));
    if (r == 0)
        r = io_write_full(c->fd, zeros, pad);
    c->len += pad;
    return r;
}

/* Header and name are one piece: the padding stands behind the name. */
static int add(struct cpio *c, const char *path, mode_t mode, uint32_t nlink, uint32_t major,
               uint32_t minor, const void *data, size_t len, struct dayfly_err *err)
{
    char head[HEADER_BYTES + PATH_MAX];
    size_t name = strlen(path) + 1;
    if (name == 1 || path[0] == '/' || name > PATH_MAX || len > FILE_MAX)
        return err_set(err, EINVAL, "initramfs: cannot hold '%s' of %zu bytes", path, len);
    snprintf(head, sizeof(head), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ++c->ino,
             mode, 0u, 0u, nlink, 0u, (uint32_t)len, 0u, 0u, major, minor, (uint32_t)name, 0u);
    memcpy(head + HEADER_BYTES, path, name);
    int r = append(c, head, HEADER_BYTES + name);
    if (r == 0 && len)
        r = append(c, data, len);
    return r < 0 ? err_errno(err, -r, "initramfs: writing '%s'", path) : 0;
}

int cpio_add_dir(struct cpio *c, const char *path, mode_t mode, struct dayfly_err *err)
{
    return add(c, path, S_IFDIR | (mode & 07777), 2, 0, 0, NULL, 0, err);
}

int cpio_add_file(struct cpio *c, const char *path, mode_t mode, const void *data, size_t len,
                  struct dayfly_err *err)
{
    return add(c, path, S_IFREG | (mode & 07777), 1, 0, 0, data, len, err);
}

int cpio_add_node(struct cpio *c, const char *path, mode_t mode, uint32_t major, uint32_t minor,
                  struct dayfly_err *err)
{
    if (!S_ISCHR(mode) && !S_ISBLK(mode))
        return err_set(err, EINVAL, "initramfs: '%s' is no device", path);
    return add(c, path, mode, 1, major, minor, NULL, 0, err);
}

int cpio_finish(struct cpio *c, int *memfd, struct dayfly_err *err)
{
    c->ino = UINT32_MAX; /* the trailer's is 0 */
    int r = add(c, "TRAILER!!!", 0, 1, 0, 0, NULL, 0, err);
    if (r < 0)
        return r;
    if (fcntl(c->fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return err_errno(err, errno, "initramfs: sealing");
    *memfd = steal_fd(&c->fd);
    return 0;
}
