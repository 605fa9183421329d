/* SPDX-License-Identifier: Apache-2.0 */
#include "image/oci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/testing.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_digests_have_one_spelling(void **state)
{
    (void)state;
    struct digest d;
    char text[DIGEST_STR_BYTES];
    assert_true(digest_parse("sha256:" HEX, &d));
    assert_string_equal(digest_str(&d, text), "sha256:" HEX);
    assert_false(digest_parse("sha256:" HEX "0", &d));
    assert_false(digest_parse("sha256:0123", &d));
    assert_false(digest_parse("sha512:" HEX, &d));
    assert_false(
        digest_parse("sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", &d));
    digest_of("abc", 3, &d);
    assert_string_equal(digest_str(&d, text),
                        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_references(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name; /* NULL: refused */
    } cases[] = {
        {"debian", "debian:latest"},
        {"debian:12.1", "debian:12.1"},
        {"a/b_c-d.e:T_1", "a/b_c-d.e:T_1"},
        {"localhost:5000/x", "localhost:5000/x:latest"},
        {"localhost:5000/x:y", "localhost:5000/x:y"},
        {"double__under--dash", "double__under--dash:latest"},
        {"", NULL},
        {":tag", NULL},
        {"debian:", NULL},
        {"Debian", NULL},
        {"../x", NULL},
        {"a//b", NULL},
        {"/a", NULL},
        {"a/", NULL},
        {"-a", NULL},
        {"a:.b", NULL},
        {"a:b/", NULL},
        {"a b", NULL},
        {"a\n", NULL},
        {"sha256:12", NULL},
        {"sha256", NULL},
        {"x/sha256", "x/sha256:latest"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct oci_ref ref;
        int rc = oci_ref_parse(cases[i].text, &ref, NULL);
        if (!cases[i].name) {
            if (rc != -EINVAL)
                fail_msg("\"%s\" was taken as \"%s\"", cases[i].text, ref.name);
            continue;
        }
        assert_int_equal(rc, 0);
        assert_string_equal(ref.name, cases[i].name);
        assert_false(ref.by_digest);
    }
    struct oci_ref ref;
    assert_int_equal(oci_ref_parse("sha256:" HEX, &ref, NULL), 0);
    assert_true(ref.by_digest);
    char long_name[600];
    memset(long_name, 'a', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_int_equal(oci_ref_parse(long_name, &ref, NULL), -EINVAL);
}

static int manifest(const char *text, struct dayfly_err *err)
{
    struct oci_manifest m;
    int rc = oci_manifest_parse(text, strlen(text), &m, err);
    if (!rc)
        oci_manifest_finish(&m);
    return rc;
}

#define DESCRIPTOR "{\"mediaType\":\"x\",\"digest\":\"sha256:" HEX "\",\"size\":1}"

static void test_manifests(void **state)
{
    (void)state;
    struct dayfly_err err = {0};
    assert_int_equal(
        manifest("{\"config\":" DESCRIPTOR ",\"layers\":[" DESCRIPTOR "," DESCRIPTOR "]}", NULL), 0);
    static const char *const bad[] = {
        "",
        "[]",
        "{",
        "{\"config\":" DESCRIPTOR "}",
        "{\"config\":" DESCRIPTOR ",\"layers\":[]}",
        "{\"config\":" DESCRIPTOR ",\"layers\":{}}",
        "{\"layers\":[" DESCRIPTOR "]}",
        "{\"config\":" DESCRIPTOR ",\"layers\":[1]}",
        "{\"config\":" DESCRIPTOR ",\"config\":" DESCRIPTOR ",\"layers\":[" DESCRIPTOR "]}",
        "{\"config\":{\"mediaType\":\"x\",\"digest\":\"sha256:" HEX
        "\",\"size\":-1},\"layers\":[" DESCRIPTOR "]}",
        "{\"config\":{\"mediaType\":\"x\",\"digest\":\"../../etc\",\"size\":1},\"layers\":[" DESCRIPTOR
        "]}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        err.msg[0] = '\0';
        if (manifest(bad[i], &err) != -EINVAL)
            fail_msg("taken: %s", bad[i]);
        assert_non_null(strstr(err.msg, "image manifest"));
    }
}

static void test_configs(void **state)
{
    (void)state;
    struct oci_config c;
    struct dayfly_err err = {0};
    static const char empty[] = "{}", nulls[] = "{\"config\":{\"Env\":null,\"User\":null}}";
    assert_int_equal(oci_config_parse(empty, strlen(empty), &c, NULL), 0);
    assert_null(c.env[0]);
    assert_string_equal(c.user, "");
    oci_config_finish(&c);
    assert_int_equal(oci_config_parse(nulls, strlen(nulls), &c, NULL), 0);
    oci_config_finish(&c);
    static const char *const bad[] = {
        "{\"config\":{\"Env\":\"A=B\"}}",
        "{\"config\":{\"Cmd\":[\"a\",1]}}",
        "{\"config\":{\"User\":[]}}",
        "{\"config\":{\"Env\":[\"a\\u0000b\"]}}",
        "{\"rootfs\":{\"diff_ids\":[\"sha256:12\"]}}",
        "{\"rootfs\":{\"diff_ids\":[1]}}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        if (oci_config_parse(bad[i], strlen(bad[i]), &c, &err) != -EINVAL)
            fail_msg("taken: %s", bad[i]);
    }
}

static void test_diff_ids(void **state)
{
    (void)state;
    struct oci_config c;
    struct digest d;
    static const char two[] = "{\"rootfs\":{\"diff_ids\":[\"sha256:" HEX "\",\"sha256:" HEX "\"]}}";
    assert_true(digest_parse("sha256:" HEX, &d));
    assert_int_equal(oci_config_parse(two, strlen(two), &c, NULL), 0);
    assert_int_equal(c.diff_id_count, 2);
    assert_true(digest_equal(&c.diff_ids[1], &d));
    oci_config_finish(&c);
}

static void test_indexes(void **state)
{
    (void)state;
    struct oci_descriptor d;
    static const char *const bad[] = {"{}", "{\"manifests\":[]}", "{\"manifests\":{}}",
                                      "{\"manifests\":[" DESCRIPTOR "," DESCRIPTOR "]}",
                                      "{\"manifests\":[\"x\"]}"};
    static const char good[] = "{\"manifests\":[" DESCRIPTOR "]}";
    assert_int_equal(oci_index_parse(good, strlen(good), &d, NULL), 0);
    assert_int_equal(d.size, 1);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(oci_index_parse(bad[i], strlen(bad[i]), &d, NULL), -EINVAL);
}

static void test_layers_have_known_types(void **state)
{
    (void)state;
    static const char *const good[] = {
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar",
    };
    static const char *const bad[] = {
        "",
        "application/vnd.oci.empty.v1+json",
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        "text/plain",
    };
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(oci_is_layer(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(oci_is_layer(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digests_have_one_spelling),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_manifests),
        cmocka_unit_test(test_configs),
        cmocka_unit_test(test_diff_ids),
        cmocka_unit_test(test_indexes),
        cmocka_unit_test(test_layers_have_known_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
