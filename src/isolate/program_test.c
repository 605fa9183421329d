/* SPDX-License-Identifier: Apache-2.0 */
/* Programs are run here, instruction by instruction, and what they say of a call is compared with what
 * the tables say. */
#include "isolate/program.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/testing.h"

#define LISTED SECCOMP_RET_ALLOW
#define OTHER  (SECCOMP_RET_ERRNO | EPERM)
#define NONE   (SECCOMP_RET_ERRNO | ENOSYS)

static const struct program_verdicts allow = {.listed = LISTED, .other = OTHER};
static const struct program_verdicts deny = {.listed = OTHER, .other = LISTED, .newest = 400};

/* As the kernel runs it: no jump backwards, none out of it, and an end on each way. */
static uint32_t run(const struct sock_fprog *program, const struct seccomp_data *data)
{
    uint32_t a = 0;
    for (size_t at = 0; at < program->len; at++) {
        const struct sock_filter *i = &program->filter[at];
        bool yes = false;
        switch (i->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_true(i->k % 4 == 0 && i->k + 4 <= sizeof(*data));
            memcpy(&a, (const char *)data + i->k, sizeof(a));
            continue;
        case BPF_ALU | BPF_AND | BPF_K:
            a &= i->k;
            continue;
        case BPF_JMP | BPF_JA:
            at += i->k;
            continue;
        case BPF_JMP | BPF_JEQ | BPF_K:
            yes = a == i->k;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            yes = a > i->k;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            yes = a >= i->k;
            break;
        case BPF_RET | BPF_K:
            return i->k;
        default:
            fail_msg("an instruction of code %#x", i->code);
        }
        at += yes ? i->jt : i->jf;
    }
    fail_msg("ran out of the program");
    return 0;
}

static bool holds(const struct isolate_check *c, const struct seccomp_data *data)
{
    uint64_t arg = data->args[c->arg];
    return c->from ? arg >= c->value : (arg & c->mask) == c->value;
}

static uint32_t judge(const struct isolate_calls *tables, size_t count,
                      const struct program_verdicts *v, const struct seccomp_data *data)
{
    if (v->newest && (uint32_t)data->nr > v->newest)
        return NONE;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < tables[i].count; j++) {
            const struct isolate_call *call = &tables[i].calls[j];
            bool all = call->number == data->nr;
            for (unsigned k = 0; k < call->check_count; k++)
                all = all && holds(&call->checks[k], data);
            if (all)
                return call->code ? SECCOMP_RET_ERRNO | (uint32_t)call->code : v->listed;
        }
    return v->other;
}

static uint64_t random_word(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed ^ *seed >> 29;
}

/* Near what is compared with: itself, its neighbours, with bits beside the mask, in the other half. */
static uint64_t near(const struct isolate_check *c, uint64_t random)
{
    switch (random % 8) {
    case 0:
        return c->value - 1;
    case 1:
        return c->value + 1;
    case 2:
        return c->value | ~c->mask;
    case 3:
        return c->value ^ UINT64_C(1) << (random >> 8) % 64;
    case 4:
        return c->value << 32 | c->value >> 32;
    case 5:
        return random;
    default:
        return c->value;
    }
}

static void compare(const struct isolate_calls *tables, size_t count, const struct program_verdicts *v)
{
    struct sock_fprog program;
    uint64_t seed = 1;
    assert_int_equal(program_compile(tables, count, v, &program), 0);
    for (int nr = -2; nr < 520; nr++) {
        struct seccomp_data data = {.nr = nr, .arch = AUDIT_ARCH_X86_64};
        assert_int_equal(run(&program, &data), judge(tables, count, v, &data));
        data.nr |= 0x40000000; /* of x32 */
        assert_int_equal(run(&program, &data), judge(tables, count, v, &data));
    }
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < tables[i].count; j++)
            for (unsigned round = 0; round < 64; round++) {
                const struct isolate_call *call = &tables[i].calls[j];
                struct seccomp_data data = {.nr = call->number, .arch = AUDIT_ARCH_X86_64};
                for (unsigned k = 0; k < 6; k++)
                    data.args[k] = random_word(&seed);
                for (unsigned k = 0; k < call->check_count; k++)
                    data.args[call->checks[k].arg] = near(&call->checks[k], random_word(&seed));
                assert_int_equal(run(&program, &data), judge(tables, count, v, &data));
            }
    const struct seccomp_data foreign = {.nr = SYS_read, .arch = AUDIT_ARCH_I386};
    assert_int_equal(run(&program, &foreign), v->other == LISTED ? NONE : v->other);
    program_free(&program);
}

