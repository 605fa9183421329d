/* SPDX-License-Identifier: Apache-2.0 */
/* The table in its four forms, of figures and texts that are made up, some by somebody hostile. */
#include "bench/say.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/testing.h"

#define HOSTILE "</script><script>alert(\"1\")</script>&'|*\x01"

static char *printed(void (*say)(const struct bench *, const char *, FILE *), const struct bench *bench)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    say(bench, "dayfly bench --build '" HOSTILE "'", out);
    fclose(out);
    return text;
}

enum { SLOTS = 2 * BENCH_STARTS };

/* Bare metal, and a row that is twice as slow; one that cannot run; one that was not tried. */
static int make(void **state)
{
    static struct bench_options options = {.image = HOSTILE, .rounds = 2, .build = HOSTILE};
    struct bench *bench = calloc(1, sizeof(*bench));
    *bench = (struct bench){
        .options = &options,
        .columns = (1u << BENCH_COLUMNS) - 1,
        .others = 0.25,
        .row_count = 4,
        .slots = SLOTS,
        .rounds = 2,
        .rows = {{.info = &bench_rows[ROW_NONE], .works = true},
                 {.info = &bench_rows[ROW_USER], .works = true, .note = HOSTILE},
                 {.info = &bench_rows[ROW_KVM], .why = HOSTILE},
                 {.info = &bench_rows[ROW_PODMAN]}},
    };
    snprintf(bench->host.processor, sizeof(bench->host.processor), HOSTILE);
    snprintf(bench->source, sizeof(bench->source), "/x/lua.tar");
    for (size_t i = 0; i < bench->row_count; i++)
        for (size_t c = 0; c < BENCH_COLUMNS; c++) {
            bench->rows[i].values[c] = calloc(SLOTS, sizeof(double));
            for (size_t k = 0; k < SLOTS; k++)
                bench->rows[i].values[c][k] = i < 2 && k < 2 ? (double)((i + 1) * (k + 10)) : NAN;
        }
    *state = bench;
    return 0;
}

static int drop(void **state)
{
    bench_finish(*state);
    free(*state);
    return 0;
}

static void test_html_text(void **state)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    html_text(out, "<a href=\"x\">&'\x01\x1b\t\x7fé");
    fclose(out);
    assert_string_equal(text, "&lt;a href=&quot;x&quot;&gt;&amp;&#39;\té");
    free(text);
}

/* Nothing that somebody said is an element, and nothing comes from elsewhere. */
static void test_page(void **state)
{
    char *page = printed(bench_say_html, *state);
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "http://"));
    assert_null(strstr(page, "https://"));
    assert_null(strstr(page, "nan"));
    assert_null(strchr(page, '\x01'));
    assert_non_null(strstr(page, "&lt;script&gt;"));
    assert_non_null(strstr(page, "Content-Security-Policy"));
    assert_non_null(strstr(page, "prefers-color-scheme: dark"));
    /* A chart with a name, and a table, for each column. */
    for (int c = 0; c < BENCH_COLUMNS; c++) {
        char id[64];
        snprintf(id, sizeof(id), "<title id=\"chart-%s-title\">", bench_columns[c].name);
        assert_non_null(strstr(page, id));
        snprintf(id, sizeof(id), "<h2 id=\"%s\">", bench_columns[c].name);
        assert_non_null(strstr(page, id));
    }
    free(page);
}

static void test_text(void **state)
{
    char *text = printed(bench_say_text, *state);
    assert_non_null(strstr(text, "user    21.0 (20.0 to 22.0)"));
    assert_non_null(strstr(text, "2.00 (2.00 to 2.00)"));
    assert_non_null(strstr(text, "kvm     cannot run here: "));
    assert_non_null(strstr(text, "podman  cannot run here: not tried"));
    assert_non_null(strstr(text, "25 % of the processors: this machine was not quiet"));
    free(text);
}

static void test_markdown(void **state)
{
    char *text = printed(bench_say_markdown, *state);
    assert_non_null(strstr(text, "| Dayfly, engine user | 21.0 (20.0 to 22.0) ×2.00 |"));
    assert_null(strstr(text, "* image: <"));
    assert_non_null(strstr(text, "\\<script\\>"));
    free(text);
}

static void test_json(void **state)
{
    struct bench *bench = *state;
    json_t *table = bench_say_json(bench, "dayfly bench '\xff'");
    assert_non_null(table);
    json_t *rows = json_object_get(table, "rows");
    assert_int_equal(json_array_size(rows), 4);
    json_t *start = json_object_get(json_object_get(json_array_get(rows, 1), "figures"), "start");
    assert_true(json_number_value(json_object_get(start, "median")) == 21);
    assert_true(json_number_value(json_object_get(json_object_get(start, "ratio"), "median")) == 2);
    assert_int_equal(json_array_size(json_object_get(start, "runs")), SLOTS);
    assert_true(json_is_null(json_array_get(json_object_get(start, "runs"), 5)));
    json_t *kvm = json_array_get(rows, 2);
    assert_true(json_is_false(json_object_get(kvm, "works")));
    assert_int_equal(json_object_size(json_object_get(kvm, "figures")), 0);
    json_decref(table);
}

/* Nobody to compare with, and nobody who has a figure. */
static void test_without_bare_metal(void **state)
{
    struct bench *bench = *state;
    bench->rows[0].info = &bench_rows[ROW_USER_HOST];
    bench->rows[1].works = false;
    for (size_t c = 0; c < BENCH_COLUMNS; c++)
        for (size_t k = 0; k < SLOTS; k++)
            bench->rows[0].values[c][k] = bench->rows[1].values[c][k] = NAN;
    assert_null(bench_base(bench));
    char *page = printed(bench_say_html, bench), *text = printed(bench_say_text, bench);
    assert_null(strstr(page, "<svg"));
    assert_null(strstr(text, "nan"));
    free(page);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_html_text),
        cmocka_unit_test_setup_teardown(test_page, make, drop),
        cmocka_unit_test_setup_teardown(test_text, make, drop),
        cmocka_unit_test_setup_teardown(test_markdown, make, drop),
        cmocka_unit_test_setup_teardown(test_json, make, drop),
        cmocka_unit_test_setup_teardown(test_without_bare_metal, make, drop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
