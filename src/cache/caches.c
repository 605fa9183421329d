/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of caches: opening, locks, names, and what killed processes left. */
#include "cache/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/home.h"
#include "util/tree.h"

#define ID_DIGITS   (CACHE_ID_BYTES - 1)
#define ORPHANS_MAX 64 /* removed in one go; the rest by the next */

static const int dir_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

/* -- names ------------------------------------------------------------------------------------ */

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool cache_name_is_valid(const char *name)
{
    size_t len = strnlen(name, CACHE_NAME_BYTES);
    if (len == 0 || len == CACHE_NAME_BYTES || !is_letter_or_digit(name[0]))
        return false;
    for (const char *c = name; *c; c++)
        if (!is_letter_or_digit(*c) && *c != '.' && *c != '_' && *c != '-')
            return false;
    return true;
}

struct cache_generation cache_generation_none(void)
{
    struct cache_generation none = {0};
    memset(none.id, '0', ID_DIGITS);
    return none;
}

void cache_dir_name(const struct cache_generation *generation, char out[CACHE_DIR_BYTES])
{
    snprintf(out, CACHE_DIR_BYTES, "%llu-%s", (unsigned long long)generation->number, generation->id);
}

/* Exactly what cache_dir_name writes. */
bool cache_dir_parse(const char *name, struct cache_generation *out)
{
    char again[CACHE_DIR_BYTES];
    const char *dash = strchr(name, '-');
    size_t digits = strspn(name, "0123456789");
    *out = (struct cache_generation){0};
    if (!dash || digits == 0 || digits > 18 || name + digits != dash || strlen(dash + 1) != ID_DIGITS ||
        strspn(dash + 1, "0123456789abcdef") != ID_DIGITS)
        return false;
    out->number = strtoull(name, NULL, 10);
    memcpy(out->id, dash + 1, CACHE_ID_BYTES);
    cache_dir_name(out, again);
    return out->number > 0 && strcmp(name, again) == 0;
}

/* -- locks ------------------------------------------------------------------------------------ */

