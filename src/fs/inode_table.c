/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inodes in memory: three hash tables, places, life and death. Nothing here opens or stats.
 *
 * by_id        node ids count up, so their low bits are the bucket
 * by_identity  every inode but a made-up root, under its export: a file that two exports hold is two
 *              inodes, since rights and users belong to the export
 * by_place     inodes whose place is known; at most one at each place
 *
 * Places are memories, and what the host renames makes them wrong. Two directories may each be
 * remembered in the other; place_set breaks such a circle, which would keep both for ever.
 */
#include "fs/inode_table.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define ROOT_ID            1 /* FUSE_ROOT_ID */
#define BUCKETS_MIN        256u
#define BUCKETS_TRIM       16384u /* tables smaller than that leave nothing worth giving back */
#define INODES_MAX_DEFAULT 4000000u
#define FDS_MIN            16u

/* -- the lock ----------------------------------------------------------------------------------------
 */

void table_lock(struct inode_table *table)
{
    pthread_mutex_lock(&table->lock);
}

void table_unlock(struct inode_table *table)
{
    struct list dead;
    list_init(&dead);
    struct held *held, *next;
    list_for_each (held, next, &table->dead, node) {
        list_remove(&held->node);
        list_append(&dead, &held->node);
    }
    bool shrunk = table->shrunk;
    table->shrunk = false;
    pthread_mutex_unlock(&table->lock);
    list_for_each (held, next, &dead, node) {
        close_fd(&held->fd);
        free(held);
    }
    /* free(3) by itself keeps small blocks, and a million inodes are nothing but small blocks. */
    if (shrunk)
        malloc_trim(0);
}

/* -- identities --------------------------------------------------------------------------------------
 */

struct inode_identity identity_of(const struct statx *stx, bool births)
{
    struct inode_identity identity = {
        .mount = stx->stx_mnt_id,
        .dev = (uint64_t)stx->stx_dev_major << 32 | stx->stx_dev_minor,
        .ino = stx->stx_ino,
    };
    if (births && (stx->stx_mask & STATX_BTIME))
        identity.born_ns = (uint64_t)stx->stx_btime.tv_sec * 1000000000u + stx->stx_btime.tv_nsec;
    return identity;
}

bool identity_equal(const struct inode_identity *a, const struct inode_identity *b)
{
    return a->ino == b->ino && a->born_ns == b->born_ns && a->dev == b->dev && a->mount == b->mount;
}

/* -- hash tables -------------------------------------------------------------------------------------
 */

/* Both halves of a product: every bit of either operand reaches every bit of the result. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product =
        (unsigned __int128)(a ^ 0x9e3779b97f4a7c15u) * (b ^ 0xd1b54a32d192ed03u);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static struct inode **id_bucket(struct inode_table *table, uint64_t nodeid)
{
    return &table->by_id[nodeid & (table->buckets - 1)];
}

static struct inode **identity_bucket(struct inode_table *table, const struct export *export,
                                      const struct inode_identity *identity)
{
    uint64_t h = mix(table->secret ^ identity->ino, identity->born_ns);
    h = mix(h ^ identity->dev, identity->mount ^ (uintptr_t) export);
    return &table->by_identity[h & (table->buckets - 1)];
}

static struct inode **place_bucket(struct inode_table *table, const struct inode *parent,
                                   const char *name)
{
    size_t left = strlen(name);
    uint64_t h = mix(table->secret ^ parent->nodeid, left);
    while (left > 0) {
        uint64_t word = 0;
        size_t n = MIN(left, sizeof(word));
        memcpy(&word, name, n);
        h = mix(h ^ word, table->secret);
        name += n;
        left -= n;
    }
    return &table->by_place[h & (table->buckets - 1)];
}

static void link_id(struct inode_table *table, struct inode *inode)
{
    struct inode **bucket = id_bucket(table, inode->nodeid);
    inode->next_by_id = *bucket;
    *bucket = inode;
}

static void link_identity(struct inode_table *table, struct inode *inode)
{
    struct inode **bucket = identity_bucket(table, inode->export, &inode->identity);
    inode->next_by_identity = *bucket;
    *bucket = inode;
}

static void link_place(struct inode_table *table, struct inode *inode)
{
    struct inode **bucket = place_bucket(table, inode->parent, inode->name);
    inode->next_by_place = *bucket;
    *bucket = inode;
}

#define UNLINK(bucket, inode, next)                                                                    \
    do {                                                                                               \
        struct inode **_at = (bucket);                                                                 \
        while (*_at != (inode))                                                                        \
            _at = &(*_at)->next;                                                                       \
        *_at = (inode)->next;                                                                          \
    } while (0)

static void link_all(struct inode_table *table, struct inode *inode)
{
    link_id(table, inode);
    if (inode->export)
        link_identity(table, inode);
    if (inode->parent)
        link_place(table, inode);
}

/* False, and nothing changed, when there is no memory: chains get longer, that is all. */
static bool resize(struct inode_table *table, uint32_t buckets)
{
    struct inode **by_id = calloc(buckets, sizeof(*by_id));
    struct inode **by_identity = calloc(buckets, sizeof(*by_identity));
    struct inode **by_place = calloc(buckets, sizeof(*by_place));
    if (!by_id || !by_identity || !by_place) {
        free(by_id);
        free(by_identity);
        free(by_place);
        return false;
    }
    struct inode **old = table->by_id;
    uint32_t old_buckets = table->buckets;
    table->shrunk = table->shrunk || (buckets < old_buckets && old_buckets >= BUCKETS_TRIM);
    free(table->by_identity);
    free(table->by_place);
    table->by_id = by_id;
    table->by_identity = by_identity;
    table->by_place = by_place;
    table->buckets = buckets;
    for (uint32_t i = 0; i < old_buckets; i++)
        for (struct inode *inode = old[i], *next; inode; inode = next) {
            next = inode->next_by_id;
            link_all(table, inode);
        }
    free(old);
    return true;
}

