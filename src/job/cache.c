/* SPDX-License-Identifier: Apache-2.0 */
#include "job/cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/json.h"
#include "util/text.h"
#include "util/units.h"

const char *const job_cache_policies[] = {
    [JOB_CACHE_PRIVATE] = "private",
    [JOB_CACHE_RO] = "ro",
    [JOB_CACHE_PROMOTE] = "promote",
    [JOB_CACHE_PROMOTE + 1] = NULL,
};

/* -- reading ---------------------------------------------------------------------------------- */

static int parse_policy(struct job_cache *cache, const char *word, struct dayfly_err *err)
{
    for (unsigned i = 0; job_cache_policies[i]; i++) {
        if (strcmp(job_cache_policies[i], word) == 0) {
            cache->policy = (enum job_cache_policy)i;
            return 0;
        }
    }
    return err_set(err, EINVAL, "\"%.40s\" is no policy; there are ro, private and promote", word);
}

static int parse(struct job_cache *cache, const char *word, struct dayfly_err *err)
{
    _cleanup_free_ char *copy = strdup(word);
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    char *rest = copy;
    const char *name = strsep(&rest, ":"), *place = strsep(&rest, ":");
    if (!cache_name_is_valid(name))
        return err_set(err, EINVAL,
                       "a cache's name is a letter or digit, and up to %d of these and \"._-\"",
                       CACHE_NAME_BYTES - 2);
    if (!place || *place != '/')
        return err_set(err, EINVAL, "write NAME:DST, with DST as an absolute path in the guest");
    memcpy(cache->name, name, strlen(name) + 1);
    int r = job_share_parse_place(place, cache->path, err);
    return r < 0 || !rest ? r : parse_policy(cache, rest, err);
}

static int check_names(const struct job_cache *caches, size_t count, struct dayfly_err *err)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(caches[i].name, caches[j].name) == 0)
                return err_set(err, EINVAL, "the cache %s is there twice", caches[i].name);
    return 0;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct job_cache *)a)->path, ((const struct job_cache *)b)->path);
}

int job_caches_parse(const char *const *words, size_t count, struct job_cache **out,
                     struct dayfly_err *err)
{
    *out = NULL;
    if (count > CONFIG_MAX_SHARES)
        return err_set(err, EINVAL, "%zu caches are too many: at most %d, shares among them", count,
                       CONFIG_MAX_SHARES);
    _cleanup_free_ struct job_cache *caches = calloc(count + 1, sizeof(*caches));
    if (!caches)
        return err_set(err, ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        if (parse(&caches[i], words[i], err) < 0)
            return err_wrap(err, "cache %s", words[i]);
    int r = check_names(caches, count, err);
    if (r < 0)
        return r;
    qsort(caches, count, sizeof(*caches), by_path);
    *out = steal_ptr(&caches);
    return 0;
}

/* -- using ------------------------------------------------------------------------------------ */

struct job_caches {
    struct caches caches;
    const struct job_cache *list; /* sorted by path */
    size_t count;
    bool trusted;
    struct cache_view views[CONFIG_MAX_SHARES]; /* of each of them */
    struct job_share shares[CONFIG_MAX_SHARES]; /* with the others; their strings are borrowed */
    size_t share_count;
    uint32_t uid, gid; /* whose the files are in the guest */
};

static int by_share_path(const void *a, const void *b)
{
    return strcmp(((const struct job_share *)a)->path, ((const struct job_share *)b)->path);
}

/* Nobody changes the files below a generation, or a view of it but the job itself. */
static struct job_share share_of(const struct job_cache *cache, const struct cache_view *view)
{
    struct job_share share = {
        .source = view->tree,
        .mode = cache->policy == JOB_CACHE_RO ? DAYFLY_SHARE_RO : DAYFLY_SHARE_COW,
        .changes = view->changes,
        .is_cache = true,
        .cache = DAYFLY_SHARE_CACHE_ALWAYS,
    };
    memcpy(share.path, cache->path, sizeof(share.path));
    return share;
}

static int open_views(struct job_caches *c, struct dayfly_err *err)
{
    int r = caches_open(&c->caches, NULL, err);
    for (size_t i = 0; i < c->count && r == 0; i++) {
        bool keep = c->trusted && c->list[i].policy == JOB_CACHE_PROMOTE;
        r = cache_view_open(&c->caches, c->list[i].name, keep, &c->views[i], err);
        if (r == 0)
            c->shares[c->share_count++] = share_of(&c->list[i], &c->views[i]);
    }
    return r;
}

int job_caches_open(struct job_caches **out, const struct job_cache *list, size_t count, bool trusted,
                    const struct job_share *shares, size_t share_count, struct dayfly_err *err)
{
    *out = NULL;
    if (count + share_count > CONFIG_MAX_SHARES)
        return err_set(err, EINVAL, "%zu shares and caches are too many: at most %d",
                       count + share_count, CONFIG_MAX_SHARES);
    struct job_caches *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(err, ENOMEM, "out of memory");
    c->caches = (struct caches)CACHES_INIT;
    c->list = list;
    c->count = count;
    c->trusted = trusted;
    for (size_t i = 0; i < count; i++)
        c->views[i] = (struct cache_view)CACHE_VIEW_INIT;
    if (share_count)
        memcpy(c->shares, shares, share_count * sizeof(*shares));
    c->share_count = share_count;
    int r = count ? open_views(c, err) : 0;
    qsort(c->shares, c->share_count, sizeof(*c->shares), by_share_path);
    for (size_t i = 1; i < c->share_count && r == 0; i++)
        if (strcmp(c->shares[i - 1].path, c->shares[i].path) == 0)
            r = err_set(err, EINVAL, "two things at %s: give each its own place", c->shares[i].path);
    if (r < 0)
        job_caches_free(c);
    else
        *out = c;
    return r;
}

void job_caches_free(struct job_caches *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++)
        cache_view_close(&c->caches, &c->views[i]);
    caches_close(&c->caches);
    free(c);
}

