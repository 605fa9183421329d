/* SPDX-License-Identifier: Apache-2.0 */
#include "job/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "job/mask.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/testing.h"

/* The words up to the first NULL. */
static int load(const char *const *list, bool in_env, struct job_secret **out, size_t *count,
                struct dayfly_err *err)
{
    struct job_secret_word words[JOB_SECRETS_MAX + 2];
    for (*count = 0; list[*count]; ++*count)
        words[*count] = (struct job_secret_word){list[*count], in_env};
    return job_secrets_load(words, *count, NULL, out, err);
}

static char *path_of(int fd)
{
    char *path;
    assert_true(asprintf(&path, "file:/proc/self/fd/%d", fd) > 0);
    return path;
}

static int file_with(const void *bytes, size_t len)
{
    int fd = memfd_create("secret", MFD_CLOEXEC);
    assert_true(fd >= 0 && pwrite(fd, bytes, len, 0) == (ssize_t)len);
    return fd;
}

static void test_a_variable_is_taken_out_of_the_environment(void **state)
{
    static const char *const words[] = {"TOKEN", "other=env:TOKEN", NULL};
    struct job_secret *secrets;
    size_t count;
    setenv("TOKEN", "t0k3n-of-the-test", 1);
    const char *was = getenv("TOKEN");
    assert_int_equal(load(words, false, &secrets, &count, NULL), 0);
    assert_null(getenv("TOKEN"));
    assert_true(was[0] == '\0'); /* setenv's copy is still there, and wiped */
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(secrets[i].len, 17);
        assert_memory_equal(secrets[i].value.bytes, "t0k3n-of-the-test", 17);
        assert_string_equal(secrets[i].source, "env:TOKEN");
    }
    assert_string_equal(secrets[0].name, "TOKEN");
    assert_string_equal(secrets[1].name, "other");
    job_secrets_wipe(secrets, count);
    assert_null(secrets[0].value.bytes);
    job_secrets_free(secrets, count);
}

static void test_a_file_is_taken_as_it_is(void **state)
{
    static const uint8_t bytes[] = {'k', 'e', 'y', 0, 1, 2, '\n'};
    _cleanup_close_ int fd = file_with(bytes, sizeof(bytes));
    _cleanup_free_ char *path = path_of(fd), *word = NULL;
    struct job_secret *secrets;
    size_t count;
    assert_true(asprintf(&word, "id_rsa=%s", path) > 0);
    const char *const words[] = {word, NULL};
    assert_int_equal(load(words, false, &secrets, &count, NULL), 0);
    assert_int_equal(secrets[0].len, sizeof(bytes));
    assert_memory_equal(secrets[0].value.bytes, bytes, sizeof(bytes));
    job_secrets_free(secrets, count);
    /* As a variable it cannot be. */
    struct dayfly_err err;
    assert_int_equal(load(words, true, &secrets, &count, &err), -EINVAL);
    assert_non_null(strstr(err.msg, "NUL"));
}

static void test_a_variable_loses_the_line_break_of_its_file(void **state)
{
    _cleanup_close_ int fd = file_with("value\n", 6);
    _cleanup_free_ char *path = path_of(fd), *word = NULL;
    struct job_secret *secrets;
    size_t count;
    assert_true(asprintf(&word, "KEY=%s", path) > 0);
    const char *const words[] = {word, NULL};
    assert_int_equal(load(words, true, &secrets, &count, NULL), 0);
    assert_int_equal(secrets[0].len, 5);
    job_secrets_free(secrets, count);
}

