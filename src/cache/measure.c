/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What trees take on the disk: blocks that are allocated, each file counted once, however many names it
 * has in them. A file with one name is counted when it is met; of the others each name is noted, to
 * be sorted out at the end.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "util/cleanup.h"

#define BLOCK_BYTES UINT64_C(512) /* st_blocks' unit, whatever the file system's */

struct measure_link {
    ino_t ino; /* a cache is on one file system */
    nlink_t names;
    uint64_t bytes;
};

static int note_link(struct measure *m, const struct stat *st)
{
    if (m->count == m->room) {
        size_t room = m->room ? m->room * 2 : 256;
        struct measure_link *more = reallocarray(m->links, room, sizeof(*more));
        if (!more)
            return -ENOMEM;
        m->links = more;
        m->room = room;
    }
    m->links[m->count++] =
        (struct measure_link){st->st_ino, st->st_nlink, (uint64_t)st->st_blocks * BLOCK_BYTES};
    return 0;
}

static int measure_dir(struct measure *m, int dir_fd, const char *name, unsigned depth);

static int measure_entry(struct measure *m, int dir_fd, const char *name, unsigned depth)
{
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (S_ISDIR(st.st_mode)) {
        m->bytes += (uint64_t)st.st_blocks * BLOCK_BYTES;
        return measure_dir(m, dir_fd, name, depth + 1);
    }
    m->files++;
    if (st.st_nlink > 1)
        return note_link(m, &st);
    m->bytes += (uint64_t)st.st_blocks * BLOCK_BYTES;
    return 0;
}

static int measure_dir(struct measure *m, int dir_fd, const char *name, unsigned depth)
{
    struct dirent *entry;
    if (depth > CACHE_DEPTH_MAX + 3) /* below NAME/N-ID/tree */
        return 0;                    /* none of ours */
    /* A generation's time of access is when it was used: to look at it is no use of it. */
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC), r = 0;
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        r = errno == ENOENT ? 0 : -errno;
        close_fd(&fd);
        return r;
    }
    while (r == 0 && (entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            r = measure_entry(m, fd, entry->d_name, depth);
    closedir(dir);
    return r;
}

int measure_tree(struct measure *m, int dir_fd, const char *name)
{
    return measure_dir(m, dir_fd, name, 0);
}

static int by_inode(const void *a, const void *b)
{
    const struct measure_link *x = a, *y = b;
    return x->ino < y->ino ? -1 : x->ino > y->ino;
}

uint64_t measure_bytes(struct measure *m, uint64_t *own)
{
    uint64_t bytes = m->bytes;
    *own = m->bytes;
    if (m->count)
        qsort(m->links, m->count, sizeof(*m->links), by_inode);
    for (size_t i = 0, next; i < m->count; i = next) {
        for (next = i + 1; next < m->count && m->links[next].ino == m->links[i].ino;)
            next++;
        bytes += m->links[i].bytes;
        if (next - i >= m->links[i].names)
            *own += m->links[i].bytes;
    }
    return bytes;
}

void measure_finish(struct measure *m)
{
    free(m->links);
    *m = (struct measure){0};
}