struct inode *table_by_id(struct inode_table *table, uint64_t nodeid)
{
    struct inode *inode = *id_bucket(table, nodeid);
    while (inode && inode->nodeid != nodeid)
        inode = inode->next_by_id;
    return inode;
}

struct inode *table_by_identity(struct inode_table *table, const struct export *export,
                                const struct inode_identity *identity, mode_t type)
{
    struct inode *inode = *identity_bucket(table, export, identity);
    while (inode && (inode->export != export || inode->type != type ||
                     !identity_equal(&inode->identity, identity)))
        inode = inode->next_by_identity;
    return inode;
}

struct inode *table_by_place(struct inode_table *table, const struct inode *parent, const char *name)
{
    struct inode *inode = *place_bucket(table, parent, name);
    while (inode && (inode->parent != parent || strcmp(inode->name, name) != 0))
        inode = inode->next_by_place;
    return inode;
}

/* -- life and death ----------------------------------------------------------------------------------
 */

struct inode *inode_make(const struct export *export, const struct inode_identity *identity,
                         mode_t type, bool births)
{
    struct inode *inode = malloc(sizeof(*inode));
    if (inode)
        *inode =
            (struct inode){.export = export, .identity = *identity, .type = type, .births = births};
    return inode;
}

static void inode_free(struct inode *inode)
{
    free(inode->handle);
    free(inode->name);
    free(inode);
}

int table_insert(struct inode_table *table, struct inode *inode)
{
    if (table->count >= table->inodes_max)
        return -ENOMEM;
    if (table->count >= table->buckets)
        resize(table, table->buckets * 2);
    inode->nodeid = table->next_nodeid++;
    link_all(table, inode);
    table->count++;
    return 0;
}

void inode_unref(struct inode_table *table, struct inode *inode)
{
    while (inode && --inode->refs == 0) {
        struct inode *parent = inode->parent;
        if (parent)
            UNLINK(place_bucket(table, parent, inode->name), inode, next_by_place);
        UNLINK(identity_bucket(table, inode->export, &inode->identity), inode, next_by_identity);
        UNLINK(id_bucket(table, inode->nodeid), inode, next_by_id);
        table->count--;
        held_drop(table, inode);
        inode_free(inode);
        inode = parent;
    }
    if (table->buckets > BUCKETS_MIN && table->count < table->buckets / 8)
        resize(table, table->buckets / 2);
}

/* -- places ------------------------------------------------------------------------------------------
 */

void place_clear(struct inode_table *table, struct inode *inode)
{
    struct inode *parent = inode->parent;
    if (!parent)
        return;
    UNLINK(place_bucket(table, parent, inode->name), inode, next_by_place);
    inode->parent = NULL;
    free(inode->name);
    inode->name = NULL;
    inode_unref(table, parent);
}

/* Going up from `from`: the inode that is remembered in `inode`, or NULL when the way ends elsewhere.
 * A way that is too long to be followed counts as one that comes back. */
static struct inode *comes_back(struct inode *from, const struct inode *inode)
{
    for (unsigned depth = 0; from && from != inode; from = from->parent)
        if (from->parent == inode || ++depth > DEPTH_MAX)
            return from;
    return NULL;
}

void place_set(struct inode_table *table, struct inode *inode, struct inode *parent, char *name)
{
    if (inode_is_root(inode) || inode == parent ||
        (inode->parent == parent && strcmp(inode->name, name) == 0)) {
        free(name);
        return;
    }
    inode->refs++; /* what is remembered in it may be all that keeps it, and is cleared here */
    struct inode *stale = inode->type == S_IFDIR ? comes_back(parent, inode) : NULL;
    if (stale)
        place_clear(table, stale);
    struct inode *displaced = table_by_place(table, parent, name);
    if (displaced)
        place_clear(table, displaced);
    place_clear(table, inode);
    held_release(table, inode, KEPT_GONE);
    inode->parent = parent;
    inode->name = name;
    parent->refs++;
    link_place(table, inode);
    inode_unref(table, inode);
}

/* -- the table ---------------------------------------------------------------------------------------
 */

static unsigned fds_default(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return FDS_MIN;
    return (unsigned)MIN(limit.rlim_cur / 4, 1u << 20);
}

