/* SPDX-License-Identifier: Apache-2.0 */
#include "image/testing_layers.h"

#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "util/arith.h"

static struct store store;

static int set_up(void **state)
{
    static struct testing_home home;
    assert_int_equal(late_archive(NULL), 0);
    home = testing_home_make();
    *state = &home;
    assert_int_equal(store_open(&store, home.path, STORE_WRITE, NULL), 0);
    return 0;
}

static int tear_down(void **state)
{
    store_close(&store);
    testing_home_remove(*state);
    return 0;
}

/* ---- archives made by hand ---- */

struct tar {
    struct archive *archive;
    int fd;
};

static struct tar tar_begin(void)
{
    struct tar tar = {archive_write_new(), memfd_create("tar", MFD_CLOEXEC)};
    archive_write_set_format_pax(tar.archive);

    assert_int_equal(archive_write_open_fd(tar.archive, tar.fd), ARCHIVE_OK);
    return tar;
}

static void tar_add(struct tar *tar, const char *name, unsigned type, const char *target,
                    const char *data)
{
    struct archive_entry *entry = entry_of(name, type);
    if (type == AE_IFLNK)
        archive_entry_set_symlink(entry, target);
    else if (target)
        archive_entry_set_hardlink(entry, target);
    put_entry(tar->archive, entry, data);
}

static int tar_end(struct tar *tar)
{
    archive_write_free(tar->archive);
    lseek(tar->fd, 0, SEEK_SET);
    return tar->fd;
}

/* Make a layer of the archive; the caller discards it. */
static int to_layer(int fd, const struct layer_limits *limits, struct store_file *layer,
                    struct layer_facts *facts, struct dayfly_err *err)
{
    assert_int_equal(store_file_begin(&store, layer, NULL), 0);
    int rc = layer_write_from_archive(fd, limits, layer, facts, NULL, err);
    close(fd);
    return rc ? rc : store_file_finish(layer, false, err);
}

static int extract_into(const char *dir, int layer_fd, struct dayfly_err *err)
{
    struct layer_extracted extracted;
    const struct layer_source source = {.fd = layer_fd};
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(mkdir(dir, 0755), 0);
    assert_int_equal(chdir(dir), 0);
    int rc = layer_extract(&source, 1, &LAYER_LIMITS, 0, geteuid() == 0, &extracted, err);
    assert_int_equal(fchdir(here), 0);
    close(here);
    return rc;
}

/* ---- names ---- */

static void test_names_are_cleaned_or_refused(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"a/b", "a/b"},    {"./a/b/", "a/b"}, {"/a", "a"},      {"//a//./b", "a/b"},
        {".", ""},         {"./", ""},        {"", ""},         {"..a/b..", "..a/b.."},
        {"...", "..."},    {"..", NULL},      {"a/../b", NULL}, {"a/..", NULL},
        {"/../etc", NULL}, {"./..", NULL},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char name[32];
        strcpy(name, cases[i].in);
        assert_int_equal(layer_clean_name(name), cases[i].out != NULL);
        if (cases[i].out)
            assert_string_equal(name, cases[i].out);
    }
    char long_name[300];
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_false(layer_clean_name(long_name));
}

/* ---- hostile archives ---- */

static void refused_fd(int fd, int code, const char *why)
{
    struct store_file layer;
    struct layer_facts facts;
    struct dayfly_err err = {0};
    const struct layer_limits limits = {.entries = 10, .bytes = 1 << 20};
    int rc = to_layer(fd, &limits, &layer, &facts, &err);
    store_file_discard(&store, &layer);
    if (rc != -code || !strstr(err.msg, why))
        fail_msg("got %d (%s), expected %d (%s)", rc, err.msg, -code, why);
}

static void refused(struct tar *tar, int code, const char *why)
{
    refused_fd(tar_end(tar), code, why);
}

