/* SPDX-License-Identifier: Apache-2.0 */
/* What a hostile layer tries, and what is no layer. */
#include "image/testing_layers.h"

#include "util/arith.h"

/* ---- hostile layers ---- */

/* `link` would lead to a directory outside of the tree, with a file "victim". */
static void hostile_begin(struct fixture *f, char outside[100])
{
    char path[160];
    snprintf(outside, 100, "%s/outside", f->home.path);
    assert_int_equal(mkdir(outside, 0755), 0);
    snprintf(path, sizeof(path), "%s/victim", outside);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_int_equal(io_write_full(fd, "untouched", 9), 0);
    close(fd);
    layer(f);
    file(f, "good", "lower");
    symbolic(f, "link", outside);
    symbolic(f, "up", "..");
    symbolic(f, "to-file", "good");
    dir(f, "dir/dir");
    symbolic(f, "to-dir", "dir");
    symbolic(f, "circle", "circle");
    symbolic(f, "ping", "pong");
    symbolic(f, "pong", "./ping");
    symbolic(f, "grow", "grow/grow");
    layer(f);
}

static void hostile_file(struct fixture *f, const char *name)
{
    file(f, name, "hostile");
}

static void hostile_hard(struct fixture *f, const char *name)
{
    hard(f, "new", name);
}

static void hostile_dir(struct fixture *f, const char *name)
{
    dir(f, name);
}

static void hostile_root(struct fixture *f, const char *name)
{
    symbolic(f, name, "/etc");
}

/* Behind a link to sixteen directories, whose names are almost as long together as a path may be. */
static void hostile_long(struct fixture *f, const char *name)
{
    char target[PATH_MAX], full[NAME_MAX];
    memset(target, 'd', sizeof(target));
    for (size_t i = 255; i < sizeof(target); i += 256)
        target[i] = '/';
    target[PATH_MAX - 4] = '\0';
    symbolic(f, "long", target);
    snprintf(full, sizeof(full), "long/%s", name);
    file(f, full, "hostile");
}

static const struct {
    const char *what;
    void (*add)(struct fixture *f, const char *name);
    const char *name, *says;
} HOSTILE[] = {
    {"dotdot", hostile_file, "../outside/victim", "leads out of the image"},
    {"dotdot within", hostile_file, "a/../../outside/victim", "leads out of the image"},
    {"dotdot behind a link", hostile_file, "link/../outside/victim", "leads out of the image"},
    {"absolute dotdot", hostile_file, "/../outside/victim", "leads out of the image"},
    {"file behind a file", hostile_file, "good/x", "behind \"good\""},
    {"file behind a link to a file", hostile_file, "to-file/x", "behind \"good\""},
    {"directory behind a link to a file", hostile_dir, "to-file/x", "behind \"good\""},
    {"whiteout behind a link to a file", hostile_file, "to-file/.wh.x", "behind \"good\""},
    {"file behind a circle", hostile_file, "circle/x", "behind links"},
    {"file behind a circle of two", hostile_file, "ping/x", "behind links"},
    {"file behind a circle that grows", hostile_file, "grow/x", "behind links"},
    {"whiteout behind a circle", hostile_file, "circle/.wh.x", "behind links"},
    {"hard link behind a circle", hostile_hard, "circle/x", "behind links"},
    {"a link to what is too long", hostile_long, "name", "too long"},
    {"a link to what is longer still", hostile_long, "d/d/name", "too long"},
    {"whiteout of dotdot", hostile_file, "a/.wh...", "whiteout of no name"},
    {"whiteout of dot", hostile_file, "a/.wh..", "whiteout of no name"},
    {"whiteout of nothing", hostile_file, "a/.wh.", "whiteout of no name"},
    {"whiteout through dotdot", hostile_file, "../outside/.wh.victim", "leads out of the image"},
    {"hard link out", hostile_hard, "../outside/victim", "out of the image"},
    {"hard link behind a link out", hostile_hard, "link/victim", "not there"},
    {"hard link behind a link up", hostile_hard, "up/outside/victim", "not there"},
    {"hard link to nothing", hostile_hard, "etc/shadow", "not there"},
    {"hard link to the root", hostile_hard, "/", "out of the image"},
    {"hard link to a directory", hostile_hard, "to-dir/dir", "to the directory"},
    {"root as a link", hostile_root, ".", "root is not a directory"},
};

