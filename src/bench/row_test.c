/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/row.h"

#include <stdio.h>
#include <string.h>

#include "util/testing.h"

/* The command line in one string, with | between the words. */
static void assert_words(enum bench_row_kind kind, const struct bench_command *command,
                         const char *expected)
{
    const char *words[BENCH_MAX_WORDS];
    char all[1024] = "";
    bench_row_words(&bench_rows[kind], command, words);
    for (size_t i = 0; words[i]; i++) {
        strcat(all, i ? "|" : "");
        strcat(all, words[i]);
    }
    assert_string_equal(all, expected);
}

#define JOB  "--env|DAYFLY_BENCH_JOB=1|--workdir|/w|--entrypoint||"
#define WORK "/bin/sh|-c|SCRIPT|sh"

static void test_words(void **state)
{
    struct bench_command c = {.image = "IMAGE", .workdir = "/w", .name = "NAME", .script = "SCRIPT"};
    static const char ours[] = "dayfly|run|--quiet|--interactive|--engine|";
    char expected[512];
    snprintf(expected, sizeof(expected), "%snone|" JOB "host|--|" WORK, ours);
    assert_words(ROW_NONE, &c, expected);
    snprintf(expected, sizeof(expected), "%suser|--net|none|" JOB "host|--|" WORK, ours);
    assert_words(ROW_USER_HOST, &c, expected);
    snprintf(expected, sizeof(expected), "%skvm|--net|none|" JOB "IMAGE|--|" WORK, ours);
    assert_words(ROW_KVM, &c, expected);
    assert_words(ROW_PODMAN, &c,
                 "podman|run|--rm|--interactive|--name|NAME|--network|none|" JOB "IMAGE|" WORK);

    c.network = true;
    c.args[0] = "make";
    snprintf(expected, sizeof(expected), "%stcg|" JOB "IMAGE|--|" WORK "|make", ours);
    assert_words(ROW_TCG, &c, expected);
    c.runtime = "runc";
    c.args[1] = "2";
    assert_words(ROW_DOCKER, &c,
                 "docker|run|--runtime|runc|--rm|--interactive|--name|NAME|" JOB "IMAGE|" WORK
                 "|make|2");
    c.low_limits = true;
    assert_words(ROW_PODMAN, &c,
                 "podman|--runtime|runc|run|--rm|--interactive|--name|NAME|--ulimit=nofile=1024:1024|"
                 "--ulimit=nproc=4096:4096|" JOB "IMAGE|" WORK "|make|2");
}

/* Every row can be asked for, and says what it is. */
static void test_rows(void **state)
{
    for (size_t i = 0; i < ROW_KINDS; i++) {
        const struct bench_row_info *row = &bench_rows[i];
        assert_non_null(row->name);
        assert_non_null(row->title);
        assert_non_null(row->disk);
        assert_non_null(row->probe);
        assert_true(!row->engine == (row->program && row->transport));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(row->name, bench_rows[k].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words), cmocka_unit_test(test_rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
