/* SPDX-License-Identifier: Apache-2.0 */
#include "image/skopeo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/io.h"
#include "util/testing.h"

static void test_places(void **state)
{
    (void)state;
    static const struct {
        const char *text, *place, *name; /* NULL: refused */
    } cases[] = {
        {"debian", "docker://debian", "debian:latest"},
        {"debian:12", "docker://debian:12", "debian:12"},
        {"localhost:5000/x/y:1", "docker://localhost:5000/x/y:1", "localhost:5000/x/y:1"},
        {"docker://quay.io/a/b", "docker://quay.io/a/b", "quay.io/a/b:latest"},
        {"debian@sha256:0123", "docker://debian@sha256:0123", ""},
        {"oci:/var/lib/x/tools:1.0", "oci:/var/lib/x/tools:1.0", "tools:1.0"},
        {"oci:tools/", "oci:tools/", "tools:latest"},
        {"oci-archive:dir/tools.tar", "oci-archive:dir/tools.tar", "tools.tar:latest"},
        {"oci:/Not/A_Name:", "oci:/Not/A_Name:", ""},
        {"docker-archive:x.tar", "docker-archive:x.tar", ""},
        {"docker-archive:x.tar:a/b:c", "docker-archive:x.tar:a/b:c", "a/b:c"},
        {"containers-storage:localhost/b:1", "containers-storage:localhost/b:1", "localhost/b:1"},
        {"containers-storage:[overlay@/x]b", "containers-storage:[overlay@/x]b", ""},
        {"dir:/x", "dir:/x", ""},
        {"", NULL, NULL},
        {"oci:", NULL, NULL},
        {"docker://", NULL, NULL},
        {"--insecure-policy", NULL, NULL},
        {"-", NULL, NULL},
        {"a b", NULL, NULL},
        {"Debian", NULL, NULL},
        {"ostree:x:y", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct skopeo_place place;
        int rc = skopeo_place_parse(cases[i].text, &place, NULL);
        if (!cases[i].place) {
            if (rc != -EINVAL)
                fail_msg("\"%s\" was taken as \"%s\"", cases[i].text, place.text);
            continue;
        }
        if (rc)
            fail_msg("\"%s\" was refused", cases[i].text);
        assert_string_equal(place.text, cases[i].place);
        assert_string_equal(place.name, cases[i].name);
    }
    char long_text[2 * SKOPEO_PLACE_BYTES] = "oci:";
    struct skopeo_place place;
    memset(long_text + 4, 'a', sizeof(long_text) - 5);
    assert_int_equal(skopeo_place_parse(long_text, &place, NULL), -EINVAL);
}

static void test_the_last_fatal_message(void **state)
{
    (void)state;
    static const struct {
        const char *log, *message;
    } cases[] = {
        {"", ""},
        {"\n\n", ""},
        {"something else\nlast line \n", "last line"},
        {"time=\"x\" level=warning msg=\"w\"\ntime=\"x\" level=fatal msg=\"a \\\"b\\\" c: d\"\n",
         "a \"b\" c: d"},
        {"time=\"x\" level=fatal msg=word\n", "word"},
        {"level=fatal msg=\"one\\ntwo\\n\\n\"", "one two"},
        {"level=fatal msg=\"first\"\nlevel=fatal msg=\"second\"", "second"},
        {"level=fatal msg=\"never closed", "never closed"},
        {"level=fatal msg=\"a\\", "a\\"},
        {"level=fatal msg=\"\x1b[2J\"", "?[2J"},
    };
    char out[64];
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        skopeo_fatal_message(cases[i].log, out, sizeof(out));
        assert_string_equal(out, cases[i].message);
    }
    skopeo_fatal_message("level=fatal msg=\"longer than there is room\"", out, 8);
    assert_string_equal(out, "longer");
}

/* A skopeo that says its words to a file and fails with a message. */
struct fake {
    char dir[40], words[64], path[200];
};

static struct fake fake_make(const char *message)
{
    struct fake fake = {.dir = "/tmp/unit-skopeo.XXXXXX"};
    char file[64], script[600];
    assert_non_null(mkdtemp(fake.dir));
    snprintf(fake.words, sizeof(fake.words), "%s/words", fake.dir);
    snprintf(file, sizeof(file), "%s/skopeo", fake.dir);
    snprintf(script, sizeof(script),
             "#!/bin/sh\nprintf '%%s\\n' \"$@\" >%s\n"
             "test -n '%s' || exit 0\n"
             "echo 'level=fatal msg=\"initializing source docker://x: %s\"' >&2\nexit 1\n",
             fake.words, message, message);
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
    assert_int_equal(io_write_full(fd, script, strlen(script)), 0);
    close(fd);
    snprintf(fake.path, sizeof(fake.path), "%.90s:/usr/bin:/bin", fake.dir);
    return fake;
}

