/* SPDX-License-Identifier: Apache-2.0 */
/* The public machine as far as it needs no engine. */
#include "dayfly/vm.h"

#include <errno.h>
#include <stdio.h>

#include "dayfly/config.h"
#include "dayfly/version.h"
#include "util/testing.h"

static void test_the_version_is_everywhere_the_same(void **state)
{
    (void)state;
    char text[32];
    snprintf(text, sizeof(text), "%d.%d.%d", DAYFLY_VERSION_MAJOR, DAYFLY_VERSION_MINOR,
             DAYFLY_VERSION_PATCH);
    assert_string_equal(text, DAYFLY_VERSION);
    assert_string_equal(dayfly_version(), DAYFLY_VERSION);
}

static void test_no_machine_is_given_for_a_faulty_description(void **state)
{
    (void)state;
    struct dayfly_config *config;
    struct dayfly_vm *const before = (struct dayfly_vm *)&state, *vm = before;
    struct dayfly_err err = {0};
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(dayfly_vm_new(&vm, config, NULL, &err), -EINVAL);
    assert_ptr_equal(vm, before);
    assert_int_equal(err.code, EINVAL);
    dayfly_config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_version_is_everywhere_the_same),
        cmocka_unit_test(test_no_machine_is_given_for_a_faulty_description),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
