/* SPDX-License-Identifier: Apache-2.0 */
#include "util/testing.h"

#include <string.h>

#include "hw/msix.h"
#include "machine/bus.h"

struct sent {
    unsigned count;
    uint64_t address;
    uint32_t data;
};

static int signal_msi(void *opaque, uint64_t address, uint32_t data)
{
    struct sent *s = opaque;
    s->count++;
    s->address = address;
    s->data = data;
    return 0;
}

struct env {
    struct sent sent;
    struct hypervisor hv;
    struct msix msix;
};

static int setup(void **state)
{
    static const struct hypervisor_ops ops = {.signal_msi = signal_msi};
    static struct env env;
    memset(&env, 0, sizeof(env));
    env.hv = (struct hypervisor){.ops = &ops, .opaque = &env.sent};
    msix_init(&env.msix, &env.hv, 66);
    *state = &env;
    return 0;
}

static int teardown(void **state)
{
    struct env *env = *state;
    msix_finish(&env->msix);
    return 0;
}

static void table_put(struct env *env, uint64_t offset, uint32_t value)
{
    msix_table_write(&env->msix, offset, &value, 4);
}

static uint64_t pending(struct env *env, uint64_t offset, unsigned len)
{
    uint64_t v = 0;
    msix_pending_read(&env->msix, offset, &v, len);
    return v;
}

static void program(struct env *env, unsigned vector, uint64_t address, uint32_t data, bool masked)
{
    msix_table_write(&env->msix, 16 * vector, &address, 8);
    table_put(env, 16 * vector + 8, data);
    table_put(env, 16 * vector + 12, masked);
}

static void sends_what_the_table_says(void **state)
{
    struct env *env = *state;
    program(env, 65, 0x1fee00000, 0x4041, false);
    msix_signal(&env->msix, 65);
    assert_int_equal(env->sent.count, 0); /* not enabled yet: nothing, and nothing remembered */
    msix_control(&env->msix, MSIX_CTRL_ENABLE);
    assert_int_equal(env->sent.count, 0);
    msix_signal(&env->msix, 65);
    assert_int_equal(env->sent.count, 1);
    assert_int_equal(env->sent.address, 0x1fee00000);
    assert_int_equal(env->sent.data, 0x4041);
    msix_signal(&env->msix, 66);
    msix_signal(&env->msix, MSIX_NO_VECTOR);
    assert_int_equal(env->sent.count, 1);
}

static void a_masked_vector_is_pending(void **state)
{
    struct env *env = *state;
    msix_control(&env->msix, MSIX_CTRL_ENABLE);
    program(env, 64, 0xfee00000, 7, true);
    msix_signal(&env->msix, 64);
    msix_signal(&env->msix, 64);
    assert_int_equal(env->sent.count, 0);
    assert_int_equal(pending(env, 8, 8), 1);
    assert_int_equal(pending(env, 8, 4), 1);
    assert_int_equal(pending(env, 0, 8), 0);
    table_put(env, 16 * 64 + 12, 0);
    assert_int_equal(env->sent.count, 1); /* once, however often */
    assert_int_equal(pending(env, 8, 8), 0);
}

static void the_function_mask_holds_all_back(void **state)
{
    struct env *env = *state;
    msix_control(&env->msix, MSIX_CTRL_ENABLE | MSIX_CTRL_MASKALL);
    program(env, 0, 0xfee00000, 1, false);
    program(env, 1, 0xfee00000, 2, true);
    msix_signal(&env->msix, 0);
    msix_signal(&env->msix, 1);
    assert_int_equal(pending(env, 0, 8), 3);
    msix_control(&env->msix, MSIX_CTRL_ENABLE);
    assert_int_equal(env->sent.count, 1);
    assert_int_equal(env->sent.data, 1);
    assert_int_equal(pending(env, 0, 8), 2);
}

static void odd_accesses_harm_nothing(void **state)
{
    struct env *env = *state;
    program(env, 0, 0xfee00000, 1, true);
    uint8_t before[16], after[16], garbage[8];
    msix_table_read(&env->msix, 0, before, 8);
    msix_table_read(&env->msix, 8, before + 8, 8);
    memset(garbage, 0x5a, sizeof(garbage));
    msix_table_write(&env->msix, 0, garbage, 1);
    msix_table_write(&env->msix, 2, garbage, 2);
    msix_table_write(&env->msix, 2, garbage, 4);
    msix_table_write(&env->msix, 4, garbage, 8);
    msix_table_write(&env->msix, 16 * 66, garbage, 8);
    msix_table_write(&env->msix, 4088, garbage, 8);
    msix_table_read(&env->msix, 0, after, 8);
    msix_table_read(&env->msix, 8, after + 8, 8);
    assert_memory_equal(before, after, 16);
    uint64_t v = 0;
    msix_table_read(&env->msix, 16 * 66, &v, 8);
    assert_int_equal(v, UINT64_MAX);
    msix_table_read(&env->msix, 3, &v, 2);
    assert_int_equal(pending(env, 16, 8), 0);
    assert_int_equal(pending(env, 4088, 8), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sends_what_the_table_says, setup, teardown),
        cmocka_unit_test_setup_teardown(a_masked_vector_is_pending, setup, teardown),
        cmocka_unit_test_setup_teardown(the_function_mask_holds_all_back, setup, teardown),
        cmocka_unit_test_setup_teardown(odd_accesses_harm_nothing, setup, teardown),
    };
    return cmocka_run_group_tests_name("hw-msix", tests, NULL, NULL);
}