/* A ustar header by hand (libarchive would fill the file up on closing): 2^60 bytes, in base 256. */
static void add_huge_header(struct tar *tar)
{
    char header[512] = "huge";
    unsigned sum = 0;
    memcpy(header + 100, "0000644", 8);
    memcpy(header + 108, "0000000", 8);
    memcpy(header + 116, "0000000", 8);
    header[124] = (char)0x80;
    header[128] = 0x10;
    memcpy(header + 136, "00000000000", 12);
    memset(header + 148, ' ', 8);
    header[156] = '0';
    memcpy(header + 257, "ustar", 6);
    memcpy(header + 263, "00", 2);
    for (size_t i = 0; i < sizeof(header); i++)
        sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    assert_int_equal(io_write_full(tar->fd, header, sizeof(header)), 0);
}

static void test_hostile_names_and_sizes_are_refused(void **state)
{
    (void)state;
    struct tar tar = tar_begin();
    tar_add(&tar, "a/../../etc/passwd", AE_IFREG, NULL, "x");
    refused(&tar, EINVAL, "leads out of the image");

    tar = tar_begin();
    tar_add(&tar, "shadow", AE_IFREG, "../../etc/shadow", NULL);
    refused(&tar, EINVAL, "hard link");

    tar = tar_begin();
    tar_add(&tar, ".", AE_IFLNK, "/etc", NULL);
    refused(&tar, EINVAL, "root is not a directory");

    tar = tar_begin();
    for (int i = 0; i < 11; i++)
        tar_add(&tar, "same", AE_IFREG, NULL, "x");
    refused(&tar, EFBIG, "more than 10 files");

    /* A header that promises more than there is, and more than anybody may have. */
    tar = tar_begin();
    add_huge_header(&tar);
    refused(&tar, EFBIG, "content");

    int fd = memfd_create("noise", MFD_CLOEXEC);
    assert_int_equal(io_write_full(fd, "this is not an archive", 22), 0);
    lseek(fd, 0, SEEK_SET);
    struct store_file layer;
    struct layer_facts facts;
    struct dayfly_err err = {0};
    assert_true(to_layer(fd, &LAYER_LIMITS, &layer, &facts, &err) < 0);
    assert_non_null(strstr(err.msg, "not a tar archive"));
    store_file_discard(&store, &layer);
}

static void test_a_cut_archive_is_an_error(void **state)
{
    (void)state;
    struct tar tar = tar_begin();
    tar_add(&tar, "file", AE_IFREG, NULL, "some content that is cut in the middle");
    int fd = tar_end(&tar);
    /* A pax header and its data, the file's header and a few bytes of it. */
    assert_int_equal(ftruncate(fd, 3 * 512 + 10), 0);
    struct store_file layer;
    struct layer_facts facts;
    struct dayfly_err err = {0};
    assert_true(to_layer(fd, &LAYER_LIMITS, &layer, &facts, &err) < 0);
    store_file_discard(&store, &layer);
}

