/* SPDX-License-Identifier: Apache-2.0 */
#include "util/testing.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "image/image.h"
#include "image/testing_store.h"
#include "util/err.h"
#include "util/io.h"

static int set_up(void **state)
{
    static struct testing_home home;
    home = testing_home_make();
    *state = &home;
    return 0;
}

static int tear_down(void **state)
{
    testing_home_remove(*state);
    return 0;
}

static struct store open_store(void **state, enum store_mode mode)
{
    struct testing_home *home = *state;
    struct store store;
    struct dayfly_err err = {0};
    if (store_open(&store, home->path, mode, &err))
        fail_msg("%s", err.msg);
    return store;
}

static size_t names_in(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fdopendir(fd);
    size_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(dir)))
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* Every name leads to whole files, and to nothing else: what the store promises after any accident. */
static size_t check_store(struct store *store)
{
    struct store_entry *entries;
    size_t count;
    struct dayfly_err err = {0};
    assert_int_equal(store_lock_shared(store, &err), 0);
    if (store_entries(store, &entries, &count, &err))
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < count; i++) {
        char *text, root[STORE_ROOT_NAME_BYTES];
        size_t len;
        struct oci_manifest manifest;
        struct digest digest;
        uint64_t size;
        if (store_blob_read(store, &entries[i].manifest, &text, &len, &err) ||
            oci_manifest_parse(text, len, &manifest, &err))
            fail_msg("%s: %s", entries[i].name, err.msg);
        free(text);
        if (store_blob_read(store, &manifest.config.digest, &text, &len, &err))
            fail_msg("%s: %s", entries[i].name, err.msg);
        free(text);
        char hex[DIGEST_HEX_BYTES];
        int fd =
            openat(store->blobs_fd, digest_hex(&manifest.layers[0].digest, hex), O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(digest_of_fd(fd, &digest, &size), 0);
        assert_true(digest_equal(&digest, &manifest.layers[0].digest));
        close(fd);
        oci_manifest_finish(&manifest);
        fd = openat(store->roots_fd, store_root_name(&entries[i].manifest, root), O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(digest_of_fd(fd, &digest, &size), 0);
        assert_true(entries[i].has_root);
        assert_true(digest_equal(&digest, &entries[i].root));
        assert_int_equal(size, entries[i].root_bytes);
        close(fd);
    }
    store_unlock(store);
    free(entries);
    return count;
}

static void test_an_added_image_opens(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    struct image image;
    struct dayfly_err err = {0};
    struct digest manifest;
    char text[DIGEST_STR_BYTES];
    assert_int_equal(testing_image(&store, "tools:latest", "one", &manifest), 0);
    if (image_open(&store, "tools", &image, NULL, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(image.name, "tools:latest");
    assert_string_equal(image.manifest_digest, digest_str(&manifest, text));
    assert_int_equal(image.root_bytes, 4096);
    assert_string_equal(image.config.env[0], "A=one");
    assert_null(image.config.env[1]);
    assert_string_equal(image.config.cmd[1], "-l");
    assert_null(image.config.entrypoint[0]);
    assert_string_equal(image.config.user, "me");
    assert_string_equal(image.config.working_dir, "");
    image_finish(&image);
    assert_int_equal(image_open(&store, text, &image, NULL, &err), 0);
    image_finish(&image);
    store_close(&store);
}

static void test_an_unknown_name_gets_the_nearest(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    struct image image;
    struct dayfly_err err = {0};
    assert_int_equal(image_open(&store, "debian", &image, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "image build"));
    assert_int_equal(testing_image(&store, "debian:latest", "one", NULL), 0);
    assert_int_equal(image_open(&store, "debain", &image, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "did you mean \"debian\""));
    assert_int_equal(image_open(&store, "../etc", &image, NULL, &err), -EINVAL);
    store_close(&store);
}

static void test_a_new_image_replaces_the_old_content(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    assert_int_equal(testing_image(&store, "tools:latest", "one", NULL), 0);
    assert_int_equal(testing_image(&store, "tools:latest", "two", NULL), 0);
    assert_int_equal(check_store(&store), 1);
    assert_int_equal(names_in(store.blobs_fd), 3);
    assert_int_equal(names_in(store.roots_fd), 1);
    store_close(&store);
}

static void test_remove_leaves_what_another_name_needs(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    struct oci_ref ref;
    assert_int_equal(testing_image(&store, "a:latest", "same", NULL), 0);
    assert_int_equal(testing_image(&store, "b:1.0", "same", NULL), 0);
    assert_int_equal(oci_ref_parse("a", &ref, NULL), 0);
    assert_int_equal(store_remove(&store, &ref, NULL), 0);
    assert_int_equal(check_store(&store), 1);
    assert_int_equal(store_remove(&store, &ref, NULL), -ENOENT);
    assert_int_equal(oci_ref_parse("b:1.0", &ref, NULL), 0);
    assert_int_equal(store_remove(&store, &ref, NULL), 0);
    assert_int_equal(names_in(store.blobs_fd), 0);
    assert_int_equal(names_in(store.roots_fd), 0);
    store_close(&store);
}

static void test_an_image_in_use_stays(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    struct image image;
    struct oci_ref ref;
    struct dayfly_err err = {0};
    assert_int_equal(testing_image(&store, "tools:latest", "one", NULL), 0);
    assert_int_equal(image_open(&store, "tools", &image, NULL, NULL), 0);
    assert_int_equal(oci_ref_parse("tools", &ref, NULL), 0);
    assert_int_equal(store_remove(&store, &ref, &err), -EBUSY);
    assert_non_null(strstr(err.msg, "in use"));
    assert_int_equal(check_store(&store), 1);

    /* Its name may move on; the root stays until the sandbox is done. */
    assert_int_equal(testing_image(&store, "tools:latest", "two", NULL), 0);
    assert_int_equal(names_in(store.roots_fd), 2);
    image_finish(&image);
    struct store again = open_store(state, STORE_WRITE);
    assert_int_equal(names_in(store.roots_fd), 1);
    store_close(&again);
    assert_int_equal(store_remove(&store, &ref, &err), 0);
    store_close(&store);
}

/* Overwrite a file of the store, as a failing disk would. */
static void damage(int dir_fd, const char *name)
{
    assert_int_equal(fchmodat(dir_fd, name, 0644, 0), 0);
    int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "X", 1, 0), 1);
    close(fd);
}

static void test_damage_is_seen_and_an_import_repairs_it(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    struct image image;
    struct digest manifest;
    struct dayfly_err err = {0};
    char name[STORE_ROOT_NAME_BYTES];
    assert_int_equal(testing_image(&store, "tools:latest", "one", &manifest), 0);
    damage(store.blobs_fd, digest_hex(&manifest, name));
    assert_int_equal(image_open(&store, "tools", &image, NULL, &err), -EBADMSG);
    assert_non_null(strstr(err.msg, "damaged"));
    assert_non_null(strstr(err.msg, "pull it again"));
    assert_int_equal(testing_image(&store, "tools:latest", "one", &manifest), 0);
    assert_int_equal(check_store(&store), 1);

    assert_int_equal(fchmodat(store.roots_fd, store_root_name(&manifest, name), 0644, 0), 0);
    int fd = openat(store.roots_fd, name, O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 100), 0);
    close(fd);
    assert_int_equal(image_open(&store, "tools", &image, NULL, &err), -EBADMSG);
    assert_non_null(strstr(err.msg, "100 bytes instead of 4096"));
    assert_int_equal(testing_image(&store, "tools:latest", "one", &manifest), 0);
    assert_int_equal(image_open(&store, "tools", &image, NULL, &err), 0);
    image_finish(&image);
    store_close(&store);
}