static void test_what_is_refused(void **state)
{
    static const struct {
        const char *word;
        bool in_env;
        int code;
        const char *about;
    } cases[] = {
        {"", false, EINVAL, "name"},
        {"../up", false, EINVAL, "name"},
        {".hidden", false, EINVAL, "name"},
        {"a b", false, EINVAL, "name"},
        {"a-b", true, EINVAL, "variable"},
        {"1A", true, EINVAL, "variable"},
        {"A=env:", false, EINVAL, "missing"},
        {"A=file:", false, EINVAL, "missing"},
        {"A=file:/nowhere/at/all", false, ENOENT, "/nowhere/at/all"},
        {"A=env:DAYFLY_TEST_NOT_SET", false, ENOENT, "DAYFLY_TEST_NOT_SET"},
        {"A=env:DAYFLY_TEST_SHORT", false, EINVAL, "4 bytes"},
        {"A=file:/dev/zero", false, EFBIG, "longer"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct dayfly_err err;
        struct job_secret *secrets;
        size_t count;
        setenv("DAYFLY_TEST_SHORT", "abc\n", 1);
        const char *const words[] = {cases[i].word, NULL};
        assert_int_equal(load(words, cases[i].in_env, &secrets, &count, &err), -cases[i].code);
        assert_non_null(strstr(err.msg, cases[i].about));
        assert_null(secrets);
    }
    static const char *const twice[] = {"A=file:/etc/hostname", "A=file:/etc/hostname", NULL};
    struct job_secret *secrets;
    size_t count;
    struct dayfly_err err;
    assert_int_equal(load(twice, false, &secrets, &count, &err), -EINVAL);
    unsetenv("DAYFLY_TEST_SHORT");
}

/* Somebody writes the value where the source belongs. */
static void test_a_value_is_not_quoted(void **state)
{
    static const char *const words[] = {"TOKEN=hunter22", NULL};
    struct dayfly_err err;
    struct job_secret *secrets;
    size_t count;
    assert_int_equal(load(words, false, &secrets, &count, &err), -EINVAL);
    assert_null(strstr(err.msg, "hunter22"));
    assert_non_null(strstr(err.msg, "env:VARIABLE"));
}

static void test_a_share_in_their_place_is_refused(void **state)
{
    static const char *const places[] = {"/run/secrets", "/run/secrets/a"};
    static const char *const words[] = {"TOKEN", NULL};
    struct job_share share = {.path = "/run/secretsnot"};
    struct job_secret *secrets;
    size_t count;
    setenv("TOKEN", "hunter22", 1);
    assert_int_equal(load(words, false, &secrets, &count, NULL), 0);
    assert_int_equal(job_secrets_check(secrets, count, &share, 1, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        strcpy(share.path, places[i]);
        assert_int_equal(job_secrets_check(secrets, count, &share, 1, NULL), -EINVAL);
        assert_int_equal(job_secrets_check(NULL, 0, &share, 1, NULL), 0);
    }
    job_secrets_free(secrets, count);
}

static void test_their_mask(void **state)
{
    static const char *const words[] = {"A", "B", NULL};
    char text[] = "first hunter22, then s3cret\n";
    struct job_secret *secrets;
    struct mask *mask;
    size_t count;
    assert_int_equal(job_secrets_mask(NULL, 0, NULL, &mask, NULL), 0);
    assert_null(mask);
    setenv("A", "hunter22", 1);
    setenv("B", "s3cret", 1);
    assert_int_equal(load(words, true, &secrets, &count, NULL), 0);
    assert_int_equal(job_secrets_mask(secrets, count, NULL, &mask, NULL), 0);
    job_secrets_free(secrets, count);
    mask_text(mask, text);
    assert_string_equal(text, "first ***, then ***\n");
    mask_free(mask);
}

static void test_secrets_for_hosts(void **state)
{
    static const char *const words[] = {"FIRST", "SECOND", NULL};
    static const char *const hosts[] = {"SECOND=api.example.org", "SECOND=www.example.org,http"};
    static const char *const wrong[] = {
        "SECOND", "SECOND=", "=host", "THIRD=api.example.org", "SECOND=a,https", "SECOND=,http"};
    struct dayfly_net_secret list[JOB_SECRETS_MAX];
    struct job_secret *secrets;
    struct dayfly_err err;
    size_t count;
    setenv("FIRST", "value-of-the-first", 1);
    setenv("SECOND", "value-of-the-second\n", 1);
    assert_int_equal(load(words, false, &secrets, &count, NULL), 0);
    assert_int_equal(job_secrets_of_hosts(secrets, count, list), 0);
    assert_int_equal(job_secrets_for_hosts(secrets, count, hosts, 2, &err), 0);
    assert_int_equal(job_secrets_of_hosts(secrets, count, list), 1);
    assert_string_equal(list[0].name, "SECOND");
    assert_int_equal(list[0].value_bytes, strlen("value-of-the-second"));
    assert_ptr_equal(list[0].value, secrets[1].value.bytes);
    assert_true(list[0].allow_http);
    assert_string_equal(list[0].hosts[0], "api.example.org");
    assert_string_equal(list[0].hosts[1], "www.example.org");
    assert_null(list[0].hosts[2]);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_int_equal(job_secrets_for_hosts(secrets, count, &wrong[i], 1, &err), -EINVAL);
        assert_non_null(strstr(err.msg, "--for-host"));
    }
    job_secrets_free(secrets, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_variable_is_taken_out_of_the_environment),
        cmocka_unit_test(test_a_file_is_taken_as_it_is),
        cmocka_unit_test(test_a_variable_loses_the_line_break_of_its_file),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_a_value_is_not_quoted),
        cmocka_unit_test(test_a_share_in_their_place_is_refused),
        cmocka_unit_test(test_their_mask),
        cmocka_unit_test(test_secrets_for_hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
