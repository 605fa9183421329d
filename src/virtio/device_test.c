/* SPDX-License-Identifier: Apache-2.0 */
/* What device.c promises apart from the contract suite: with a toy device, without a transport. */
#include "virtio/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/testing.h"
#include "virtio/driver.h"

#define FEATURE  UINT64_C(1)
#define FEATURES (FEATURE | VIRTIO_F_VERSION_1)
#define RAM_GPA  UINT64_C(0x100000)

/* Holds every chain until it is drained or reset. */
struct toy {
    struct virtio_device dev;
    struct memory mem;
    struct driver_arena arena;
    struct driver_ring driver;
    uint16_t held[8];
    unsigned holds, kicks, drains, resets, interrupts, config_changes;
    size_t written_offset, written_len;
    uint8_t config[10];
};

static void toy_kick(struct virtio_device *dev, unsigned queue)
{
    struct toy *toy = container_of(dev, struct toy, dev);
    struct ring_chain chain;
    struct iovec iov[4];
    toy->kicks++;
    while (virtio_pop(dev, queue, &chain, iov, ARRAY_SIZE(iov)))
        toy->held[toy->holds++] = chain.head;
}

static void push_held(struct toy *toy)
{
    for (unsigned i = 0; i < toy->holds; i++)
        ring_push(&toy->dev.queues[0].ring, toy->held[i], 0);
    toy->holds = 0;
    virtio_interrupt(&toy->dev, 0);
}

static void toy_drain(struct virtio_device *dev, unsigned queue)
{
    struct toy *toy = container_of(dev, struct toy, dev);
    toy->drains++;
    push_held(toy);
}

static void toy_reset(struct virtio_device *dev)
{
    struct toy *toy = container_of(dev, struct toy, dev);
    toy->resets++;
    push_held(toy);
}

static void toy_config_written(struct virtio_device *dev, size_t offset, size_t len)
{
    struct toy *toy = container_of(dev, struct toy, dev);
    toy->written_offset = offset;
    toy->written_len = len;
}

static const struct virtio_ops with_drain = {
    .name = "toy", .kick = toy_kick, .reset = toy_reset, .drain = toy_drain};
static const struct virtio_ops without_drain = {.name = "toy", .kick = toy_kick, .reset = toy_reset};
static const struct virtio_ops with_config = {.name = "toy", .config_written = toy_config_written};

static void count_interrupt(void *opaque, unsigned queue)
{
    ((struct toy *)opaque)->interrupts++;
}

static void count_config(void *opaque)
{
    ((struct toy *)opaque)->config_changes++;
}

static const struct virtio_carrier carrier = {count_interrupt, count_config};

static struct toy *make(const struct virtio_ops *ops)
{
    struct toy *toy = calloc(1, sizeof(*toy));
    const struct memory_layout layout = {RAM_GPA, 0x10000};
    struct dayfly_err err;
    assert_non_null(toy);
    assert_int_equal(memory_create(&toy->mem, &layout, 1, &err), 0);
    toy->arena = (struct driver_arena){&toy->mem, RAM_GPA, RAM_GPA + 0x10000};
    driver_ring_init(&toy->driver, &toy->arena, 4, FEATURES);
    memcpy(toy->config, "0123456789", 10);
    virtio_init(&toy->dev, &(struct virtio_init){.ops = ops,
                                                 .features = FEATURE,
                                                 .queue_count = 2,
                                                 .queue_size = 4,
                                                 .config = toy->config,
                                                 .config_bytes = sizeof(toy->config)});
    virtio_carry(&toy->dev, &carrier, toy);
    return toy;
}

static void unmake(struct toy *toy)
{
    virtio_reset(&toy->dev);
    virtio_finish(&toy->dev);
    memory_finish(&toy->mem);
    free(toy);
}

static void run(struct toy *toy)
{
    assert_true(virtio_set_features(&toy->dev, FEATURES));
    assert_int_equal(virtio_queue_start(&toy->dev, 0, &toy->mem, &toy->driver.setup), 0);
    virtio_activate(&toy->dev);
}

static void send(struct toy *toy, unsigned count)
{
    const struct driver_buf buf = {RAM_GPA, 1, false};
    for (unsigned i = 0; i < count; i++)
        assert_true(driver_add(&toy->driver, &buf, 1) >= 0);
    driver_publish(&toy->driver);
    virtio_kick(&toy->dev, 0);
}

