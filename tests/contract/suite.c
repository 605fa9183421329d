/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cases that every device passes over every transport, and the means for the cases of one kind.
 * See contract.h. Each case has a device, a bus, a loop thread and guest memory of its own.
 */
#include "contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kinds.h"
#include "util/arith.h"
#include "util/testing.h"

#define BUFS_MAX 8

/* -- means -------------------------------------------------------------------------------------------
 */

uint64_t contract_alloc(struct contract_env *env, uint64_t bytes)
{
    return driver_alloc(&env->arena, bytes, 16);
}

void *contract_hva(struct contract_env *env, uint64_t gpa, uint64_t len)
{
    return driver_hva(&env->arena, gpa, len);
}

static void nothing(void *arg)
{
}

void contract_settle(struct contract_env *env)
{
    /* The first may be answered in the round in which a kick became ready, the second is in a later
     * one. */
    for (int i = 0; i < 2; i++)
        assert_int_equal(loop_call(env->dev->loop, nothing, NULL), 0);
}

static uint16_t ring_size(struct contract_env *env, unsigned queue)
{
    return MIN(env->ops->queue_max(env->bus, queue), CONTRACT_RING);
}

/* Negotiate and set up, but no DRIVER_OK. */
static void prepare(struct contract_env *env, uint64_t without)
{
    uint64_t features = env->ops->offered(env->bus) & ~without;
    assert_int_equal(env->ops->negotiate(env->bus, features), 0);
    env->queues = MIN(env->kind->queues, CONTRACT_QUEUES);
    env->arena.next_gpa = CONTRACT_RAM_GPA;
    for (unsigned i = 0; i < env->queues; i++) {
        driver_ring_init(&env->rings[i], &env->arena, ring_size(env, i), features);
        assert_int_equal(env->ops->setup_queue(env->bus, i, &env->rings[i].setup), 0);
    }
}

void contract_start(struct contract_env *env, uint64_t without)
{
    prepare(env, without);
    env->ops->driver_ok(env->bus);
}

int contract_send(struct contract_env *env, unsigned queue, const struct driver_buf *bufs,
                  unsigned count)
{
    int head = driver_add(&env->rings[queue], bufs, count);
    assert_true(head >= 0);
    if (driver_publish(&env->rings[queue]))
        env->ops->kick(env->bus, queue);
    return head;
}

void contract_wait_used(struct contract_env *env, unsigned queue, uint16_t *head, uint32_t *written)
{
    struct driver_ring *r = &env->rings[queue];
    while (!driver_used(r, head, written)) {
        /* As a driver does: ask for the interrupt, then look again, then wait. */
        driver_interrupts(r, true);
        if (driver_used(r, head, written))
            return;
        if (!env->ops->wait_interrupt(env->bus, queue, CONTRACT_TIMEOUT_MS))
            fail_msg("queue %u: no interrupt came", queue);
    }
}

uint32_t contract_roundtrip(struct contract_env *env, unsigned queue, const struct driver_buf *bufs,
                            unsigned count)
{
    uint16_t head;
    uint32_t written;
    int sent = contract_send(env, queue, bufs, count);
    contract_wait_used(env, queue, &head, &written);
    assert_int_equal(head, sent);
    return written;
}

void contract_assert_serves(struct contract_env *env)
{
    struct driver_buf bufs[BUFS_MAX];
    unsigned count = env->kind->request(env, bufs, BUFS_MAX);
    uint32_t written = contract_roundtrip(env, env->kind->queue, bufs, count);
    env->kind->served(env, bufs, count, written);
}

/* -- negotiation -------------------------------------------------------------------------------------
 */

static void offers_what_it_should(struct contract_env *env)
{
    uint64_t must = env->kind->features | VIRTIO_F_VERSION_1 | VIRTIO_RING_F_INDIRECT_DESC |
                    VIRTIO_RING_F_EVENT_IDX;
    assert_int_equal(env->ops->offered(env->bus) & must, must);
    for (unsigned i = 0; i < env->kind->queues; i++) {
        uint16_t max = env->ops->queue_max(env->bus, i);
        assert_true(max >= 1 && max <= RING_SIZE_MAX && (max & (max - 1)) == 0);
    }
    assert_int_equal(env->ops->queue_max(env->bus, env->kind->queues), 0);
}

