/* SPDX-License-Identifier: Apache-2.0 */
#include "job/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "image/digest.h"
#include "job/start_state.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "util/testing.h"
#include "util/tree.h"

static char home[] = "/var/tmp/unit-job-cache.XXXXXX";

static int setup(void **state)
{
    if (!mkdtemp(home))
        return -1;
    return setenv("DAYFLY_HOME", home, 1);
}

static int teardown(void **state)
{
    return tree_remove(AT_FDCWD, home);
}

/* -- words ------------------------------------------------------------------------------------ */

static void test_words(void **state)
{
    static const char *const words[] = {"deps:/root/.cache", "b.2:/z//y/./:promote", "a:/a:ro",
                                        "p:/p:private"};
    _cleanup_free_ struct job_cache *caches = NULL;
    struct dayfly_err err = {0};
    assert_int_equal(job_caches_parse(words, ARRAY_SIZE(words), &caches, &err), 0);
    /* by path */
    assert_string_equal(caches[0].name, "a");
    assert_int_equal(caches[0].policy, JOB_CACHE_RO);
    assert_int_equal(caches[1].policy, JOB_CACHE_PRIVATE);
    assert_string_equal(caches[2].path, "/root/.cache");
    assert_int_equal(caches[2].policy, JOB_CACHE_PRIVATE);
    assert_string_equal(caches[3].name, "b.2");
    assert_string_equal(caches[3].path, "/z/y");
    assert_int_equal(caches[3].policy, JOB_CACHE_PROMOTE);
}

