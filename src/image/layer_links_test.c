/* SPDX-License-Identifier: Apache-2.0 */
/* Layers over links of the layers below them. */
#include "image/testing_layers.h"

/* A lower layer with lib -> usr/lib, as a merged /usr has it, and other ways to get there. */
static void linked_layer(struct fixture *f)
{
    layer(f);
    dir(f, "usr/lib");
    file(f, "usr/lib/old", "lower");
    file(f, "usr/lib/sub/old", "lower");
    symbolic(f, "lib", "usr/lib");
    symbolic(f, "absolute", "/usr/./lib/");
    symbolic(f, "chain", "opt/../lib");
    symbolic(f, "opt/deep/up", "../../usr/lib");
    symbolic(f, "over", "../../../usr");
    dir(f, "opt");
}

static void test_entries_go_where_links_lead(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    layer(f);
    file(f, "lib/a", "a");
    file(f, "absolute/b", "b");
    file(f, "chain/c", "c");
    file(f, "opt/deep/up/d", "d");
    file(f, "over/lib/e", "e");
    file(f, "lib/old", "upper");
    dir(f, "lib/made");
    file(f, "lib/made/by/x", "x");
    symbolic(f, "lib/link", "old");
    extract(f);
    has(f, "usr/lib/a", "a");
    has(f, "usr/lib/b", "b");
    has(f, "usr/lib/c", "c");
    has(f, "usr/lib/d", "d");
    has(f, "usr/lib/e", "e");
    has(f, "usr/lib/old", "upper");
    has(f, "usr/lib/sub/old", "lower");
    has(f, "usr/lib/made/by/x", "x");
    assert_true(S_ISLNK(stat_of(f, "usr/lib/link").st_mode));
    assert_true(S_ISLNK(stat_of(f, "lib").st_mode));
    assert_true(S_ISLNK(stat_of(f, "absolute").st_mode));
    /* Directories that were gone through keep their times, those that were not mentioned have none. */
    assert_int_equal(stat_of(f, "usr/lib").st_mtim.tv_sec, 1000);
    assert_int_equal(stat_of(f, "usr/lib/made").st_mtim.tv_sec, 1000);
    assert_int_equal(stat_of(f, "usr/lib/made/by").st_mtim.tv_sec, 77);
}

static void test_the_last_component_is_not_followed(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    layer(f);
    dir(f, "lib");
    file(f, "lib/x", "in the new directory");
    file(f, "absolute", "file");
    layer(f);
    file(f, "lib/y", "in it as well");
    extract(f);
    has(f, "lib/x", "in the new directory");
    has(f, "lib/y", "in it as well");
    has(f, "absolute", "file");
    is_gone(f, "usr/lib/x");
    is_gone(f, "usr/lib/y");
    has(f, "usr/lib/old", "lower");
}

/* The way that an entry went is remembered for the next one: not when a link on it has changed. */
static void test_a_link_that_changes_leads_elsewhere_at_once(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    layer(f);
    file(f, "lib/before", "x");
    symbolic(f, "lib", "opt");
    file(f, "lib/behind", "x");
    layer(f);
    file(f, "lib/here", "x");
    file(f, ".wh.lib", "");
    file(f, "lib/x", "x");
    extract(f);
    has(f, "usr/lib/before", "x");
    has(f, "opt/behind", "x");
    has(f, "opt/here", "x");
    assert_true(S_ISDIR(stat_of(f, "lib").st_mode));
    has(f, "lib/x", "x");
}

static void test_hard_links_go_where_links_lead(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    layer(f);
    hard(f, "lib/one", "absolute/old");
    hard(f, "two", "lib/one");
    hard(f, "lib/old", "usr/lib/old"); /* itself, by two names */
    hard(f, "opt/link", "lib");
    extract(f);
    assert_int_equal(stat_of(f, "usr/lib/old").st_nlink, 3);
    assert_int_equal(stat_of(f, "usr/lib/old").st_ino, stat_of(f, "two").st_ino);
    assert_int_equal(stat_of(f, "usr/lib/old").st_ino, stat_of(f, "usr/lib/one").st_ino);
    assert_true(S_ISLNK(stat_of(f, "opt/link").st_mode));
}

static void test_whiteouts_go_where_links_lead(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    file(f, "usr/lib/kept", "lower");
    layer(f);
    file(f, "lib/kept", "upper");
    file(f, "usr/lib/new", "upper");
    file(f, "absolute/.wh.old", "");
    file(f, "chain/.wh.kept", ""); /* the layer's own, by another name */
    file(f, "lib/.wh.never-was", "");
    layer(f);
    file(f, "usr/lib/sub/new", "uppermost");
    file(f, "lib/.wh..wh..opq", "");
    extract(f);
    is_gone(f, "usr/lib/kept");
    is_gone(f, "usr/lib/new");
    is_gone(f, "usr/lib/old");
    is_gone(f, "usr/lib/sub/old");
    has(f, "usr/lib/sub/new", "uppermost");
    assert_true(S_ISLNK(stat_of(f, "lib").st_mode));
}

static void test_whiteouts_spare_their_own_layer_behind_links(void **state)
{
    struct fixture *f = *state;
    linked_layer(f);
    layer(f);
    file(f, "lib/new", "upper");
    file(f, "usr/lib/sub/new", "upper");
    file(f, "lib/.wh.new", "");
    file(f, "usr/.wh.lib", "");
    extract(f);
    has(f, "usr/lib/new", "upper");
    has(f, "usr/lib/sub/new", "upper");
    is_gone(f, "usr/lib/old");
    is_gone(f, "usr/lib/sub/old");
}

/* containerd and umoci make the directories that the link leads to as well. */
static void test_a_link_to_nothing_gets_its_directory(void **state)
{
    struct fixture *f = *state;
    layer(f);
    symbolic(f, "relative", "not/there");
    symbolic(f, "absolute", "/nor/../here");
    symbolic(f, "whiteout", "/nowhere/at/all");
    layer(f);
    file(f, "relative/x", "x");
    file(f, "absolute/y", "y");
    file(f, "whiteout/.wh.x", "");
    file(f, "whiteout/.wh..wh..opq", "");
    extract(f);
    has(f, "not/there/x", "x");
    has(f, "here/y", "y");
    is_gone(f, "nowhere");
    assert_true(S_ISLNK(stat_of(f, "relative").st_mode));
    struct stat st = stat_of(f, "not");
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(st.st_mtim.tv_sec, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LAYERS_TEST(test_entries_go_where_links_lead),
        LAYERS_TEST(test_the_last_component_is_not_followed),
        LAYERS_TEST(test_a_link_that_changes_leads_elsewhere_at_once),
        LAYERS_TEST(test_hard_links_go_where_links_lead),
        LAYERS_TEST(test_whiteouts_go_where_links_lead),
        LAYERS_TEST(test_whiteouts_spare_their_own_layer_behind_links),
        LAYERS_TEST(test_a_link_to_nothing_gets_its_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