static void refuses_features_not_offered(struct contract_env *env)
{
    uint64_t offered = env->ops->offered(env->bus);
    for (unsigned bit = 0; bit < 24; bit++) {
        if (offered & (UINT64_C(1) << bit))
            continue;
        assert_true(env->ops->negotiate(env->bus, offered | (UINT64_C(1) << bit)) < 0);
        env->ops->reset(env->bus);
    }
    contract_start(env, 0);
    contract_assert_serves(env);
}

static void refuses_a_legacy_driver(struct contract_env *env)
{
    assert_true(env->ops->negotiate(env->bus, env->ops->offered(env->bus) & ~VIRTIO_F_VERSION_1) < 0);
    env->ops->reset(env->bus);
    contract_start(env, 0);
    contract_assert_serves(env);
}

static void serves_with_few_features(struct contract_env *env)
{
    contract_start(env, ~(VIRTIO_F_VERSION_1 | env->kind->features));
    contract_assert_serves(env);
    env->ops->reset(env->bus);
    contract_start(env, ~VIRTIO_F_VERSION_1);
    for (int i = 0; i < 3; i++)
        contract_assert_serves(env);
}

/* -- queues ------------------------------------------------------------------------------------------
 */

static void refuses_bad_queues(struct contract_env *env)
{
    assert_int_equal(env->ops->negotiate(env->bus, env->ops->offered(env->bus)), 0);
    struct driver_ring r;
    driver_ring_init(&r, &env->arena, ring_size(env, 0), VIRTIO_F_VERSION_1);
    struct ring_setup bad[6];
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        bad[i] = r.setup;
    bad[0].size = 3;
    bad[1].desc_gpa = 0x1000;
    bad[2].avail_gpa = CONTRACT_RAM_GPA + CONTRACT_RAM_SIZE - 4;
    bad[3].used_gpa = UINT64_MAX - 3;
    bad[4].desc_gpa += 8;
    bad[5].used_gpa += 2;
    /* Whether the driver can see it or not: such a queue serves nothing and harms nobody. */
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        int rc = env->ops->setup_queue(env->bus, 0, &bad[i]);
        if (rc == 0) {
            env->ops->driver_ok(env->bus);
            env->ops->kick(env->bus, 0);
            contract_settle(env);
        }
        env->ops->reset(env->bus);
        assert_int_equal(env->ops->negotiate(env->bus, env->ops->offered(env->bus)), 0);
    }
    env->ops->reset(env->bus);
    contract_start(env, 0);
    contract_assert_serves(env);
}

static void set_up_before_features_does_nothing(struct contract_env *env)
{
    struct driver_ring r;
    driver_ring_init(&r, &env->arena, ring_size(env, 0), VIRTIO_F_VERSION_1);
    if (env->ops->setup_queue(env->bus, 0, &r.setup) == 0)
        env->ops->kick(env->bus, 0);
    contract_settle(env);
    env->ops->reset(env->bus);
    contract_start(env, 0);
    contract_assert_serves(env);
}

static void a_live_queue_cannot_be_moved(struct contract_env *env)
{
    contract_start(env, 0);
    contract_assert_serves(env);
    struct ring_setup moved = env->rings[env->kind->queue].setup;
    moved.desc_gpa = contract_alloc(env, 16u * moved.size);
    moved.used_gpa = UINT64_MAX - 3;
    env->ops->setup_queue(env->bus, env->kind->queue, &moved);
    env->ops->kick(env->bus, env->kind->queue);
    contract_settle(env);
    /* Either it goes on at the old place, or it is broken until the reset; the host is well. */
    env->ops->reset(env->bus);
    contract_start(env, 0);
    contract_assert_serves(env);
}