static void test_what_is_refused(void **state)
{
#define NAME_IS "a cache's name is a letter or digit, and up to 63 of these and \"._-\""
    static const struct {
        const char *word, *message;
    } cases[] = {
        {"", NAME_IS},
        {"deps", "write NAME:DST, with DST as an absolute path in the guest"},
        {"deps:", "write NAME:DST, with DST as an absolute path in the guest"},
        {"deps:cache", "write NAME:DST, with DST as an absolute path in the guest"},
        {":/c", NAME_IS},
        {"../x:/c", NAME_IS},
        {".work:/c", NAME_IS},
        {"a/b:/c", NAME_IS},
        {"deps:/c:", "\"\" is no policy; there are ro, private and promote"},
        {"deps:/c:rw", "\"rw\" is no policy; there are ro, private and promote"},
        {"deps:/c:promote:x", "\"promote:x\" is no policy; there are ro, private and promote"},
        {"deps:/c/../d", "the place in the guest has \"..\" in it: write where it is"},
        {"deps:/", "the guest's root is the image's: name a place below it"},
        {"deps:/proc/x", "/proc belongs to the guest's kernel: take another place"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct job_cache *caches;
        struct dayfly_err err = {0};
        char want[256];
        assert_true(job_caches_parse(&cases[i].word, 1, &caches, &err) < 0);
        assert_null(caches);
        snprintf(want, sizeof(want), "cache %s: %s", cases[i].word, cases[i].message);
        assert_string_equal(err.msg, want);
    }
    static const char *const twice[] = {"deps:/a", "deps:/b"};
    struct job_cache *caches;
    struct dayfly_err err = {0};
    assert_int_equal(job_caches_parse(twice, 2, &caches, &err), -EINVAL);
    assert_string_equal(err.msg, "the cache deps is there twice");
}

/* -- use -------------------------------------------------------------------------------------- */

struct use {
    struct job_cache *list;
    size_t count;
    struct job_caches *caches;
};

static struct use begin(const char *const *words, size_t count, bool trusted)
{
    struct use use = {.count = count};
    struct dayfly_err err = {0};
    assert_int_equal(job_caches_parse(words, count, &use.list, &err), 0);
    if (job_caches_open(&use.caches, use.list, count, trusted, NULL, 0, &err) < 0)
        fail_msg("%s", err.msg);
    return use;
}

/* As a job would that writes a file; nothing, where its writing is not to be kept. */
static void write_file(const struct use *use, size_t i, const char *name)
{
    char path[PATH_MAX];
    size_t count;
    const struct job_share *share = &job_caches_shares(use->caches, &count)[i];
    assert_true(i < count);
    assert_non_null(share->changes);
    mkdir(share->changes, 0700);
    assert_true(snprintf(path, sizeof(path), "%s/upper", share->changes) < (int)sizeof(path));
    mkdir(path, 0755);
    assert_true(snprintf(path, sizeof(path), "%s/upper/%s", share->changes, name) < (int)sizeof(path));
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fclose(file);
}

static void end(struct use *use, bool succeeded, const char *outcome)
{
    _cleanup_json_ json_t *rows = job_caches_end(use->caches, succeeded);
    const char *got = json_string_value(json_object_get(json_array_get(rows, 0), "outcome"));
    assert_string_equal(got, outcome);
    job_caches_free(use->caches);
    free(use->list);
}

static void digest_of_state(const struct use *use, char out[DIGEST_STR_BYTES])
{
    _cleanup_json_ json_t *caches = job_caches_state(use->caches);
    const struct start_state state = {
        .kernel = "k", .image = "i", .command_line = "c", .caches = caches};
    _cleanup_json_ json_t *json = start_state_json(&state);
    assert_non_null(json);
    snprintf(out, DIGEST_STR_BYTES, "%s", json_string_value(json_object_get(json, "digest")));
}

static void test_each_is_a_share(void **state)
{
    static const char *const words[] = {"r:/r:ro", "p:/p", "k:/k:promote"};
    static const char *const own[] = {"a:/l"}, *const there[] = {"a:/k"};
    struct job_share *shares;
    struct job_caches *more;
    struct dayfly_err err = {0};
    struct use use = begin(words, 3, false);
    size_t count;
    const struct job_share *all = job_caches_shares(use.caches, &count);
    assert_int_equal(count, 3);
    assert_string_equal(all[0].path, "/k");
    assert_int_equal(all[0].mode, DAYFLY_SHARE_COW);
    assert_null(all[0].changes); /* it is not trusted */
    assert_int_equal(all[1].mode, DAYFLY_SHARE_COW);
    assert_int_equal(all[2].mode, DAYFLY_SHARE_RO);
    job_caches_show_to(use.caches, "1000:100");
    assert_int_equal(all[0].shown_uid, 1000);
    assert_int_equal(all[0].shown_gid, 100);
    job_caches_show_to(use.caches, "builder");
    assert_int_equal(all[0].shown_uid, 0);
    job_caches_show_to(use.caches, "1000:staff");
    assert_int_equal(all[0].shown_uid, 0);
    job_caches_show_to(use.caches, NULL);
    end(&use, true, "untrusted");

    use = begin(words, 3, true);
    /* With others, sorted among them, and none in another's place. */
    assert_int_equal(job_shares_parse(own, 1, &shares, &err), 0);
    assert_int_equal(job_caches_open(&more, use.list, 3, true, shares, 1, &err), 0);
    all = job_caches_shares(more, &count);
    assert_int_equal(count, 4);
    assert_non_null(all[0].changes);
    assert_string_equal(all[1].source, "a");
    job_caches_free(more);
    job_shares_free(shares, 1);
    assert_int_equal(job_shares_parse(there, 1, &shares, &err), 0);
    assert_int_equal(job_caches_open(&more, use.list, 3, true, shares, 1, &err), -EINVAL);
    assert_string_equal(err.msg, "two things at /k: give each its own place");
    job_shares_free(shares, 1);
    end(&use, true, "unchanged");
}

static void test_who_may_promote(void **state)
{
    static const char *const promote[] = {"who:/c:promote"}, *const private[] = {"who:/c:private"},
                             *const ro[] = {"who:/c:ro"};
    struct use use = begin(promote, 1, true);
    write_file(&use, 0, "one");
    end(&use, true, "promoted");
    use = begin(promote, 1, true);
    write_file(&use, 0, "two");
    end(&use, false, "unsuccessful");
    use = begin(promote, 1, false);
    end(&use, true, "untrusted");
    use = begin(private, 1, true);
    end(&use, true, "dropped");
    use = begin(ro, 1, true);
    end(&use, true, "read");
    struct use first = begin(promote, 1, true), second = begin(promote, 1, true);
    write_file(&first, 0, "three");
    write_file(&second, 0, "four");
    end(&second, true, "promoted");
    end(&first, true, "superseded");
}

static void test_a_failed_promotion_is_said(void **state)
{
    static const char *const words[] = {"fails:/c:promote"};
    struct use use = begin(words, 1, true);
    size_t count;
    const struct job_share *share = job_caches_shares(use.caches, &count);
    assert_int_equal(mkdir(share->changes, 0700), 0);
    char path[PATH_MAX];
    /* What a mount would have made is something else. */
    assert_true(snprintf(path, sizeof(path), "%s/upper", share->changes) < (int)sizeof(path));
    assert_int_equal(symlink("/etc", path), 0);
    _cleanup_json_ json_t *rows = job_caches_end(use.caches, true);
    json_t *row = json_array_get(rows, 0);
    assert_string_equal(json_string_value(json_object_get(row, "outcome")), "failed");
    assert_non_null(strstr(json_string_value(json_object_get(row, "why")), "cache fails: "));
    assert_null(json_object_get(row, "made"));
    job_caches_free(use.caches);
    free(use.list);
}

static void test_the_start_state_knows_generations(void **state)
{
    static const char *const words[] = {"s:/c:promote"}, *const elsewhere[] = {"s:/d:promote"},
                             *const ro[] = {"s:/c:ro"}, *const private[] = {"s:/c:private"};
    char first[DIGEST_STR_BYTES], next[DIGEST_STR_BYTES];
    struct use use = begin(words, 1, true);
    digest_of_state(&use, first);
    end(&use, true, "unchanged");
    use = begin(words, 1, true);
    digest_of_state(&use, next);
    assert_string_equal(first, next);
    write_file(&use, 0, "x");
    end(&use, true, "promoted");
    use = begin(words, 1, true);
    digest_of_state(&use, next);
    assert_string_not_equal(first, next);
    memcpy(first, next, sizeof(first));
    end(&use, true, "unchanged");
    /* What becomes of it later is no part of what it starts from; whether it can be written to is. */
    use = begin(private, 1, false);
    digest_of_state(&use, next);
    assert_string_equal(first, next);
    end(&use, true, "dropped");
    use = begin(ro, 1, false);
    digest_of_state(&use, next);
    assert_string_not_equal(first, next);
    end(&use, true, "read");
    use = begin(elsewhere, 1, false);
    digest_of_state(&use, next);
    assert_string_not_equal(first, next);
    end(&use, true, "untrusted");
}

static void test_without_caches_nothing_is_made(void **state)
{
    struct job_caches *none;
    size_t count;
    setenv("DAYFLY_HOME", "/proc/nowhere", 1);
    assert_int_equal(job_caches_open(&none, NULL, 0, true, NULL, 0, NULL), 0);
    job_caches_shares(none, &count);
    assert_int_equal(count, 0);
    assert_null(job_caches_state(none));
    assert_null(job_caches_end(none, true));
    job_caches_free(none);
    job_caches_free(NULL);
    setenv("DAYFLY_HOME", home, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_each_is_a_share),
        cmocka_unit_test(test_who_may_promote),
        cmocka_unit_test(test_a_failed_promotion_is_said),
        cmocka_unit_test(test_the_start_state_knows_generations),
        cmocka_unit_test(test_without_caches_nothing_is_made),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