static void test_links_do_not_lead_out_of_the_tree(void **state)
{
    struct testing_home *home = *state;
    char outside[100], target[120], dir[100], inside[220];
    struct stat st;
    snprintf(outside, sizeof(outside), "%s/outside", home->path);
    snprintf(target, sizeof(target), "%s/victim", outside);
    snprintf(dir, sizeof(dir), "%s/tree", home->path);
    assert_int_equal(mkdir(outside, 0755), 0);
    struct tar tar = tar_begin();
    tar_add(&tar, "door", AE_IFLNK, outside, NULL);
    tar_add(&tar, "door/victim", AE_IFREG, NULL, "written through a link");
    int fd = tar_end(&tar);
    int copy = dup(fd);
    refused_fd(copy, EINVAL, "behind the symbolic link");
    /* A layer that was made elsewhere. */
    struct dayfly_err err = {0};
    if (extract_into(dir, fd, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(stat(target, &st), -1);
    snprintf(inside, sizeof(inside), "%s%s", dir, target);
    assert_int_equal(stat(inside, &st), 0);
    close(fd);
}

/* ---- what is kept ---- */

static void make_tree(const char *dir)
{
    char path[160], other[160];
    assert_int_equal(mkdir(dir, 0750), 0);
    snprintf(path, sizeof(path), "%s/sub", dir);
    assert_int_equal(mkdir(path, 0711), 0);
    snprintf(path, sizeof(path), "%s/sub/file", dir);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_int_equal(io_write_full(fd, "content", 7), 0);
    assert_int_equal(fchmod(fd, 04755), 0);
    fsetxattr(fd, "user.note", "kept", 4, 0);
    close(fd);
    snprintf(other, sizeof(other), "%s/another", dir);
    assert_int_equal(link(path, other), 0);
    snprintf(path, sizeof(path), "%s/link", dir);
    assert_int_equal(symlink("/nowhere/at all", path), 0);
    snprintf(path, sizeof(path), "%s/pipe", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    /* UTF-8, and a name that is not. */
    snprintf(path, sizeof(path), "%s/\xc3\xbcml\xc3\xa4ut", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/latin-\xfc", dir);
    assert_int_equal(mkdir(path, 0755), 0);
    struct timespec times[2] = {{.tv_sec = 5000}, {.tv_sec = 86400, .tv_nsec = 123}};
    snprintf(path, sizeof(path), "%s/sub/file", dir);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    snprintf(path, sizeof(path), "%s/sub", dir);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    times[1].tv_sec *= 2;
    assert_int_equal(utimensat(AT_FDCWD, dir, times, 0), 0);
}

static void dir_to_layer(const char *dir, struct store_file *layer, struct layer_facts *facts)
{
    struct dayfly_err err = {0};
    assert_int_equal(store_file_begin(&store, layer, NULL), 0);
    if (layer_write_from_dir(dir, &LAYER_LIMITS, layer, facts, NULL, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(store_file_finish(layer, false, NULL), 0);
}

static void test_a_tree_survives_the_way_there_and_back(void **state)
{
    struct testing_home *home = *state;
    char from[100], to[100], path[160], value[8];
    struct store_file layer;
    struct layer_facts facts;
    struct stat st, other;
    snprintf(from, sizeof(from), "%s/from", home->path);
    snprintf(to, sizeof(to), "%s/to", home->path);
    make_tree(from);
    dir_to_layer(from, &layer, &facts);
    assert_int_equal(facts.entries, 8);
    assert_int_equal(facts.bytes, 7);
    struct dayfly_err err = {0};
    if (extract_into(to, layer.fd, &err))
        fail_msg("%s", err.msg);
    store_file_discard(&store, &layer);

    assert_int_equal(stat(to, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0750);
    assert_int_equal(stat(from, &other), 0);
    assert_int_equal(st.st_mtim.tv_sec, other.st_mtim.tv_sec);
    snprintf(path, sizeof(path), "%s/sub", to);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0711);
    assert_int_equal(st.st_mtim.tv_sec, 86400);
    snprintf(path, sizeof(path), "%s/sub/file", to);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 04755);
    assert_int_equal(st.st_size, 7);
    assert_int_equal(st.st_nlink, 2);
    assert_int_equal(st.st_mtim.tv_sec, 86400);
    char original[160];
    snprintf(original, sizeof(original), "%s/sub/file", from);
    if (getxattr(original, "user.note", value, sizeof(value)) == 4)
        assert_int_equal(getxattr(path, "user.note", value, sizeof(value)), 4);
    snprintf(path, sizeof(path), "%s/another", to);
    assert_int_equal(stat(path, &other), 0);
    assert_int_equal(st.st_ino, other.st_ino);
    snprintf(path, sizeof(path), "%s/link", to);
    char target[32] = "";
    assert_int_equal(readlink(path, target, sizeof(target) - 1), 15);
    assert_string_equal(target, "/nowhere/at all");
    snprintf(path, sizeof(path), "%s/pipe", to);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    snprintf(path, sizeof(path), "%s/\xc3\xbcml\xc3\xa4ut", to);
    assert_int_equal(stat(path, &st), 0);
    snprintf(path, sizeof(path), "%s/latin-\xfc", to);
    assert_int_equal(stat(path, &st), 0);
}

static void test_the_same_tree_gives_the_same_bytes(void **state)
{
    struct testing_home *home = *state;
    char first[100], second[100];
    struct store_file a, b;
    struct layer_facts facts_a, facts_b;
    struct dayfly_err err = {0};
    snprintf(first, sizeof(first), "%s/first", home->path);
    snprintf(second, sizeof(second), "%s/second", home->path);
    make_tree(first);
    /* Files made at other moments, in another order; a copy has the same times. */
    dir_to_layer(first, &a, &facts_a);
    if (extract_into(second, a.fd, &err))
        fail_msg("%s", err.msg);
    dir_to_layer(second, &b, &facts_b);
    assert_true(digest_equal(&facts_a.diff_id, &facts_b.diff_id));
    assert_true(digest_equal(&a.digest, &b.digest));
    store_file_discard(&store, &a);
    store_file_discard(&store, &b);
}

/* The names in a layer, as they come. */
static void names_are(int fd, const char *expected)
{
    char names[1000] = "";
    struct archive *a = archive_read_new();
    struct archive_entry *entry;
    archive_read_support_filter_zstd(a);
    archive_read_support_format_tar(a);
    lseek(fd, 0, SEEK_SET);
    assert_int_equal(archive_read_open_fd(a, fd, 1 << 16), ARCHIVE_OK);
    while (archive_read_next_header(a, &entry) == ARCHIVE_OK) {
        strcat(names, archive_entry_pathname(entry));
        strcat(names, " ");
    }
    archive_read_free(a);
    assert_string_equal(names, expected);
}

static void test_directories_that_no_entry_mentions_are_always_the_same(void **state)
{
    struct testing_home *home = *state;
    char dir[100], path[160];
    struct stat st;
    snprintf(dir, sizeof(dir), "%s/tree", home->path);
    struct tar tar = tar_begin();
    tar_add(&tar, "a/b/file", AE_IFREG, NULL, "x");
    tar_add(&tar, "a", AE_IFDIR, NULL, NULL); /* late, but it counts */
    tar_add(&tar, "c/d/file", AE_IFREG, NULL, "x");
    tar_add(&tar, "c", AE_IFREG, NULL, "a file, after all");
    struct store_file layer;
    struct layer_facts facts;
    struct dayfly_err err = {0};
    if (to_layer(tar_end(&tar), &LAYER_LIMITS, &layer, &facts, &err) ||
        extract_into(dir, layer.fd, &err))
        fail_msg("%s", err.msg);
    names_are(layer.fd, "a/b/file a/ c/d/file c ./ a/b/ ");
    store_file_discard(&store, &layer);
    assert_int_equal(facts.entries, 6);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    snprintf(path, sizeof(path), "%s/a", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 1000);
    snprintf(path, sizeof(path), "%s/a/b", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mtim.tv_sec, 0);
}

static void test_devices_are_kept(void **state)
{
    struct testing_home *home = *state;
    char from[100], to[100], path[160];
    struct stat st;
    snprintf(from, sizeof(from), "%s/from", home->path);
    snprintf(to, sizeof(to), "%s/to", home->path);
    assert_int_equal(mkdir(from, 0755), 0);
    snprintf(path, sizeof(path), "%s/null", from);
    if (mknod(path, S_IFCHR | 0666, makedev(1, 3)) < 0)
        skip();
    assert_int_equal(chown(from, 1234, 70000), 0);
    struct store_file layer;
    struct layer_facts facts;
    struct dayfly_err err = {0};
    dir_to_layer(from, &layer, &facts);
    if (extract_into(to, layer.fd, &err))
        fail_msg("%s", err.msg);
    store_file_discard(&store, &layer);
    snprintf(path, sizeof(path), "%s/null", to);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(st.st_rdev, makedev(1, 3));
    assert_int_equal(stat(to, &st), 0);
    assert_int_equal(st.st_uid, 1234);
    assert_int_equal(st.st_gid, 70000);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_names_are_cleaned_or_refused),
        TEST(test_hostile_names_and_sizes_are_refused),
        TEST(test_a_cut_archive_is_an_error),
        TEST(test_links_do_not_lead_out_of_the_tree),
        TEST(test_a_tree_survives_the_way_there_and_back),
        TEST(test_the_same_tree_gives_the_same_bytes),
        TEST(test_directories_that_no_entry_mentions_are_always_the_same),
        TEST(test_devices_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