static int insert_root(struct inode_table *table, struct inode *root)
{
    if (!root)
        return -ENOMEM;
    root->refs = 1;
    return table_insert(table, root);
}

static int insert_roots(struct inode_table *table)
{
    int rc = 0;
    table->next_nodeid = ROOT_ID;
    table->root = table->exports[0].root;
    if (table->exports[0].name) {
        table->root = inode_make(NULL, &(struct inode_identity){0}, S_IFDIR, false);
        rc = insert_root(table, table->root);
    }
    for (unsigned i = 0; rc == 0 && i < table->export_count; i++)
        rc = insert_root(table, table->exports[i].root);
    return rc;
}

static int check_names(const struct fs_options *options, struct dayfly_err *err)
{
    unsigned count = options->directory_count;
    if (count < 1 || count > FS_DIRECTORIES_MAX)
        return err_set(err, EINVAL, "%u directories: from 1 to %d can be shared under one tag", count,
                       FS_DIRECTORIES_MAX);
    for (unsigned i = 0; i < count; i++) {
        const char *name = options->directories[i].name;
        if (!name) {
            if (count > 1)
                return err_set(err, EINVAL, "several directories under one tag need a name each");
            continue;
        }
        if (inode_check_name(name) < 0)
            return err_set(err, EINVAL, "\"%s\" cannot be the name of a directory", name);
        for (unsigned j = 0; j < i; j++)
            if (strcmp(options->directories[j].name, name) == 0)
                return err_set(err, EINVAL, "two directories are called \"%s\"", name);
    }
    return 0;
}

int inode_table_new(struct inode_table **out, const struct fs_options *options, struct dayfly_err *err)
{
    int rc = check_names(options, err);
    if (rc < 0)
        return rc;
    struct inode_table *table = calloc(1, sizeof(*table));
    if (!table)
        return err_set(err, ENOMEM, "out of memory");
    pthread_mutex_init(&table->lock, NULL);
    list_init(&table->idle);
    list_init(&table->dead);
    table->writeback = options->writeback;
    table->fds_max = MAX(options->fds_max ? options->fds_max : fds_default(), FDS_MIN);
    table->fds_hard = table->fds_max + table->fds_max / 2 + 64;
    table->inodes_max = options->inodes_max ? options->inodes_max : INODES_MAX_DEFAULT;
    table->inodes_max = MAX(table->inodes_max, FS_DIRECTORIES_MAX + 1);
    if (getrandom(&table->secret, sizeof(table->secret), GRND_NONBLOCK) < 0)
        table->secret = (uintptr_t)table;
    table->proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (table->proc_fd < 0) {
        rc = err_errno(err, errno, "/proc/self/fd");
        goto failed;
    }
    table->exports = calloc(options->directory_count, sizeof(*table->exports));
    if (!table->exports || !resize(table, BUCKETS_MIN)) {
        rc = err_set(err, ENOMEM, "out of memory");
        goto failed;
    }
    while (table->export_count < options->directory_count) {
        unsigned i = table->export_count++;
        rc = export_init(&table->exports[i], &options->directories[i], err);
        if (rc < 0)
            goto failed;
    }
    rc = insert_roots(table);
    if (rc < 0) {
        err_set(err, ENOMEM, "out of memory");
        goto failed;
    }
    *out = table;
    return 0;
failed:
    inode_table_free(table);
    return rc;
}

void inode_table_reset(struct inode_table *table)
{
    table_lock(table);
    for (uint32_t i = 0; i < table->buckets; i++) {
        struct inode **at = &table->by_id[i];
        while (*at) {
            struct inode *inode = *at;
            if (inode_is_root(inode)) {
                inode->refs = 1;
                inode->opens = 0;
                at = &inode->next_by_id;
                continue;
            }
            *at = inode->next_by_id;
            held_drop(table, inode);
            inode_free(inode);
            table->count--;
        }
    }
    /* The other two tables still name what is gone: made anew from by_id, or emptied. */
    if (!resize(table, BUCKETS_MIN)) {
        memset(table->by_identity, 0, table->buckets * sizeof(*table->by_identity));
        memset(table->by_place, 0, table->buckets * sizeof(*table->by_place));
        for (unsigned i = 0; i < table->export_count; i++)
            if (table->exports[i].root)
                link_identity(table, table->exports[i].root);
    }
    table_unlock(table);
}

void inode_table_free(struct inode_table *table)
{
    if (!table)
        return;
    if (table->by_id)
        inode_table_reset(table);
    if (table->exports && table->root && !table->root->export)
        free(table->root);
    for (unsigned i = 0; i < table->export_count; i++)
        export_finish(&table->exports[i]);
    free(table->exports);
    free(table->by_id);
    free(table->by_identity);
    free(table->by_place);
    close_fd(&table->proc_fd);
    pthread_mutex_destroy(&table->lock);
    free(table);
}

void inode_table_stats(struct inode_table *table, struct fs_stats *stats)
{
    table_lock(table);
    stats->inodes = table->count;
    stats->inode_fds = table->held_count;
    table_unlock(table);
}

const struct export *inode_exports(const struct inode_table *table, unsigned *count)
{
    *count = table->export_count;
    return table->exports;
}
