/* SPDX-License-Identifier: Apache-2.0 */
/* What is held for want of room, what is not, and what ends the waiting. The contract of block.h is
 * tested over this layer too (stack_test.c, model_test.c). */
#include "block/testing_stack.h"

#include "util/clock.h"

#define SIZE (UINT64_C(1) << 20)

struct fixture {
    struct toy *toy;
    struct block *block;
    unsigned waits, goes_on; /* lines of the log */
    char line[256];
};

static void on_line(void *opaque, enum log_level level, const char *line)
{
    struct fixture *f = opaque;
    assert_int_equal(level, LOG_ERROR);
    f->waits += strstr(line, "no room") != NULL;
    f->goes_on += strstr(line, "goes on") != NULL && !strstr(line, "no room");
    snprintf(f->line, sizeof(f->line), "%s", line);
}

static void set_up(struct fixture *f, struct log *log)
{
    struct dayfly_err err;
    *f = (struct fixture){.toy = toy_new(SIZE, 1)};
    *log = (struct log){.write = on_line, .opaque = f, .level = LOG_ERROR};
    const struct block_patient_options options = {
        .lower = &f->toy->block, .name = "/the/disk.img", .log = log};
    assert_int_equal(block_patient_open(&f->block, &options, &err), 0);
}

static void submit(struct fixture *f, struct waited *w, enum block_op op, uint64_t offset, void *buf,
                   uint64_t len)
{
    prepare(w, op, offset, buf, len);
    assert_int_equal(block_submit(f->block, &w->request), 0);
    block_kick(f->block);
}

/* Until nothing but the timer is to be waited for. */
static void settle(struct fixture *f)
{
    struct pollfd p = {.fd = f->block->event_fd, .events = POLLIN};
    do
        block_reap(f->block);
    while (f->toy->count > 0 || poll(&p, 1, 0) > 0);
}

static void wait_for(struct fixture *f, const struct waited *w)
{
    while (!w->done)
        wait_event(f->block);
}

static void check_waiting(enum block_op op, int error)
{
    struct fixture f;
    struct log log;
    struct waited w;
    uint8_t buf[4096];
    set_up(&f, &log);
    memset(buf, 7, sizeof(buf));
    f.toy->full = error;
    submit(&f, &w, op, 4096, buf, sizeof(buf));
    settle(&f);
    assert_int_equal(w.done, 0);
    assert_int_equal(f.waits, 1);
    assert_int_equal(f.goes_on, 0);
    assert_non_null(strstr(f.line, "/the/disk.img"));
    assert_non_null(strstr(f.line, strerrordesc_np(-error)));
    f.toy->full = 0;
    wait_for(&f, &w);
    assert_int_equal(w.result, 0);
    assert_int_equal(f.waits, 1);
    assert_int_equal(f.goes_on, 1);
    if (op == BLOCK_WRITE)
        assert_memory_equal(f.toy->bytes + 4096, buf, sizeof(buf));
    block_destroy(f.block);
}

static void test_what_finds_no_room_waits_for_it(void **state)
{
    check_waiting(BLOCK_WRITE, -ENOSPC);
    check_waiting(BLOCK_WRITE, -EDQUOT);
    check_waiting(BLOCK_DISCARD, -ENOSPC);
    check_waiting(BLOCK_WRITE_ZEROES, -EDQUOT);
}

static void test_it_is_tried_until_it_works(void **state)
{
    struct fixture f;
    struct log log;
    struct waited w;
    uint8_t buf[512] = {1};
    set_up(&f, &log);
    f.toy->full = -ENOSPC;
    submit(&f, &w, BLOCK_WRITE, 0, buf, sizeof(buf));
    uint64_t began = clock_ns();
    while (f.toy->refusals < 3)
        wait_event(f.block);
    /* Not at once, and not at the same distance. */
    assert_true(clock_ns() - began >= 300 * NS_PER_MS);
    assert_int_equal(w.done, 0);
    f.toy->full = 0;
    wait_for(&f, &w);
    assert_int_equal(w.result, 0);
    assert_int_equal(f.waits, 1);
    assert_int_equal(f.goes_on, 1);
    block_destroy(f.block);
}

static void test_others_go_on_meanwhile(void **state)
{
    struct fixture f;
    struct log log;
    struct waited held, w;
    uint8_t buf[512] = {1};
    set_up(&f, &log);
    f.toy->full = -ENOSPC;
    submit(&f, &held, BLOCK_WRITE, 0, buf, sizeof(buf));
    settle(&f);
    assert_int_equal(run_one(f.block, BLOCK_READ, 512, buf, sizeof(buf)), 0);
    assert_int_equal(run_one(f.block, BLOCK_FLUSH, 0, NULL, 0), 0);
    f.toy->full = 0;
    submit(&f, &w, BLOCK_WRITE, 4096, buf, sizeof(buf));
    wait_for(&f, &w);
    assert_int_equal(w.result, 0);
    wait_for(&f, &held);
    assert_int_equal(held.result, 0);
    block_destroy(f.block);
}

static void test_other_errors_and_flushes_are_not_held(void **state)
{
    struct fixture f;
    struct log log;
    uint8_t buf[512] = {1};
    set_up(&f, &log);
    f.toy->fail_writes = -EIO;
    assert_int_equal(run_one(f.block, BLOCK_WRITE, 0, buf, sizeof(buf)), -EIO);
    f.toy->fail_flushes = -ENOSPC;
    assert_int_equal(run_one(f.block, BLOCK_FLUSH, 0, NULL, 0), -ENOSPC);
    assert_int_equal(f.waits, 0);
    block_destroy(f.block);
}

