/* SPDX-License-Identifier: Apache-2.0 */
#include "util/testing.h"

#include <errno.h>
#include <string.h>

#include "hw/pci_host.h"

#define BASE UINT64_C(0xd0000000)
#define HIGH UINT64_C(0x100000000)

struct env {
    struct bus mmio;
    struct pci_host host;
    struct pci_function fn[2];
    unsigned moves;
    uint64_t last;
};

static struct env env;

static void moved(struct pci_function *fn, unsigned bar, uint64_t gpa)
{
    env.moves++;
    env.last = gpa;
}

static void tag_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
    memset(data, (int)(uintptr_t)opaque, len);
}

static const struct bus_ops tag_ops = {.read = tag_read};

static int setup(void **state)
{
    static const struct pci_function_ops ops = {.bar_moved = moved};
    memset(&env, 0, sizeof(env));
    bus_init(&env.mmio);
    const struct pci_window windows[2] = {{BASE, 0x100000}, {HIGH, 0x100000}};
    pci_host_init(&env.host, &env.mmio, windows, NULL);
    for (unsigned i = 0; i < 2; i++) {
        const struct pci_ids ids = {
            .vendor = 0x1234, .device = (uint16_t)(0x10 + i), .class_code = 0x018000};
        pci_function_init(&env.fn[i], &ids, &ops);
        pci_add_bar(&env.fn[i], 0, 0x4000, true, &tag_ops, (void *)(uintptr_t)(i + 1));
        assert_int_equal(pci_host_add(&env.host, &env.fn[i], NULL), 0);
    }
    return 0;
}

static int teardown(void **state)
{
    pci_host_finish(&env.host);
    assert_int_equal(env.mmio.count, 0);
    bus_finish(&env.mmio);
    return 0;
}

static uint32_t get(unsigned device, unsigned reg, unsigned len)
{
    uint32_t v = UINT32_MAX;
    pci_host_ecam_ops.read(&env.host, device << 15 | reg, &v, len);
    return len == 4 ? v : v & ((1u << 8 * len) - 1);
}

static void put(unsigned device, unsigned reg, unsigned len, uint32_t v)
{
    pci_host_ecam_ops.write(&env.host, device << 15 | reg, &v, len);
}

/* Whose BAR answers there; 0xff: nobody's. */
static unsigned who(uint64_t at)
{
    uint8_t byte;
    bus_read(&env.mmio, at, &byte, 1);
    return byte;
}

static void absent_functions_read_as_ones(void **state)
{
    assert_int_equal(get(0, 0, 4), 0x00081b36);
    assert_int_equal(get(1, 0, 4), 0x00101234);
    assert_int_equal(get(3, 0, 4), UINT32_MAX);
    assert_int_equal(get(31, 0, 2), 0xffff);
    uint32_t v = UINT32_MAX;
    pci_host_ecam_ops.read(&env.host, 1 << 15 | 1 << 12, &v, 4); /* function 1 of device 1 */
    assert_int_equal(v, UINT32_MAX);
    assert_int_equal(get(1, 0x100, 4), 0); /* no extended capabilities */
    assert_int_equal(get(1, 0xfe, 4), 0);
    put(3, 4, 2, 0xffff);
    put(1, 0x100, 4, 0xffff);
}

static void read_only_registers_stay(void **state)
{
    for (unsigned reg = 0; reg < 256; reg += 4)
        if (reg != 4 && (reg < 0x10 || reg > 0x14))
            put(1, reg, 4, UINT32_MAX);
    assert_int_equal(get(1, 0, 4), 0x00101234);
    assert_int_equal(get(1, 8, 4), 0x01800000);
    put(1, 4, 4, UINT32_MAX);
    assert_int_equal(get(1, 4, 4), 0x0546);
}

static void bars_are_sized_and_placed(void **state)
{
    assert_int_equal(get(1, 0x10, 4), BASE | 4);
    assert_int_equal(get(2, 0x10, 4), (BASE + 0x4000) | 4);
    put(1, 0x10, 4, UINT32_MAX);
    put(1, 0x14, 4, UINT32_MAX);
    assert_int_equal(get(1, 0x10, 4), 0xffffc004);
    assert_int_equal(get(1, 0x14, 4), UINT32_MAX);
    assert_int_equal(get(1, 0x18, 4), 0); /* not there */
    assert_int_equal(env.moves, 0);
}

static void bars_follow_their_registers(void **state)
{
    assert_int_equal(who(BASE), 0xff);
    put(1, 4, 2, 2);
    assert_int_equal(who(BASE), 1);
    assert_int_equal(env.last, BASE);
    put(1, 0x10, 4, (uint32_t)BASE + 0x8000);
    assert_int_equal(who(BASE), 0xff);
    assert_int_equal(who(BASE + 0xbfff), 1);
    put(1, 0x14, 4, 1); /* 0x1d0008000: in neither window */
    assert_int_equal(who(BASE + 0x8000), 0xff);
    put(1, 0x10, 4, 0x4000);
    assert_int_equal(who(HIGH + 0x4000), 1);
    assert_int_equal(env.last, HIGH + 0x4000);
    put(1, 4, 2, 0);
    assert_int_equal(who(HIGH + 0x4000), 0xff);
    assert_int_equal(env.last, 0);
}