static void test_features_are_those_offered(void **state)
{
    struct toy *toy = make(&with_drain);
    assert_int_equal(toy->dev.offered,
                     FEATURES | VIRTIO_RING_F_INDIRECT_DESC | VIRTIO_RING_F_EVENT_IDX);
    assert_false(virtio_set_features(&toy->dev, FEATURE));
    assert_false(virtio_set_features(&toy->dev, FEATURES | 2));
    assert_int_equal(toy->dev.features, 0);
    assert_int_equal(virtio_queue_start(&toy->dev, 0, &toy->mem, &toy->driver.setup), -EINVAL);
    virtio_activate(&toy->dev); /* without features: not ready */
    assert_false(toy->dev.active);
    run(toy);
    assert_true(virtio_set_features(&toy->dev, FEATURES)); /* again, as vhost-user does */
    assert_false(virtio_set_features(&toy->dev, VIRTIO_F_VERSION_1));
    assert_int_equal(toy->dev.features, FEATURES);
    unmake(toy);
}

static void test_a_queue_starts_once(void **state)
{
    struct toy *toy = make(&with_drain);
    run(toy);
    assert_int_equal(virtio_queue_start(&toy->dev, 0, &toy->mem, &toy->driver.setup), -EINVAL);
    assert_int_equal(virtio_queue_start(&toy->dev, 2, &toy->mem, &toy->driver.setup), -EINVAL);
    struct ring_setup larger = toy->driver.setup;
    larger.size = 8;
    assert_int_equal(virtio_queue_start(&toy->dev, 1, &toy->mem, &larger), -EINVAL);
    virtio_kick(&toy->dev, 1); /* not started */
    virtio_kick(&toy->dev, 7);
    assert_int_equal(toy->kicks, 1); /* at activation */
    unmake(toy);
}

static void test_a_stopped_queue_was_drained(void **state)
{
    const struct virtio_ops *const ops[] = {&with_drain, &without_drain};
    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        struct toy *toy = make(ops[i]);
        run(toy);
        assert_int_equal(virtio_queue_stop(&toy->dev, 1), 0); /* never ran */
        send(toy, 3);
        assert_int_equal(toy->holds, 3);
        assert_int_equal(virtio_queue_stop(&toy->dev, 0), 3);
        assert_int_equal(toy->drains, i == 0);
        assert_int_equal(toy->resets, i == 1);
        assert_int_equal(driver_used_idx(&toy->driver), 3);
        assert_int_equal(toy->interrupts, 1);

        /* It goes on where it was; what came meanwhile is served at the start. */
        send(toy, 1);
        assert_int_equal(toy->holds, 0);
        struct ring_setup again = toy->driver.setup;
        again.next_avail = 3;
        assert_int_equal(virtio_queue_start(&toy->dev, 0, &toy->mem, &again), 0);
        assert_int_equal(toy->holds, 1);
        unmake(toy);
    }
}

static void test_a_reset_interrupts_nobody(void **state)
{
    struct toy *toy = make(&without_drain);
    run(toy);
    send(toy, 2);
    virtio_reset(&toy->dev);
    assert_int_equal(toy->interrupts, 0);
    assert_int_equal(toy->dev.features, 0);
    assert_false(toy->dev.active);
    assert_int_equal(driver_used_idx(&toy->driver), 2);
    unmake(toy);
}

static void test_a_violation_is_told_once(void **state)
{
    struct toy *toy = make(&with_drain);
    run(toy);
    driver_avail_idx_write(&toy->driver, 100);
    for (int i = 0; i < 3; i++)
        virtio_kick(&toy->dev, 0);
    assert_true(virtio_needs_reset(&toy->dev));
    assert_int_equal(toy->config_changes, 1);
    assert_int_equal(toy->kicks, 2); /* at activation, and the one that found it */
    virtio_reset(&toy->dev);
    assert_false(virtio_needs_reset(&toy->dev));
    unmake(toy);
}

static void test_config_has_edges(void **state)
{
    char buf[12];
    struct toy *toy = make(&with_drain);
    virtio_config_read(&toy->dev, 8, buf, 4);
    assert_memory_equal(buf, "89\0\0", 4);
    virtio_config_read(&toy->dev, SIZE_MAX, buf, 4);
    assert_memory_equal(buf, "\0\0\0\0", 4);
    virtio_config_write(&toy->dev, 0, "abc", 3); /* read-only */
    assert_memory_equal(toy->config, "0123456789", 10);
    unmake(toy);

    toy = make(&with_config);
    virtio_config_write(&toy->dev, 8, "abc", 3);
    assert_memory_equal(toy->config, "01234567ab", 10);
    assert_int_equal(toy->written_offset, 8);
    assert_int_equal(toy->written_len, 2);
    virtio_config_write(&toy->dev, 10, "abc", 3);
    virtio_config_write(&toy->dev, SIZE_MAX - 1, "abc", 3);
    assert_int_equal(toy->written_offset, 8);
    unmake(toy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features_are_those_offered),
        cmocka_unit_test(test_a_queue_starts_once),
        cmocka_unit_test(test_a_stopped_queue_was_drained),
        cmocka_unit_test(test_a_reset_interrupts_nobody),
        cmocka_unit_test(test_a_violation_is_told_once),
        cmocka_unit_test(test_config_has_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
