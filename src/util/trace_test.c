/* SPDX-License-Identifier: Apache-2.0 */
#include "util/testing.h"

#include <errno.h>
#include <string.h>

#include "util/trace.h"

static void a_mark_without_a_trace_does_nothing(void **state)
{
    trace_mark(NULL, TRACE_MAIN);
    trace_mark_at(NULL, TRACE_MAIN, 1);
}

static void a_point_keeps_its_first_mark(void **state)
{
    struct trace trace = {0};
    trace_mark_at(&trace, TRACE_ENTERED, 7);
    trace_mark_at(&trace, TRACE_ENTERED, 9);
    trace_mark(&trace, TRACE_HELLO);
    assert_int_equal(trace.at_ns[TRACE_ENTERED], 7);
    assert_true(trace.at_ns[TRACE_HELLO] > 0 && trace.at_ns[TRACE_HELLO] <= clock_ns());
}

static void what_is_written_can_be_read(void **state)
{
    struct trace trace = {0}, again;
    trace_mark_at(&trace, TRACE_MAIN, 1000000);
    trace_mark_at(&trace, TRACE_DESTROYED, UINT64_C(9000000000000000000));
    json_t *json = trace_json(&trace);
    assert_non_null(json);
    assert_null(json_object_get(json, "exits"));
    assert_int_equal(json_object_size(json_object_get(json, "points_ns")), 2);
    assert_int_equal(trace_from_json(json, &again), 0);
    for (int i = 0; i < TRACE_POINTS; i++)
        assert_int_equal(again.at_ns[i], trace.at_ns[i]);
    json_decref(json);

    trace.has_exits = true;
    trace.booted = (struct trace_exits){1, 2, 3, 4};
    trace.ended = (struct trace_exits){5, 6, 7, 8};
    json = trace_json(&trace);
    assert_int_equal(trace_from_json(json, &again), 0);
    assert_true(again.has_exits);
    assert_memory_equal(&again.booted, &trace.booted, sizeof(again.booted));
    assert_memory_equal(&again.ended, &trace.ended, sizeof(again.ended));
    json_decref(json);
}

static void what_is_no_trace_is_refused(void **state)
{
    static const char *const texts[] = {
        "[]",
        "{}",
        "{\"points_ns\": 3}",
        "{\"points_ns\": {\"main\": \"1\"}}",
        "{\"points_ns\": {\"main\": -1}}",
        "{\"points_ns\": {}, \"exits\": {}}",
        "{\"points_ns\": {}, \"exits\": {\"boot\": {\"port\": 1}}}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct trace trace;
        json_t *json = json_loads(texts[i], 0, NULL);
        assert_non_null(json);
        assert_int_equal(trace_from_json(json, &trace), -EPROTO);
        json_decref(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mark_without_a_trace_does_nothing),
        cmocka_unit_test(a_point_keeps_its_first_mark),
        cmocka_unit_test(what_is_written_can_be_read),
        cmocka_unit_test(what_is_no_trace_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
