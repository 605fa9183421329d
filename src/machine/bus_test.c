/* SPDX-License-Identifier: Apache-2.0 */
#include "util/testing.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "machine/bus.h"

struct device {
    uint64_t offset;
    unsigned len, reads, writes;
    uint64_t value;
    struct bus *bus; /* moves itself there on a write, when set */
};

static void device_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
    struct device *d = opaque;
    d->offset = offset;
    d->len = len;
    d->reads++;
    bus_put(data, len, d->value);
}

static const struct bus_ops device_ops;

static void device_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    struct device *d = opaque;
    d->offset = offset;
    d->len = len;
    d->writes++;
    d->value = bus_get(data, len);
    if (d->bus) {
        assert_int_equal(bus_remove(d->bus, 0x1000), 0);
        assert_int_equal(bus_add(d->bus, 0x5000, 0x10, &device_ops, d), 0);
    }
}

static const struct bus_ops device_ops = {.read = device_read, .write = device_write};

static int setup(void **state)
{
    static struct bus bus;
    bus_init(&bus);
    *state = &bus;
    return 0;
}

static int teardown(void **state)
{
    bus_finish(*state);
    return 0;
}

static void dispatches_by_address(void **state)
{
    struct bus *bus = *state;
    struct device a = {.value = 0x11}, b = {.value = 0x1122334455667788};
    assert_int_equal(bus_add(bus, 0x2000, 0x100, &device_ops, &b), 0);
    assert_int_equal(bus_add(bus, 0x1000, 0x10, &device_ops, &a), 0);
    uint64_t v = 0;
    assert_true(bus_read(bus, 0x20f8, &v, 8));
    assert_int_equal(v, b.value);
    assert_int_equal(b.offset, 0xf8);
    uint8_t byte = 0;
    assert_true(bus_read(bus, 0x100f, &byte, 1));
    assert_int_equal(byte, 0x11);
    assert_int_equal(a.offset, 0xf);
    assert_true(bus_write(bus, 0x1000, "\1\2", 2));
    assert_int_equal(a.value, 0x201);
    assert_int_equal(atomic_load(&bus->unclaimed), 0);
}

static void nobody_answers_with_all_ones(void **state)
{
    struct bus *bus = *state;
    struct device a = {0};
    bus_add(bus, 0x1000, 0x10, &device_ops, &a);
    const uint64_t nowhere[] = {0, 0xfff, 0x1010, UINT64_MAX};
    for (unsigned i = 0; i < 4; i++) {
        uint8_t byte = 0;
        assert_false(bus_read(bus, nowhere[i], &byte, 1));
        assert_int_equal(byte, 0xff);
        assert_false(bus_write(bus, nowhere[i], &byte, 1));
    }
    uint32_t v = 0;
    assert_false(bus_read(bus, 0x100e, &v, 4)); /* crosses the end */
    assert_int_equal(v, UINT32_MAX);
    assert_false(bus_write(bus, 0xffe, &v, 4)); /* begins before it */
    assert_int_equal(a.reads + a.writes, 0);
    assert_int_equal(atomic_load(&bus->unclaimed), 10);
}

static void refuses_overlap(void **state)
{
    struct bus *bus = *state;
    struct device a = {0};
    assert_int_equal(bus_add(bus, 0x1000, 0x10, &device_ops, &a), 0);
    assert_int_equal(bus_add(bus, 0x1000, 0x10, &device_ops, &a), -EEXIST);
    assert_int_equal(bus_add(bus, 0xfff, 2, &device_ops, &a), -EEXIST);
    assert_int_equal(bus_add(bus, 0x100f, 1, &device_ops, &a), -EEXIST);
    assert_int_equal(bus_add(bus, 0, UINT64_MAX, &device_ops, &a), -EEXIST);
    assert_int_equal(bus_add(bus, 0xff0, 0x10, &device_ops, &a), 0);
    assert_int_equal(bus_add(bus, 0x1010, 1, &device_ops, &a), 0);
    assert_int_equal(bus_add(bus, 5, 0, &device_ops, &a), -EINVAL);
    assert_int_equal(bus_add(bus, UINT64_MAX, 2, &device_ops, &a), -EINVAL);
    assert_int_equal(bus_add(bus, UINT64_MAX, 1, &device_ops, &a), 0);
    assert_int_equal(bus_remove(bus, 0x1001), -ENOENT);
    assert_int_equal(bus_remove(bus, 0x1000), 0);
    assert_int_equal(bus_remove(bus, 0x1000), -ENOENT);
    assert_int_equal(bus_add(bus, 0x1004, 4, &device_ops, &a), 0);
}

static void says_when_it_is_full(void **state)
{
    struct bus *bus = *state;
    struct device a = {0};
    for (unsigned i = 0; i < BUS_RANGES_MAX; i++)
        assert_int_equal(bus_add(bus, 16 * i, 16, &device_ops, &a), 0);
    assert_int_equal(bus_add(bus, 16 * BUS_RANGES_MAX, 16, &device_ops, &a), -ENOSPC);
    for (unsigned i = 0; i < BUS_RANGES_MAX; i++) {
        uint8_t byte;
        assert_true(bus_read(bus, 16 * i + 15, &byte, 1));
        assert_int_equal(a.offset, 15);
    }
}

static void a_handler_may_move_its_range(void **state)
{
    struct bus *bus = *state;
    struct device a = {.bus = bus};
    bus_add(bus, 0x1000, 0x10, &device_ops, &a);
    assert_true(bus_write(bus, 0x1000, "x", 1));
    uint8_t byte;
    assert_false(bus_read(bus, 0x1000, &byte, 1));
    assert_true(bus_read(bus, 0x5000, &byte, 1));
}

static void *reader(void *arg)
{
    struct bus *bus = arg;
    uint64_t answers = 0;
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t byte;
        answers += bus_read(bus, 0x2000, &byte, 1);
    }
    return (void *)(uintptr_t)answers;
}

/* The neighbour of a range that comes and goes answers every time. */
static void readers_and_a_mover_get_along(void **state)
{
    struct bus *bus = *state;
    static const struct bus_ops silent;
    bus_add(bus, 0x2000, 1, &silent, NULL);
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader, bus), 0);
    for (unsigned i = 0; i < 20000; i++) {
        assert_int_equal(bus_add(bus, 0x1000, 1, &silent, NULL), 0);
        assert_int_equal(bus_remove(bus, 0x1000), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        void *answers;
        pthread_join(threads[i], &answers);
        assert_int_equal((uintptr_t)answers, 20000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dispatches_by_address, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_answers_with_all_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_overlap, setup, teardown),
        cmocka_unit_test_setup_teardown(says_when_it_is_full, setup, teardown),
        cmocka_unit_test_setup_teardown(a_handler_may_move_its_range, setup, teardown),
        cmocka_unit_test_setup_teardown(readers_and_a_mover_get_along, setup, teardown),
    };
    return cmocka_run_group_tests_name("machine-bus", tests, NULL, NULL);
}
