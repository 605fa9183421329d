/* SPDX-License-Identifier: Apache-2.0 */
/* Several layers over one another. */
#include "image/testing_layers.h"

#include <dirent.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static void test_whiteouts_take_away_what_is_below(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "a/file", "lower");
    file(f, "a/tree/deep/er", "lower");
    file(f, "a/stays", "lower");
    symbolic(f, "a/link", "stays");
    layer_by(f, ARCHIVE_FILTER_GZIP);
    file(f, "a/.wh.file", "");
    file(f, "a/.wh.tree", "");
    file(f, "a/.wh.link", "");
    file(f, "a/.wh.never-was", "");
    file(f, "nowhere/.wh.never-was", "");
    extract(f);
    is_gone(f, "a/file");
    is_gone(f, "a/tree");
    is_gone(f, "a/link");
    is_gone(f, "nowhere");
    is_gone(f, "a/.wh.file");
    has(f, "a/stays", "lower");
}

static void test_whiteouts_spare_their_own_layer(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "dir/lower", "lower");
    file(f, "dir/both", "lower");
    file(f, "dir/sub/lower", "lower");
    layer_by(f, ARCHIVE_FILTER_ZSTD);
    file(f, "dir/both", "upper");
    file(f, "dir/sub/upper", "upper");
    file(f, "dir/.wh.both", "");
    file(f, ".wh.dir", "");
    extract(f);
    has(f, "dir/both", "upper");
    has(f, "dir/sub/upper", "upper");
    is_gone(f, "dir/lower");
    is_gone(f, "dir/sub/lower");
}

static void test_an_opaque_directory_hides_what_is_below(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "dir/lower", "lower");
    file(f, "dir/sub/lower", "lower");
    file(f, "beside", "lower");
    layer(f);
    file(f, "dir/before", "upper");
    file(f, "dir/sub/upper", "upper");
    file(f, "dir/.wh..wh..opq", "");
    file(f, "dir/behind", "upper");
    extract(f);
    is_gone(f, "dir/lower");
    is_gone(f, "dir/sub/lower");
    is_gone(f, "dir/.wh..wh..opq");
    has(f, "dir/before", "upper");
    has(f, "dir/behind", "upper");
    has(f, "dir/sub/upper", "upper");
    has(f, "beside", "lower");
}

static void test_the_root_may_be_opaque(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "lower", "lower");
    dir(f, "dir/dir");
    layer(f);
    file(f, ".wh..wh..opq", "");
    file(f, ".wh..wh.plnk", "aufs's own");
    file(f, "upper", "upper");
    extract(f);
    is_gone(f, "lower");
    is_gone(f, "dir");
    is_gone(f, ".wh..wh.plnk");
    has(f, "upper", "upper");
}

static void test_anything_replaces_anything(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "dir-to-file/sub/x", "lower");
    file(f, "file-to-dir", "lower");
    symbolic(f, "link-to-dir", "dir-to-file");
    symbolic(f, "link-to-file", "victim");
    file(f, "victim", "lower");
    file(f, "dir-to-link/x", "lower");
    layer(f);
    file(f, "dir-to-file", "upper");
    dir(f, "file-to-dir");
    file(f, "file-to-dir/x", "upper");
    dir(f, "link-to-dir");
    file(f, "link-to-dir/x", "upper");
    file(f, "link-to-file", "upper");
    symbolic(f, "dir-to-link", "victim");
    extract(f);
    has(f, "dir-to-file", "upper");
    has(f, "file-to-dir/x", "upper");
    has(f, "link-to-dir/x", "upper");
    has(f, "link-to-file", "upper");
    has(f, "victim", "lower");
    assert_true(S_ISLNK(stat_of(f, "dir-to-link").st_mode));
}

/* umoci says so of what was below a directory that it replaces. */
static void test_whiteouts_below_what_the_layer_replaces(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "a/x", "lower");
    file(f, "b/x", "lower");
    file(f, "c/x", "lower");
    layer(f);
    file(f, "a", "upper");
    file(f, "a/.wh.x", "");
    symbolic(f, "b", "c");
    file(f, "b/.wh.x", "");
    file(f, "b/deeper/.wh.x", "");
    extract(f);
    has(f, "a", "upper");
    has(f, "c/x", "lower");
}

static void test_replacing_twice_in_a_layer(void **state)
{
    struct fixture *f = *state;
    layer(f);
    dir(f, "x");
    file(f, "x/y/z", "first");
    file(f, "x", "second");
    dir(f, "x");
    file(f, "x/y/z", "third");
    file(f, "x/y/.wh.z", "");
    extract(f);
    has(f, "x/y/z", "third");
}

static void test_a_directory_over_a_directory_keeps_what_is_in_it(void **state)
{
    struct fixture *f = *state;
    layer(f);
    struct archive_entry *entry = entry_of("dir", AE_IFDIR);
    archive_entry_set_perm(entry, 0700);
    archive_entry_xattr_add_entry(entry, "user.lower", "x", 1);
    put(f, entry, NULL);
    file(f, "dir/file", "lower");
    layer(f);
    entry = entry_of("dir", AE_IFDIR);
    archive_entry_set_perm(entry, 02751);
    archive_entry_set_mtime(entry, 2000, 3);
    put(f, entry, NULL);
    file(f, "dir/made/later", "upper");
    layer(f);
    file(f, "dir/later", "upper");
    extract(f);
    has(f, "dir/file", "lower");
    struct stat st = stat_of(f, "dir");
    assert_int_equal(st.st_mode & 07777, 02751);
    assert_int_equal(st.st_mtim.tv_sec, 2000);
    assert_int_equal(st.st_mtim.tv_nsec, 3);
    assert_int_equal(getxattr(at(f, "dir"), "user.lower", NULL, 0), -1);
    /* A directory that nothing is said of inherits nothing. */
    st = stat_of(f, "dir/made");
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(st.st_mtim.tv_sec, 77);
    assert_int_equal(stat_of(f, ".").st_mtim.tv_sec, 77);
}

