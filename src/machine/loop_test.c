/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/loop.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/testing.h"

struct probe {
    struct loop_source source;
    struct loop_timer timer;
    struct probe *other;
    int calls;
    pthread_t thread;
};

static void count(struct loop_source *source, uint32_t events)
{
    struct probe *p = container_of(source, struct probe, source);
    (void)events;
    p->calls++;
    if (p->other)
        loop_remove(&p->other->source);
}

static void ready_probe(struct loop *loop, struct probe *p)
{
    p->source = (struct loop_source){.fd = eventfd(1, EFD_CLOEXEC), .events = EPOLLIN, .ready = count};
    assert_int_equal(loop_add(loop, &p->source), 0);
}

static void test_a_source_removed_in_the_same_round_is_not_called(void **state)
{
    (void)state;
    struct loop *loop;
    assert_int_equal(loop_new(&loop), 0);
    struct probe a = {.other = NULL}, b = {.other = NULL};
    ready_probe(loop, &a);
    ready_probe(loop, &b);
    a.other = &b;
    b.other = &a;
    loop_run_once(loop, -1);
    assert_int_equal(a.calls + b.calls, 1);
    loop_remove(&a.source);
    loop_remove(&b.source);
    close(a.source.fd);
    close(b.source.fd);
    loop_free(loop);
}

static void note_thread(void *arg)
{
    struct probe *p = arg;
    p->calls++;
    p->thread = pthread_self();
}

static void test_calls_run_in_the_loops_thread(void **state)
{
    (void)state;
    struct loop *loop;
    struct probe p = {0};
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(loop_call(loop, note_thread, &p), 0); /* no thread yet: at once */
    assert_true(pthread_equal(p.thread, pthread_self()));
    assert_int_equal(loop_start(loop, "test loop"), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(loop_call(loop, note_thread, &p), 0);
    assert_int_equal(p.calls, 101);
    assert_false(pthread_equal(p.thread, pthread_self()));
    assert_int_equal(loop_post(loop, note_thread, &p), 0);
    loop_stop(loop); /* lets a post that came before it run */
    assert_int_equal(p.calls, 102);
    loop_stop(loop);
    loop_free(loop);
}

static void fired(struct loop_timer *timer)
{
    container_of(timer, struct probe, timer)->calls++;
}

static void test_timers_fire_once_in_time_and_can_be_cancelled(void **state)
{
    (void)state;
    struct loop *loop;
    struct probe p = {.timer.fired = fired}, never = {.timer.fired = fired};
    assert_int_equal(loop_new(&loop), 0);
    uint64_t start = clock_ns();
    loop_timer_set(loop, &p.timer, start + 5 * NS_PER_MS);
    loop_timer_set(loop, &never.timer, start + NS_PER_MS);
    loop_timer_cancel(&never.timer);
    while (p.calls == 0)
        assert_true(loop_run_once(loop, -1) >= 0);
    assert_true(clock_ns() - start >= 5 * NS_PER_MS);
    assert_int_equal(loop_run_once(loop, 0), 0);
    assert_int_equal(p.calls, 1);
    assert_int_equal(never.calls, 0);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_source_removed_in_the_same_round_is_not_called),
        cmocka_unit_test(test_calls_run_in_the_loops_thread),
        cmocka_unit_test(test_timers_fire_once_in_time_and_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