static void a_kick_before_driver_ok_serves_nothing(struct contract_env *env)
{
    prepare(env, 0);
    unsigned queue = env->kind->queue;
    struct driver_buf bufs[BUFS_MAX];
    unsigned count = env->kind->request(env, bufs, BUFS_MAX);
    int sent = driver_add(&env->rings[queue], bufs, count);
    driver_publish(&env->rings[queue]);
    env->ops->kick(env->bus, queue);
    contract_settle(env);
    assert_int_equal(driver_used_idx(&env->rings[queue]), 0);
    assert_false(env->ops->wait_interrupt(env->bus, queue, 0));
    /* What waited is served once the driver is ready, with no further kick. */
    env->ops->driver_ok(env->bus);
    uint16_t head;
    uint32_t written;
    contract_wait_used(env, queue, &head, &written);
    assert_int_equal(head, sent);
    env->kind->served(env, bufs, count, written);
}

static void kicks_of_wrong_queues_do_nothing(struct contract_env *env)
{
    env->ops->kick(env->bus, env->kind->queue);
    contract_start(env, 0);
    env->ops->kick(env->bus, env->kind->queue); /* nothing is there */
    contract_settle(env);
    contract_assert_serves(env);
}

static void indexes_wrap(struct contract_env *env)
{
    contract_start(env, 0);
    /* Several times round the ring. */
    for (int i = 0; i < 5 * CONTRACT_RING; i++) {
        env->arena.next_gpa = CONTRACT_RAM_GPA + CONTRACT_RAM_SIZE / 2;
        contract_assert_serves(env);
    }
}

static void requests_by_indirect_tables(struct contract_env *env)
{
    contract_start(env, 0);
    struct driver_buf bufs[BUFS_MAX];
    unsigned count = env->kind->request(env, bufs, BUFS_MAX), queue = env->kind->queue;
    int sent = driver_add_indirect(&env->rings[queue], bufs, count);
    assert_true(sent >= 0);
    if (driver_publish(&env->rings[queue]))
        env->ops->kick(env->bus, queue);
    uint16_t head;
    uint32_t written;
    contract_wait_used(env, queue, &head, &written);
    assert_int_equal(head, sent);
    env->kind->served(env, bufs, count, written);
}

static void zero_length_buffers_are_skipped(struct contract_env *env)
{
    contract_start(env, 0);
    struct driver_buf bufs[BUFS_MAX], padded[2 * BUFS_MAX];
    unsigned count = env->kind->request(env, bufs, BUFS_MAX), n = 0;
    for (unsigned i = 0; i < count; i++) {
        padded[n++] = (struct driver_buf){bufs[i].gpa, 0, bufs[i].write};
        padded[n++] = bufs[i];
    }
    uint32_t written = contract_roundtrip(env, env->kind->queue, padded, n);
    env->kind->served(env, bufs, count, written);
}

/* A chain of nothing may come back empty, never come back, or count as a violation: but the device and
 * the host live. */
static void a_chain_of_nothing_harms_nobody(struct contract_env *env)
{
    for (int write = 0; write < 2; write++) {
        contract_start(env, 0);
        const struct driver_buf empty = {contract_alloc(env, 16), 0, write};
        contract_send(env, env->kind->queue, &empty, 1);
        contract_settle(env);
        env->ops->reset(env->bus);
        contract_start(env, 0);
        contract_assert_serves(env);
        env->ops->reset(env->bus);
    }
}

/* -- configuration space ------------------------------------------------------------------------------
 */

static void config_reads_agree(struct contract_env *env)
{
    uint8_t whole[64], part[64];
    env->ops->config_read(env->bus, 0, whole, sizeof(whole));
    for (size_t offset = 0; offset < sizeof(whole); offset++) {
        for (size_t len = 1; len <= 8 && offset + len <= sizeof(whole); len++) {
            memset(part, 0xa5, sizeof(part));
            env->ops->config_read(env->bus, offset, part, len);
            assert_memory_equal(part, whole + offset, len);
            assert_int_equal(part[len], 0xa5);
        }
    }
    uint8_t zeroes[64] = {0};
    size_t end = env->dev->config_bytes;
    if (end < sizeof(whole))
        assert_memory_equal(whole + end, zeroes, sizeof(whole) - end);
}

static void config_writes_harm_nothing(struct contract_env *env)
{
    uint8_t junk[32];
    contract_start(env, 0);
    memset(junk, 0x5a, sizeof(junk));
    for (size_t offset = 0; offset < 64; offset += 3)
        for (size_t len = 1; len <= 8; len *= 2)
            env->ops->config_write(env->bus, offset, junk, len);
    env->ops->reset(env->bus);
    contract_start(env, 0);
    contract_assert_serves(env);
}

