/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Housekeeping: what there is, and how it goes. Whatever goes is claimed (locked for this process)
 * under the lock, moved to .work by one rename, and removed there after the lock: whoever is killed in
 * between leaves what the next caches_open removes.
 */
#include "cache/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/json.h"
#include "util/text.h"

static const int dir_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

static void cleanup_measure(struct measure *measure)
{
    measure_finish(measure);
}

/* -- what there is ---------------------------------------------------------------------------- */

static const char *time_text(time_t seconds, char out[32])
{
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}

/* A size that leaves something out would be worse than none. */
static int measure_generation(struct measure *measure, int cache, const char *name, const char *dir,
                              struct dayfly_err *err)
{
    int r = measure_tree(measure, cache, dir);
    return r < 0 ? err_errno(err, -r, "measure the cache %s", name) : 0;
}

static json_t *describe_all(int cache, const char *name, const struct cache_generation *all, int count,
                            struct dayfly_err *err)
{
    _cleanup_(cleanup_measure) struct measure measure = {0};
    struct stat st = {0};
    char used[32], dir[CACHE_DIR_BYTES];
    uint64_t own;
    time_t last = 0;
    for (int i = 0; i < count; i++) {
        cache_dir_name(&all[i], dir);
        if (fstatat(cache, dir, &st, AT_SYMLINK_NOFOLLOW) == 0)
            last = MAX(last, MAX(st.st_atime, st.st_mtime));
        if (measure_generation(&measure, cache, name, dir, err) < 0)
            return NULL;
    }
    return json_pack("{s:s, s:I, s:s, s:i, s:I, s:s}", "name", name, "generation",
                     (json_int_t)all[0].number, "id", all[0].id, "generations", count, "bytes",
                     (json_int_t)measure_bytes(&measure, &own), "used", time_text(last, used));
}

