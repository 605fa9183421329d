/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several serving threads and a host that renames under them. What a node id leads to must be its own
 * file or an error that a guest can live with, and nothing may be left over.
 *
 * File number i has i bytes, so that a size tells the file.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "fs/testing_inode.h"

enum { THREADS = 3, FILES = 40, DIRS = 4, ROUNDS = 3000 };

static const struct fs_options few = {.fds_max = FDS_FEW};

struct race {
    struct fixture f;
    uint64_t ids[FILES];
    atomic_uint running; /* the host goes on while somebody serves */
    atomic_int wrong;    /* the first answer that must not be */
    atomic_uint found;
    unsigned seed; /* the host's */
};

/* cmocka's assertions belong to the main thread. */
static void check(struct race *race, bool fine, int64_t answer)
{
    int none = 0;
    if (!fine)
        atomic_compare_exchange_strong(&race->wrong, &none, answer ? (int)answer : -1);
}

/* A different sequence for each thread, the same in each run. */
static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

static void make_files(struct race *race)
{
    char name[32], bytes[FILES + 1] = "";
    for (int d = 0; d < DIRS; d++) {
        snprintf(name, sizeof(name), "%d", d);
        host_mkdir(&race->f, name);
    }
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof(name), "%d/%d", i % DIRS, i);
        host_write(&race->f, name, bytes);
        race->ids[i] = look(&race->f, name);
        bytes[i] = 'x';
    }
}

static void join_all(struct race *race, void *(*serve)(void *), void (*host)(struct race *))
{
    pthread_t threads[THREADS];
    atomic_store(&race->running, THREADS);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, serve, race), 0);
    while (host && atomic_load(&race->running) > 0)
        host(race);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&race->wrong), 0);
}

static void end_race(struct race *race)
{
    assert_int_equal(forget_all(&race->f), 1);
    assert_int_equal(stats(&race->f).inode_fds, 0);
    end(&race->f);
}

/* -- the same inodes at the same time ----------------------------------------------------------------
 */

static void *open_and_stat(void *arg)
{
    struct race *race = arg;
    unsigned seed = (unsigned)(uintptr_t)&seed;
    for (int round = 0; round < ROUNDS; round++) {
        int i = (int)(next_random(&seed) % FILES);
        struct statx stx;
        int64_t size = size_of(&race->f, race->ids[i]);
        check(race, size == i, size);
        int rc = stat_node(&race->f, race->ids[FILES - 1 - i], &stx);
        check(race, rc == 0 && stx.stx_size == (uint64_t)(FILES - 1 - i), rc);
    }
    atomic_fetch_sub(&race->running, 1);
    return NULL;
}

static void test_opening_the_same(const struct variant *v)
{
    struct race race = {0};
    begin(&race.f, v, few);
    make_files(&race);
    join_all(&race, open_and_stat, NULL);
    assert_true(stats(&race.f).inode_fds <= FDS_FEW);
    end_race(&race);
}

/* -- the host renames --------------------------------------------------------------------------------
 */

static bool livable(int64_t rc)
{
    return rc == -ESTALE || rc == -ENOENT;
}

static void *walk_and_use(void *arg)
{
    struct race *race = arg;
    unsigned seed = (unsigned)(uintptr_t)&seed;
    char name[32];
    for (int round = 0; round < ROUNDS; round++) {
        int i = (int)(next_random(&seed) % FILES);
        int64_t size = size_of(&race->f, race->ids[i]);
        check(race, size == i || livable(size), size);
        uint64_t dir, id;
        snprintf(name, sizeof(name), "%d", (int)(next_random(&seed) % DIRS));
        if (look_in(&race->f, ROOT, name, &dir) < 0)
            continue;
        snprintf(name, sizeof(name), "%d", i);
        int rc = look_in(&race->f, dir, name, &id);
        check(race, rc == 0 || livable(rc), rc);
        if (rc == 0) {
            atomic_fetch_add(&race->found, 1);
            size = size_of(&race->f, id);
            check(race, size >= 0 || livable(size), size);
        }
    }
    atomic_fetch_sub(&race->running, 1);
    return NULL;
}