static void two_functions_swap_places(void **state)
{
    put(1, 4, 2, 2);
    put(2, 4, 2, 2);
    assert_int_equal(who(BASE + 0x4000), 2);
    put(1, 0x10, 4, (uint32_t)BASE + 0x4000); /* taken: answers nowhere */
    assert_int_equal(who(BASE), 0xff);
    assert_int_equal(who(BASE + 0x4000), 2);
    put(2, 0x10, 4, (uint32_t)BASE);
    assert_int_equal(who(BASE), 2);
    assert_int_equal(who(BASE + 0x4000), 1);
}

static void bars_stay_in_the_windows(void **state)
{
    put(1, 4, 2, 2);
    put(1, 0x10, 4, (uint32_t)BASE + 0x100000 - 0x4000);
    assert_int_equal(env.last, BASE + 0xfc000);
    put(1, 0x10, 4, 0x1000); /* in RAM, perhaps */
    assert_int_equal(env.last, 0);
    put(1, 0x10, 4, (uint32_t)BASE + 0x100000);
    put(1, 0x10, 4, UINT32_MAX);
    assert_int_equal(env.last, 0);
}

static void the_bus_has_an_end(void **state)
{
    struct pci_function more[PCI_DEVICES_MAX];
    const struct pci_ids ids = {.vendor = 1};
    for (unsigned i = 3; i < PCI_DEVICES_MAX; i++) {
        pci_function_init(&more[i], &ids, NULL);
        assert_int_equal(pci_host_add(&env.host, &more[i], NULL), 0);
    }
    pci_function_init(&more[0], &ids, NULL);
    assert_int_equal(pci_host_add(&env.host, &more[0], NULL), -ENOSPC);
    pci_host_finish(&env.host);
    pci_host_init(&env.host, &env.mmio, (struct pci_window[2]){{BASE, 0x4000}, {0, 0}}, NULL);
    pci_add_bar(&more[0], 0, 0x4000, false, &tag_ops, NULL);
    pci_add_bar(&more[3], 0, 0x1000, false, &tag_ops, NULL);
    assert_int_equal(pci_host_add(&env.host, &more[0], NULL), 0);
    assert_int_equal(pci_host_add(&env.host, &more[3], NULL), -ENOSPC);
}

static void memory_bars_lie_above_4_gib(void **state)
{
    static struct pci_function fn, more; /* until the teardown */
    const struct pci_ids ids = {.vendor = 1};
    static const struct pci_function_ops ops = {.bar_moved = moved};
    pci_function_init(&fn, &ids, &ops);
    pci_function_init(&more, &ids, &ops);
    pci_add_memory_bar(&fn, 2, 0x80000);
    pci_add_memory_bar(&more, 2, 0x40000);
    assert_true(pci_host_has_room(&env.host, 0x100000));
    assert_false(pci_host_has_room(&env.host, 0x200000));
    assert_int_equal(pci_host_add(&env.host, &fn, NULL), 0);
    assert_false(pci_host_has_room(&env.host, 0x100000));
    assert_int_equal(pci_host_add(&env.host, &more, NULL), 0);
    assert_int_equal(get(3, 0x18, 4), 0xc); /* 64 bits, prefetchable */
    assert_int_equal(get(3, 0x1c, 4), 1);
    assert_int_equal(get(4, 0x18, 4), 0x8000c);
    assert_int_equal(get(4, 0x1c, 4), 1);

    put(3, 4, 2, 2);
    assert_int_equal(env.last, HIGH);
    put(4, 4, 2, 2);
    assert_int_equal(env.last, HIGH + 0x80000);
    put(4, 0x18, 4, 0x40000); /* in the first one's middle */
    assert_int_equal(env.last, 0);
    put(1, 4, 2, 2);
    put(1, 0x14, 4, 1); /* nor do other BARs get there */
    put(1, 0x10, 4, 0x7c000);
    assert_int_equal(env.last, 0);
    put(4, 0x18, 4, 0xc0000);
    assert_int_equal(env.last, HIGH + 0xc0000);
    assert_int_equal(who(HIGH), 0xff); /* no handlers */
    uint32_t v = 0;
    assert_true(bus_write(&env.mmio, HIGH, &v, sizeof(v)));
}

static void capabilities_make_a_list(void **state)
{
    struct pci_function fn;
    const struct pci_ids ids = {.vendor = 1};
    pci_function_init(&fn, &ids, NULL);
    assert_int_equal(pci_add_capability(&fn, 9, "\1\2\3", 3), 0x40);
    assert_int_equal(pci_add_capability(&fn, 0x11, "\4", 1), 0x48);
    assert_int_equal(fn.config[0x34], 0x40);
    assert_int_equal(fn.config[0x41], 0x48);
    assert_int_equal(fn.config[0x49], 0);
    assert_int_equal(fn.config[6] & 0x10, 0x10);
    uint8_t body[200] = {0};
    assert_int_equal(pci_add_capability(&fn, 9, body, sizeof(body)), -ENOSPC);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(absent_functions_read_as_ones),
        TEST(read_only_registers_stay),
        TEST(bars_are_sized_and_placed),
        TEST(bars_follow_their_registers),
        TEST(two_functions_swap_places),
        TEST(bars_stay_in_the_windows),
        TEST(the_bus_has_an_end),
        TEST(memory_bars_lie_above_4_gib),
        TEST(capabilities_make_a_list),
    };
    return cmocka_run_group_tests_name("hw-pci-host", tests, NULL, NULL);
}