static void test_a_drain_waits_for_no_room(void **state)
{
    struct fixture f;
    struct log log;
    struct waited held, queued;
    uint8_t buf[512] = {1};
    set_up(&f, &log);
    f.toy->full = -EDQUOT;
    submit(&f, &held, BLOCK_WRITE, 0, buf, sizeof(buf));
    settle(&f);
    submit(&f, &queued, BLOCK_WRITE_ZEROES, 512, NULL, 512);
    block_drain(f.block);
    assert_int_equal(held.done, 1);
    assert_int_equal(held.result, -EDQUOT);
    assert_int_equal(queued.done, 1);
    assert_int_equal(queued.result, -EDQUOT);
    assert_int_equal(f.goes_on, 0);

    /* And it waits again afterwards. */
    submit(&f, &held, BLOCK_WRITE, 0, buf, sizeof(buf));
    settle(&f);
    assert_int_equal(held.done, 0);
    assert_int_equal(f.waits, 2);
    block_destroy(f.block);
    assert_int_equal(held.done, 1);
    assert_int_equal(held.result, -EDQUOT);
}

static void test_a_retry_does_not_wait_for_its_time(void **state)
{
    struct fixture f;
    struct log log;
    struct waited w;
    uint8_t buf[512] = {1};
    set_up(&f, &log);
    block_patient_retry(f.block); /* nothing is held */
    struct pollfd p = {.fd = f.block->event_fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 0);
    f.toy->full = -ENOSPC;
    submit(&f, &w, BLOCK_WRITE, 0, buf, sizeof(buf));
    settle(&f);
    f.toy->full = 0;
    block_patient_retry(f.block);
    assert_int_equal(poll(&p, 1, 50), 1);
    wait_for(&f, &w);
    assert_int_equal(w.result, 0);
    block_destroy(f.block);
}

static void test_as_many_as_there_are_wait(void **state)
{
    enum { COUNT = 256 };
    struct fixture f;
    struct log log;
    static struct waited all[COUNT], more;
    static uint8_t data[COUNT][512];
    set_up(&f, &log);
    f.toy->full = -ENOSPC;
    for (unsigned i = 0; i < COUNT; i++) {
        memset(data[i], (int)(i % 251 + 1), 512);
        submit(&f, &all[i], BLOCK_WRITE, 512 * (uint64_t)i, data[i], 512);
    }
    settle(&f);
    prepare(&more, BLOCK_READ, 0, data[0], 512);
    assert_int_equal(block_submit(f.block, &more.request), -EBUSY);
    f.toy->full = 0;
    for (unsigned i = 0; i < COUNT; i++)
        wait_for(&f, &all[i]);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(all[i].done, 1);
        assert_int_equal(all[i].result, 0);
        assert_int_equal(f.toy->bytes[512 * i], i % 251 + 1);
    }
    assert_int_equal(f.waits, 1);
    assert_int_equal(f.goes_on, 1);
    block_destroy(f.block);
}

/* The usual end of a full overlay: what has been moved stays moved, the rest is tried again. */
static void test_on_top_of_an_overlay(void **state)
{
    struct dayfly_err err;
    struct toy *toy = toy_new(SIZE, 1);
    struct block *block;
    struct waited w;
    static uint8_t buf[16384], back[16384];
    const struct block_overlay_options overlay = {.base = make_base(SIZE, false, BLOCK_IO_AUTO),
                                                  .delta = &toy->block};
    assert_int_equal(block_overlay_open(&block, &overlay, &err), 0);
    assert_int_equal(
        block_patient_open(&block, &(struct block_patient_options){.lower = block, .name = "x"}, &err),
        0);
    memset(buf, 9, sizeof(buf));
    toy->full = -ENOSPC;
    prepare(&w, BLOCK_WRITE, 512, buf, sizeof(buf)); /* with a part of a cluster at both ends */
    assert_int_equal(block_submit(block, &w.request), 0);
    block_kick(block);
    assert_int_equal(run_one(block, BLOCK_READ, 512, back, sizeof(back)), 0);
    assert_int_equal(back[0], BASE_PATTERN(512));
    assert_int_equal(w.done, 0);
    toy->full = 0;
    while (!w.done)
        wait_event(block);
    assert_int_equal(w.result, 0);
    assert_int_equal(run_one(block, BLOCK_READ, 512, back, sizeof(back)), 0);
    assert_memory_equal(back, buf, sizeof(buf));
    block_destroy(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_finds_no_room_waits_for_it),
        cmocka_unit_test(test_it_is_tried_until_it_works),
        cmocka_unit_test(test_others_go_on_meanwhile),
        cmocka_unit_test(test_other_errors_and_flushes_are_not_held),
        cmocka_unit_test(test_a_drain_waits_for_no_room),
        cmocka_unit_test(test_a_retry_does_not_wait_for_its_time),
        cmocka_unit_test(test_as_many_as_there_are_wait),
        cmocka_unit_test(test_on_top_of_an_overlay),
    };
    return cmocka_run_group_tests_name("block-patient", tests, NULL, NULL);
}
