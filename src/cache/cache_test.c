/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generations: how they come, are used and go. A job is played by writing to the upper directory that
 * its mount would have (fs/cow.h has the mount itself, tests/e2e/caches.bats all of it together).
 */
#include "cache/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/json.h"
#include "util/testing.h"
#include "util/tree.h"

struct place {
    char home[64];
    struct caches caches;
};

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof(*p));
    if (!p)
        return -1;
    strcpy(p->home, "/var/tmp/unit-cache.XXXXXX");
    assert_non_null(mkdtemp(p->home));
    assert_int_equal(caches_open(&p->caches, p->home, NULL), 0);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    caches_close(&p->caches);
    assert_int_equal(tree_remove(AT_FDCWD, p->home), 0);
    free(p);
    return 0;
}

static void put(int dir_fd, const char *name, const char *text)
{
    _cleanup_close_ int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
}

/* What a job that writes `text` to `name` leaves in its changes. */
static void write_in(const struct cache_view *view, const char *name, const char *text)
{
    char path[PATH_MAX];
    assert_non_null(view->changes);
    if (mkdir(view->changes, 0700) < 0)
        assert_int_equal(errno, EEXIST);
    assert_true(snprintf(path, sizeof(path), "%s/upper", view->changes) < (int)sizeof(path));
    if (mkdir(path, 0755) < 0)
        assert_int_equal(errno, EEXIST);
    _cleanup_close_ int upper = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(upper >= 0);
    put(upper, name, text);
}

static struct cache_view use(struct place *p, const char *name, bool keep)
{
    struct cache_view view;
    struct dayfly_err err = {0};
    if (cache_view_open(&p->caches, name, keep, &view, &err) < 0)
        fail_msg("%s", err.msg);
    return view;
}

static struct cache_promotion promote(struct place *p, struct cache_view *view)
{
    struct cache_promotion done;
    struct dayfly_err err = {0};
    if (cache_view_promote(&p->caches, view, &done, &err) < 0)
        fail_msg("%s", err.msg);
    return done;
}

/* A job that writes one file. */
static struct cache_generation make(struct place *p, const char *name, const char *file)
{
    struct cache_view view = use(p, name, true);
    write_in(&view, file, file);
    struct cache_promotion done = promote(p, &view);
    cache_view_close(&p->caches, &view);
    assert_int_equal(done.outcome, CACHE_PROMOTED);
    return done.made;
}

static bool has(const struct cache_view *view, const char *file)
{
    char path[PATH_MAX];
    assert_true(snprintf(path, sizeof(path), "%s/%s", view->tree, file) < (int)sizeof(path));
    return access(path, F_OK) == 0;
}

/* How many names there are in one of the directories of caches/. */
static int count_in(struct place *p, const char *name)
{
    char path[PATH_MAX];
    char **names;
    struct caches at = p->caches;
    snprintf(path, sizeof(path), "%s/caches/%s", p->home, name);
    at.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int count = at.fd < 0 ? -1 : cache_names(&at, &names);
    if (count >= 0)
        cache_free_names(names, count);
    close_fd(&at.fd);
    return count;
}

/* ---- names ---- */