static int fake_run(struct fake *fake, const struct skopeo_copy *copy, struct dayfly_err *err)
{
    char *before = strdup(getenv("PATH"));
    setenv("PATH", fake->path, 1);
    int rc = skopeo_run(copy, err);
    setenv("PATH", before, 1);
    free(before);
    return rc;
}

static void fake_remove(struct fake *fake)
{
    char file[64];
    snprintf(file, sizeof(file), "%s/skopeo", fake->dir);
    unlink(file);
    unlink(fake->words);
    assert_int_equal(rmdir(fake->dir), 0);
}

static void test_failures_have_codes_and_remedies(void **state)
{
    (void)state;
    static const struct {
        const char *message;
        int code;
        const char *says, *from;
    } cases[] = {
        {"reading manifest 1 in x: manifest unknown", ENOENT, "look at its name and tag"},
        {"Get https://x/v2/: http: server gave HTTP response to HTTPS client", EIO,
         "--tls-verify=false"},
        {"unable to retrieve auth token: invalid username/password: unauthorized", EACCES, "--creds"},
        {"choosing image: no image found in manifest list for architecture amd64", ENOTSUP,
         "other processors"},
        {"write /x: no space left on device", ENOSPC, "prune"},
        {"writing blob: happened during read: unexpected EOF", ECONNRESET,
         "x:1: unexpected EOF; another pull goes on"},
        {"read tcp 1.2.3.4: connection reset by peer", ECONNRESET,
         "goes on behind the last whole layer"},
        {"some flaw", EIO, "some flaw; another pull goes on"},
        /* A file that is cut does not get better. */
        {"reading tar archive: unexpected EOF", EIO, "unexpected EOF", "oci-archive:x"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct fake fake = fake_make(cases[i].message);
        struct dayfly_err err = {0};
        const struct skopeo_copy copy = {.from = cases[i].from ? cases[i].from : "docker://x",
                                         .to = "oci:y",
                                         .temp_dir = "/tmp",
                                         .shown = "x:1",
                                         .progress_fd = -1};
        assert_int_equal(fake_run(&fake, &copy, &err), -cases[i].code);
        assert_non_null(strstr(err.msg, "cannot pull x:1: "));
        assert_non_null(strstr(err.msg, cases[i].says));
        assert_null(strstr(err.msg, "initializing"));
        fake_remove(&fake);
    }
}

static void words_are(struct fake *fake, const struct skopeo_copy *copy, const char *expected)
{
    char *words;
    size_t len;
    struct dayfly_err err = {0};
    if (fake_run(fake, copy, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(io_read_file(AT_FDCWD, fake->words, 4096, &words, &len), 0);
    assert_string_equal(words, expected);
    free(words);
}

static void test_what_skopeo_is_told(void **state)
{
    (void)state;
    struct fake fake = fake_make("");
    struct skopeo_copy copy = {.from = "docker://x",
                               .to = "oci:y",
                               .shared_blobs = "/b",
                               .temp_dir = "/t",
                               .shown = "x",
                               .progress_fd = -1,
                               .access = {"u:p", "/a", "/c", "false"}};
    words_are(&fake, &copy,
              "--override-os=linux\n--override-arch=" OCI_ARCHITECTURE
              "\n--tmpdir\n/t\ncopy\n--src-creds=u:p\n--src-authfile=/a\n"
              "--src-cert-dir=/c\n--src-tls-verify=false\n--dest-shared-blob-dir=/b\n"
              "--dest-oci-accept-uncompressed-layers\n--\ndocker://x\noci:y\n");
    copy.from = "docker-archive:x";
    copy.access = (struct skopeo_access){0};
    words_are(&fake, &copy,
              "--override-os=linux\n--override-arch=" OCI_ARCHITECTURE
              "\n--tmpdir\n/t\ncopy\n--dest-shared-blob-dir=/b\n--\ndocker-archive:x\noci:y\n");
    copy = (struct skopeo_copy){.from = "oci:y",
                                .to = "docker://x",
                                .temp_dir = "/t",
                                .digest_file = "/d",
                                .ours_is_source = true,
                                .shown = "x",
                                .progress_fd = -1,
                                .access = {.creds = "u"}};
    words_are(&fake, &copy,
              "--override-os=linux\n--override-arch=" OCI_ARCHITECTURE
              "\n--tmpdir\n/t\ncopy\n--dest-creds=u\n--digestfile\n/d\n--\noci:y\ndocker://x\n");
    fake_remove(&fake);
}

static void test_a_missing_skopeo_names_its_package(void **state)
{
    (void)state;
    struct fake fake = {.path = "/nowhere"};
    struct dayfly_err err = {0};
    const struct skopeo_copy copy = {
        .from = "docker://x", .to = "oci:y", .temp_dir = "/t", .shown = "x", .progress_fd = -1};
    assert_int_equal(fake_run(&fake, &copy, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "install Debian's package skopeo"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_the_last_fatal_message),
        cmocka_unit_test(test_failures_have_codes_and_remedies),
        cmocka_unit_test(test_what_skopeo_is_told),
        cmocka_unit_test(test_a_missing_skopeo_names_its_package),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
