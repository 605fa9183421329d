/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a hostile front end may try besides misusing a device, which the contract suite has
 * (tests/contract).
 */
#include "transport/vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/testing_front.h"
#include "util/cleanup.h"
#include "util/testing.h"
#include "virtio/entropy.h"

#define HUGE_BYTES (UINT64_C(2) << 20)

struct fixture {
    struct loop *loop;
    struct virtio_device *dev;
    struct vhost_user *back;
    struct vhost_user_front front;
};

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    struct dayfly_err err;
    int pair[2];
    front_init(&x->front);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(loop_new(&x->loop), 0);
    assert_int_equal(virtio_entropy_new(&x->dev, x->loop, NULL, &err), 0);
    assert_int_equal(vhost_user_new(&x->back, x->dev, pair[1], NULL, NULL, &err), 0);
    assert_int_equal(loop_start(x->loop, "back end"), 0);
    assert_int_equal(front_connect(&x->front, pair[0], 0), 0);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    front_close(&x->front);
    loop_stop(x->loop);
    vhost_user_free(x->back);
    virtio_entropy_free(x->dev);
    loop_free(x->loop);
    free(x);
    return 0;
}

static int send_region(struct fixture *x, int fd, uint64_t bytes)
{
    const struct vhost_user_mem_table table = {.count = 1,
                                               .regions = {{.size_bytes = bytes, .uva = 0x10000000}}};
    return front_request(&x->front, VHOST_USER_SET_MEM_TABLE, &table, 8 + 32, &fd, 1, NULL);
}

/* Its pages come out of a pool of the host's: where that is empty, the first access would be SIGBUS. */
static void memory_of_huge_pages_is_refused(void **state)
{
    _cleanup_close_ int fd = memfd_create("huge", MFD_HUGETLB | MFD_ALLOW_SEALING | MFD_CLOEXEC);
    if (fd < 0)
        skip(); /* a kernel without hugetlbfs */
    assert_int_equal(ftruncate(fd, HUGE_BYTES), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    assert_int_equal(send_region(*state, fd, HUGE_BYTES), -EINVAL);
}

static void memory_that_can_shrink_is_refused(void **state)
{
    _cleanup_close_ int fd = memfd_create("memory", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, HUGE_BYTES), 0);
    assert_int_equal(send_region(*state, fd, HUGE_BYTES), -EINVAL);
}

/* Not even on a socket that was made blocking, as one that a front end gave us may be at any time. */
static void sending_never_waits(void **state)
{
    const struct vhost_user_message message = {
        .header = {VHOST_USER_BACKEND_CONFIG_CHANGE, VHOST_USER_VERSION, 0}};
    int pair[2], r;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    alarm(20);
    while ((r = vhost_user_send(pair[0], &message, NULL, 0)) == 0)
        ;
    alarm(0);
    assert_int_equal(r, -EAGAIN);
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_of_huge_pages_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_that_can_shrink_is_refused, setup, teardown),
        cmocka_unit_test(sending_never_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