static void test_hard_links_reach_across_layers(void **state)
{
    struct fixture *f = *state;
    layer(f);
    file(f, "a/first", "lower");
    symbolic(f, "link", "a/first");
    layer(f);
    hard(f, "b/second", "a/first");
    hard(f, "/third", "./b/second");
    hard(f, "third", "a/first"); /* it is that already */
    hard(f, "link2", "link");
    layer(f);
    file(f, "a/.wh.first", "");
    extract(f);
    has(f, "b/second", "lower");
    is_gone(f, "a/first");
    assert_int_equal(stat_of(f, "b/second").st_nlink, 2);
    assert_int_equal(stat_of(f, "b/second").st_ino, stat_of(f, "third").st_ino);
    assert_true(S_ISLNK(stat_of(f, "link2").st_mode));
}

static void test_odd_names_and_kinds(void **state)
{
    struct fixture *f = *state;
    char component[256], deep[3000] = "";
    memset(component, 'n', 255);
    component[255] = '\0';
    for (int i = 0; i < 11; i++)
        sprintf(deep + strlen(deep), "%s%.240s", i ? "/" : "", component);
    layer(f);
    file(f, component, "255 bytes");
    file(f, deep, "deep");
    file(f, "latin-\xfc\xff", "bytes");
    file(f, "new\nline\t\x01", "control");
    file(f, "\xc3\xbcml\xc3\xa4ut", "utf-8");
    file(f, "wh.", "no whiteout");
    put(f, entry_of("fifo", AE_IFIFO), NULL);
    extract(f);
    has(f, component, "255 bytes");
    has(f, deep, "deep");
    has(f, "latin-\xfc\xff", "bytes");
    has(f, "new\nline\t\x01", "control");
    has(f, "\xc3\xbcml\xc3\xa4ut", "utf-8");
    has(f, "wh.", "no whiteout");
    assert_true(S_ISFIFO(stat_of(f, "fifo").st_mode));
    struct stat st = stat_of(f, "wh.");
    assert_int_equal(st.st_mtim.tv_sec, 1000);
    assert_int_equal(st.st_mtim.tv_nsec, 500);
    assert_int_equal(f->out.newest, 1001);
}

static void test_what_only_root_may_give(void **state)
{
    struct fixture *f = *state;
    /* cap_net_raw=ep, revision 2 */
    static const unsigned char cap[20] = {1, 0, 0, 2, 0, 0x20};
    unsigned char found[20];
    if (geteuid() != 0)
        skip();
    layer(f);
    struct archive_entry *entry = entry_of("ping", AE_IFREG);
    archive_entry_set_uid(entry, 1234);
    archive_entry_set_gid(entry, 70000);
    archive_entry_set_perm(entry, 04755);
    archive_entry_xattr_add_entry(entry, "security.capability", cap, sizeof(cap));
    archive_entry_xattr_add_entry(entry, "security.selinux", "label", 6);
    archive_entry_xattr_add_entry(entry, "trusted.overlay.opaque", "y", 1);
    put(f, entry, "x");
    entry = entry_of("null", AE_IFCHR);
    archive_entry_set_rdev(entry, makedev(1, 3));
    put(f, entry, NULL);
    if (extract_within(f, NULL)) {
        if (strstr(f->err.msg, "ot permitted") || strstr(f->err.msg, "ot supported"))
            skip(); /* root of a container */
        fail_msg("%s", f->err.msg);
    }
    struct stat st = stat_of(f, "ping");
    assert_int_equal(st.st_uid, 1234);
    assert_int_equal(st.st_gid, 70000);
    assert_int_equal(st.st_mode & 07777, 04755);
    assert_int_equal(getxattr(at(f, "ping"), "security.capability", found, sizeof(found)), 20);
    assert_memory_equal(found, cap, sizeof(cap));
    assert_int_equal(getxattr(at(f, "ping"), "trusted.overlay.opaque", NULL, 0), -1);
    assert_true(S_ISCHR(stat_of(f, "null").st_mode));
    assert_int_equal(stat_of(f, "null").st_rdev, makedev(1, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LAYERS_TEST(test_whiteouts_take_away_what_is_below),
        LAYERS_TEST(test_whiteouts_spare_their_own_layer),
        LAYERS_TEST(test_an_opaque_directory_hides_what_is_below),
        LAYERS_TEST(test_the_root_may_be_opaque),
        LAYERS_TEST(test_anything_replaces_anything),
        LAYERS_TEST(test_whiteouts_below_what_the_layer_replaces),
        LAYERS_TEST(test_replacing_twice_in_a_layer),
        LAYERS_TEST(test_a_directory_over_a_directory_keeps_what_is_in_it),
        LAYERS_TEST(test_hard_links_reach_across_layers),
        LAYERS_TEST(test_odd_names_and_kinds),
        LAYERS_TEST(test_what_only_root_may_give),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
