/* SPDX-License-Identifier: Apache-2.0 */
#include "job/share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/config.h"
#include "job/start_state.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/testing.h"

/* The one share of `word`; to be freed. */
static struct job_share *parse(const char *word)
{
    struct job_share *share;
    struct dayfly_err err = {0};
    if (job_shares_parse(&word, 1, &share, &err) < 0)
        fail_msg("%s", err.msg);
    return share;
}

static void test_where_from_and_where_to(void **state)
{
    (void)state;
    static const struct {
        const char *word, *source, *path;
        enum dayfly_share_mode mode;
    } cases[] = {
        {"src:/src", "src", "/src", DAYFLY_SHARE_RW},
        {".:/a:ro", ".", "/a", DAYFLY_SHARE_RO},
        {"/x:/y:cow", "/x", "/y", DAYFLY_SHARE_COW},
        {"a b:/c d/\xc3\xbc:rw", "a b", "/c d/\xc3\xbc", DAYFLY_SHARE_RW},
        /* the source's colons are its own */
        {"/a:/b:/c", "/a:/b", "/c", DAYFLY_SHARE_RW},
        {"10:30:/c:ro", "10:30", "/c", DAYFLY_SHARE_RO},
        {"a:ro:/c", "a:ro", "/c", DAYFLY_SHARE_RW},
        {"a,b:/c,d", "a,b", "/c,d", DAYFLY_SHARE_RW},
        /* one place, one name */
        {"a://b/./c///", "a", "/b/c", DAYFLY_SHARE_RW},
        {"a:/./.b/..c", "a", "/.b/..c", DAYFLY_SHARE_RW},
        /* beside what the system lives by, not on it */
        {"a:/process", "a", "/process", DAYFLY_SHARE_RW},
        {"a:/run/x", "a", "/run/x", DAYFLY_SHARE_RW},
        {"a:/home/dev", "a", "/home/dev", DAYFLY_SHARE_RW},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct job_share *share = parse(cases[i].word);
        assert_string_equal(share->source, cases[i].source);
        assert_string_equal(share->path, cases[i].path);
        assert_int_equal(share->mode, cases[i].mode);
        job_shares_free(share, 1);
    }
}

static void test_options(void **state)
{
    (void)state;
    struct job_share *share =
        parse("a:/b:cache=always,writeback,xattr,shown_uid=1000,shown_gid=100,ro,dax=1GiB");
    assert_int_equal(share->window_bytes, UINT64_C(1) << 30);
    assert_int_equal(share->cache, DAYFLY_SHARE_CACHE_ALWAYS);
    assert_true(share->writeback);
    assert_true(share->xattr);
    assert_int_equal(share->shown_uid, 1000);
    assert_int_equal(share->shown_gid, 100);
    assert_int_equal(share->ids, DAYFLY_SHARE_SQUASH);
    assert_int_equal(share->mode, DAYFLY_SHARE_RO);
    job_shares_free(share, 1);
    share = parse("a:/b:changes=old,cow,changes=/x/y");
    assert_string_equal(share->changes, "/x/y");
    assert_int_equal(share->mode, DAYFLY_SHARE_COW);
    job_shares_free(share, 1);
    if (geteuid() != 0)
        return;
    share = parse("a:/b:ids=identity,cache=none");
    assert_int_equal(share->cache, DAYFLY_SHARE_CACHE_NONE);
    assert_int_equal(share->ids, DAYFLY_SHARE_IDENTITY);
    assert_int_equal(share->mode, DAYFLY_SHARE_RW);
    job_shares_free(share, 1);
}

