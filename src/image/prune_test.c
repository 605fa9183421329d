/* SPDX-License-Identifier: Apache-2.0 */
#include "util/testing.h"

#include <errno.h>
#include <sys/stat.h>
#include <time.h>

#include "image/image.h"
#include "image/prune.h"
#include "image/testing_store.h"
#include "image/usage.h"
#include "image/verify.h"
#include "util/clock.h"

#define ROOT_BYTES 4096 /* of testing_image's */

static struct store store;

static int set_up(void **state)
{
    static struct testing_home home;
    home = testing_home_make();
    *state = &home;
    return store_open(&store, home.path, STORE_WRITE, NULL);
}

static int tear_down(void **state)
{
    store_close(&store);
    testing_home_remove(*state);
    return 0;
}

/* An image that was last used so many seconds ago. */
static void image(const char *name, const char *content, int64_t age)
{
    struct digest manifest;
    char root[STORE_ROOT_NAME_BYTES], hex[DIGEST_HEX_BYTES];
    assert_int_equal(testing_image(&store, name, content, &manifest), 0);
    const struct timespec times[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};
    assert_int_equal(utimensat(store.roots_fd, store_root_name(&manifest, root), times, 0), 0);
    assert_int_equal(utimensat(store.blobs_fd, digest_hex(&manifest, hex), times, 0), 0);
}

struct told {
    char names[200];
    uint64_t freed;
};

static void tell(void *opaque, const char *name, uint64_t freed)
{
    struct told *told = opaque;
    snprintf(told->names + strlen(told->names), sizeof(told->names) - strlen(told->names), "%s ", name);
    told->freed += freed;
}

static struct prune_result prune(struct prune_options options, const char *expected)
{
    struct prune_result result;
    struct dayfly_err err = {0};
    struct told told = {0};
    options.tell = tell;
    options.opaque = &told;
    if (image_prune(&store, &options, &result, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(told.names, expected);
    assert_int_equal(told.freed, result.freed_bytes);
    return result;
}

static size_t images(void)
{
    struct store_entry *entries;
    size_t count;
    assert_int_equal(store_entries(&store, &entries, &count, NULL), 0);
    free(entries);
    return count;
}

static void test_shared_files_count_once(void **state)
{
    (void)state;
    struct store_entry *entries;
    struct usage usage;
    size_t count;
    uint64_t own, shared, alone;
    image("a:latest", "same", 0);
    assert_int_equal(store_entries(&store, &entries, &count, NULL), 0);
    assert_int_equal(usage_read(&usage, &store, entries, count, NULL), 0);
    usage_of(&usage, 0, &alone, &shared);
    assert_true(alone > ROOT_BYTES);
    assert_int_equal(shared, 0);
    usage_finish(&usage);
    free(entries);

    image("b:latest", "same", 0);
    image("c:latest", "other", 0);
    assert_int_equal(store_entries(&store, &entries, &count, NULL), 0);
    assert_int_equal(usage_read(&usage, &store, entries, count, NULL), 0);
    usage_of(&usage, 0, &own, &shared);
    assert_int_equal(own, 0);
    assert_int_equal(shared, alone);
    usage_of(&usage, 2, &own, &shared);
    assert_true(own > ROOT_BYTES);
    assert_int_equal(shared, 0);
    const bool none[3] = {false}, one[3] = {true}, both[3] = {true, true};
    assert_int_equal(usage_total(&usage, none), alone + own);
    assert_int_equal(usage_total(&usage, one), alone + own);
    assert_int_equal(usage_total(&usage, both), own);
    usage_finish(&usage);
    free(entries);
}

static void test_by_age(void **state)
{
    (void)state;
    image("old:latest", "old", 1000);
    image("older:latest", "older", 2000);
    image("new:latest", "new", 10);
    prune((struct prune_options){0}, "");
    const struct prune_options options = {.by_age = true, .older_than_ns = 500 * NS_PER_S};
    struct prune_options dry = options;
    dry.dry_run = true;
    prune(dry, "older:latest old:latest ");
    assert_int_equal(images(), 3);
    struct prune_result result = prune(options, "older:latest old:latest ");
    assert_int_equal(images(), 1);
    assert_true(result.kept_bytes > ROOT_BYTES && result.kept_bytes < 2 * ROOT_BYTES);
    prune((struct prune_options){.by_age = true}, "new:latest ");
}

static void test_by_size(void **state)
{
    (void)state;
    image("a:latest", "a", 30);
    image("b:latest", "b", 20);
    image("c:latest", "c", 10);
    prune((struct prune_options){.by_size = true, .keep_bytes = 100 * ROOT_BYTES}, "");
    prune((struct prune_options){.by_size = true, .keep_bytes = 3 * ROOT_BYTES}, "a:latest ");
    prune((struct prune_options){.by_size = true}, "b:latest c:latest ");
    assert_int_equal(images(), 0);
}

static void test_what_is_used_stays(void **state)
{
    (void)state;
    struct image open;
    image("used:latest", "used", 3000);
    image("opened:latest", "opened", 2000);
    image("names:a", "names", 1000);
    image("names:b", "names", 1000);
    assert_int_equal(image_open(&store, "opened", &open, NULL, NULL), 0);
    image_finish(&open);
    assert_int_equal(image_open(&store, "used", &open, NULL, NULL), 0);
    prune((struct prune_options){.by_age = true, .older_than_ns = 100 * NS_PER_S}, "names:a ");
    assert_int_equal(images(), 2);
    prune((struct prune_options){.by_size = true}, "opened:latest ");
    image_finish(&open);
    prune((struct prune_options){.by_size = true}, "used:latest ");
}

static void count_faults(void *opaque, const char *name, const struct dayfly_err *fault)
{
    char *said = opaque;
    snprintf(said, 300, "%s %s", name, fault ? fault->msg : "ok");
}

static void damage(int dir_fd, const char *name, off_t at)
{
    assert_int_equal(fchmodat(dir_fd, name, 0644, 0), 0);
    int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "?", 1, at), 1);
    close(fd);
}

