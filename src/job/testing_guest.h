/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_TESTING_GUEST_H
#define JOB_TESTING_GUEST_H

/* What the tests of a guest's client share. Included by *_test.c files only. */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "job/guest_pump.h"
#include "util/clock.h"
#include "util/testing.h"

/* A time limit that only a failing test meets. */
#define TEST_WAIT_NS (30 * NS_PER_S)

static inline struct guest_wait soon(void)
{
    return (struct guest_wait){.deadline_ns = clock_ns() + TEST_WAIT_NS, .cancel_fd = -1};
}

static const struct guest_pump PUMP = {.cancel_fd = -1, .signal_fd = -1, .tty_fd = -1};

static const struct proto_setup SETUP = {
    .root = {"root", "erofs", ""}, .hostname = "box", .entropy_len = PROTO_ENTROPY_MIN};

/* Until not one byte more fits. The pipe blocks its other writers as before. */
static inline void fill_pipe(int fd)
{
    static const uint8_t zeros[4096];
    int flags = fcntl(fd, F_GETFL);
    assert_int_equal(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
    while (write(fd, zeros, sizeof(zeros)) > 0)
        ;
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(fcntl(fd, F_SETFL, flags), 0);
}

#endif
