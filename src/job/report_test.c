/* SPDX-License-Identifier: Apache-2.0 */
#include "job/report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/job.h"
#include "job/overhead.h"
#include "machine/memory.h"
#include "util/testing.h"

static const struct start_state start = {.kernel = "sha256:k",
                                         .image = "sha256:i",
                                         .command_line = "quiet",
                                         .cpus = 2,
                                         .memory_bytes = 1 << 30};

static json_t *report_of(struct guest_result result)
{
    const struct report_facts facts = {.image = "debian:latest",
                                       .engine = "kvm",
                                       .why = "asked for",
                                       .kernel_release = "6.12",
                                       .stat = {.cpu_us = 2500, .memory_peak_bytes = 4096},
                                       .overhead_bytes = 5,
                                       .network = json_pack("{s:s}", "mode", "none")};
    json_t *report = report_begin(&facts, &start, &result);
    assert_non_null(report);
    assert_int_equal(report_end(report, &(struct job_timings){.create_ns = 1500000, .total_ns = 9}), 0);
    return report;
}

static json_t *get(const json_t *report, const char *group, const char *key)
{
    json_t *value = json_object_get(json_object_get(report, group), key);
    assert_non_null(value);
    return value;
}

static void test_an_exit_and_the_figures(void **state)
{
    (void)state;
    json_t *r = report_of((struct guest_result){.outcome = GUEST_EXITED, .code = 42});
    assert_int_equal(json_integer_value(get(r, "exit", "code")), 42);
    assert_true(json_is_null(get(r, "exit", "signal")));
    assert_true(json_is_false(get(r, "exit", "timed_out")));
    assert_int_equal(json_integer_value(get(r, "resources", "cpu_ms")), 2);
    assert_int_equal(json_integer_value(get(r, "resources", "overhead_bytes")), 5);
    assert_true(json_real_value(get(r, "timings_ms", "create")) == 1.5);
    json_decref(r);
}

static void test_shares_are_named(void **state)
{
    (void)state;
    char source[] = "/src/\xff";
    const struct job_share share = {.source = source, .path = "/work", .mode = DAYFLY_SHARE_RO};
    struct start_state with = start;
    struct report_facts facts = {
        .image = "i", .engine = "kvm", .why = "w", .kernel_release = "6.12", .network = json_object()};
    const struct guest_result result = {.outcome = GUEST_EXITED};
    with.shares = &share;
    with.share_count = 1;
    json_t *report = report_begin(&facts, &with, &result);
    json_t *list = json_object_get(report, "shares");
    char *text = json_dumps(list, JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, "[{\"mode\":\"ro\",\"path\":\"/work\",\"source\":\"/src/?\"}]");
    free(text);
    json_decref(report);
    facts.network = json_object(); /* the first was the report's */
    report = report_begin(&facts, &start, &result);
    assert_int_equal(json_array_size(json_object_get(report, "shares")), 0);
    json_decref(report);
}

static void test_a_signal_has_no_code(void **state)
{
    (void)state;
    json_t *r =
        report_of((struct guest_result){.outcome = GUEST_SIGNALED, .signal = 9, .timed_out = true});
    assert_true(json_is_null(get(r, "exit", "code")));
    assert_int_equal(json_integer_value(get(r, "exit", "signal")), 9);
    assert_true(json_is_true(get(r, "exit", "timed_out")));
    json_decref(r);
}

static void expect_digest(const struct start_state *state, const char *other, bool same)
{
    json_t *s = start_state_json(state);
    assert_non_null(s);
    const char *digest = json_string_value(json_object_get(s, "digest"));
    assert_int_equal(strncmp(digest, "sha256:", 7), 0);
    assert_int_equal(strcmp(digest, other) == 0, same);
    json_decref(s);
}

static void test_only_the_expected_state_will_do(void **state)
{
    (void)state;
    struct dayfly_err err = {0};
    json_t *s = start_state_json(&start);
    const char *digest = json_string_value(json_object_get(s, "digest"));
    struct start_state other = start;
    assert_int_equal(start_state_expect(&start, digest, NULL), 0);
    other.memory_bytes *= 2;
    assert_int_equal(start_state_expect(&other, digest, &err), -ESTALE);
    assert_non_null(strstr(err.msg, digest)); /* both are named */
    assert_non_null(strstr(err.msg, "the start state is sha256:"));
    assert_int_equal(start_state_expect(&start, "sha256:12", &err), -EINVAL);
    assert_int_equal(start_state_expect(&start, "", &err), -EINVAL);
    /* What the guest's agent is counts as well: its digest is a part of the whole. */
    assert_int_equal(strncmp(json_string_value(json_object_get(s, "agent")), "sha256:", 7), 0);
    json_decref(s);
}