static void test_hostile_entries_are_refused(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(HOSTILE); i++) {
        struct fixture *f = *state;
        char outside[100], path[120], *text;
        size_t len;
        hostile_begin(f, outside);
        HOSTILE[i].add(f, HOSTILE[i].name);
        int rc = extract_within(f, NULL);
        if (rc != -EINVAL || !strstr(f->err.msg, HOSTILE[i].says) ||
            !strstr(f->err.msg, "layer 2 of 2"))
            fail_msg("%s: %d, %s", HOSTILE[i].what, rc, f->err.msg);
        snprintf(path, sizeof(path), "%s/victim", outside);
        assert_int_equal(io_read_file(AT_FDCWD, path, 100, &text, &len), 0);
        assert_string_equal(text, "untouched");
        free(text);
        tear_down_layers(state);
        set_up_layers(state);
    }
}

/* However a link leads out, a chroot's root is the end of it. */
static void test_links_out_of_the_image_stay_inside(void **state)
{
    struct fixture *f = *state;
    char outside[100], path[160], *text;
    size_t len;
    hostile_begin(f, outside);
    symbolic(f, "further", "../../../../../../../../../../..");
    file(f, "link/victim", "inside");
    file(f, "link/.wh.nothing", "");
    file(f, "up/x", "in the root");
    file(f, "further/y", "in the root");
    hard(f, "copy", "link/victim");
    dir(f, "link/dir");
    extract(f);
    has(f, "x", "in the root");
    has(f, "y", "in the root");
    has(f, "copy", "inside");
    snprintf(path, sizeof(path), "%s/victim", outside + 1);
    has(f, path, "inside");
    snprintf(path, sizeof(path), "%s/victim", outside);
    assert_int_equal(io_read_file(AT_FDCWD, path, 100, &text, &len), 0);
    assert_string_equal(text, "untouched");
    free(text);
}

/* What is left to do for a directory at the end of its layer is done to no other that has its name
 * then. */
static void test_a_directory_that_becomes_a_link_out(void **state)
{
    struct fixture *f = *state;
    char outside[100];
    struct stat before, after;
    hostile_begin(f, outside);
    assert_int_equal(lstat(outside, &before), 0);
    struct archive_entry *entry = entry_of("a/outside", AE_IFDIR);
    archive_entry_set_perm(entry, 0500);
    archive_entry_xattr_add_entry(entry, "user.note", "x", 1);
    put(f, entry, NULL);
    symbolic(f, "a", f->home.path);
    extract(f);
    assert_int_equal(lstat(outside, &after), 0);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_ctim.tv_sec, before.st_ctim.tv_sec);
    assert_int_equal(after.st_ctim.tv_nsec, before.st_ctim.tv_nsec);
}

static void test_an_absolute_name_is_below_the_root(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "/etc/passwd", "the image's");
    hard(f, "copy", "/etc/passwd");
    symbolic(f, "/absolute", "/etc/passwd");
    extract(f);
    has(f, "etc/passwd", "the image's");
    has(f, "copy", "the image's");
}

static void test_bombs_are_bounded_over_all_layers(void **state)
{
    struct fixture *f = *state;
    const struct layer_limits few = {.entries = 5, .bytes = 1 << 20};
    layer(f);
    for (int i = 0; i < 4; i++)
        file(f, "same", "x");
    layer(f);
    file(f, "a", "x");
    file(f, "b", "x");
    assert_int_equal(extract_within(f, &few), -EFBIG);
    assert_non_null(strstr(f->err.msg, "layer 2 of 2"));
    assert_non_null(strstr(f->err.msg, "more than 5 files"));
    tear_down_layers(state);
    set_up_layers(state);

    const struct layer_limits small = {.entries = 10, .bytes = 10};
    layer_by(f, ARCHIVE_FILTER_GZIP);
    file(f, "a", "123456");
    layer_by(f, ARCHIVE_FILTER_ZSTD);
    file(f, "b", "123456");
    assert_int_equal(extract_within(f, &small), -EFBIG);
    assert_non_null(strstr(f->err.msg, "content, at \"b\""));
}

