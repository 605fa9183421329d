/* SPDX-License-Identifier: Apache-2.0 */
#include "image/apt_sources.h"

#include "util/testing.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/testing_store.h"
#include "util/io.h"

static void write_text(const char *dir, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

static void expect(const char *dir, const char *suite, const char *expected)
{
    char *out;
    assert_int_equal(apt_sources_collect(dir, "bookworm", suite, &out, NULL), 0);
    assert_string_equal(out, expected);
    free(out);
}

static void test_sources(void **state)
{
    struct testing_home home = testing_home_make();
    char parts[128];
    (void)state;
    expect(home.path, "bookworm", "");

    write_text(home.path, "sources.list",
               "# comment\n"
               "deb http://mirror.example/debian bookworm main contrib # the archive\n"
               "deb-src http://mirror.example/debian bookworm main\n"
               "deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm-updates main\n"
               "deb [ trusted=yes ] http://lan.example/debian bookworm main\n"
               "deb http://third.example/x bookworm stable\n"
               "deb http://third.example/y other main\n"
               "deb http://third.example/z bookwormish main\n"
               "deb\n"
               "deb http://short.example\n");
    expect(home.path, "bookworm",
           "deb http://mirror.example/debian bookworm main contrib\n"
           "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm-updates main\n"
           "deb [trusted=yes] http://lan.example/debian bookworm main\n");
    expect(home.path, "sid",
           "deb http://mirror.example/debian sid main contrib\n"
           "deb [trusted=yes] http://lan.example/debian sid main\n");

    write_text(home.path, "sources.list", "");
    snprintf(parts, sizeof(parts), "%s/sources.list.d", home.path);
    assert_int_equal(mkdir(parts, 0755), 0);
    write_text(parts, "debian.sources",
               "# a comment\n"
               "Types: deb deb-src\n"
               "URIs: http://a.example/debian\n"
               " http://b.example/debian\n"
               "Suites: bookworm bookworm-updates\n"
               "Components: main\n"
               "Signed-By: /usr/share/keyrings/k.gpg\n"
               "\n"
               "Types: deb\n"
               "URIs: http://c.example/debian-security\n"
               "Suites: bookworm-security\n"
               "Components: main non-free\n"
               "Signed-By:\n"
               " -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
               " .\n"
               "\n"
               "Enabled: no\n"
               "Types: deb\n"
               "URIs: http://d.example/debian\n"
               "Suites: bookworm\n"
               "Components: main");
    expect(home.path, "trixie",
           "deb [signed-by=/usr/share/keyrings/k.gpg] http://a.example/debian trixie main\n"
           "deb [signed-by=/usr/share/keyrings/k.gpg] http://a.example/debian trixie-updates main\n"
           "deb [signed-by=/usr/share/keyrings/k.gpg] http://b.example/debian trixie main\n"
           "deb [signed-by=/usr/share/keyrings/k.gpg] http://b.example/debian trixie-updates main\n"
           "deb http://c.example/debian-security trixie-security main non-free\n");
    testing_home_remove(&home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sources)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
