/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/implicit.h"

#include <errno.h>
#include <sys/stat.h>

#include "fs/server.h"

/* Two threads may come with one inode at once: the later one's stays. */
static void remember(struct fs *fs, atomic_uint_least64_t *slot, uint64_t fh)
{
    struct open_file *before = open_get(&fs->files, atomic_exchange(slot, fh));
    if (before && open_remove(&fs->files, before))
        inode_closed(fs->inodes, before->nodeid);
    open_put(before);
}

int implicit_get(struct request *r, struct open_file **file)
{
    struct fs *fs = r->fs;
    atomic_uint_least64_t *slot = &fs->implicit.handles[r->in.nodeid % IMPLICIT_MAX];
    *file = open_get(&fs->files, atomic_load(slot));
    if (*file && (*file)->nodeid == r->in.nodeid)
        return 0;
    open_put(*file);
    *file = NULL;
    int rc = r->node.nodeid ? 0 : inode_get(fs->inodes, r->in.nodeid, &r->node);
    if (rc == 0 && r->node.export)
        rc = fs_thread_act_any(r->thread, r->node.export);
    if (rc == 0)
        rc = S_ISDIR(r->node.type)   ? dir_open(r, file)
             : S_ISREG(r->node.type) ? file_open_to_read(r, file)
                                     : -EBADF;
    if (rc == 0)
        remember(fs, slot, (*file)->fh);
    return rc;
}
