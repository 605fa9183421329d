/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/locks.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/thread.h"

struct lock_pair {
    struct list in_table;
    uint64_t nodeid;
    uint64_t owner;
    uint64_t fh; /* the handle by which it was made */
    int fd;
};

int lock_table_init(struct lock_table *t, uint32_t max)
{
    *t = (struct lock_table){.max = max};
    list_init(&t->pairs);
    int rc = pthread_mutex_init(&t->lock, NULL);
    t->made = rc == 0;
    return -rc;
}

void lock_table_finish(struct lock_table *t)
{
    if (!t->made)
        return;
    lock_drop_all(t);
    pthread_mutex_destroy(&t->lock);
    t->made = false;
}

static struct lock_pair *find(struct lock_table *t, uint64_t nodeid, uint64_t owner)
{
    struct lock_pair *pair, *tmp;
    list_for_each (pair, tmp, &t->pairs, in_table) {
        if (pair->nodeid == nodeid && pair->owner == owner)
            return pair;
    }
    return NULL;
}

static void drop(struct lock_table *t, struct lock_pair *pair)
{
    list_remove(&pair->in_table);
    t->count--;
    close(pair->fd);
    free(pair);
}

/* An open file description of its own, for reading and writing if possible: the same pair may lock for
 * reading by one handle and for writing by another. Not so in a read-only directory, where opening for
 * writing alone is seen: the host can start no such program (ETXTBSY), an overlay copies it up. */
static int open_again(const struct open_file *file, bool read_only)
{
    static const int modes[] = {O_RDWR, O_RDONLY, O_WRONLY};
    static const int reading[] = {O_RDONLY};
    const int *mode = read_only ? reading : modes;
    unsigned count = read_only ? ARRAY_SIZE(reading) : ARRAY_SIZE(modes);
    char buf[FS_FD_PATH_BYTES];
    const char *path = fs_fd_path(file->fd, buf);
    for (unsigned i = 0; i < count; i++) {
        int fd = open(path, mode[i] | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd >= 0)
            return fd;
    }
    return -errno;
}

static int make(struct lock_table *t, struct open_file *file, bool read_only, uint64_t owner,
                struct lock_pair **out)
{
    if (t->count >= t->max)
        return -ENOLCK;
    int fd = open_again(file, read_only);
    if (fd < 0)
        return fd;
    struct lock_pair *pair = malloc(sizeof(*pair));
    if (!pair) {
        close(fd);
        return -ENOMEM;
    }
    *pair = (struct lock_pair){.nodeid = file->nodeid, .owner = owner, .fh = file->fh, .fd = fd};
    list_append(&t->pairs, &pair->in_table);
    t->count++;
    atomic_store(&file->has_locks, true);
    *out = pair;
    return 0;
}

int lock_get(struct lock_table *t, struct open_file *file, uint64_t owner, struct flock *lk)
{
    pthread_mutex_lock(&t->lock);
    /* The handle's own description never holds locks: by it, everybody's are in the way. */
    struct lock_pair *pair = find(t, file->nodeid, owner);
    lk->l_pid = 0;
    int rc = fcntl(pair ? pair->fd : file->fd, F_OFD_GETLK, lk) < 0 ? -errno : 0;
    pthread_mutex_unlock(&t->lock);
    return rc;
}

int lock_set(struct lock_table *t, struct open_file *file, bool read_only, uint64_t owner,
             const struct flock *lk)
{
    int rc = 0;
    pthread_mutex_lock(&t->lock);
    struct lock_pair *pair = find(t, file->nodeid, owner);
    bool fresh = !pair;
    if (fresh && lk->l_type != F_UNLCK)
        rc = make(t, file, read_only, owner, &pair);
    if (pair) {
        struct flock ask = *lk;
        ask.l_pid = 0;
        if (fcntl(pair->fd, F_OFD_SETLK, &ask) < 0)
            rc = errno == EACCES ? -EAGAIN : -errno;
        if (rc < 0 && fresh)
            drop(t, pair);
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}

bool lock_drop_owner(struct lock_table *t, uint64_t nodeid, uint64_t owner)
{
    pthread_mutex_lock(&t->lock);
    struct lock_pair *pair = find(t, nodeid, owner);
    if (pair)
        drop(t, pair);
    pthread_mutex_unlock(&t->lock);
    return pair != NULL;
}

bool lock_drop_handle(struct lock_table *t, uint64_t fh)
{
    struct lock_pair *pair, *tmp;
    bool any = false;
    pthread_mutex_lock(&t->lock);
    list_for_each (pair, tmp, &t->pairs, in_table) {
        if (pair->fh == fh) {
            drop(t, pair);
            any = true;
        }
    }
    pthread_mutex_unlock(&t->lock);
    return any;
}

void lock_drop_all(struct lock_table *t)
{
    struct lock_pair *pair, *tmp;
    pthread_mutex_lock(&t->lock);
    list_for_each (pair, tmp, &t->pairs, in_table)
        drop(t, pair);
    pthread_mutex_unlock(&t->lock);
}
