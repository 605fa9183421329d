/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device on the test's own loop, in front of a back end that plays along with the driver:
 * whatever the two do, a turn of the loop ends.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/testing.h"
#include "virtio/driver.h"
#include "virtio/net.h"

#define RAM_GPA   UINT64_C(0x100000)
#define RAM_BYTES UINT64_C(0x100000)
#define BUF_BYTES 1600
#define TURN      256 /* frames that one turn may have, and no more */

enum { RX, TX, QUEUES = 3 };

struct fixture {
    struct loop *loop;
    struct memory mem;
    struct driver_arena arena;
    struct driver_ring rings[QUEUES];
    uint64_t buf_gpa;
    struct virtio_device *dev;
    struct net net;
    bool refill; /* each frame that goes makes the driver add another */
    unsigned sent, received;
};

static struct fixture *fixture_of(struct net *net)
{
    return container_of(net, struct fixture, net);
}

static void add(struct fixture *f, unsigned queue)
{
    uint16_t head;
    uint32_t written;
    while (driver_used(&f->rings[queue], &head, &written))
        ;
    const struct driver_buf buf = {f->buf_gpa, queue == RX ? BUF_BYTES : 72, queue == RX};
    while (driver_add(&f->rings[queue], &buf, 1) >= 0)
        ;
    driver_publish(&f->rings[queue]);
}

/* A frame at a time, so that the driver has its chance between any two. */
static int endless_receive(struct net *net, unsigned queue, struct net_frame *frames, unsigned max)
{
    struct fixture *f = fixture_of(net);
    frames[0].bytes = 60;
    f->received++;
    if (f->refill)
        add(f, RX);
    return 1;
}

static int endless_send(struct net *net, unsigned queue, const struct net_frame *frames, unsigned count)
{
    struct fixture *f = fixture_of(net);
    f->sent += count;
    if (f->refill)
        add(f, TX);
    return (int)count;
}

static void no_destroy(struct net *net)
{
    close(net->fds[0]);
}

static const struct net_ops endless_ops = {
    .name = "endless", .receive = endless_receive, .send = endless_send, .destroy = no_destroy};

static struct fixture *make(void)
{
    const struct memory_layout layout = {RAM_GPA, RAM_BYTES};
    struct fixture *f = calloc(1, sizeof(*f));
    struct dayfly_err err;
    assert_non_null(f);
    assert_int_equal(loop_new(&f->loop), 0);
    assert_int_equal(memory_create(&f->mem, &layout, 1, &err), 0);
    f->arena = (struct driver_arena){&f->mem, RAM_GPA, RAM_GPA + RAM_BYTES};
    f->net = (struct net){.ops = &endless_ops, .queues = 1, .mtu = NET_MTU_DEFAULT};
    f->net.fds[0] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    const struct virtio_net_options options = {.mac = {2}, .loop = f->loop};
    assert_int_equal(virtio_net_new(&f->dev, &f->net, &options, NULL, &err), 0);
    assert_true(virtio_set_features(f->dev, f->dev->offered));
    for (unsigned i = 0; i < QUEUES; i++) {
        driver_ring_init(&f->rings[i], &f->arena, f->dev->queues[i].size_max, f->dev->offered);
        assert_int_equal(virtio_queue_start(f->dev, i, &f->mem, &f->rings[i].setup), 0);
    }
    f->buf_gpa = driver_alloc(&f->arena, BUF_BYTES, 16);
    return f;
}

static void unmake(struct fixture *f)
{
    virtio_net_free(f->dev);
    memory_finish(&f->mem);
    loop_free(f->loop);
    free(f);
}

static void frames_without_end_hold_up_nobody(void **state)
{
    struct fixture *f = make();
    f->refill = true;
    add(f, RX);
    add(f, TX);
    virtio_activate(f->dev);
    for (unsigned rounds = 1; rounds <= 20; rounds++) {
        unsigned sent = f->sent, received = f->received;
        assert_true(loop_run_once(f->loop, 0) > 0);
        /* The noted queues and the back end's own source: a turn of each in one round. */
        assert_in_range(f->sent - sent, 0, 2 * TURN);
        assert_in_range(f->received - received, 0, 2 * TURN);
    }
    /* And all of them go on, with no further kick. */
    assert_true(f->sent > 10 * TURN && f->received > 10 * TURN);
    unmake(f);
}

static void what_the_driver_gave_is_its_own_again(void **state)
{
    struct fixture *f = make();
    add(f, RX);
    virtio_activate(f->dev);
    loop_run_once(f->loop, 0);
    unsigned received = f->received;
    assert_true(received > 0 && received < TURN + 1);
    /* What was popped ahead and not used waits where it was, for who goes on there. */
    uint16_t used = driver_used_idx(&f->rings[RX]);
    assert_int_equal(virtio_queue_stop(f->dev, RX), used);
    loop_run_once(f->loop, 0);
    assert_int_equal(driver_used_idx(&f->rings[RX]), used);
    unmake(f);
}

static void counts_what_goes_by(void **state)
{
    struct fixture *f = make();
    struct virtio_net_counters counters;
    add(f, TX);
    virtio_activate(f->dev);
    loop_run_once(f->loop, 0);
    virtio_net_count(f->dev, &counters);
    assert_int_equal(counters.from_driver, f->rings[TX].setup.size);
    assert_int_equal(counters.from_driver, f->sent);
    assert_int_equal(counters.from_driver_dropped, 0);
    unmake(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_without_end_hold_up_nobody),
        cmocka_unit_test(what_the_driver_gave_is_its_own_again),
        cmocka_unit_test(counts_what_goes_by),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
