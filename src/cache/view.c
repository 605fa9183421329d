/* SPDX-License-Identifier: Apache-2.0 */
/* A generation in use, and how what a job wrote to it becomes the next one. */
#include "cache/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "fs/changes.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/tree.h"

static const int dir_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

/* -- open ------------------------------------------------------------------------------------- */

/* Open the generation's directory, and lock it where it can go. */
static int use_generation(struct caches *caches, struct cache_view *view, struct dayfly_err *err)
{
    char dir[CACHE_DIR_BYTES];
    _cleanup_close_ int cache = -1;
    if (view->base.number == 0) {
        view->base_fd = openat(caches->fd, CACHE_EMPTY, dir_flags);
        return view->base_fd < 0 ? err_errno(err, errno, "open %s/" CACHE_EMPTY, caches->path) : 0;
    }
    cache_dir_name(&view->base, dir);
    cache = openat(caches->fd, view->name, dir_flags);
    view->base_fd = cache < 0 ? -1 : openat(cache, dir, dir_flags);
    /* Who locks it for itself alone does so under the lock that we hold. */
    if (view->base_fd < 0 || flock(view->base_fd, LOCK_SH | LOCK_NB) < 0)
        return err_errno(err, errno, "use %s/%s/%s", caches->path, view->name, dir);
    return 0;
}

