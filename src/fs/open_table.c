/* SPDX-License-Identifier: Apache-2.0 */
#include "fs/open_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/arith.h"

struct open_slot {
    struct open_file *file; /* NULL: free */
    uint32_t turn;          /* the upper half of the handle */
    uint32_t next_free;     /* slot + 1; 0: last */
};

int open_table_init(struct open_table *t, uint32_t max)
{
    *t = (struct open_table){.max = max};
    return -pthread_mutex_init(&t->lock, NULL);
}

void open_table_finish(struct open_table *t)
{
    if (t->max == 0)
        return;
    open_table_clear(t, NULL, NULL);
    free(t->slots);
    pthread_mutex_destroy(&t->lock);
    *t = (struct open_table){0};
}

int open_table_check(struct open_table *t)
{
    return atomic_load(&t->files) < t->max ? 0 : -ENFILE;
}

static void destroy(struct open_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    if (file->dir) {
        pthread_mutex_destroy(&file->dir->lock);
        free(file->dir->entries);
        free(file->dir);
    }
    atomic_fetch_sub(&file->table->files, 1);
    free(file);
}

static struct open_file *make(struct open_table *t, int fd, uint64_t nodeid, bool is_dir)
{
    struct open_file *file = calloc(1, sizeof(*file));
    struct open_dir *dir = is_dir ? calloc(1, sizeof(*dir)) : NULL;
    if (!file || (is_dir && !dir) || (dir && pthread_mutex_init(&dir->lock, NULL) != 0)) {
        free(file);
        free(dir);
        return NULL;
    }
    atomic_init(&file->refs, 2); /* the table's and the caller's */
    atomic_init(&file->has_locks, false);
    file->table = t;
    file->fd = fd;
    file->nodeid = nodeid;
    file->dir = dir;
    atomic_fetch_add(&t->files, 1);
    return file;
}

/* With the lock held: make room for one more. */
static int grow(struct open_table *t)
{
    uint32_t count = MIN(MAX(t->slot_count * 2, 64u), t->max);
    if (t->slot_count >= t->max)
        return -ENFILE;
    struct open_slot *slots = reallocarray(t->slots, count, sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    for (uint32_t i = t->slot_count; i < count; i++)
        slots[i] = (struct open_slot){.turn = 1, .next_free = i + 1 < count ? i + 2 : 0};
    t->free_head = t->slot_count + 1;
    t->slots = slots;
    t->slot_count = count;
    return 0;
}

int open_add(struct open_table *t, int fd, uint64_t nodeid, bool is_dir, struct open_file **out)
{
    struct open_file *file = make(t, fd, nodeid, is_dir);
    if (!file) {
        if (fd >= 0)
            close(fd);
        return -ENOMEM;
    }
    pthread_mutex_lock(&t->lock);
    int rc = t->free_head ? 0 : grow(t);
    if (rc == 0) {
        uint32_t index = t->free_head - 1;
        struct open_slot *slot = &t->slots[index];
        t->free_head = slot->next_free;
        slot->file = file;
        file->fh = (uint64_t)slot->turn << 32 | index;
        t->used++;
    }
    pthread_mutex_unlock(&t->lock);
    if (rc < 0) {
        destroy(file);
        return rc;
    }
    *out = file;
    return 0;
}

struct open_file *open_get(struct open_table *t, uint64_t fh)
{
    struct open_file *file = NULL;
    uint32_t index = (uint32_t)fh;
    pthread_mutex_lock(&t->lock);
    if (index < t->slot_count && t->slots[index].turn == fh >> 32)
        file = t->slots[index].file;
    if (file)
        atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&t->lock);
    return file;
}

bool open_can_map(const struct open_file *file, bool writable)
{
    int mode = file->fd >= 0 && !file->dir ? fcntl(file->fd, F_GETFL) & O_ACCMODE : O_WRONLY;
    return mode == O_RDWR || (mode == O_RDONLY && !writable);
}

struct open_file *open_find(struct open_table *t, uint64_t nodeid, bool writable)
{
    struct open_file *found = NULL;
    pthread_mutex_lock(&t->lock);
    for (uint32_t i = 0; i < t->slot_count && !found; i++) {
        struct open_file *file = t->slots[i].file;
        if (file && file->nodeid == nodeid && open_can_map(file, writable))
            found = file;
    }
    if (found)
        atomic_fetch_add_explicit(&found->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&t->lock);
    return found;
}

void open_put(struct open_file *file)
{
    if (file && atomic_fetch_sub(&file->refs, 1) == 1)
        destroy(file);
}

/* With the lock held. */
static void vacate(struct open_table *t, uint32_t index)
{
    struct open_slot *slot = &t->slots[index];
    slot->file = NULL;
    if (++slot->turn == 0) /* never a handle of 0 */
        slot->turn = 1;
    slot->next_free = t->free_head;
    t->free_head = index + 1;
    t->used--;
}

bool open_remove(struct open_table *t, struct open_file *file)
{
    uint32_t index = (uint32_t)file->fh;
    pthread_mutex_lock(&t->lock);
    bool mine = index < t->slot_count && t->slots[index].file == file;
    if (mine)
        vacate(t, index);
    pthread_mutex_unlock(&t->lock);
    if (mine)
        open_put(file);
    return mine;
}

void open_table_clear(struct open_table *t, void (*closed)(void *opaque, struct open_file *file),
                      void *opaque)
{
    for (uint32_t i = 0;; i++) {
        pthread_mutex_lock(&t->lock);
        bool end = i >= t->slot_count;
        struct open_file *file = end ? NULL : t->slots[i].file;
        if (file)
            vacate(t, i);
        pthread_mutex_unlock(&t->lock);
        if (end)
            return;
        if (file && closed)
            closed(opaque, file);
        open_put(file);
    }
}

uint32_t open_table_count(struct open_table *t)
{
    pthread_mutex_lock(&t->lock);
    uint32_t used = t->used;
    pthread_mutex_unlock(&t->lock);
    return used;
}