static void test_a_damaged_index_is_an_error_and_loses_nothing(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    struct dayfly_err err = {0};
    assert_int_equal(testing_image(&store, "tools:latest", "one", NULL), 0);
    damage(store.images_fd, "index.json");
    store_close(&store);
    store = open_store(state, STORE_WRITE);
    assert_int_equal(names_in(store.blobs_fd), 3);
    struct image image;
    assert_true(image_open(&store, "tools", &image, NULL, &err) < 0);
    assert_non_null(strstr(err.msg, "index.json is damaged"));
    store_close(&store);
}

static void test_foreign_entries_are_kept(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    assert_int_equal(testing_image(&store, "a:latest", "one", NULL), 0);
    char *text;
    size_t len;
    assert_int_equal(io_read_file(store.images_fd, "index.json", 1 << 20, &text, &len), 0);
    json_t *index = json_loads(text, 0, NULL);
    free(text);
    json_t *entry = json_array_get(json_object_get(index, "manifests"), 0);
    json_object_set_new(json_object_get(entry, "annotations"), "org.example", json_string("kept"));
    json_object_set_new(index, "annotations", json_pack("{s:s}", "org.example", "kept as well"));
    text = json_dumps(index, 0);
    int fd = openat(store.images_fd, "index.json", O_WRONLY | O_TRUNC | O_CLOEXEC);
    assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
    close(fd);
    free(text);
    json_decref(index);

    assert_int_equal(testing_image(&store, "b:latest", "two", NULL), 0);
    assert_int_equal(io_read_file(store.images_fd, "index.json", 1 << 20, &text, &len), 0);
    assert_non_null(strstr(text, "\"kept\""));
    assert_non_null(strstr(text, "\"kept as well\""));
    free(text);
    store_close(&store);
}