static int make_paths(const struct caches *caches, struct cache_view *view, struct dayfly_err *err)
{
    char dir[CACHE_DIR_BYTES];
    int r;
    cache_dir_name(&view->base, dir);
    if (view->base.number)
        r = asprintf(&view->tree, "%s/%s/%s/" CACHE_TREE, caches->path, view->name, dir);
    else
        r = asprintf(&view->tree, "%s/" CACHE_EMPTY "/" CACHE_TREE, caches->path);
    if (r < 0)
        view->tree = NULL;
    if (r >= 0 && view->work_fd >= 0 &&
        (r = asprintf(&view->changes, "%s/" CACHE_WORK "/%s/" CACHE_CHANGES, caches->path,
                      view->work)) < 0)
        view->changes = NULL;
    return r < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

int cache_view_open(struct caches *caches, const char *name, bool keep, struct cache_view *out,
                    struct dayfly_err *err)
{
    *out = (struct cache_view)CACHE_VIEW_INIT;
    if (!cache_name_is_valid(name))
        return err_set(err, EINVAL, "\"%.80s\" is no name of a cache", name);
    memcpy(out->name, name, strlen(name) + 1);
    int r = caches_lock(caches, err);
    if (r < 0)
        return r;
    r = cache_current(caches, name, &out->base, err);
    if (r == 0)
        r = use_generation(caches, out, err);
    if (r == 0 && keep && (r = out->work_fd = caches_work(caches, out->work, err)) > 0)
        r = 0;
    caches_unlock(caches);
    if (r == 0)
        r = make_paths(caches, out, err);
    if (r < 0) {
        cache_view_close(caches, out);
        return r;
    }
    /* When it was used last: the time of access. That of change is when it was made. */
    const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    if (out->base.number)
        futimens(out->base_fd, now);
    return 0;
}

void cache_view_close(struct caches *caches, struct cache_view *view)
{
    if (view->work_fd >= 0)
        tree_remove(caches->work_fd, view->work);
    close_fd(&view->work_fd);
    close_fd(&view->base_fd);
    free(steal_ptr(&view->tree));
    free(steal_ptr(&view->changes));
}

/* -- promotion -------------------------------------------------------------------------------- */

/* All of it on the disk, under its name in .work. */
static int make_next(const struct cache_view *view, int upper_fd, int base_fd,
                     struct cache_promotion *out, struct dayfly_err *err)
{
    struct merge_result merged = {0};
    _cleanup_close_ int next = -1, tree = -1;
    if (mkdirat(view->work_fd, CACHE_NEXT, 0700) < 0 ||
        (next = openat(view->work_fd, CACHE_NEXT, dir_flags)) < 0 ||
        mkdirat(next, CACHE_TREE, 0700) < 0 || (tree = openat(next, CACHE_TREE, dir_flags)) < 0)
        return err_errno(err, errno, "make a generation");
    int r = merge_trees(upper_fd, base_fd, tree, &merged, err);
    if (r < 0)
        return r;
    out->left_out = merged.left_out;
    /* Its name must not reach the disk before its content: one call for what may be many files. */
    return syncfs(next) < 0 ? err_errno(err, errno, "write a generation to the disk") : 0;
}

/* Take away what nobody uses, but for the newest. Whoever is killed here has taken some of them, and
 * each is whole wherever it is. Returns how many. */
static unsigned retire(struct caches *caches, int cache_fd, struct cache_gone *gone, unsigned max)
{
    _cleanup_free_ struct cache_generation *all = NULL;
    int found = cache_generations(cache_fd, &all);
    unsigned count = 0;
    for (int i = CACHE_KEPT; i < found && count < max; i++) {
        char dir[CACHE_DIR_BYTES];
        cache_dir_name(&all[i], dir);
        if (cache_move_away(caches, cache_fd, dir, &gone[count]) == 0)
            count++;
    }
    return count;
}

/* The first generation comes with its cache, or an empty one would be seen in between. */
static int name_first(struct caches *caches, const struct cache_view *view, const char *dir)
{
    _cleanup_close_ int first = -1;
    if (mkdirat(view->work_fd, CACHE_FIRST, 0700) < 0 ||
        (first = openat(view->work_fd, CACHE_FIRST, dir_flags)) < 0 ||
        renameat(view->work_fd, CACHE_NEXT, first, dir) < 0 || fsync(first) < 0 ||
        renameat(view->work_fd, CACHE_FIRST, caches->fd, view->name) < 0)
        return -errno;
    return steal_fd(&first);
}

/* The moment at which the generation is there. Under the lock. Returns the cache's directory, -ESTALE
 * where another has become current, or -errno. */
static int name_next(struct caches *caches, const struct cache_view *view,
                     struct cache_generation *made, struct dayfly_err *err)
{
    struct cache_generation current;
    char dir[CACHE_DIR_BYTES], id[40];
    int r = cache_current(caches, view->name, &current, err);
    if (r == 0)
        r = caches_work_name(id, err);
    if (r < 0)
        return r;
    if (strcmp(current.id, view->base.id) != 0)
        return -ESTALE;
    made->number = view->base.number + 1;
    memcpy(made->id, id, CACHE_ID_BYTES);
    cache_dir_name(made, dir);
    _cleanup_close_ int cache = openat(caches->fd, view->name, dir_flags);
    if (cache >= 0)
        r = renameat(view->work_fd, CACHE_NEXT, cache, dir) < 0 ? -errno : 0;
    else if (errno == ENOENT)
        r = cache = name_first(caches, view, dir);
    else
        r = -errno;
    if (r >= 0)
        r = fsync(cache) < 0 || fsync(caches->fd) < 0 ? -errno : 0;
    return r < 0 ? err_errno(err, -r, "name the generation %s/%s/%s", caches->path, view->name, dir)
                 : steal_fd(&cache);
}

static int commit(struct caches *caches, struct cache_view *view, struct cache_promotion *out,
                  struct dayfly_err *err)
{
    enum { RETIRED_MAX = 16 };
    struct cache_gone gone[RETIRED_MAX];
    unsigned count = 0;
    int r = caches_lock(caches, err);
    if (r < 0)
        return r;
    _cleanup_close_ int cache = name_next(caches, view, &out->made, err);
    if (cache >= 0)
        count = retire(caches, cache, gone, RETIRED_MAX);
    caches_unlock(caches);
    for (unsigned i = 0; i < count; i++)
        cache_remove_gone(caches, &gone[i]);
    if (cache == -ESTALE) {
        out->outcome = CACHE_SUPERSEDED;
        return 0;
    }
    out->outcome = CACHE_PROMOTED;
    return cache < 0 ? cache : 0;
}

/* Before any work is done in vain. */
static int is_superseded(struct caches *caches, const struct cache_view *view, struct dayfly_err *err)
{
    struct cache_generation current;
    int r = caches_lock(caches, err);
    if (r < 0)
        return r;
    r = cache_current(caches, view->name, &current, err);
    caches_unlock(caches);
    return r < 0 ? r : strcmp(current.id, view->base.id) != 0;
}

static int promote(struct caches *caches, struct cache_view *view, int upper_fd, int base_fd,
                   struct cache_promotion *out, struct dayfly_err *err)
{
    int r = merge_differs(upper_fd, base_fd);
    if (r < 0)
        return err_errno(err, -r, "look at what was written");
    if (r == 0)
        return 0;
    if ((r = is_superseded(caches, view, err)) < 0)
        return r;
    if (r > 0) {
        out->outcome = CACHE_SUPERSEDED;
        return 0;
    }
    r = make_next(view, upper_fd, base_fd, out, err);
    return r < 0 ? r : commit(caches, view, out, err);
}

int cache_view_promote(struct caches *caches, struct cache_view *view, struct cache_promotion *out,
                       struct dayfly_err *err)
{
    *out = (struct cache_promotion){.outcome = CACHE_UNCHANGED};
    _cleanup_close_ int upper = openat(view->work_fd, CACHE_CHANGES "/" CHANGES_UPPER, dir_flags);
    if (upper < 0 && errno == ENOENT)
        return 0; /* it was never mounted */
    _cleanup_close_ int base = openat(view->base_fd, CACHE_TREE, dir_flags);
    int r = upper < 0 || base < 0 ? err_errno(err, errno, "open what was written")
                                  : promote(caches, view, upper, base, out, err);
    return r < 0 ? err_wrap(err, "cache %s", view->name) : 0;
}
