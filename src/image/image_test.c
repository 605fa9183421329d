/* SPDX-License-Identifier: Apache-2.0 */
/* From a tree to a root file system and back, with the real mkfs.erofs; skipped where it is missing. */
#include "image/image.h"

#include "util/testing.h"

#include <errno.h>
#include <sys/stat.h>

#include "image/testing_store.h"
#include "util/io.h"

struct fixture {
    struct testing_home home;
    struct store store;
    char tree[100];
};

static int set_up(void **state)
{
    static struct fixture f;
    char path[128];
    f.home = testing_home_make();
    snprintf(f.tree, sizeof(f.tree), "%s/tree", f.home.path);
    snprintf(path, sizeof(path), "%s/data", f.home.path);
    assert_int_equal(store_open(&f.store, path, STORE_WRITE, NULL), 0);
    assert_int_equal(mkdir(f.tree, 0755), 0);
    snprintf(path, sizeof(path), "%s/hello", f.tree);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_int_equal(io_write_full(fd, "hello, image\n", 13), 0);
    close(fd);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    store_close(&f->store);
    testing_home_remove(&f->home);
    return 0;
}

static void need_tools(void)
{
    if (access("/usr/bin/mkfs.erofs", X_OK) < 0)
        skip();
}

static void import(struct fixture *f, const char *name, char digest[DIGEST_STR_BYTES])
{
    static const char *const cmd[] = {"/hello", NULL};
    const struct image_config config = {.cmd = cmd, .comment = "test", .epoch = 0};
    struct dayfly_err err = {0};
    if (image_import(&f->store, name, f->tree, -1, &config, digest, NULL, &err)) {
        if (strstr(err.msg, "subordinate ids"))
            skip(); /* a user without them */
        fail_msg("%s", err.msg);
    }
}

static struct image open_image(struct fixture *f, const char *name)
{
    struct image image;
    struct dayfly_err err = {0};
    if (image_open(&f->store, name, &image, NULL, &err))
        fail_msg("%s", err.msg);
    return image;
}

static bool contains(int fd, const char *text)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    char *bytes = malloc((size_t)st.st_size);
    assert_int_equal(io_pread_full(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    bool found = memmem(bytes, (size_t)st.st_size, text, strlen(text)) != NULL;
    free(bytes);
    return found;
}

static void test_the_same_tree_is_the_same_image(void **state)
{
    struct fixture *f = *state;
    char first[DIGEST_STR_BYTES], second[DIGEST_STR_BYTES];
    need_tools();
    import(f, "one", first);
    import(f, "two", second);
    assert_string_equal(first, second);
    struct image one = open_image(f, "one");
    assert_string_equal(one.manifest_digest, first);
    assert_string_equal(one.config.cmd[0], "/hello");
    assert_true(contains(one.root_fd, "hello, image\n"));
    image_finish(&one);
}

static void test_a_lost_root_is_made_again_the_same(void **state)
{
    struct fixture *f = *state;
    char digest[DIGEST_STR_BYTES], root[DIGEST_STR_BYTES], name[STORE_ROOT_NAME_BYTES];
    struct digest manifest;
    need_tools();
    import(f, "one", digest);
    struct image image = open_image(f, "one");
    memcpy(root, image.root_digest, sizeof(root));
    image_finish(&image);
    assert_true(digest_parse(digest, &manifest));
    assert_int_equal(unlinkat(f->store.roots_fd, store_root_name(&manifest, name), 0), 0);
    image = open_image(f, "one");
    assert_string_equal(image.root_digest, root);
    image_finish(&image);
}

static void test_a_damaged_layer_makes_no_root(void **state)
{
    struct fixture *f = *state;
    char digest[DIGEST_STR_BYTES], name[STORE_ROOT_NAME_BYTES];
    struct digest manifest;
    struct oci_manifest m;
    struct dayfly_err err = {0};
    need_tools();
    import(f, "one", digest);
    assert_true(digest_parse(digest, &manifest));
    char *text;
    size_t len;
    assert_int_equal(store_blob_read(&f->store, &manifest, &text, &len, &err), 0);
    assert_int_equal(oci_manifest_parse(text, len, &m, &err), 0);
    free(text);
    char hex[DIGEST_HEX_BYTES];
    digest_hex(&m.layers[0].digest, hex);
    oci_manifest_finish(&m);
    assert_int_equal(fchmodat(f->store.blobs_fd, hex, 0644, 0), 0);
    int fd = openat(f->store.blobs_fd, hex, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "X", 1, 20), 1);
    close(fd);
    assert_int_equal(unlinkat(f->store.roots_fd, store_root_name(&manifest, name), 0), 0);
    struct image image;
    assert_int_equal(image_open(&f->store, "one", &image, NULL, &err), -EBADMSG);
    assert_non_null(strstr(err.msg, "layer 1 of 1, sha256:"));
    assert_int_equal(faccessat(f->store.roots_fd, name, F_OK, 0), -1);
}

static void test_what_cannot_be_imported(void **state)
{
    struct fixture *f = *state;
    const struct image_config config = {.comment = "test"};
    struct dayfly_err err = {0};
    assert_int_equal(image_import(&f->store, "a", "/does/not/exist", -1, &config, NULL, NULL, &err),
                     -ENOENT);
    assert_non_null(strstr(err.msg, "/does/not/exist"));
    assert_int_equal(image_import(&f->store, "A B", f->tree, -1, &config, NULL, NULL, &err), -EINVAL);
    assert_true(image_import(&f->store, "a", "/dev/null", -1, &config, NULL, NULL, &err) < 0);
    setenv("SOURCE_DATE_EPOCH", "yesterday", 1);
    int64_t epoch;
    assert_int_equal(image_epoch(0, &epoch, &err), -EINVAL);
    unsetenv("SOURCE_DATE_EPOCH");
    assert_int_equal(image_epoch(7, &epoch, &err), 0);
    assert_int_equal(epoch, 7);
}

static void test_an_unknown_image_is_told_how_to_get(void **state)
{
    struct fixture *f = *state;
    struct image image;
    struct dayfly_err err = {0};
    assert_int_equal(image_open(&f->store, "nope", &image, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "there is no image \"nope\"; `dayfly image pull REF`"));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_same_tree_is_the_same_image),     TEST(test_a_lost_root_is_made_again_the_same),
        TEST(test_a_damaged_layer_makes_no_root),       TEST(test_what_cannot_be_imported),
        TEST(test_an_unknown_image_is_told_how_to_get),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