static void test_what_is_refused(void **state)
{
    (void)state;
    char word[400];
    memset(word, 'x', sizeof(word));
    memcpy(word, "a:/", 3);
    word[3 + PROTO_PATH_BYTES - 1] = '\0';
    const struct {
        const char *word, *message;
    } cases[] = {
        {"", "write SRC:DST, with DST as an absolute path in the guest"},
        {"src", "write SRC:DST, with DST as an absolute path in the guest"},
        {"/src", "write SRC:DST, with DST as an absolute path in the guest"},
        {"src:dst", "write SRC:DST, with DST as an absolute path in the guest"},
        {"src:dst:rw", "write SRC:DST, with DST as an absolute path in the guest"},
        {"src:ro", "write SRC:DST, with DST as an absolute path in the guest"},
        {":/dst", "the directory of the host is missing: write SRC:DST"},
        {":/dst:ro", "the directory of the host is missing: write SRC:DST"},
        {"a:/", "the guest's root is the image's: name a place below it"},
        {"a:/.//", "the guest's root is the image's: name a place below it"},
        {"a:/b/../c", "the place in the guest has \"..\" in it: write where it is"},
        {"a:/..", "the place in the guest has \"..\" in it: write where it is"},
        {"a:/proc", "/proc belongs to the guest's kernel: take another place"},
        {"a://sys/./kernel", "/sys belongs to the guest's kernel: take another place"},
        {"a:/dev/shm:ro", "/dev belongs to the guest's kernel: take another place"},
        {"a:/run", "/run belongs to the guest's system: take a place below it"},
        {"a:/b\n", "the place in the guest has to be UTF-8, without control characters"},
        {"a:/b\xff", "the place in the guest has to be UTF-8, without control characters"},
        {word, "the place in the guest is longer than 255 bytes"},
        {"a:/b:", "\"\" is no option; there are ro, rw, cow, changes=DIR, cache=auto|none|always, "
                  "writeback, xattr, "
                  "dax=SIZE, ids=squash|identity, shown_uid=N and shown_gid=N"},
        {"a:/b:r0", "\"r0\" is no option; there are ro, rw, cow, changes=DIR, cache=auto|none|always, "
                    "writeback, xattr, "
                    "dax=SIZE, ids=squash|identity, shown_uid=N and shown_gid=N"},
        {"a:/b:changes=c", "changes=DIR names where the difference of cow is kept"},
        {"a:/b:cow,changes=", "changes=DIR names where the difference of cow is kept"},
        {"a:/b:cache=never", "cache is auto, none or always, and not \"never\""},
        {"a:/b:dax=3GiB", "dax is a power of two from 2MiB to 16GiB, such as dax=1GiB"},
        {"a:/b:dax=1MiB", "dax is a power of two from 2MiB to 16GiB, such as dax=1GiB"},
        {"a:/b:dax=1GiB,cow", "files of cow cannot be mapped from the host: leave out dax"},
        {"a:/b:dax=1GiB,cache=none", "dax does not go with cache=none: leave one of the two out"},
        {"a:/b:ids=map", "ids is squash or identity, and not \"map\""},
        {"a:/b:cache=none,writeback",
         "with cache=none there is nothing to gather writes in: leave out writeback"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct job_share *shares;
        struct dayfly_err err = {0}, want = {0};
        assert_true(job_shares_parse(&cases[i].word, 1, &shares, &err) < 0);
        assert_null(shares);
        err_set(&want, EINVAL, "%s", cases[i].message);
        err_wrap(&want, "share %s", cases[i].word);
        assert_string_equal(err.msg, want.msg);
    }
    static const char *const bad_id = "a:/b:shown_uid=root";
    struct job_share *shares;
    assert_int_equal(job_shares_parse(&bad_id, 1, &shares, NULL), -EINVAL);
}

static void test_several(void **state)
{
    (void)state;
    static const char *const words[] = {"a:/b/c", "d:/b:ro", "e:/a"};
    static const char *const twice[] = {"a:/b/c", "d:/x", "e:/b//c/"};
    static const char *many[CONFIG_MAX_SHARES + 1];
    struct job_share *shares;
    struct dayfly_err err = {0};
    assert_int_equal(job_shares_parse(words, ARRAY_SIZE(words), &shares, &err), 0);
    /* what lies within another's place comes behind it */
    assert_string_equal(shares[0].path, "/a");
    assert_string_equal(shares[1].path, "/b");
    assert_string_equal(shares[2].path, "/b/c");
    assert_string_equal(shares[2].source, "a");

    struct proto_setup *setup = calloc(1, sizeof(*setup));
    assert_non_null(setup);
    job_shares_mount(shares, ARRAY_SIZE(words), setup);
    assert_int_equal(setup->mount_count, 3);
    assert_string_equal(setup->mounts[1].disk.serial, "share1");
    assert_string_equal(setup->mounts[1].disk.fstype, "virtiofs");
    assert_string_equal(setup->mounts[1].path, "/b");
    assert_int_equal(setup->mounts[1].flags, PROTO_MOUNT_READONLY);
    assert_int_equal(setup->mounts[2].flags, 0);
    free(setup);

    struct dayfly_config *config;
    const int fds[] = {10, 11, 12};
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(job_shares_describe(shares, fds, ARRAY_SIZE(words), config, &err), 0);
    assert_int_equal(config->share_count, 3);
    assert_string_equal(config->shares[1].tag, "share1");
    assert_int_equal(config->shares[1].only.fd, 11);
    assert_int_equal(config->shares[1].only.mode, DAYFLY_SHARE_RO);
    dayfly_config_free(config);
    job_shares_free(shares, ARRAY_SIZE(words));

    assert_int_equal(job_shares_parse(twice, ARRAY_SIZE(twice), &shares, &err), -EINVAL);
    assert_string_equal(err.msg, "two shares at /b/c: give each its own place");
    for (size_t i = 0; i < ARRAY_SIZE(many); i++)
        many[i] = "a:/b";
    assert_int_equal(job_shares_parse(many, ARRAY_SIZE(many), &shares, &err), -EINVAL);
    assert_string_equal(err.msg, "17 shares are too many: at most 16");
    assert_int_equal(job_shares_parse(NULL, 0, &shares, &err), 0);
    job_shares_free(shares, 0);
}

/* What opening `source` for `mode` says; "" when it can be done. */
static const char *open_says(const char *source, enum dayfly_share_mode mode, struct dayfly_err *err)
{
    struct job_share share = {.source = (char *)(uintptr_t)source, .mode = mode};
    *err = (struct dayfly_err){0};
    _cleanup_close_ int fd = job_share_open(&share, err);
    assert_true((fd < 0) == (err->code != 0));
    return err->msg;
}

static void test_sources(void **state)
{
    (void)state;
    char folder[] = "/tmp/unit-share-XXXXXX", path[64], want[256];
    struct dayfly_err err;
    assert_non_null(mkdtemp(folder));
    assert_string_equal(open_says(folder, DAYFLY_SHARE_RW, &err), "");
    assert_string_equal(open_says(folder, DAYFLY_SHARE_RO, &err), "");

    snprintf(path, sizeof(path), "%s/gone", folder);
    snprintf(want, sizeof(want), "share %s: there is no folder of that name", path);
    assert_string_equal(open_says(path, DAYFLY_SHARE_RW, &err), want);
    assert_int_equal(err.code, ENOENT);

    snprintf(path, sizeof(path), "%s/file", folder);
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    snprintf(want, sizeof(want), "share %s: it is a file; share the folder that it is in", path);
    assert_string_equal(open_says(path, DAYFLY_SHARE_RO, &err), want);
    assert_int_equal(err.code, ENOTDIR);
    unlink(path);

    if (geteuid() == 0) {
        chmod(folder, 0755);
        assert_int_equal(seteuid(65534), 0);
        snprintf(want, sizeof(want), "share %s: user 65534 may not write there; share it :ro", folder);
        const char *says = open_says(folder, DAYFLY_SHARE_RW, &err);
        assert_int_equal(seteuid(0), 0);
        assert_string_equal(says, want);
        chmod(folder, 0700);
        assert_int_equal(seteuid(65534), 0);
        says = open_says(folder, DAYFLY_SHARE_RO, &err);
        assert_int_equal(seteuid(0), 0);
        snprintf(want, sizeof(want), "share %s: Permission denied", folder);
        assert_string_equal(says, want);
    }
    rmdir(folder);
}

static void digest(const char *const *words, size_t count, char out[DIGEST_STR_BYTES])
{
    struct job_share *shares;
    assert_int_equal(job_shares_parse(words, count, &shares, NULL), 0);
    const struct start_state start = {
        .kernel = "k", .image = "i", .command_line = "c", .shares = shares, .share_count = count};
    json_t *json = start_state_json(&start);
    assert_non_null(json);
    snprintf(out, DIGEST_STR_BYTES, "%s", json_string_value(json_object_get(json, "digest")));
    json_decref(json);
    job_shares_free(shares, count);
}

static void test_the_start_state_knows_places_and_not_sources(void **state)
{
    (void)state;
    static const char *const one[] = {"a:/x", "b:/y:ro"}, *const other[] = {"c:/y:ro", "d:/x"};
    static const char *const changed[] = {"a:/x", "b:/y"}, *const moved[] = {"a:/x", "b:/z:ro"};
    char base[DIGEST_STR_BYTES], next[DIGEST_STR_BYTES];
    digest(one, 2, base);
    digest(other, 2, next);
    assert_string_equal(base, next);
    digest(changed, 2, next);
    assert_string_not_equal(base, next);
    digest(moved, 2, next);
    assert_string_not_equal(base, next);
    digest(one, 0, next);
    assert_string_not_equal(base, next);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where_from_and_where_to),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_the_start_state_knows_places_and_not_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