static int append_described(struct caches *caches, json_t *list, const char *name,
                            struct dayfly_err *err)
{
    _cleanup_free_ struct cache_generation *all = NULL;
    _cleanup_close_ int cache = openat(caches->fd, name, dir_flags);
    int count = cache < 0 ? 0 : cache_generations(cache, &all);
    if (count <= 0)
        return 0; /* it has gone meanwhile, or is none of ours */
    json_t *row = describe_all(cache, name, all, count, err);
    if (!row && err->code)
        return -err->code;
    return json_array_append_new(list, row) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

json_t *cache_list(struct caches *caches, struct dayfly_err *err)
{
    struct dayfly_err why = {0};
    char **names;
    int count = cache_names(caches, &names);
    if (count < 0) {
        err_errno(err, -count, "read %s", caches->path);
        return NULL;
    }
    _cleanup_json_ json_t *list = json_array();
    int r = 0;
    for (int i = 0; i < count && r == 0; i++)
        r = append_described(caches, list, names[i], &why);
    cache_free_names(names, count);
    if (r == 0 && list)
        return steal_ptr(&list);
    err_set(err, r < 0 ? why.code : ENOMEM, "%s", r < 0 ? why.msg : "out of memory");
    return NULL;
}

/* Under the lock: a claim that only asks must not be met by a job that begins. What cannot be told
 * counts as in use. */
static bool is_in_use(int cache, const char *dir)
{
    _cleanup_close_ int fd = cache_claim(cache, dir);
    return fd < 0 && fd != -ENOENT;
}

static bool is_in_use_now(struct caches *caches, int cache, const char *dir)
{
    if (caches_lock(caches, NULL) < 0)
        return true;
    bool in_use = is_in_use(cache, dir);
    caches_unlock(caches);
    return in_use;
}

static json_t *describe_generation(struct caches *caches, int cache, const char *name,
                                   const struct cache_generation *generation, struct measure *all,
                                   struct dayfly_err *err)
{
    _cleanup_(cleanup_measure) struct measure measure = {0};
    char dir[CACHE_DIR_BYTES], made[32], used[32], path[PATH_MAX];
    struct stat st = {0};
    uint64_t own;
    cache_dir_name(generation, dir);
    fstatat(cache, dir, &st, AT_SYMLINK_NOFOLLOW);
    if (measure_generation(&measure, cache, name, dir, err) < 0 ||
        measure_generation(all, cache, name, dir, err) < 0)
        return NULL;
    uint64_t bytes = measure_bytes(&measure, &own);
    snprintf(path, sizeof(path), "%s", caches->path);
    text_make_printable(path); /* JSON is UTF-8, a folder's name need not be */
    json_t *row = json_pack("{s:I, s:s, s:b, s:s, s:s, s:s++++++, s:I, s:I, s:I}", "generation",
                            (json_int_t)generation->number, "id", generation->id, "in_use",
                            is_in_use_now(caches, cache, dir), "made", time_text(st.st_mtime, made),
                            "used", time_text(MAX(st.st_atime, st.st_mtime), used), "path", path, "/",
                            name, "/", dir, "/", CACHE_TREE, "files", (json_int_t)measure.files,
                            "bytes", (json_int_t)bytes, "own_bytes", (json_int_t)own);
    if (!row)
        err_set(err, ENOMEM, "out of memory");
    return row;
}

static json_t *describe(struct caches *caches, int cache, const char *name,
                        const struct cache_generation *all, int count, struct dayfly_err *err)
{
    _cleanup_(cleanup_measure) struct measure measure = {0};
    _cleanup_json_ json_t *list = json_array();
    uint64_t own;
    for (int i = 0; i < count; i++) {
        json_t *row = describe_generation(caches, cache, name, &all[i], &measure, err);
        if (!row)
            return NULL;
        json_object_set_new(row, "current", json_boolean(i == 0));
        json_array_append_new(list, row);
    }
    json_t *out = json_pack("{s:s, s:I, s:O}", "name", name, "bytes",
                            (json_int_t)measure_bytes(&measure, &own), "generations", list);
    if (!out)
        err_set(err, ENOMEM, "out of memory");
    return out;
}

json_t *cache_describe(struct caches *caches, const char *name, struct dayfly_err *err)
{
    _cleanup_free_ struct cache_generation *all = NULL;
    if (!cache_name_is_valid(name)) {
        err_set(err, EINVAL, "\"%.80s\" is no name of a cache", name);
        return NULL;
    }
    _cleanup_close_ int cache = openat(caches->fd, name, dir_flags);
    int count = cache < 0 ? -errno : cache_generations(cache, &all);
    if (count > 0)
        return describe(caches, cache, name, all, count, err);
    if (count == 0 || count == -ENOENT)
        err_set(err, ENOENT, "there is no cache %s; `dayfly cache ls` lists them", name);
    else
        err_errno(err, -count, "read the cache %s", name);
    return NULL;
}

/* -- how it goes ------------------------------------------------------------------------------ */

/* Whether all of a cache may go: 0, or -EBUSY when a job uses any of it. Under the lock. */
static int ask_cache(struct caches *caches, const char *name)
{
    _cleanup_free_ struct cache_generation *all = NULL;
    _cleanup_close_ int cache = openat(caches->fd, name, dir_flags);
    int count = cache < 0 ? -errno : cache_generations(cache, &all);
    char dir[CACHE_DIR_BYTES];
    for (int i = 0; i < count; i++) {
        cache_dir_name(&all[i], dir);
        if (is_in_use(cache, dir))
            return -EBUSY;
    }
    return count < 0 ? count : 0;
}

static int move_whole_away(struct caches *caches, const char *name, struct cache_gone *gone)
{
    int r = ask_cache(caches, name);
    return r < 0 ? r : cache_move_away(caches, caches->fd, name, gone);
}

static int move_generation_away(struct caches *caches, const char *name, uint64_t number,
                                struct cache_gone *gone)
{
    _cleanup_free_ struct cache_generation *all = NULL;
    _cleanup_close_ int cache = openat(caches->fd, name, dir_flags);
    int count = cache < 0 ? -errno : cache_generations(cache, &all), r = -ENOENT;
    char dir[CACHE_DIR_BYTES];
    /* The last one goes with its cache. */
    if (count == 1 && all[0].number == number)
        return move_whole_away(caches, name, gone);
    for (int i = 0; i < count; i++) {
        if (all[i].number != number)
            continue;
        cache_dir_name(&all[i], dir);
        r = cache_move_away(caches, cache, dir, gone);
    }
    return count < 0 ? count : r;
}

/* NAME or NAME@N. number 0: all. */
static bool parse_what(const char *what, char name[CACHE_NAME_BYTES], uint64_t *number)
{
    const char *at = strchr(what, '@');
    size_t len = at ? (size_t)(at - what) : strlen(what);
    *number = 0;
    if (len >= CACHE_NAME_BYTES)
        return false;
    memcpy(name, what, len);
    name[len] = '\0';
    if (at) {
        size_t digits = strspn(at + 1, "0123456789");
        if (!digits || digits > 18 || at[1 + digits] || at[1] == '0')
            return false;
        *number = strtoull(at + 1, NULL, 10);
    }
    return cache_name_is_valid(name);
}

int cache_remove(struct caches *caches, const char *what, struct dayfly_err *err)
{
    char name[CACHE_NAME_BYTES];
    struct cache_gone gone = {.fd = -1};
    uint64_t number;
    if (!parse_what(what, name, &number))
        return err_set(err, EINVAL, "\"%.80s\" is no cache: write NAME, or NAME@N for a generation",
                       what);
    int r = caches_lock(caches, err);
    if (r < 0)
        return r;
    r = number ? move_generation_away(caches, name, number, &gone)
               : move_whole_away(caches, name, &gone);
    caches_unlock(caches);
    if (r == -ENOENT)
        return err_set(err, ENOENT, "there is no cache %s; `dayfly cache ls` lists them", what);
    if (r == -EBUSY)
        return err_set(err, EBUSY, "a job uses the cache %s", what);
    if (r == 0)
        r = cache_remove_gone(caches, &gone);
    return r < 0 ? err_errno(err, -r, "remove the cache %s", what) : 0;
}

/* -- sweeping --------------------------------------------------------------------------------- */

struct sweeping {
    struct caches *caches;
    const struct cache_sweep_options *options;
    struct cache_sweep_result *result;
};

/* It may go, or is gone: count it, say it, remove it. `number` 0: all of the cache. */
static int finish_sweep(struct sweeping *sweep, const char *name, uint64_t number, unsigned generations,
                        uint64_t freed_bytes, struct cache_gone *gone)
{
    sweep->result->generations += generations;
    sweep->result->freed_bytes += freed_bytes;
    if (sweep->options->tell)
        sweep->options->tell(sweep->options->opaque, name, number, freed_bytes);
    return sweep->options->dry_run ? 0 : cache_remove_gone(sweep->caches, gone);
}

static int sweep_generation(struct sweeping *sweep, int cache, const char *name,
                            const struct cache_generation *generation, struct dayfly_err *err)
{
    _cleanup_(cleanup_measure) struct measure measure = {0};
    struct cache_gone gone = {.fd = -1};
    char dir[CACHE_DIR_BYTES];
    uint64_t own;
    cache_dir_name(generation, dir);
    int r = measure_tree(&measure, cache, dir);
    if (r == 0)
        r = caches_lock(sweep->caches, err);
    if (r < 0)
        return r;
    if (sweep->options->dry_run)
        r = is_in_use(cache, dir) ? -EBUSY : 0;
    else
        r = cache_move_away(sweep->caches, cache, dir, &gone);
    caches_unlock(sweep->caches);
    if (r < 0)
        return r == -EBUSY || r == -ENOENT ? 0 : r;
    measure_bytes(&measure, &own);
    return finish_sweep(sweep, name, generation->number, 1, own, &gone);
}

/* All or nothing: without its current generation an older one would be the current one again. */
static int sweep_whole(struct sweeping *sweep, const char *name, unsigned generations,
                       struct dayfly_err *err)
{
    _cleanup_(cleanup_measure) struct measure measure = {0};
    struct cache_gone gone = {.fd = -1};
    uint64_t own;
    int r = measure_tree(&measure, sweep->caches->fd, name);
    if (r == 0)
        r = caches_lock(sweep->caches, err);
    if (r < 0)
        return r;
    r = sweep->options->dry_run ? ask_cache(sweep->caches, name)
                                : move_whole_away(sweep->caches, name, &gone);
    caches_unlock(sweep->caches);
    if (r < 0)
        return r == -EBUSY || r == -ENOENT ? 0 : r;
    measure_bytes(&measure, &own);
    return finish_sweep(sweep, name, 0, generations, own, &gone);
}

static bool is_too_old(const struct sweeping *sweep, int cache, const struct cache_generation *current)
{
    char dir[CACHE_DIR_BYTES];
    struct stat st;
    cache_dir_name(current, dir);
    int64_t limit = (int64_t)time(NULL) - (int64_t)(sweep->options->older_than_ns / NS_PER_S);
    return sweep->options->by_age && fstatat(cache, dir, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           MAX(st.st_atime, st.st_mtime) <= limit;
}

static int sweep_cache(struct sweeping *sweep, const char *name, struct dayfly_err *err)
{
    _cleanup_(cleanup_measure) struct measure kept = {0};
    _cleanup_free_ struct cache_generation *all = NULL;
    _cleanup_close_ int cache = openat(sweep->caches->fd, name, dir_flags);
    int count = cache < 0 ? 0 : cache_generations(cache, &all), r = 0;
    uint64_t own;
    if (count <= 0)
        return 0;
    if (is_too_old(sweep, cache, &all[0]))
        r = sweep_whole(sweep, name, (unsigned)count, err);
    else
        for (int i = count - 1; i > 0 && r == 0; i--)
            r = sweep_generation(sweep, cache, name, &all[i], err);
    if (r == 0)
        r = measure_tree(&kept, sweep->caches->fd, name);
    sweep->result->kept_bytes += measure_bytes(&kept, &own);
    return r < 0 ? err_errno(err, -r, "sweep the cache %s", name) : 0;
}

int cache_sweep(struct caches *caches, const struct cache_sweep_options *options,
                struct cache_sweep_result *result, struct dayfly_err *err)
{
    struct sweeping sweep = {.caches = caches, .options = options, .result = result};
    char **names;
    int count = cache_names(caches, &names), r = 0;
    *result = (struct cache_sweep_result){0};
    if (count < 0)
        return err_errno(err, -count, "read %s", caches->path);
    for (int i = 0; i < count && r == 0; i++)
        r = sweep_cache(&sweep, names[i], err);
    cache_free_names(names, count);
    return r;
}
