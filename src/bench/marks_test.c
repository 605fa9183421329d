/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/marks.h"

#include <math.h>
#include <string.h>

#include "util/testing.h"

static void take(struct marks *marks, const char *text)
{
    marks_take(marks, text, strlen(text));
}

static void test_a_build(void **state)
{
    struct marks marks;
    marks_start(&marks);
    take(&marks, "0m0.00s 0m0.01s\n0m0.10s 0m0.02s\n@dayfly beg");
    assert_false(marks.begun);
    take(&marks, "in\n");
    assert_true(marks.begun);
    assert_true(isnan(marks_cpu_s(&marks)));
    take(&marks, "@dayfly end\n0m0.00s 0m0.01s\n1m2.10s 0m1.02s\n");
    assert_true(marks.ended);
    assert_true(fabs(marks_cpu_s(&marks) - 63.0) < 1e-6);
}

static void test_disks(void **state)
{
    struct marks marks;
    marks_start(&marks);
    take(&marks, "@dayfly buffered\n@dayfly read 1234.5\n");
    assert_true(marks.buffered);
    assert_true(marks.read_per_s == 1234.5);
    assert_true(isnan(marks.write_per_s));

    /* fio's fields: 8 is the reads, 49 the writes. */
    char terse[512] = "3;fio-3.33;x;0;0;10;20;5000";
    for (int field = 9; field < 49; field++)
        strcat(terse, ";0");
    strcat(terse, ";0;0\n");
    marks_start(&marks);
    take(&marks, terse);
    assert_true(marks.read_per_s == 5000);
    assert_true(isnan(marks.write_per_s));
}

static void test_programs(void **state)
{
    struct marks marks;
    marks_start(&marks);
    take(&marks, "@dayfly have cc cc (X) 12.2\n@dayfly have make \033[31mred\n@dayfly have ls 1\n");
    assert_string_equal(marks.compiler, "cc (X) 12.2");
    assert_string_equal(marks.make, "?[31mred");
    assert_string_equal(marks.fio, "");
}

/* It may say what it likes: nothing of it is a figure. */
static void test_nonsense(void **state)
{
    static const char *const lines[] = {
        "@dayfly read -1\n",
        "@dayfly read nan\n",
        "@dayfly read inf\n",
        "@dayfly read 1e9\n",
        "@dayfly read 0x10\n",
        "@dayfly read 1 2\n",
        "@dayfly read \n",
        "@dayfly read 1.2.3\n",
        "@dayfly read 9999999999999999\n",
        "3;fio-\n",
        "3;fio-;;;;;;x;\n",
        "@dayfly beginning\n",
        "@dayfly\n",
        "@dayfly \n",
        "1m2s3\n",
        "m s\n",
        "-1m2.0s 0m1s\n",
        "0m1s0m1s\n",
        "\n",
        "@dayfly have cc\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        struct marks marks;
        marks_start(&marks);
        take(&marks, lines[i]);
        assert_true(isnan(marks.read_per_s) && isnan(marks.write_per_s));
        assert_false(marks.begun || marks.ended || marks.buffered);
        assert_int_equal(marks.times_lines, 0);
        assert_string_equal(marks.compiler, "");
    }
}

static void test_long_lines_and_many_times(void **state)
{
    struct marks marks;
    char line[3 * MARKS_LINE_BYTES];
    marks_start(&marks);
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    take(&marks, line);
    take(&marks, "\n@dayfly begin\n");
    assert_true(marks.begun);
    for (int i = 0; i < 10; i++)
        take(&marks, "0m1.0s 0m1.0s\n");
    assert_int_equal(marks.times_lines, 4);
    memset(line, 'v', 200);
    memcpy(line, "@dayfly have fio ", 17);
    line[200] = '\n';
    line[201] = '\0';
    take(&marks, line);
    assert_int_equal(strlen(marks.fio), MARKS_VERSION_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_build),
        cmocka_unit_test(test_disks),
        cmocka_unit_test(test_programs),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_long_lines_and_many_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