static const struct isolate_call some[] = {
    ISOLATE_CALL(write),
    ISOLATE_CALL(read),
    ISOLATE_CALL_IF(mmap, 2, 4, 0),
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, 7),
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, 8),
    ISOLATE_CALL_IF(prctl, 0, UINT64_MAX, 15),
    ISOLATE_CALL_IF(lseek, 1, UINT64_C(0xff00000000), UINT64_C(0x4200000000)),
    ISOLATE_CALL_IF(close, 0, 1, 2), /* never */
    ISOLATE_CALL_IF(dup, 0, 0, 0),   /* always */
    {.number = SYS_prlimit64,
     .check_count = 1,
     .checks = {{.arg = 0, .value = UINT64_C(0x100000001), .from = true}}},
    {.number = SYS_socket,
     .check_count = 2,
     .checks = {{.arg = 0, .mask = UINT64_MAX, .value = 1}, {.arg = 1, .value = 3, .from = true}}},
    {.number = SYS_openat2, .code = ENOSYS},
};
/* More of what is there already: rows add up, in their order. */
static const struct isolate_call more[] = {
    ISOLATE_CALL_IF(fcntl, 1, UINT32_MAX, 9),
    {.number = SYS_read, .code = EIO},
    {.number = SYS_mmap, .code = EACCES},
    ISOLATE_CALL_IF(prctl, 1, UINT64_MAX, 15),
};

static void test_says_what_the_tables_say(void **state)
{
    const struct isolate_calls tables[] = {ISOLATE_CALLS(some), ISOLATE_CALLS(more)};
    for (size_t count = 0; count <= ARRAY_SIZE(tables); count++) {
        compare(tables, count, &allow);
        compare(tables, count, &deny);
    }
}

static void test_what_threads_are_locked_up_with(void **state)
{
    const struct isolate_calls tables[] = {isolate_base_calls, isolate_thread_calls,
                                           isolate_tighten_calls, ISOLATE_CALLS(some)};
    compare(tables, ARRAY_SIZE(tables), &allow);
}

static void make_random(struct isolate_call *call, uint64_t *seed)
{
    uint64_t word = random_word(seed);
    *call = (struct isolate_call){.number = (int)(word % 450), .check_count = word >> 16 & 1};
    call->code = word >> 17 & 1 ? (int)(word >> 20 & 127) : 0;
    for (unsigned i = 0; i < call->check_count; i++) {
        uint64_t bits = random_word(seed);
        call->checks[i] = (struct isolate_check){
            .arg = bits % 6,
            .mask = random_word(seed) << (bits >> 8) % 64,
            .from = bits >> 16 & 1,
        };
        call->checks[i].value = random_word(seed) & call->checks[i].mask;
    }
}

/* All numbers there are, often twice: jumps longer than 255. */
static void test_long_tables(void **state)
{
    static struct isolate_call calls[220];
    uint64_t seed = 7;
    for (unsigned round = 0; round < 50; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
            make_random(&calls[i], &seed);
        const struct isolate_calls tables[] = {ISOLATE_CALLS(calls)};
        compare(tables, 1, round % 2 ? &allow : &deny);
    }
}

static void test_longer_than_a_kernel_takes(void **state)
{
    static struct isolate_call calls[1200];
    struct sock_fprog program = {0};
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        calls[i] = (struct isolate_call){.number = (int)i};
    const struct isolate_calls tables[] = {ISOLATE_CALLS(calls)};
    assert_int_equal(program_compile(tables, 1, &allow, &program), -E2BIG);
    assert_null(program.filter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_what_the_tables_say),
        cmocka_unit_test(test_what_threads_are_locked_up_with),
        cmocka_unit_test(test_long_tables),
        cmocka_unit_test(test_longer_than_a_kernel_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