static void test_dead_temporaries_go_and_live_ones_stay(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    char name[40];
    int held = store_temp_dir(&store, name, NULL);
    assert_true(held >= 0);
    assert_int_equal(mkdirat(store.tmp_fd, "tmp-dead", 0700), 0);
    assert_int_equal(mkdirat(store.tmp_fd, "tmp-dead/deeper", 0700), 0);
    assert_int_equal(symlinkat("/etc", store.tmp_fd, "tmp-dead/deeper/link"), 0);
    close(openat(store.tmp_fd, "tmp-file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(symlinkat("/etc/passwd", store.tmp_fd, "tmp-link"), 0);
    close(openat(store.tmp_fd, "stranger", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    struct store again = open_store(state, STORE_WRITE);
    assert_int_equal(names_in(store.tmp_fd), 2);
    assert_int_equal(faccessat(store.tmp_fd, name, F_OK, 0), 0);
    assert_int_equal(access("/etc/passwd", F_OK), 0);
    close(held);
    store_close(&again);
    again = open_store(state, STORE_WRITE);
    assert_int_equal(names_in(store.tmp_fd), 1);
    store_close(&again);
    store_close(&store);
}

static void test_a_tag_is_one_more_name(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    struct oci_ref ref;
    struct store_entry entry;
    struct digest one;
    assert_int_equal(testing_image(&store, "a:latest", "one", &one), 0);
    assert_int_equal(testing_image(&store, "b:latest", "two", NULL), 0);
    assert_int_equal(oci_ref_parse("a", &ref, NULL), 0);
    /* A new name, one that another image had, and its own. */
    assert_int_equal(store_tag(&store, &ref, "c:latest", NULL), 0);
    assert_int_equal(store_tag(&store, &ref, "b:latest", NULL), 0);
    assert_int_equal(store_tag(&store, &ref, "a:latest", NULL), 0);
    assert_int_equal(check_store(&store), 3);
    assert_int_equal(names_in(store.roots_fd), 1);
    assert_int_equal(oci_ref_parse("b", &ref, NULL), 0);
    assert_int_equal(store_find(&store, &ref, &entry, NULL), 0);
    assert_true(digest_equal(&entry.manifest, &one));
    assert_true(entry.has_root);
    assert_int_equal(oci_ref_parse("nothing", &ref, NULL), 0);
    assert_int_equal(store_tag(&store, &ref, "d:latest", NULL), -ENOENT);
    store_close(&store);
}

static void put(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(io_write_full(fd, name, strlen(name)), 0);
    close(fd);
}

static void test_what_a_killed_pull_left_is_taken_over(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    struct digest key = {{1}}, other = {{2}};
    char name[STORE_STAGING_BYTES], blob[80], other_name[STORE_STAGING_BYTES];
    assert_int_equal(testing_image(&store, "a:latest", "one", NULL), 0);
    int fd = store_staging_open(&store, &key, name, NULL, NULL, NULL);
    assert_true(fd >= 0);
    assert_int_equal(mkdirat(fd, "blobs", 0700), 0);
    assert_int_equal(mkdirat(fd, STORE_STAGING_BLOBS, 0700), 0);
    int blobs = openat(fd, STORE_STAGING_BLOBS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* The layer alone. */
    assert_int_equal(store_layers_link(&store, blobs, NULL), 0);
    assert_int_equal(names_in(blobs), 1);
    put(blobs, "fetched");
    assert_int_equal(store_staging_bytes(fd), strlen("one") + strlen("fetched"));
    /* While it is held nobody touches it. */
    struct store again = open_store(state, STORE_WRITE);
    assert_int_equal(names_in(blobs), 2);
    assert_int_equal(store_lock_exclusive(&again, NULL), 0);
    assert_int_equal(store_sweep_staging(&again), 0);
    store_unlock(&again);
    store_close(&again);
    /* Killed: what was fetched stays, what was the store's does not. */
    close(fd);
    again = open_store(state, STORE_WRITE);
    store_close(&again);
    assert_int_equal(names_in(blobs), 1);
    /* Killed just before it was to enter the store, with a layer that nobody has let go of since. */
    assert_int_equal(fchmodat(blobs, "fetched", 0444, 0), 0);
    assert_int_equal(store_layers_link(&store, blobs, NULL), 0);
    fd = store_staging_open(&store, &key, other_name, NULL, NULL, NULL);
    assert_true(fd >= 0);
    assert_string_equal(name, other_name);
    snprintf(blob, sizeof(blob), "%s/fetched", STORE_STAGING_BLOBS);
    struct stat st;
    assert_int_equal(fstatat(fd, blob, &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(names_in(blobs), 1);
    /* One that has nothing goes as a whole. */
    int empty = store_staging_open(&store, &other, other_name, NULL, NULL, NULL);
    store_staging_leave(&store, empty, other_name);
    close(empty);
    assert_int_equal(names_in(store.tmp_fd), 1);
    /* A day later, so does the other. */
    const struct timespec old[2] = {{.tv_sec = time(NULL) - STORE_STAGING_SECONDS - 1},
                                    {.tv_sec = time(NULL) - STORE_STAGING_SECONDS - 1}};
    assert_int_equal(futimens(fd, old), 0);
    close(fd);
    close(blobs);
    again = open_store(state, STORE_WRITE);
    store_close(&again);
    assert_int_equal(names_in(store.tmp_fd), 0);
    store_close(&store);
}

static void test_an_adopted_file_is_another_name_for_the_same(void **state)
{
    struct store store = open_store(state, STORE_WRITE);
    struct store_file file = {0};
    struct digest digest = {{3}};
    assert_int_equal(mkdirat(store.home_fd, "elsewhere", 0700), 0);
    int dir = openat(store.home_fd, "elsewhere", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    put(dir, "blob");
    assert_int_equal(symlinkat("blob", dir, "link"), 0);
    assert_int_equal(store_file_adopt(&store, &file, dir, "blob", &digest, NULL), 0);
    assert_int_equal(file.size, 4);
    /* A sweep of somebody else's leaves it alone. */
    struct store again = open_store(state, STORE_WRITE);
    store_close(&again);
    assert_int_equal(store_file_commit(&store, &file, store.blobs_fd, "taken", NULL), 0);
    store_file_discard(&store, &file);
    assert_int_equal(store_file_adopt(&store, &file, dir, "link", &digest, NULL), -ELOOP);
    store_file_discard(&store, &file);
    assert_int_equal(store_file_adopt(&store, &file, store.home_fd, "elsewhere", &digest, NULL),
                     -EINVAL);
    store_file_discard(&store, &file);
    assert_int_equal(names_in(store.tmp_fd), 0);
    assert_int_equal(names_in(dir), 2);
    close(dir);
    store_close(&store);
}

#define WRITERS 4
#define ROUNDS  12

static void test_processes_add_at_once(void **state)
{
    struct testing_home *home = *state;
    pid_t pids[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        pids[w] = fork();
        if (pids[w] == 0) {
            struct store store;
            int rc = store_open(&store, home->path, STORE_WRITE, NULL);
            for (int i = 0; !rc && i < ROUNDS; i++) {
                char name[40], own[40];
                snprintf(name, sizeof(name), "shared%d:latest", i);
                snprintf(own, sizeof(own), "own%d:%d", i, w);
                /* The same content under the same name by all, and under a name of one's own. */
                rc = testing_image(&store, name, name, NULL);
                if (!rc)
                    rc = testing_image(&store, own, name, NULL);
            }
            _exit(rc ? 1 : 0);
        }
    }
    for (int w = 0; w < WRITERS; w++) {
        int status;
        assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
        assert_int_equal(status, 0);
    }
    struct store store = open_store(state, STORE_READ);
    assert_int_equal(check_store(&store), ROUNDS + ROUNDS * WRITERS);
    assert_int_equal(names_in(store.blobs_fd), 3 * ROUNDS);
    assert_int_equal(names_in(store.roots_fd), ROUNDS);
    assert_int_equal(names_in(store.tmp_fd), 0);
    store_close(&store);
}

/* Add, replace and remove without end. */
static void churn(const char *home)
{
    struct store store;
    for (unsigned i = 0;; i++) {
        char name[40], content[40];
        struct oci_ref ref;
        if (store_open(&store, home, STORE_WRITE, NULL))
            _exit(1);
        snprintf(name, sizeof(name), "image%u:latest", i % 5);
        snprintf(content, sizeof(content), "content %u", i % 7);
        if (testing_image(&store, name, content, NULL))
            _exit(2);
        if (i % 3 == 2 && (oci_ref_parse(name, &ref, NULL) || store_remove(&store, &ref, NULL)))
            _exit(3);
        store_close(&store);
    }
}

static void test_a_kill_at_any_moment_breaks_nothing(void **state)
{
    struct testing_home *home = *state;
    unsigned seed = (unsigned)time(NULL);
    const char *fixed = getenv("DAYFLY_TEST_SEED");
    if (fixed)
        seed = (unsigned)strtoul(fixed, NULL, 10);
    print_message("DAYFLY_TEST_SEED=%u\n", seed);
    for (int round = 0; round < 60; round++) {
        pid_t pid = fork();
        if (pid == 0)
            churn(home->path);
        /* No synchronisation: the moment of the kill is what is varied. */
        struct timespec moment = {.tv_nsec = rand_r(&seed) % 20000000};
        nanosleep(&moment, NULL);
        int status;
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        struct store store = open_store(state, STORE_WRITE);
        size_t count = check_store(&store);
        assert_int_equal(names_in(store.tmp_fd), 0);
        assert_in_range(names_in(store.blobs_fd), count ? 3 : 0, 3 * count);
        assert_in_range(names_in(store.roots_fd), count ? 1 : 0, count);
        store_close(&store);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_added_image_opens),
        TEST(test_an_unknown_name_gets_the_nearest),
        TEST(test_a_new_image_replaces_the_old_content),
        TEST(test_remove_leaves_what_another_name_needs),
        TEST(test_an_image_in_use_stays),
        TEST(test_damage_is_seen_and_an_import_repairs_it),
        TEST(test_a_damaged_index_is_an_error_and_loses_nothing),
        TEST(test_foreign_entries_are_kept),
        TEST(test_dead_temporaries_go_and_live_ones_stay),
        TEST(test_a_tag_is_one_more_name),
        TEST(test_what_a_killed_pull_left_is_taken_over),
        TEST(test_an_adopted_file_is_another_name_for_the_same),
        TEST(test_processes_add_at_once),
        TEST(test_a_kill_at_any_moment_breaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
