/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/testing_kvm.h"

#include <string.h>

#include "machine/probe.h"

static void what_is_missing_is_said(void **state)
{
    struct probe_result result;
    probe_kvm("/nonexistent/kvm", &result);
    assert_int_equal(result.answer, PROBE_MISSING);
    assert_non_null(strstr(result.reason, "/nonexistent/kvm"));
    probe_kvm("/dev/null", &result);
    assert_int_equal(result.answer, PROBE_UNUSABLE);
}

/* Either answer may be the truth of this host; but it must be one of the two, and a no must name why.
 */
static void a_guest_is_run(void **state)
{
    need_kvm();
    struct probe_result result;
    probe_kvm(NULL, &result);
    if (result.answer == PROBE_UNUSABLE)
        assert_non_null(strstr(result.reason, "it fails at "));
    else
        assert_int_equal(result.answer, PROBE_WORKS);
    assert_true((result.answer == PROBE_WORKS) == (result.reason[0] == '\0'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_missing_is_said),
        cmocka_unit_test(a_guest_is_run),
    };
    return cmocka_run_group_tests_name("machine-probe", tests, NULL, NULL);
}