static void names_are_strict(void **state)
{
    static const char *const good[] = {"a", "A9", "lock", "deps.v2", "x_y-z", "0"};
    static const char *const bad[] = {"",    ".",   "..",       ".lock", ".work", "-x",  "_x", "a/b",
                                      "a\n", "a b", "\xc3\xa4", "a:b",   "a@1",   "a,b", "%s"};
    char longest[CACHE_NAME_BYTES + 1];
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        assert_true(cache_name_is_valid(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(cache_name_is_valid(bad[i]));
    memset(longest, 'a', sizeof(longest));
    longest[CACHE_NAME_BYTES - 1] = '\0';
    assert_true(cache_name_is_valid(longest));
    longest[CACHE_NAME_BYTES - 1] = 'a';
    longest[CACHE_NAME_BYTES] = '\0';
    assert_false(cache_name_is_valid(longest));
}

static void only_what_was_made_is_a_generation(void **state)
{
#define ID "0123456789abcdef0123456789abcdef"
    static const char *const bad[] = {"",
                                      "1",
                                      "1-",
                                      "-" ID,
                                      "0-" ID,
                                      "01-" ID,
                                      "1-" ID "0",
                                      "1-X" ID,
                                      "+1-" ID,
                                      "1--" ID,
                                      " 1-" ID,
                                      "1-" ID " ",
                                      "1-0123456789ABCDEF0123456789ABCDEF",
                                      "9999999999999999999-" ID};
    struct cache_generation generation;
    char name[CACHE_DIR_BYTES];
    assert_true(cache_dir_parse("12-" ID, &generation));
    assert_int_equal(generation.number, 12);
    assert_string_equal(generation.id, ID);
    cache_dir_name(&generation, name);
    assert_string_equal(name, "12-" ID);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(cache_dir_parse(bad[i], &generation));
}

/* ---- use ---- */

static void a_first_use_is_empty_and_makes_nothing(void **state)
{
    struct place *p = *state;
    struct cache_view view = use(p, "new", false);
    struct stat st;
    assert_int_equal(view.base.number, 0);
    assert_string_equal(view.base.id, "00000000000000000000000000000000");
    assert_null(view.changes);
    assert_int_equal(stat(view.tree, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_nlink, 2);
    assert_int_equal(count_in(p, "new"), -1);
    assert_int_equal(count_in(p, ".work"), 0);
    cache_view_close(&p->caches, &view);
    cache_view_close(&p->caches, &view);
    assert_int_equal(cache_view_open(&p->caches, "../x", true, &view, NULL), -EINVAL);
}

static void what_was_written_is_the_next_generation(void **state)
{
    struct place *p = *state;
    struct cache_generation one = make(p, "c", "first"), two = make(p, "c", "second");
    assert_int_equal(one.number, 1);
    assert_int_equal(two.number, 2);
    assert_string_not_equal(one.id, two.id);
    struct cache_view view = use(p, "c", true);
    assert_string_equal(view.base.id, two.id);
    assert_true(has(&view, "first") && has(&view, "second"));
    /* What is dropped is gone, and nothing of it is left. */
    write_in(&view, "third", "third");
    assert_int_equal(count_in(p, ".work"), 1);
    cache_view_close(&p->caches, &view);
    assert_int_equal(count_in(p, ".work"), 0);
    view = use(p, "c", false);
    assert_string_equal(view.base.id, two.id);
    assert_false(has(&view, "third"));
    cache_view_close(&p->caches, &view);
}

static void nothing_written_makes_nothing(void **state)
{
    struct place *p = *state;
    struct cache_generation one = make(p, "c", "first");
    struct cache_view view = use(p, "c", true);
    assert_int_equal(promote(p, &view).outcome, CACHE_UNCHANGED); /* never mounted */
    write_in(&view, "x", "x");
    char path[PATH_MAX];
    assert_true(snprintf(path, sizeof(path), "%s/upper/x", view.changes) < (int)sizeof(path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(promote(p, &view).outcome, CACHE_UNCHANGED);
    cache_view_close(&p->caches, &view);
    view = use(p, "c", false);
    assert_string_equal(view.base.id, one.id);
    cache_view_close(&p->caches, &view);
}

static void the_second_of_two_at_once_is_superseded(void **state)
{
    struct place *p = *state;
    make(p, "c", "first");
    struct cache_view a = use(p, "c", true), b = use(p, "c", true);
    write_in(&a, "a", "a");
    write_in(&b, "b", "b");
    struct cache_promotion done = promote(p, &b);
    assert_int_equal(done.outcome, CACHE_PROMOTED);
    assert_int_equal(done.made.number, 2);
    assert_int_equal(promote(p, &a).outcome, CACHE_SUPERSEDED);
    /* It goes on seeing what it began with. */
    assert_true(has(&a, "first"));
    assert_false(has(&a, "b"));
    cache_view_close(&p->caches, &a);
    cache_view_close(&p->caches, &b);
    struct cache_view after = use(p, "c", false);
    assert_string_equal(after.base.id, done.made.id);
    assert_true(has(&after, "b"));
    assert_false(has(&after, "a"));
    cache_view_close(&p->caches, &after);
    /* So are two that begin with nothing. */
    a = use(p, "fresh", true);
    b = use(p, "fresh", true);
    write_in(&a, "a", "a");
    write_in(&b, "b", "b");
    assert_int_equal(promote(p, &a).outcome, CACHE_PROMOTED);
    assert_int_equal(promote(p, &b).outcome, CACHE_SUPERSEDED);
    cache_view_close(&p->caches, &a);
    cache_view_close(&p->caches, &b);
    assert_int_equal(count_in(p, ".work"), 0);
}

static void two_generations_stay_and_those_in_use(void **state)
{
    struct place *p = *state;
    make(p, "c", "1");
    struct cache_view first = use(p, "c", false);
    for (int i = 2; i <= 5; i++) {
        char name[8];
        snprintf(name, sizeof(name), "%d", i);
        make(p, "c", name);
    }
    /* The fifth, the fourth, and the one that is in use. */
    assert_int_equal(count_in(p, "c"), 3);
    assert_true(has(&first, "1"));
    assert_false(has(&first, "2"));
    cache_view_close(&p->caches, &first);
    make(p, "c", "6");
    assert_int_equal(count_in(p, "c"), 2);
    assert_int_equal(count_in(p, ".work"), 0);
}

/* ---- other processes ---- */

/* Run fn in a child of its own, which opens the caches anew. */
static pid_t spawn(struct place *p, int (*fn)(struct place *, int), int number)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct place mine = *p;
        if (caches_open(&mine.caches, p->home, NULL) < 0)
            _exit(99);
        _exit(fn(&mine, number));
    }
    return pid;
}

/* Until it has been first eight times. */
static int promote_often(struct place *p, int number)
{
    for (int i = 0; i < 8;) {
        char name[32];
        struct cache_view view = use(p, "c", true);
        snprintf(name, sizeof(name), "%d-%d", number, i);
        write_in(&view, name, name);
        i += promote(p, &view).outcome == CACHE_PROMOTED;
        cache_view_close(&p->caches, &view);
    }
    return 0;
}

static void many_at_once_lose_nothing(void **state)
{
    struct place *p = *state;
    pid_t pids[4];
    for (int i = 0; i < 4; i++)
        pids[i] = spawn(p, promote_often, i);
    for (int i = 0; i < 4; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    /* Every promotion was made of the one before it. */
    struct cache_view view = use(p, "c", false);
    assert_int_equal(view.base.number, 4 * 8);
    for (int i = 0; i < 4 * 8; i++) {
        char name[32];
        snprintf(name, sizeof(name), "%d-%d", i / 8, i % 8);
        assert_true(has(&view, name));
    }
    cache_view_close(&p->caches, &view);
    assert_int_equal(count_in(p, ".work"), 0);
}

/* Tell that it has begun, promote, be killed at any moment. */
static int promote_and_tell(struct place *p, int fd)
{
    struct cache_view view = use(p, "c", true);
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof(name), "of-%llu-%d", (unsigned long long)view.base.number, i);
        write_in(&view, name, name);
    }
    if (write(fd, "x", 1) != 1)
        return 1;
    promote(p, &view);
    cache_view_close(&p->caches, &view);
    return 0;
}

static void whoever_is_killed_leaves_the_old_or_the_new(void **state)
{
    struct place *p = *state;
    uint64_t promoted = 0, killed = 0;
    srand(1);
    for (int round = 0; round < 100; round++) {
        int fds[2], status;
        char byte;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid_t pid = spawn(p, promote_and_tell, fds[1]);
        close(fds[1]);
        assert_int_equal(read(fds[0], &byte, 1), 1);
        close(fds[0]);
        usleep((useconds_t)(rand() % 12000));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        killed += WIFSIGNALED(status);

        caches_close(&p->caches);
        assert_int_equal(caches_open(&p->caches, p->home, NULL), 0);
        assert_int_equal(count_in(p, ".work"), 0);
        struct cache_view view = use(p, "c", false);
        assert_true(view.base.number == promoted || view.base.number == promoted + 1);
        promoted = view.base.number;
        /* Whole: all files of the generation that it was made from, and of those before. */
        for (uint64_t g = 0; g < promoted; g++) {
            char name[32];
            snprintf(name, sizeof(name), "of-%llu-39", (unsigned long long)g);
            assert_true(has(&view, name));
            snprintf(name, sizeof(name), "of-%llu-0", (unsigned long long)g);
            assert_true(has(&view, name));
        }
        cache_view_close(&p->caches, &view);
    }
    print_message("killed %d of 100, promoted %d\n", (int)killed, (int)promoted);
}

static int hold(struct place *p, int fd)
{
    struct cache_view view = use(p, "c", true);
    write_in(&view, "mine", "mine");
    if (write(fd, "x", 1) != 1)
        return 1;
    for (;;)
        pause();
}

static void what_others_work_on_is_left_alone(void **state)
{
    struct place *p = *state;
    int fds[2], status;
    char byte;
    make(p, "c", "first");
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = spawn(p, hold, fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    caches_close(&p->caches);
    assert_int_equal(caches_open(&p->caches, p->home, NULL), 0);
    assert_int_equal(count_in(p, ".work"), 1);
    assert_int_equal(cache_remove(&p->caches, "c", NULL), -EBUSY);
    assert_int_equal(cache_remove(&p->caches, "c@1", NULL), -EBUSY);
    struct cache_sweep_result result;
    const struct cache_sweep_options all = {.by_age = true};
    assert_int_equal(cache_sweep(&p->caches, &all, &result, NULL), 0);
    assert_int_equal(result.generations, 0);
    _cleanup_json_ json_t *cache = cache_describe(&p->caches, "c", NULL);
    assert_true(json_is_true(
        json_object_get(json_array_get(json_object_get(cache, "generations"), 0), "in_use")));

    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    caches_close(&p->caches);
    assert_int_equal(caches_open(&p->caches, p->home, NULL), 0);
    assert_int_equal(count_in(p, ".work"), 0);
    assert_int_equal(cache_remove(&p->caches, "c", NULL), 0);
    close(fds[0]);
    close(fds[1]);
}

/* Where descriptors run out while debris is claimed. */
static void what_cannot_be_asked_about_is_in_use(void **state)
{
    struct place *p = *state;
    struct rlimit before, few;
    char path[PATH_MAX];
    struct cache_view view = use(p, "c", true);
    write_in(&view, "mine", "mine");
    for (int i = 0; i < 30; i++) {
        snprintf(path, sizeof(path), "%s/caches/.work/%d", p->home, i);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(0);
    close(next);
    caches_close(&p->caches); /* three descriptors less */
    few = before;
    few.rlim_cur = (rlim_t)next + 6;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    int r = caches_open(&p->caches, p->home, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(r, 0);
    assert_int_equal(access(view.changes, F_OK), 0);
    assert_true(count_in(p, ".work") > 1); /* or they did not run out */
    assert_int_equal(promote(p, &view).outcome, CACHE_PROMOTED);
    cache_view_close(&p->caches, &view);
}

/* ---- housekeeping ---- */

static void one_generation_can_be_taken_back(void **state)
{
    struct place *p = *state;
    struct cache_generation one = make(p, "c", "first");
    make(p, "c", "second");
    assert_int_equal(cache_remove(&p->caches, "c@3", NULL), -ENOENT);
    assert_int_equal(cache_remove(&p->caches, "c@2", NULL), 0);
    struct cache_view view = use(p, "c", true);
    assert_string_equal(view.base.id, one.id);
    /* The number comes again, the id does not. */
    write_in(&view, "other", "other");
    assert_int_equal(promote(p, &view).made.number, 2);
    cache_view_close(&p->caches, &view);
    assert_int_equal(cache_remove(&p->caches, "c@2", NULL), 0);
    assert_int_equal(cache_remove(&p->caches, "c@1", NULL), 0);
    assert_int_equal(count_in(p, "c"), -1);
    assert_int_equal(cache_remove(&p->caches, "c", NULL), -ENOENT);
    static const char *const bad[] = {"", "c@", "c@0", "c@01", "c@x", "c@1x", "../c", ".work", "@1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(cache_remove(&p->caches, bad[i], NULL), -EINVAL);
}

static void a_view_of_what_was_taken_back_is_superseded(void **state)
{
    struct place *p = *state;
    make(p, "c", "first");
    make(p, "c", "second");
    struct cache_view old = use(p, "c", true);
    write_in(&old, "x", "x");
    make(p, "c", "third");
    assert_int_equal(cache_remove(&p->caches, "c@3", NULL), 0);
    /* The second is current again: what was made of it may follow. */
    assert_int_equal(promote(p, &old).outcome, CACHE_PROMOTED);
    cache_view_close(&p->caches, &old);
}

static void sweeping_leaves_the_current_one(void **state)
{
    struct place *p = *state;
    struct cache_sweep_result result;
    const struct cache_sweep_options plain = {0}, dry = {.dry_run = true};
    make(p, "a", "1");
    make(p, "a", "2");
    make(p, "b", "1");
    assert_int_equal(cache_sweep(&p->caches, &dry, &result, NULL), 0);
    assert_int_equal(result.generations, 1);
    assert_int_equal(count_in(p, "a"), 2);
    assert_int_equal(cache_sweep(&p->caches, &plain, &result, NULL), 0);
    assert_int_equal(result.generations, 1);
    assert_true(result.freed_bytes > 0 && result.kept_bytes > 0);
    assert_int_equal(count_in(p, "a"), 1);
    struct cache_view view = use(p, "a", false);
    assert_true(has(&view, "1") && has(&view, "2"));
    cache_view_close(&p->caches, &view);
    assert_int_equal(count_in(p, ".work"), 0);
}

static void sweeping_by_age_takes_all_of_a_cache(void **state)
{
    struct place *p = *state;
    struct cache_sweep_result result;
    const struct cache_sweep_options old = {.by_age = true, .older_than_ns = 3600 * 1000000000ull};
    char path[PATH_MAX], dir[CACHE_DIR_BYTES];
    struct cache_generation a = make(p, "a", "1");
    make(p, "b", "1");
    cache_dir_name(&a, dir);
    snprintf(path, sizeof(path), "%s/caches/a/%s", p->home, dir);
    const struct timespec then[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
    json_decref(cache_list(&p->caches, NULL)); /* to look is not to use */
    json_decref(cache_describe(&p->caches, "a", NULL));
    assert_int_equal(cache_sweep(&p->caches, &old, &result, NULL), 0);
    assert_int_equal(result.generations, 1);
    assert_int_equal(count_in(p, "a"), -1);
    assert_int_equal(count_in(p, "b"), 1);
    /* To use it is to make it young. */
    struct cache_generation b = make(p, "b", "2");
    cache_dir_name(&b, dir);
    snprintf(path, sizeof(path), "%s/caches/b/%s", p->home, dir);
    assert_int_equal(utimensat(AT_FDCWD, path, then, 0), 0);
    struct cache_view view = use(p, "b", false);
    cache_view_close(&p->caches, &view);
    assert_int_equal(cache_sweep(&p->caches, &old, &result, NULL), 0);
    assert_int_equal(count_in(p, "b"), 1);
}

static json_int_t integer(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void sizes_count_a_file_once(void **state)
{
    struct place *p = *state;
    static char megabyte[1 << 20];
    memset(megabyte, 'x', sizeof(megabyte) - 1);
    struct cache_view view = use(p, "c", true);
    write_in(&view, "large", megabyte);
    promote(p, &view);
    cache_view_close(&p->caches, &view);
    make(p, "c", "small");
    _cleanup_json_ json_t *cache = cache_describe(&p->caches, "c", NULL),
                          *list = cache_list(&p->caches, NULL);
    assert_non_null(cache);
    json_t *generations = json_object_get(cache, "generations");
    json_t *second = json_array_get(generations, 0), *first = json_array_get(generations, 1);
    assert_int_equal(json_array_size(generations), 2);
    assert_true(json_is_true(json_object_get(second, "current")));
    assert_false(json_is_true(json_object_get(first, "current")));
    assert_int_equal(integer(second, "files"), 2);
    assert_true(integer(first, "bytes") >= 1 << 20 && integer(second, "bytes") >= 1 << 20);
    /* Both have it: it is none's own. */
    assert_true(integer(first, "own_bytes") < 1 << 18 && integer(second, "own_bytes") < 1 << 18);
    assert_true(integer(cache, "bytes") >= 1 << 20 && integer(cache, "bytes") < 3 << 19);
    assert_int_equal(json_array_size(list), 1);
    assert_int_equal(integer(json_array_get(list, 0), "bytes"), integer(cache, "bytes"));
    assert_int_equal(integer(json_array_get(list, 0), "generation"), 2);
    assert_null(cache_describe(&p->caches, "none", NULL));
}

static void strangers_in_the_directory_are_left_alone(void **state)
{
    struct place *p = *state;
    char path[PATH_MAX];
    make(p, "c", "1");
    snprintf(path, sizeof(path), "%s/caches/README", p->home);
    put(AT_FDCWD, path, "mine");
    snprintf(path, sizeof(path), "%s/caches/c/notes", p->home);
    put(AT_FDCWD, path, "mine");
    snprintf(path, sizeof(path), "%s/caches/link", p->home);
    assert_int_equal(symlink("/etc", path), 0);
    _cleanup_json_ json_t *list = cache_list(&p->caches, NULL);
    assert_int_equal(json_array_size(list), 1);
    struct cache_sweep_result result;
    const struct cache_sweep_options all = {.by_age = true};
    assert_int_equal(cache_sweep(&p->caches, &all, &result, NULL), 0);
    snprintf(path, sizeof(path), "%s/caches/README", p->home);
    assert_int_equal(access(path, F_OK), 0);
    /* A link in the place of a cache is none. */
    struct cache_view view;
    assert_true(cache_view_open(&p->caches, "link", true, &view, NULL) < 0);
    assert_int_equal(count_in(p, ".work"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_strict),
        cmocka_unit_test(only_what_was_made_is_a_generation),
        TEST(a_first_use_is_empty_and_makes_nothing),
        TEST(what_was_written_is_the_next_generation),
        TEST(nothing_written_makes_nothing),
        TEST(the_second_of_two_at_once_is_superseded),
        TEST(two_generations_stay_and_those_in_use),
        TEST(many_at_once_lose_nothing),
        TEST(whoever_is_killed_leaves_the_old_or_the_new),
        TEST(what_others_work_on_is_left_alone),
        TEST(what_cannot_be_asked_about_is_in_use),
        TEST(one_generation_can_be_taken_back),
        TEST(a_view_of_what_was_taken_back_is_superseded),
        TEST(sweeping_leaves_the_current_one),
        TEST(sweeping_by_age_takes_all_of_a_cache),
        TEST(sizes_count_a_file_once),
        TEST(strangers_in_the_directory_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
