/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy device in the contract suite. */
#include <string.h>

#include "kinds.h"
#include "util/testing.h"
#include "virtio/entropy.h"

static int make(struct contract_env *env)
{
    struct dayfly_err err;
    return virtio_entropy_new(&env->dev, env->loop, NULL, &err);
}

static void unmake(struct contract_env *env)
{
    virtio_entropy_free(env->dev);
}

static unsigned request(struct contract_env *env, struct driver_buf *bufs, unsigned max)
{
    bufs[0] = (struct driver_buf){contract_alloc(env, 64), 64, true};
    bufs[1] = (struct driver_buf){contract_alloc(env, 40), 40, true};
    return 2;
}

static void served(struct contract_env *env, const struct driver_buf *bufs, unsigned count,
                   uint32_t written)
{
    const uint8_t zeroes[40] = {0};
    assert_int_equal(written, 104);
    /* 40 zero bytes by chance: once in 2^320 runs. */
    for (unsigned i = 0; i < count; i++)
        assert_memory_not_equal(contract_hva(env, bufs[i].gpa, 40), zeroes, 40);
}

static void a_flood_is_served_in_turns(struct contract_env *env)
{
    contract_start(env, 0);
    /* More than one turn's bytes at once: what is left over needs no further kick. */
    struct driver_ring *r = &env->rings[0];
    const struct driver_buf big = {contract_alloc(env, 1 << 20), 1 << 20, true};
    for (int round = 0; round < 8; round++) {
        for (unsigned i = 0; i < r->setup.size; i++)
            assert_true(driver_add(r, &big, 1) >= 0);
        driver_publish(r);
        env->ops->kick(env->bus, 0);
        for (unsigned i = 0; i < r->setup.size; i++) {
            uint16_t head;
            uint32_t written;
            contract_wait_used(env, 0, &head, &written);
            assert_in_range(written, 1, 1 << 20);
        }
    }
}

static const struct contract_case cases[] = {
    {"a flood is served in turns", a_flood_is_served_in_turns},
    {NULL, NULL},
};

const struct contract_kind contract_entropy = {
    .name = "entropy",
    .make = make,
    .unmake = unmake,
    .queue = 0,
    .queues = 1,
    .request = request,
    .served = served,
    .cases = cases,
};