const struct job_share *job_caches_shares(const struct job_caches *c, size_t *count)
{
    *count = c->share_count;
    return c->shares;
}

void job_caches_show_to(struct job_caches *c, const char *user)
{
    uint64_t uid = 0, gid = 0;
    char word[2 * 24];
    if (user && snprintf(word, sizeof(word), "%s", user) < (int)sizeof(word)) {
        char *group = word;
        const char *name = strsep(&group, ":");
        if (units_parse_number(name, 0, UINT32_MAX - 1, &uid, NULL) < 0 ||
            (group && units_parse_number(group, 0, UINT32_MAX - 1, &gid, NULL) < 0))
            uid = gid = 0; /* a name: only the image knows whose */
    }
    c->uid = (uint32_t)uid;
    c->gid = (uint32_t)gid;
    for (size_t i = 0; i < c->share_count; i++) {
        if (c->shares[i].is_cache) {
            c->shares[i].shown_uid = c->uid;
            c->shares[i].shown_gid = c->gid;
        }
    }
}

json_t *job_caches_state(const struct job_caches *c)
{
    json_t *list = c->count ? json_array() : NULL;
    for (size_t i = 0; i < c->count && list; i++) {
        json_t *row = json_pack("{s:s, s:s, s:s, s:b, s:I, s:I}", "name", c->list[i].name, "path",
                                c->list[i].path, "generation", c->views[i].base.id, "writable",
                                c->list[i].policy != JOB_CACHE_RO, "uid", (json_int_t)c->uid, "gid",
                                (json_int_t)c->gid);
        if (json_array_append_new(list, row) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

/* -- the end ---------------------------------------------------------------------------------- */

static const char *promote(struct job_caches *c, size_t i, json_t *row)
{
    static const char *const outcomes[] = {[CACHE_PROMOTED] = "promoted",
                                           [CACHE_UNCHANGED] = "unchanged",
                                           [CACHE_SUPERSEDED] = "superseded"};
    struct cache_promotion done;
    struct dayfly_err err = {0};
    uint64_t begin = clock_ns();
    int r = cache_view_promote(&c->caches, &c->views[i], &done, &err);
    json_object_set_new(row, "ms", json_ms(clock_ns() - begin));
    if (r < 0) {
        text_make_printable(err.msg); /* JSON is UTF-8, a folder's name need not be */
        json_object_set_new(row, "why", json_string(err.msg));
        return "failed";
    }
    if (done.left_out)
        json_object_set_new(row, "left_out", json_integer((json_int_t)done.left_out));
    if (done.outcome == CACHE_PROMOTED)
        json_object_set_new(
            row, "made",
            json_pack("{s:I, s:s}", "generation", (json_int_t)done.made.number, "id", done.made.id));
    return outcomes[done.outcome];
}

static const char *end_one(struct job_caches *c, size_t i, bool succeeded, json_t *row)
{
    switch (c->list[i].policy) {
    case JOB_CACHE_RO:
        return "read";
    case JOB_CACHE_PRIVATE:
        return "dropped";
    default:
        return !c->trusted ? "untrusted" : !succeeded ? "unsuccessful" : promote(c, i, row);
    }
}

json_t *job_caches_end(struct job_caches *c, bool succeeded)
{
    json_t *rows = c->count ? json_array() : NULL;
    for (size_t i = 0; i < c->count; i++) {
        const struct job_cache *cache = &c->list[i];
        json_t *row = json_pack("{s:s, s:s, s:s, s:I, s:s}", "name", cache->name, "path", cache->path,
                                "policy", job_cache_policies[cache->policy], "generation",
                                (json_int_t)c->views[i].base.number, "id", c->views[i].base.id);
        const char *outcome = end_one(c, i, succeeded, row);
        json_object_set_new(row, "outcome", json_string(outcome));
        json_array_append_new(rows, row);
    }
    return rows;
}