/* Files go round the directories, directories change places. */
static void rename_some(struct race *race)
{
    char from[32], to[32];
    for (int i = 0; i < FILES; i++)
        for (int d = 0; d < DIRS; d++) {
            snprintf(from, sizeof(from), "%d/%d", d, i);
            snprintf(to, sizeof(to), "%d/%d", (d + 1) % DIRS, i);
            if (renameat(race->f.dir, from, race->f.dir, to) == 0)
                break;
        }
    renameat2(race->f.dir, "0", race->f.dir, "1", RENAME_EXCHANGE);
    renameat2(race->f.dir, "2/5", race->f.dir, "3/6", RENAME_EXCHANGE);
    renameat(race->f.dir, "3", race->f.dir, "2/dir"); /* and into each other */
    renameat(race->f.dir, "2/dir", race->f.dir, "3");
}

static void test_the_host_renames(const struct variant *v)
{
    struct race race = {0};
    begin(&race.f, v, few);
    make_files(&race);
    join_all(&race, walk_and_use, rename_some);
    assert_true(atomic_load(&race.found) > 0);
    end_race(&race);
}

/* -- the number of a file that is gone is given to others --------------------------------------------
 */

static void *make_others(void *arg)
{
    struct race *race = arg;
    char name[32];
    snprintf(name, sizeof(name), "%p", (void *)&name);
    for (int round = 0; round < ROUNDS; round++) {
        int fd = openat(race->f.dir, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        check(race, fd >= 0 && close(fd) == 0 && unlinkat(race->f.dir, name, 0) == 0, -errno);
    }
    atomic_fetch_sub(&race->running, 1);
    return NULL;
}

static void use_what_is_gone(struct race *race)
{
    host_write(&race->f, "gone", "1");
    uint64_t id = look(&race->f, "gone");
    assert_int_equal(size_of(&race->f, id), 1);
    drop_cache(&race->f);
    host_unlink(&race->f, "gone");
    usleep(next_random(&race->seed) % 64);
    int64_t size = size_of(&race->f, id);
    check(race, size == -ESTALE, size);
    inode_forget(race->f.table, id, UINT64_MAX);
}

static void test_the_host_uses_numbers_again(const struct variant *v)
{
    struct race race = {0};
    begin(&race.f, v, few);
    join_all(&race, make_others, use_what_is_gone);
    end_race(&race);
}

/* -- forgotten, opened and renamed at once -----------------------------------------------------------
 */

static void *forget_and_look(void *arg)
{
    struct race *race = arg;
    unsigned seed = (unsigned)(uintptr_t)&seed;
    char name[32], other[32];
    for (int round = 0; round < ROUNDS; round++) {
        int i = (int)(next_random(&seed) % FILES);
        snprintf(name, sizeof(name), "%d/%d", i % DIRS, i);
        snprintf(other, sizeof(other), "%d", (i + DIRS) % FILES);
        struct inode_ref dir, file;
        uint64_t id = look(&race->f, name);
        inode_forget(race->f.table, id - next_random(&seed) % 3, next_random(&seed));
        if (inode_get(race->f.table, id, &file) < 0)
            continue;
        int rc = inode_open(race->f.table, &file);
        check(race, rc == 0 || rc == -ESTALE, rc);
        inode_opened(race->f.table, &file);
        uint64_t dirid;
        snprintf(name, sizeof(name), "%d", i % DIRS);
        if (look_in(&race->f, ROOT, name, &dirid) == 0 && inode_get(race->f.table, dirid, &dir) == 0) {
            /* What a guest says need not be so. */
            snprintf(name, sizeof(name), "%d", i);
            inode_unlinking(race->f.table, &dir, name);
            inode_unlink_failed(race->f.table, &dir, name, -EIO);
            inode_renamed(race->f.table, &dir, name, &dir, other, round & 1);
            inode_forget(race->f.table, dirid, next_random(&seed) & 3);
            inode_put(race->f.table, &dir);
        }
        inode_put(race->f.table, &file);
        inode_closed(race->f.table, id);
    }
    atomic_fetch_sub(&race->running, 1);
    return NULL;
}

static void test_forgetting(const struct variant *v)
{
    struct race race = {0};
    begin(&race.f, v, few);
    make_files(&race);
    join_all(&race, forget_and_look, NULL);
    for (uint64_t id = ROOT; id < THREADS * ROUNDS * 3; id++)
        inode_forget(race.f.table, id, UINT64_MAX);
    end_race(&race);
}

int main(void)
{
    static const struct variant_case cases[] = {
        {"opening the same", test_opening_the_same},
        {"the host renames", test_the_host_renames},
        {"the host uses numbers again", test_the_host_uses_numbers_again},
        {"forgetting", test_forgetting},
    };
    return run_cases("fs-inode-race", cases, ARRAY_SIZE(cases));
}
