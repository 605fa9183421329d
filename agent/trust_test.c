/* SPDX-License-Identifier: Apache-2.0 */
#include "trust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"
#include "util/testing.h"
#include "util/tree.h"

#define PEM   "-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n"
#define STORE "/etc/ssl/certs/ca-certificates.crt"
#define OURS  "/usr/local/share/ca-certificates/dayfly-border.crt"

struct place {
    char root[32];
};

static void begin(struct place *p)
{
    static const char *const folders[] = {"etc",     "etc/ssl",     "etc/ssl/certs",
                                          "etc/pki", "etc/pki/tls", "etc/pki/tls/certs"};
    strcpy(p->root, "/tmp/dayfly-trust-XXXXXX");
    assert_non_null(mkdtemp(p->root));
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", p->root, folders[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
}

static void end(struct place *p)
{
    assert_int_equal(tree_remove(AT_FDCWD, p->root), 0);
}

static void put(const struct place *p, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s%s", p->root, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void expect(const struct place *p, const char *name, const char *text)
{
    char path[128];
    _cleanup_free_ char *got = NULL;
    size_t len;
    snprintf(path, sizeof(path), "%s%s", p->root, name);
    assert_int_equal(io_read_file(AT_FDCWD, path, 4096, &got, &len), 0);
    assert_string_equal(got, text);
}

static void test_an_image_without_certificates(void **state)
{
    struct place p;
    begin(&p);
    assert_int_equal(trust_add(p.root, PEM, strlen(PEM)), 0);
    expect(&p, STORE, PEM);
    expect(&p, OURS, PEM);
    end(&p);
}

static void test_certificates_stay(void **state)
{
    struct place p;
    begin(&p);
    put(&p, STORE, "others, without a line break");
    put(&p, "/etc/ssl/cert.pem", "more\n");
    assert_int_equal(trust_add(p.root, PEM, strlen(PEM)), 0);
    expect(&p, STORE, "others, without a line break\n" PEM);
    expect(&p, "/etc/ssl/cert.pem", "more\n\n" PEM);
    end(&p);
}

static void test_another_distribution(void **state)
{
    struct place p;
    begin(&p);
    put(&p, "/etc/pki/tls/certs/ca-bundle.crt", "others\n");
    assert_int_equal(trust_add(p.root, PEM, strlen(PEM)), 0);
    expect(&p, "/etc/pki/tls/certs/ca-bundle.crt", "others\n\n" PEM);
    expect(&p, STORE, "others\n\n" PEM);
    end(&p);
}

static void test_what_is_no_file(void **state)
{
    struct place p;
    char path[128];
    begin(&p);
    snprintf(path, sizeof(path), "%s" STORE, p.root);
    assert_int_equal(mkfifo(path, 0644), 0);
    assert_true(trust_add(p.root, PEM, strlen(PEM)) < 0);
    end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_image_without_certificates),
        cmocka_unit_test(test_certificates_stay),
        cmocka_unit_test(test_another_distribution),
        cmocka_unit_test(test_what_is_no_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
