/* SPDX-License-Identifier: Apache-2.0 */
#include "util/testing.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/boot.h"

#define ROUNDS 3

static const struct boot_options options = {.engine = "kvm", .image = "some", .rounds = ROUNDS};

static void fill(double *row, double base, double step)
{
    for (unsigned i = 0; i < ROUNDS; i++)
        row[i] = base + step * i;
}

/* Two cases of which the second takes twice as long; the guest's kernel was not seen. */
static void make(struct boot *boot)
{
    *boot = (struct boot){.options = &options, .rounds = ROUNDS};
    strcpy(boot->host.kernel, "6.1");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(boot_add_case(boot, i ? 8 : 1, UINT64_C(256) << 20, NULL), 0);
        struct boot_case *c = &boot->cases[i];
        for (size_t m = 0; m < BOOT_MOMENTS; m++) {
            bool seen = m != BOOT_TRACE + TRACE_KERNEL;
            fill(c->phases[m], seen ? 2.0 : NAN, 0.5);
            fill(c->since[m], seen ? 2.0 * (double)m : NAN, 0.5);
        }
        for (size_t s = 0; s < BOOT_SUMS; s++)
            fill(c->sums[s], i ? 40 : 20, i ? 2 : 1);
    }
    boot->cases[0].has_exits = true;
    boot->cases[0].booted = (struct trace_exits){11, 22, 33, 44};
    boot->cases[0].ended = (struct trace_exits){110, 220, 330, 440};
}

static void say_text(const struct boot *boot, char *text, size_t size)
{
    FILE *out = fmemopen(text, size, "w");
    assert_non_null(out);
    boot_say_text(boot, out);
    assert_int_equal(fclose(out), 0);
}

static void the_text_has_phases_sums_exits_and_growth(void **state)
{
    struct boot boot;
    make(&boot);
    char text[16384];
    say_text(&boot, text, sizeof(text));
    assert_non_null(strstr(text, "engine kvm, image some, 3 rounds"));
    assert_non_null(strstr(text, "\n256MiB, 1 processor\n"));
    assert_non_null(strstr(text, "\nentered "));
    assert_non_null(strstr(text, "2.50  (2.00 to 3.00)"));
    assert_null(strstr(text, "\nkernel "));
    assert_non_null(
        strstr(text, "exits until the agent's answer: 11 of ports, 22 of registers in memory"));
    assert_non_null(strstr(text, "exits until the end: 110 of ports"));
    const char *growth = strstr(text, "\nagainst 256MiB, 1 processor\n256MiB, 8 processors\n");
    assert_non_null(growth);
    assert_non_null(strstr(growth, "2.00  (2.00 to 2.00)"));
    boot_finish(&boot);
}

static void the_json_has_every_run(void **state)
{
    struct boot boot;
    make(&boot);
    json_t *json = boot_say_json(&boot);
    assert_non_null(json);
    json_t *first = json_array_get(json_object_get(json, "cases"), 0), *phase;
    size_t i, seen = 0;
    json_array_foreach (json_object_get(first, "phases"), i, phase) {
        assert_string_not_equal(json_string_value(json_object_get(phase, "until")), "kernel");
        seen++;
        json_t *ms = json_object_get(phase, "ms");
        assert_int_equal(json_array_size(json_object_get(ms, "runs")), ROUNDS);
    }
    assert_int_equal(seen, BOOT_MOMENTS - 2);
    json_t *figure = json_object_get(json_object_get(first, "figures"), "to_agent");
    assert_true(fabs(json_real_value(json_object_get(figure, "median")) - 21) < 1e-9);
    json_t *exits = json_object_get(json_object_get(first, "exits"), "boot");
    assert_int_equal(json_integer_value(json_object_get(exits, "memory")), 22);
    assert_true(
        json_is_null(json_object_get(json_array_get(json_object_get(json, "cases"), 1), "exits")));
    json_decref(json);
    boot_finish(&boot);
}

static void nothing_measured_is_said_without_figures(void **state)
{
    struct boot boot;
    make(&boot);
    boot.rounds = 0;
    char text[16384];
    say_text(&boot, text, sizeof(text));
    assert_non_null(strstr(text, "0 rounds"));
    assert_null(strstr(text, "processor\n"));
    json_t *json = boot_say_json(&boot);
    assert_non_null(json);
    json_decref(json);
    boot_finish(&boot);
}

static void every_moment_and_sum_has_a_name_of_its_own(void **state)
{
    for (enum boot_moment a = 0; a < BOOT_MOMENTS; a++)
        for (enum boot_moment b = 0; b < a; b++)
            assert_string_not_equal(boot_moment_name(a), boot_moment_name(b));
    for (enum boot_sum a = 0; a < BOOT_SUMS; a++)
        for (enum boot_sum b = 0; b < a; b++)
            assert_string_not_equal(boot_sum_name(a), boot_sum_name(b));
    /* What a trace calls them. */
    for (enum trace_point p = 0; p <= TRACE_STARTED; p++)
        assert_string_equal(boot_moment_name((enum boot_moment)(BOOT_TRACE + p)), trace_name(p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_has_phases_sums_exits_and_growth),
        cmocka_unit_test(the_json_has_every_run),
        cmocka_unit_test(nothing_measured_is_said_without_figures),
        cmocka_unit_test(every_moment_and_sum_has_a_name_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
