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
    struct lock_ranges ranges;
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
    t->ranges -= pair->ranges.count;
    lock_ranges_free(&pair->ranges);
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

static struct flock to_host(const struct lock_range *range)
{
    return (struct flock){
        .l_type = range->type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)range->start,
        .l_len = range->end == INT64_MAX ? 0 : (off_t)(range->end - range->start + 1),
    };
}

static struct lock_range from_host(const struct flock *lk)
{
    return (struct lock_range){
        .type = lk->l_type,
        .start = (uint64_t)lk->l_start,
        .end = lk->l_len == 0 ? INT64_MAX : (uint64_t)(lk->l_start + lk->l_len - 1),
    };
}

/* What another process of the guest holds. */
static const struct lock_range *guest_conflict(struct lock_table *t, uint64_t nodeid, uint64_t owner,
                                               const struct lock_range *range)
{
    struct lock_pair *pair, *tmp;
    list_for_each (pair, tmp, &t->pairs, in_table) {
        const struct lock_range *held = NULL;
        if (pair->nodeid == nodeid && pair->owner != owner)
            held = lock_ranges_conflict(&pair->ranges, range);
        if (held)
            return held;
    }
    return NULL;
}

int lock_get(struct lock_table *t, struct open_file *file, uint64_t owner, struct lock_range *range)
{
    int rc = 0;
    pthread_mutex_lock(&t->lock);
    const struct lock_range *held = guest_conflict(t, file->nodeid, owner, range);
    if (held) {
        *range = *held;
    } else {
        struct lock_pair *pair = find(t, file->nodeid, owner);
        struct flock lk = to_host(range);
        rc = fcntl(pair ? pair->fd : file->fd, F_OFD_GETLK, &lk) < 0 ? -errno : 0;
        *range = from_host(&lk);
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}

/* Whether there is no room for what setting `range` may add. To take away must stay possible, but for
 * what cuts a range in two. */
static bool full(const struct lock_table *t, const struct lock_pair *pair,
                 const struct lock_range *range)
{
    if (t->ranges + 2 <= LOCK_RANGES_MAX)
        return false;
    if (range->type != F_UNLCK)
        return true;
    struct lock_range any = {.start = range->start, .end = range->end, .type = F_WRLCK};
    const struct lock_range *held = lock_ranges_conflict(&pair->ranges, &any);
    return held && held->start < range->start && held->end > range->end;
}

static int set_pair(struct lock_table *t, struct lock_pair *pair, const struct lock_range *range)
{
    struct flock lk = to_host(range);
    uint32_t before = pair->ranges.count;
    int rc = full(t, pair, range) ? -ENOLCK : lock_ranges_reserve(&pair->ranges);
    if (rc == 0 && fcntl(pair->fd, F_OFD_SETLK, &lk) < 0)
        rc = errno == EACCES ? -EAGAIN : -errno;
    if (rc == 0) {
        lock_ranges_set(&pair->ranges, range);
        t->ranges += pair->ranges.count - before;
    }
    return rc;
}

int lock_set(struct lock_table *t, struct open_file *file, bool read_only, uint64_t owner,
             const struct lock_range *range)
{
    int rc = 0;
    pthread_mutex_lock(&t->lock);
    struct lock_pair *pair = find(t, file->nodeid, owner);
    if (!pair && range->type != F_UNLCK)
        rc = make(t, file, read_only, owner, &pair);
    if (pair) {
        rc = set_pair(t, pair, range);
        if (pair->ranges.count == 0)
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