/* -- reset -------------------------------------------------------------------------------------------
 */

static void lives_again_after_reset(struct contract_env *env)
{
    env->ops->reset(env->bus);
    for (int i = 0; i < 3; i++) {
        contract_start(env, 0);
        contract_assert_serves(env);
        env->ops->reset(env->bus);
        assert_false(env->ops->wait_interrupt(env->bus, env->kind->queue, 0));
        env->ops->reset(env->bus);
    }
}

/* Requests are thrown at the device, and while it works it is reset: after that nothing of guest memory
 * changes any more. */
static void reset_with_requests_in_flight(struct contract_env *env)
{
    for (int round = 0; round < 8; round++) {
        contract_start(env, 0);
        unsigned queue = env->kind->queue;
        for (;;) {
            struct driver_buf bufs[BUFS_MAX];
            unsigned count = env->kind->request(env, bufs, BUFS_MAX);
            if (driver_add(&env->rings[queue], bufs, count) < 0)
                break;
        }
        driver_publish(&env->rings[queue]);
        env->ops->kick(env->bus, queue);
        env->ops->reset(env->bus);

        uint64_t used = env->arena.next_gpa - CONTRACT_RAM_GPA;
        uint8_t *before = malloc(used);
        assert_non_null(before);
        memcpy(before, contract_hva(env, CONTRACT_RAM_GPA, used), used);
        env->ops->kick(env->bus, queue);
        contract_settle(env);
        assert_memory_equal(before, contract_hva(env, CONTRACT_RAM_GPA, used), used);
        free(before);
        assert_false(env->ops->wait_interrupt(env->bus, queue, 0));
    }
    contract_start(env, 0);
    contract_assert_serves(env);
}

/* -- malformed rings: ring_test has the whole table; here it is what the device makes of it --- */

static void loop_in_chain(struct contract_env *env, struct driver_ring *r)
{
    driver_desc_write(r, 0, (struct driver_desc){contract_alloc(env, 16), 16, DRIVER_DESC_NEXT, 0});
    driver_avail_write(r, 0, 0);
    driver_avail_idx_write(r, 1);
}

static void head_out_of_range(struct contract_env *env, struct driver_ring *r)
{
    driver_avail_write(r, 0, r->setup.size);
    driver_avail_idx_write(r, 1);
}

static void index_jumps(struct contract_env *env, struct driver_ring *r)
{
    driver_avail_idx_write(r, (uint16_t)(r->setup.size + 1));
}

static void buffer_outside_ram(struct contract_env *env, struct driver_ring *r)
{
    driver_desc_write(r, 0, (struct driver_desc){UINT64_C(1) << 40, 512, DRIVER_DESC_WRITE, 0});
    driver_avail_write(r, 0, 0);
    driver_avail_idx_write(r, 1);
}

static void a_malformed_ring_needs_a_reset(struct contract_env *env)
{
    void (*const make[])(struct contract_env *, struct driver_ring *) = {
        loop_in_chain, head_out_of_range, index_jumps, buffer_outside_ram};
    for (size_t i = 0; i < ARRAY_SIZE(make); i++) {
        contract_start(env, 0);
        contract_assert_serves(env);
        env->ops->reset(env->bus);

        contract_start(env, 0);
        unsigned queue = env->kind->queue;
        struct driver_ring *r = &env->rings[queue];
        make[i](env, r);
        env->ops->kick(env->bus, queue);
        assert_true(env->ops->wait_needs_reset(env->bus, CONTRACT_TIMEOUT_MS));
        uint16_t used = driver_used_idx(r);

        /* Mending the ring is no way out: nothing is served. */
        struct driver_buf bufs[BUFS_MAX];
        unsigned count = env->kind->request(env, bufs, BUFS_MAX);
        driver_add(r, bufs, count);
        driver_publish(r);
        env->ops->kick(env->bus, queue);
        contract_settle(env);
        assert_int_equal(driver_used_idx(r), used);

        env->ops->reset(env->bus);
        assert_false(env->ops->wait_needs_reset(env->bus, 0));
    }
    contract_start(env, 0);
    contract_assert_serves(env);
}