static void test_steps_and_artifacts_are_told(void **state)
{
    (void)state;
    json_t *steps = NULL, *artifacts = json_pack("[{s:s, s:b}]", "guest", "/a", "missing", true);
    const struct guest_result good = {.outcome = GUEST_EXITED};
    const struct guest_result bad = {.outcome = GUEST_EXITED, .code = 3};
    assert_int_equal(report_step(&steps, "build", 1500000, &good), 0);
    assert_int_equal(report_step(&steps, "te\033st", 2000000, &bad), 0);
    const struct report_facts facts = {.image = "i",
                                       .engine = "kvm",
                                       .why = "w",
                                       .kernel_release = "6.12",
                                       .network = json_object(),
                                       .artifacts = artifacts,
                                       .steps = steps};
    json_t *report = report_begin(&facts, &start, &bad);
    char *text = json_dumps(json_object_get(report, "steps"), JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, "[{\"code\":0,\"ms\":1.5,\"name\":\"build\",\"signal\":null,"
                              "\"timed_out\":false},{\"code\":3,\"ms\":2.0,\"name\":\"te?st\","
                              "\"signal\":null,\"timed_out\":false}]");
    free(text);
    assert_int_equal(json_array_size(json_object_get(report, "artifacts")), 1);
    json_decref(report);
    json_decref(steps);
    json_decref(artifacts);
}

static void test_a_failure_is_a_report_as_well(void **state)
{
    (void)state;
    json_t *report = report_of_failure("no \033image", 125);
    assert_string_equal(json_string_value(json_object_get(report, "error")), "no ?image");
    assert_string_equal(json_string_value(json_object_get(report, "dayfly")), DAYFLY_VERSION);
    char *text = json_dumps(json_object_get(report, "exit"), JSON_COMPACT | JSON_SORT_KEYS);
    assert_string_equal(text, "{\"code\":125,\"signal\":null,\"timed_out\":false}");
    free(text);
    json_decref(report);
}

static void test_the_start_state_changes_with_every_part(void **state)
{
    (void)state;
    json_t *s = start_state_json(&start);
    const char *digest = json_string_value(json_object_get(s, "digest"));
    struct start_state other = start;
    expect_digest(&other, digest, true);
    other.cpus++;
    expect_digest(&other, digest, false);
    other = start;
    other.image = "sha256:j";
    expect_digest(&other, digest, false);
    other = start;
    other.kernel = "sha256:l";
    expect_digest(&other, digest, false);
    other = start;
    other.command_line = "";
    expect_digest(&other, digest, false);
    other = start;
    other.disk_bytes++;
    expect_digest(&other, digest, false);
    json_decref(s);
}

static void test_overhead_leaves_guest_memory_out(void **state)
{
    (void)state;
    const struct memory_layout layout = {.gpa = 0, .size_bytes = 32 << 20};
    struct memory mem;
    int64_t before = overhead_of_process(0);
    assert_true(before > 0);
    assert_int_equal(memory_create(&mem, &layout, 1, NULL), 0);
    memset(mem.regions[0].hva, 1, layout.size_bytes);
    assert_true(overhead_of_process(0) - before < 4 << 20);
    memory_finish(&mem);
    assert_int_equal(memory_create_private(&mem, &layout, 1, NULL), 0);
    memset(mem.regions[0].hva, 1, layout.size_bytes);
    assert_true(overhead_of_process(0) - before < 4 << 20);
    memory_finish(&mem);
    assert_true(overhead_of_process(0x7fffffff) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_exit_and_the_figures),
        cmocka_unit_test(test_shares_are_named),
        cmocka_unit_test(test_a_signal_has_no_code),
        cmocka_unit_test(test_only_the_expected_state_will_do),
        cmocka_unit_test(test_steps_and_artifacts_are_told),
        cmocka_unit_test(test_a_failure_is_a_report_as_well),
        cmocka_unit_test(test_the_start_state_changes_with_every_part),
        cmocka_unit_test(test_overhead_leaves_guest_memory_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
