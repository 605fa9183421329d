/* SPDX-License-Identifier: Apache-2.0 */
#include "net/frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/packet.h"
#include "util/testing.h"

struct world {
    int fds[2]; /* ours, and the other end */
    struct frames *frames;
    uint8_t buffer[PACKET_FRAME_MAX + 1];
};

static void begin(struct world *w)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, w->fds), 0);
    w->frames = frames_new(w->fds[0]);
    assert_non_null(w->frames);
}

static void end(struct world *w)
{
    frames_free(w->frames);
    close(w->fds[0]);
    close(w->fds[1]);
}

/* A frame that says which it is. */
static size_t make(struct world *w, unsigned number, size_t len)
{
    memset(w->buffer, (int)(number * 31), len);
    memcpy(w->buffer, &number, sizeof(number));
    return len;
}

/* The number of the next frame at the other end, which must be whole, or -1. */
static long take(struct world *w)
{
    unsigned number;
    ssize_t n = recv(w->fds[1], w->buffer, sizeof(w->buffer), MSG_DONTWAIT);
    if (n < 0)
        return -1;
    memcpy(&number, w->buffer, sizeof(number));
    assert_int_equal(w->buffer[n - 1], (uint8_t)(n > 4 ? number * 31 : number >> 24));
    return number;
}

/* Frames of all sizes go in faster than they come out: those that were not lost come in order, and more
 * than the ring holds goes round it. */
static void test_order_and_loss(void **state)
{
    static struct world w;
    static bool sent[20000];
    unsigned number = 0;
    long expected = 0, got;
    begin(&w);
    srandom(1);
    while (number < 20000) {
        for (int i = 0; i < 40 && number < 20000; i++, number++) {
            size_t len = random() % 4 ? 14 + (size_t)random() % 200 : 14 + (size_t)random() % 65000;
            sent[number] = frames_send(w.frames, w.buffer, make(&w, number, len));
        }
        for (long i = random() % 60; i; i--) {
            frames_flush(w.frames);
            if ((got = take(&w)) < 0)
                break;
            for (; expected < got; expected++)
                assert_false(sent[expected]);
            assert_true(sent[expected++]);
        }
    }
    assert_true(frames_waiting(w.frames) >= FRAMES_CROWDED);
    for (;;) {
        frames_flush(w.frames);
        if ((got = take(&w)) < 0)
            break;
        for (; expected < got; expected++)
            assert_false(sent[expected]);
        assert_true(sent[expected++]);
    }
    for (; expected < 20000; expected++)
        assert_false(sent[expected]);
    assert_int_equal(frames_waiting(w.frames), 0);
    end(&w);
}

static void test_receiving(void **state)
{
    static struct world w;
    size_t len;
    begin(&w);
    assert_int_equal(frames_receive(w.frames), 0);
    for (unsigned i = 0; i < FRAMES_BATCH + 1; i++)
        assert_true(send(w.fds[1], w.buffer, make(&w, i, 14 + i), 0) > 0);
    assert_int_equal(frames_receive(w.frames), FRAMES_BATCH);
    for (int i = 0; i < FRAMES_BATCH; i++) {
        const uint8_t *frame = frames_get(w.frames, i, &len);
        assert_int_equal(len, 14 + i);
        assert_int_equal(frame[0], i);
    }
    assert_int_equal(frames_receive(w.frames), 1);
    /* An empty message is no end, and one that is too long is seen to be. */
    assert_int_equal(send(w.fds[1], w.buffer, 0, 0), 0);
    assert_int_equal(frames_receive(w.frames), 1);
    static uint8_t giant[PACKET_FRAME_MAX + 100];
    assert_int_equal(send(w.fds[1], giant, sizeof(giant), 0), sizeof(giant));
    assert_int_equal(frames_receive(w.frames), 1);
    frames_get(w.frames, 0, &len);
    assert_int_equal(len, PACKET_FRAME_MAX + 1);
    shutdown(w.fds[1], SHUT_RDWR);
    assert_int_equal(frames_receive(w.frames), -EPIPE);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_loss),
        cmocka_unit_test(test_receiving),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