static void test_verify_sees_each_byte(void **state)
{
    (void)state;
    char said[300], root[STORE_ROOT_NAME_BYTES], hex[DIGEST_HEX_BYTES];
    struct digest manifest, layer;
    size_t damaged;
    assert_int_equal(testing_image(&store, "a:latest", "content", &manifest), 0);
    digest_of("content", 7, &layer);
    assert_int_equal(image_verify(&store, "a", count_faults, said, &damaged, NULL), 0);
    assert_int_equal(damaged, 0);
    assert_string_equal(said, "a:latest ok");
    assert_int_equal(image_verify(&store, "b", count_faults, said, &damaged, NULL), -ENOENT);

    damage(store.roots_fd, store_root_name(&manifest, root), 4095);
    assert_int_equal(image_verify(&store, NULL, count_faults, said, &damaged, NULL), 0);
    assert_int_equal(damaged, 1);
    assert_non_null(strstr(said, "has been removed"));
    assert_int_equal(faccessat(store.roots_fd, root, F_OK, 0), -1);

    damage(store.blobs_fd, digest_hex(&layer, hex), 6);
    assert_int_equal(image_verify(&store, NULL, count_faults, said, &damaged, NULL), 0);
    assert_int_equal(damaged, 1);
    assert_non_null(strstr(said, "layer 1, sha256:"));
    assert_int_equal(unlinkat(store.blobs_fd, hex, 0), 0);
    assert_int_equal(image_verify(&store, NULL, count_faults, said, &damaged, NULL), 0);
    assert_non_null(strstr(said, "is missing"));
    damage(store.blobs_fd, digest_hex(&manifest, hex), 0);
    assert_int_equal(image_verify(&store, NULL, count_faults, said, &damaged, NULL), 0);
    assert_int_equal(damaged, 1);
}

static void test_verify_leaves_a_root_that_is_used(void **state)
{
    (void)state;
    char said[300], root[STORE_ROOT_NAME_BYTES];
    struct digest manifest;
    struct image open;
    size_t damaged;
    assert_int_equal(testing_image(&store, "a:latest", "content", &manifest), 0);
    assert_int_equal(image_open(&store, "a", &open, NULL, NULL), 0);
    damage(store.roots_fd, store_root_name(&manifest, root), 4095);
    assert_int_equal(image_verify(&store, NULL, count_faults, said, &damaged, NULL), 0);
    assert_int_equal(damaged, 1);
    assert_non_null(strstr(said, "in use"));
    assert_int_equal(faccessat(store.roots_fd, root, F_OK, 0), 0);
    image_finish(&open);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_shared_files_count_once),
        TEST(test_by_age),
        TEST(test_by_size),
        TEST(test_what_is_used_stays),
        TEST(test_verify_sees_each_byte),
        TEST(test_verify_leaves_a_root_that_is_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