static int lock(int fd, int how)
{
    while (flock(fd, how) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int caches_lock(struct caches *caches, struct dayfly_err *err)
{
    int r = lock(caches->lock_fd, LOCK_EX);
    return r < 0 ? err_errno(err, -r, "lock %s/" CACHE_LOCK, caches->path) : 0;
}

void caches_unlock(struct caches *caches)
{
    flock(caches->lock_fd, LOCK_UN);
}

int cache_claim(int dir_fd, const char *name)
{
    _cleanup_close_ int fd = openat(dir_fd, name, dir_flags);
    if (fd < 0)
        return -errno;
    if (lock(fd, LOCK_EX | LOCK_NB) < 0)
        return -EBUSY;
    return steal_fd(&fd);
}

/* -- .work ------------------------------------------------------------------------------------ */

int caches_work_name(char name[40], struct dayfly_err *err)
{
    uint64_t random[2];
    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return err_errno(err, errno, "getrandom");
    snprintf(name, 40, "%016llx%016llx", (unsigned long long)random[0], (unsigned long long)random[1]);
    return 0;
}

int caches_work(struct caches *caches, char name[40], struct dayfly_err *err)
{
    int r = caches_work_name(name, err);
    if (r < 0)
        return r;
    int fd = mkdirat(caches->work_fd, name, 0700) < 0 ? -errno : cache_claim(caches->work_fd, name);
    return fd < 0 ? err_errno(err, -fd, "make a directory in %s/" CACHE_WORK, caches->path) : fd;
}

int cache_move_away(struct caches *caches, int dir_fd, const char *name, struct cache_gone *gone)
{
    _cleanup_close_ int fd = cache_claim(dir_fd, name);
    if (fd < 0)
        return fd;
    int r = caches_work_name(gone->name, NULL);
    if (r < 0)
        return r;
    if (renameat(dir_fd, name, caches->work_fd, gone->name) < 0)
        return -errno;
    gone->fd = steal_fd(&fd);
    return 0;
}

int cache_remove_gone(struct caches *caches, struct cache_gone *gone)
{
    int r = tree_remove(caches->work_fd, gone->name);
    close_fd(&gone->fd);
    return r;
}

/* A directory in .work is made and locked under the lock: one that can be locked under it is nobody's.
 * It is removed after, which may take long; its own lock keeps others off. */
static unsigned claim_orphans(struct caches *caches, char names[][256], int fds[],
                              struct dayfly_err *err)
{
    struct dirent *entry;
    unsigned count = 0;
    int fd = openat(caches->work_fd, ".", dir_flags);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        close_fd(&fd);
        return 0;
    }
    if (caches_lock(caches, err) == 0) {
        while (count < ORPHANS_MAX && (entry = readdir(dir))) {
            if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                continue;
            int orphan = cache_claim(caches->work_fd, entry->d_name);
            /* What cannot be claimed, for want of a descriptor say, may be somebody's. No directory is
             * nobody's. */
            if (orphan < 0 && orphan != -ENOTDIR && orphan != -ELOOP)
                continue;
            fds[count] = orphan;
            snprintf(names[count++], sizeof(names[0]), "%s", entry->d_name);
        }
        caches_unlock(caches);
    }
    closedir(dir);
    return count;
}

static void remove_orphans(struct caches *caches, const struct sweep *sweep)
{
    int fds[ORPHANS_MAX];
    char(*names)[256] = malloc(ORPHANS_MAX * sizeof(*names));
    unsigned count = names ? claim_orphans(caches, names, fds, NULL) : 0;
    for (unsigned i = 0; i < count; i++) {
        /* What cannot be removed now is tried again by the next. */
        int r = sweep_removes(sweep) ? tree_remove(caches->work_fd, names[i]) : 0;
        sweep_tell(sweep, "cache", r, "%s/" CACHE_WORK "/%s", caches->path, names[i]);
        close_fd(&fds[i]);
    }
    free(names);
}

/* -- opening ---------------------------------------------------------------------------------- */

static int open_dir(int at, const char *name, mode_t mode, const char *path, struct dayfly_err *err)
{
    if (mkdirat(at, name, mode) < 0 && errno != EEXIST)
        return err_errno(err, errno, "make the directory %s in %s", name, path);
    int fd = openat(at, name, dir_flags);
    return fd < 0 ? err_errno(err, errno, "open the directory %s in %s", name, path) : fd;
}

static int open_parts(struct caches *caches, const char *home, struct dayfly_err *err)
{
    _cleanup_close_ int home_fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC), empty = -1, tree = -1;
    if (home_fd < 0)
        return err_errno(err, errno, "open the data directory %s", home);
    if ((caches->fd = open_dir(home_fd, "caches", 0700, home, err)) < 0)
        return caches->fd;
    if ((caches->work_fd = open_dir(caches->fd, CACHE_WORK, 0700, caches->path, err)) < 0)
        return caches->work_fd;
    if ((empty = open_dir(caches->fd, CACHE_EMPTY, 0700, caches->path, err)) < 0)
        return empty;
    if ((tree = open_dir(empty, CACHE_TREE, 0755, caches->path, err)) < 0)
        return tree;
    caches->lock_fd = openat(caches->fd, CACHE_LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    return caches->lock_fd < 0 ? err_errno(err, errno, "open %s/" CACHE_LOCK, caches->path) : 0;
}

static int open_in(struct caches *caches, const char *home, const struct sweep *sweep,
                   struct dayfly_err *err)
{
    int r;
    if (snprintf(caches->path, sizeof(caches->path), "%s/caches", home) >= (int)sizeof(caches->path))
        return err_set(err, ENAMETOOLONG, "%.80s is too long for a data directory", home);
    if ((r = home_make_dirs(home, 0700, err)) == 0)
        r = open_parts(caches, home, err);
    if (r < 0)
        caches_close(caches);
    else
        remove_orphans(caches, sweep);
    return r;
}

int caches_open(struct caches *caches, const char *home, struct dayfly_err *err)
{
    char path[PATH_MAX];
    *caches = (struct caches)CACHES_INIT;
    int r = home ? 0 : home_data_dir(path, sizeof(path), err);
    return r < 0 ? r : open_in(caches, home ? home : path, NULL, err);
}

int caches_sweep(const struct sweep *sweep, struct dayfly_err *err)
{
    char home[PATH_MAX];
    struct caches caches = CACHES_INIT;
    int r = home_data_dir(home, sizeof(home), err);
    _cleanup_close_ int home_fd = r < 0 ? -1 : open(home, O_PATH | O_DIRECTORY | O_CLOEXEC);
    /* Not to make them only for looking. */
    if (home_fd >= 0 && faccessat(home_fd, "caches", F_OK, 0) == 0)
        r = open_in(&caches, home, sweep, err);
    caches_close(&caches);
    return r;
}

void caches_close(struct caches *caches)
{
    close_fd(&caches->fd);
    close_fd(&caches->work_fd);
    close_fd(&caches->lock_fd);
}

/* -- what is there ---------------------------------------------------------------------------- */

static int newest_first(const void *a, const void *b)
{
    const struct cache_generation *x = a, *y = b;
    if (x->number != y->number)
        return x->number < y->number ? 1 : -1;
    return strcmp(x->id, y->id);
}

int cache_generations(int fd, struct cache_generation **out)
{
    struct cache_generation *list = NULL;
    struct dirent *entry;
    size_t count = 0, room = 0;
    int again = openat(fd, ".", dir_flags);
    DIR *dir = again < 0 ? NULL : fdopendir(again);
    *out = NULL;
    if (!dir) {
        int r = -errno;
        close_fd(&again);
        return r;
    }
    while ((entry = readdir(dir))) {
        if (count == room) {
            struct cache_generation *more = reallocarray(list, room + 16, sizeof(*list));
            if (!more) {
                free(list);
                closedir(dir);
                return -ENOMEM;
            }
            list = more;
            room += 16;
        }
        count += cache_dir_parse(entry->d_name, &list[count]);
    }
    closedir(dir);
    if (count)
        qsort(list, count, sizeof(*list), newest_first);
    *out = list;
    return (int)count;
}

int cache_current(struct caches *caches, const char *name, struct cache_generation *out,
                  struct dayfly_err *err)
{
    _cleanup_free_ struct cache_generation *all = NULL;
    _cleanup_close_ int fd = openat(caches->fd, name, dir_flags);
    *out = cache_generation_none();
    if (fd < 0 && errno == ENOENT)
        return 0;
    int count = fd < 0 ? -errno : cache_generations(fd, &all);
    if (count < 0)
        return err_errno(err, -count, "read the cache %s", name);
    if (count > 0)
        *out = all[0];
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void cache_free_names(char **names, int count)
{
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
}

int cache_names(struct caches *caches, char ***out)
{
    char **list = NULL;
    struct dirent *entry;
    int count = 0, r = 0;
    int fd = openat(caches->fd, ".", dir_flags);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    *out = NULL;
    if (!dir) {
        r = -errno;
        close_fd(&fd);
        return r;
    }
    while (r == 0 && (entry = readdir(dir))) {
        /* Our own files have names that no cache has; others are not ours. */
        if (!cache_name_is_valid(entry->d_name) || entry->d_type == DT_REG)
            continue;
        char **more = reallocarray(list, (size_t)count + 1, sizeof(*list));
        if (more && (more[count] = strdup(entry->d_name)))
            count++;
        else
            r = -ENOMEM;
        list = more ? more : list;
    }
    closedir(dir);
    if (r < 0) {
        cache_free_names(list, count);
        return r;
    }
    if (count)
        qsort(list, (size_t)count, sizeof(*list), by_bytes);
    *out = list;
    return count;
}