/* -- running it --------------------------------------------------------------------------------------
 */

static const struct contract_case common[] = {
    {"offers what it should", offers_what_it_should},
    {"refuses features not offered", refuses_features_not_offered},
    {"refuses a legacy driver", refuses_a_legacy_driver},
    {"serves with few features", serves_with_few_features},
    {"refuses bad queues", refuses_bad_queues},
    {"set-up before features does nothing", set_up_before_features_does_nothing},
    {"a live queue cannot be moved", a_live_queue_cannot_be_moved},
    {"a kick before DRIVER_OK serves nothing", a_kick_before_driver_ok_serves_nothing},
    {"kicks without requests do nothing", kicks_of_wrong_queues_do_nothing},
    {"indexes wrap", indexes_wrap},
    {"requests by indirect tables", requests_by_indirect_tables},
    {"zero-length buffers are skipped", zero_length_buffers_are_skipped},
    {"a chain of nothing harms nobody", a_chain_of_nothing_harms_nobody},
    {"config reads agree at any offset and length", config_reads_agree},
    {"config writes harm nothing", config_writes_harm_nothing},
    {"lives again after reset", lives_again_after_reset},
    {"reset with requests in flight", reset_with_requests_in_flight},
    {"a malformed ring needs a reset", a_malformed_ring_needs_a_reset},
};

/* What a cmocka test is started with. */
struct planned {
    const struct contract_bus_ops *ops;
    const struct contract_kind *kind;
    const struct contract_case *one;
    char name[128];
};

static void run_case(void **state)
{
    const struct planned *plan = *state;
    struct contract_env *env = calloc(1, sizeof(*env));
    assert_non_null(env);
    env->ops = plan->ops;
    env->kind = plan->kind;
    const struct memory_layout layout = {CONTRACT_RAM_GPA, CONTRACT_RAM_SIZE};
    struct dayfly_err err;
    assert_int_equal(memory_create(&env->mem, &layout, 1, &err), 0);
    env->arena =
        (struct driver_arena){&env->mem, CONTRACT_RAM_GPA, CONTRACT_RAM_GPA + CONTRACT_RAM_SIZE};
    assert_int_equal(loop_new(&env->loop), 0);
    assert_int_equal(env->kind->make(env), 0);
    assert_int_equal(env->ops->open(&env->bus, env->dev, &env->mem), 0);
    assert_int_equal(loop_start(env->loop, "device"), 0);
    if (env->ops->begin)
        assert_int_equal(env->ops->begin(env->bus), 0);

    plan->one->run(env);

    loop_stop(env->loop);
    env->ops->close(env->bus);
    env->kind->unmake(env);
    loop_free(env->loop);
    memory_finish(&env->mem);
    free(env);
}

#define PLANNED_MAX 512

static void plan(struct planned *plans, struct CMUnitTest *tests, size_t *count,
                 const struct contract_bus_ops *ops, const struct contract_kind *kind,
                 const struct contract_case *one)
{
    assert_true(*count < PLANNED_MAX);
    struct planned *p = &plans[*count];
    *p = (struct planned){ops, kind, one, ""};
    snprintf(p->name, sizeof(p->name), "%s/%s: %s", ops->name, kind->name, one->name);
    tests[*count] = (struct CMUnitTest){p->name, run_case, NULL, NULL, p};
    ++*count;
}

int contract_run(const struct contract_bus_ops *ops)
{
    struct planned *plans = calloc(PLANNED_MAX, sizeof(*plans));
    struct CMUnitTest *tests = calloc(PLANNED_MAX, sizeof(*tests));
    size_t count = 0;
    for (const struct contract_kind *const *kind = contract_kinds; *kind; kind++) {
        for (size_t i = 0; i < ARRAY_SIZE(common); i++)
            plan(plans, tests, &count, ops, *kind, &common[i]);
        for (const struct contract_case *one = (*kind)->cases; one && one->name; one++)
            plan(plans, tests, &count, ops, *kind, one);
    }
    int failed = _cmocka_run_group_tests(ops->name, tests, count, NULL, NULL);
    free(tests);
    free(plans);
    return failed;
}
