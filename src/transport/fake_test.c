/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fake transport as a device's own test uses it: one thread, the waits run the loop. The rest of it
 * is tested by the contract suite.
 */
#include "transport/fake.h"

#include <errno.h>

#include "util/testing.h"
#include "virtio/driver.h"
#include "virtio/entropy.h"

#define RAM_GPA   UINT64_C(0x100000)
#define RAM_BYTES UINT64_C(0x10000)

static void one_request(bool kick_directly)
{
    struct loop *loop;
    struct virtio_device *dev;
    struct memory mem;
    struct fake *fake;
    struct dayfly_err err;
    const struct memory_layout layout = {RAM_GPA, RAM_BYTES};
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(memory_create(&mem, &layout, 1, &err), 0);
    assert_int_equal(virtio_entropy_new(&dev, loop, NULL, &err), 0);
    const struct fake_options options = {.dev = dev, .mem = &mem, .kick_directly = kick_directly};
    assert_int_equal(fake_new(&fake, &options), 0);

    struct driver_arena arena = {&mem, RAM_GPA, RAM_GPA + RAM_BYTES};
    struct driver_ring ring;
    driver_ring_init(&ring, &arena, 8, fake_offered(fake));
    assert_int_equal(fake_setup_queue(fake, 0, &ring.setup), -EINVAL); /* no features yet */
    assert_int_equal(fake_negotiate(fake, fake_offered(fake)), 0);
    assert_int_equal(fake_negotiate(fake, fake_offered(fake)), -EINVAL); /* too late */
    assert_int_equal(fake_setup_queue(fake, 0, &ring.setup), 0);
    fake_driver_ok(fake);
    assert_int_equal(fake_setup_queue(fake, 0, &ring.setup), -EINVAL); /* it is live */
    assert_int_equal(fake_status(fake), VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
                                            VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_DRIVER_OK);
    assert_false(fake_wait_interrupt(fake, 0, 0));
    assert_false(fake_wait_interrupt(fake, 0, 1));

    const struct driver_buf buf = {driver_alloc(&arena, 32, 8), 32, true};
    int sent = driver_add(&ring, &buf, 1);
    assert_true(driver_publish(&ring));
    fake_kick(fake, 0);
    assert_true(fake_wait_interrupt(fake, 0, 20000));
    uint16_t head;
    uint32_t written;
    assert_true(driver_used(&ring, &head, &written));
    assert_int_equal(head, sent);
    assert_int_equal(written, 32);
    assert_false(fake_wait_interrupt(fake, 0, 0));

    driver_avail_idx_write(&ring, 1000);
    fake_kick(fake, 0);
    assert_true(fake_wait_config(fake, 20000));
    assert_true(fake_status(fake) & VIRTIO_STATUS_NEEDS_RESET);
    fake_reset(fake);
    assert_int_equal(fake_status(fake), 0);

    fake_free(fake);
    virtio_entropy_free(dev);
    memory_finish(&mem);
    loop_free(loop);
}

static void test_kicks_through_the_loop(void **state)
{
    one_request(false);
}

static void test_kicks_directly(void **state)
{
    one_request(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kicks_through_the_loop),
        cmocka_unit_test(test_kicks_directly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