/* Zeroes behind the end of the archive are the cheapest bomb: no entry counts them. */
static void test_a_bomb_behind_the_end(void **state)
{
    struct fixture *f = *state;
    const struct layer_limits small = {.entries = 4, .bytes = 1 << 20};
    layer(f);
    file(f, "a", "x");
    archive_write_close(f->archives[0]);
    assert_int_equal(ftruncate(f->fds[0], 8 << 20), 0);
    assert_int_equal(extract_within(f, &small), -EFBIG);
    assert_non_null(strstr(f->err.msg, "it unpacks to more than"));
}

static void test_whiteouts_of_deep_trees(void **state)
{
    struct fixture *f = *state;
    char deep[2000] = "d";
    while (strlen(deep) < 1990)
        strcat(deep, "/d");
    layer(f);
    file(f, deep, "lower");
    layer(f);
    strcpy(strrchr(deep, '/'), "/e");
    file(f, deep, "upper");
    file(f, ".wh..wh..opq", "");
    int rc = extract_within(f, NULL);
    /* Each level takes a descriptor: where there are too few it is refused, and that is all. */
    if (rc && rc != -EMFILE)
        fail_msg("%d: %s", rc, f->err.msg);
    if (rc == 0)
        has(f, deep, "upper");
}

/* ---- digests ---- */

static void test_digests_are_proved(void **state)
{
    struct fixture *f = *state;
    struct digest blob, diff, other = {{1}};
    struct layer_extracted out;
    struct dayfly_err err = {0};
    layer(f);
    file(f, "a", "x");
    layer_by(f, ARCHIVE_FILTER_GZIP);
    file(f, "a", "x");
    archive_write_close(f->archives[0]);
    archive_write_close(f->archives[1]);
    assert_int_equal(digest_of_fd(f->fds[0], &diff, NULL), 0);
    assert_int_equal(digest_of_fd(f->fds[1], &blob, NULL), 0);
    const struct {
        const struct digest *blob, *diff;
        const char *says;
    } cases[] = {
        {&blob, &diff, NULL},
        {&other, &diff, "another digest"},
        {&blob, &other, "does not unpack to sha256:01"},
    };
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdir(f->dir, 0755), 0);
    assert_int_equal(chdir(f->dir), 0);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const struct layer_source source = {f->fds[1], cases[i].blob, cases[i].diff};
        int rc = layer_extract(&source, 1, &LAYER_LIMITS, 0, geteuid() == 0, &out, &err);
        assert_int_equal(rc, cases[i].says ? -EBADMSG : 0);
        if (cases[i].says && !strstr(err.msg, cases[i].says))
            fail_msg("%s", err.msg);
    }
    /* A blob that is cut fails in gzip; what is wrong with it is its digest. */
    struct stat st;
    assert_int_equal(fstat(f->fds[1], &st), 0);
    assert_int_equal(ftruncate(f->fds[1], st.st_size / 2), 0);
    const struct layer_source source = {f->fds[1], &blob, &diff};
    assert_int_equal(layer_extract(&source, 1, &LAYER_LIMITS, 0, geteuid() == 0, &out, &err), -EBADMSG);
    assert_non_null(strstr(err.msg, "another digest"));
    assert_int_equal(fchdir(here), 0);
    close(here);
}

static void test_what_is_no_archive(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {"", "no archive, but long enough to be looked at", "PK\3\4",
                                        "\x1f\x8b\x08"};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        int fd = memfd_create("noise", MFD_CLOEXEC);
        struct dayfly_err err = {0};
        struct layer_extracted out;
        assert_int_equal(io_write_full(fd, texts[i], strlen(texts[i])), 0);
        const struct layer_source source = {.fd = fd};
        assert_true(layer_extract(&source, 1, &LAYER_LIMITS, 0, true, &out, &err) < 0);
        assert_non_null(strstr(err.msg, "layer 1 of 1"));
        close(fd);
    }
    (void)f;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LAYERS_TEST(test_hostile_entries_are_refused),
        LAYERS_TEST(test_links_out_of_the_image_stay_inside),
        LAYERS_TEST(test_a_directory_that_becomes_a_link_out),
        LAYERS_TEST(test_an_absolute_name_is_below_the_root),
        LAYERS_TEST(test_bombs_are_bounded_over_all_layers),
        LAYERS_TEST(test_a_bomb_behind_the_end),
        LAYERS_TEST(test_whiteouts_of_deep_trees),
        LAYERS_TEST(test_digests_are_proved),
        LAYERS_TEST(test_what_is_no_archive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
