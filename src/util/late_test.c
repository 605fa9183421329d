/* SPDX-License-Identifier: Apache-2.0 */
#include "util/testing.h"

#include <archive.h>
#include <dlfcn.h>
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

#include "util/late.h"

/* What this file has loaded late, by names that are in libraries that are there, or not. */
LATE_DEFINE(late_test_absent)
LATE_DEFINE(ftok)

static void a_library_is_not_there_before_it_is_wanted(void **state)
{
    /* First, by its place in main: nothing has loaded them yet. */
    assert_null(dlopen(LATE_ARCHIVE, RTLD_LAZY | RTLD_NOLOAD));
    assert_null(dlopen(LATE_CRYPTO, RTLD_LAZY | RTLD_NOLOAD));
    assert_null(archive_read_new());
    assert_int_equal(archive_read_free(NULL), 0);
    assert_null(EVP_CIPHER_CTX_new());
    EVP_CIPHER_CTX_free(NULL);
}

static void once_it_is_loaded_its_functions_are_its_own(void **state)
{
    struct dayfly_err err = {0};
    assert_int_equal(late_archive(&err), 0);
    assert_int_equal(late_archive(&err), 0);
    struct archive *a = archive_read_new();
    assert_non_null(a);
    assert_int_equal(archive_read_support_format_tar(a), ARCHIVE_OK);
    assert_int_equal(archive_read_free(a), ARCHIVE_OK);
    assert_int_equal(late_crypto(&err), 0);
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-256-XTS", NULL);
    assert_non_null(cipher);
    EVP_CIPHER_free(cipher);
}

static void what_is_missing_is_named(void **state)
{
    static const struct late_function functions[] = {LATE_ROW(ftok) LATE_ROW(late_test_absent)};
    struct dayfly_err err = {0};
    void *before = late_slot_ftok;
    assert_int_equal(late_load("libdayfly-absent.so.0", functions, 2, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "libdayfly-absent.so.0"));
    assert_int_equal(late_load("libc.so.6", functions, 2, &err), -ENOSYS);
    assert_non_null(strstr(err.msg, "late_test_absent"));
    assert_ptr_equal(late_slot_ftok, before); /* all or none */
    assert_int_equal(late_load("libc.so.6", functions, 1, &err), 0);
    assert_ptr_not_equal(late_slot_ftok, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_library_is_not_there_before_it_is_wanted),
        cmocka_unit_test(once_it_is_loaded_its_functions_are_its_own),
        cmocka_unit_test(what_is_missing_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
