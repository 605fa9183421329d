/* SPDX-License-Identifier: Apache-2.0 */
#include "image/prune.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/usage.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/home.h"

struct pruning {
    struct store *store;
    const struct prune_options *options;
    struct prune_result *result;
    struct store_entry *entries;
    size_t count;
    struct usage usage;
    bool *gone; /* for each entry */
    struct digest *manifests;
    size_t manifest_count;
};

/* Seconds. image_open sets the root's time of access; the manifest's blob came with the image. */
static int64_t last_used(const struct pruning *p, size_t i)
{
    const struct digest *manifest = &p->entries[i].manifest;
    char root[STORE_ROOT_NAME_BYTES], hex[DIGEST_HEX_BYTES];
    struct stat st;
    int64_t used = 0;
    if (fstatat(p->store->roots_fd, store_root_name(manifest, root), &st, AT_SYMLINK_NOFOLLOW) == 0)
        used = st.st_atim.tv_sec;
    if (fstatat(p->store->blobs_fd, digest_hex(manifest, hex), &st, AT_SYMLINK_NOFOLLOW) == 0)
        used = MAX(used, st.st_mtim.tv_sec);
    return used;
}

/* The entry that was used longest ago, of those that may go; count when there is none. */
static size_t oldest(const struct pruning *p, int64_t *used)
{
    size_t best = p->count;
    for (size_t i = 0; i < p->count; i++) {
        if (p->gone[i] || store_root_in_use(p->store, &p->entries[i].manifest))
            continue;
        int64_t at = last_used(p, i);
        if (best == p->count || at < *used) {
            best = i;
            *used = at;
        }
    }
    return best;
}

static void choose(struct pruning *p, size_t victim)
{
    uint64_t before = p->result->kept_bytes;
    const struct digest *manifest = &p->entries[victim].manifest;
    for (size_t i = 0; i < p->count; i++)
        p->gone[i] |= digest_equal(&p->entries[i].manifest, manifest);
    p->manifests[p->manifest_count++] = *manifest;
    p->result->kept_bytes = usage_total(&p->usage, p->gone);
    p->result->freed_bytes += before - p->result->kept_bytes;
    if (p->options->tell)
        p->options->tell(p->options->opaque, p->entries[victim].name, before - p->result->kept_bytes);
}

static void choose_all(struct pruning *p)
{
    const struct prune_options *options = p->options;
    int64_t used = 0;
    int64_t limit = time(NULL) - (int64_t)(options->older_than_ns / NS_PER_S);
    for (;;) {
        size_t victim = oldest(p, &used);
        bool too_old = options->by_age && used <= limit;
        bool too_much = options->by_size && p->result->kept_bytes > options->keep_bytes;
        if (victim == p->count || !(too_old || too_much))
            return;
        choose(p, victim);
    }
}

static int prune_locked(struct pruning *p, struct dayfly_err *err)
{
    int rc = store_entries(p->store, &p->entries, &p->count, err);
    if (rc)
        return rc;
    p->gone = calloc(p->count + 1, sizeof(*p->gone));
    p->manifests = calloc(p->count + 1, sizeof(*p->manifests));
    if (!p->gone || !p->manifests)
        return err_errno(err, ENOMEM, "images");
    rc = usage_read(&p->usage, p->store, p->entries, p->count, err);
    if (rc)
        return rc;
    p->result->kept_bytes = usage_total(&p->usage, p->gone);
    choose_all(p);
    if (p->options->dry_run)
        return 0;
    p->result->staging = store_sweep_staging(p->store);
    return store_forget(p->store, p->manifests, p->manifest_count, err);
}

int image_prune(struct store *store, const struct prune_options *options, struct prune_result *result,
                struct dayfly_err *err)
{
    struct pruning p = {.store = store, .options = options, .result = result};
    *result = (struct prune_result){0};
    int rc = store_lock_exclusive(store, err);
    if (rc)
        return rc;
    rc = prune_locked(&p, err);
    store_unlock(store);
    usage_finish(&p.usage);
    free(p.entries);
    free(p.gone);
    free(p.manifests);
    return rc;
}

int image_sweep(const struct sweep *sweep, struct dayfly_err *err)
{
    char home[PATH_MAX];
    struct store store;
    int rc = home_data_dir(home, sizeof(home), err);
    if (rc)
        return rc;
    if (access(home, F_OK) < 0 && errno == ENOENT)
        return 0;
    /* For reading, which sweeps nothing by itself, and so in silence. */
    if ((rc = store_open(&store, home, STORE_READ, err)))
        return rc;
    if (!(rc = store_lock_exclusive(&store, err))) {
        store_sweep_all(&store, sweep);
        store_unlock(&store);
    }
    store_close(&store);
    return rc;
}
