/* SPDX-License-Identifier: Apache-2.0 */
#include "util/iov.h"

#include <string.h>

#include "util/arith.h"
#include "util/testing.h"

#define TEXT "abcdefghij"

/* TEXT in pieces of 1, 0, 4, 5. */
struct pieces {
    char text[11];
    struct iovec iov[4];
};

static void cut(struct pieces *p)
{
    strcpy(p->text, TEXT);
    p->iov[0] = (struct iovec){p->text, 1};
    p->iov[1] = (struct iovec){p->text + 1, 0};
    p->iov[2] = (struct iovec){p->text + 1, 4};
    p->iov[3] = (struct iovec){p->text + 5, 5};
}

static void test_copies_cross_segments(void **state)
{
    for (size_t offset = 0; offset <= 11; offset++) {
        for (size_t len = 0; len <= 11; len++) {
            struct pieces p;
            char buf[12];
            cut(&p);
            size_t there = offset < 10 ? 10 - offset : 0, expect = len < there ? len : there;
            assert_int_equal(iov_copy_out(p.iov, 4, offset, buf, len), expect);
            assert_memory_equal(buf, &TEXT[offset < 10 ? offset : 0], expect);

            char want[] = TEXT;
            if (expect > 0)
                memset(want + offset, 'X', expect);
            assert_int_equal(iov_copy_in(p.iov, 4, offset, "XXXXXXXXXXX", len), expect);
            assert_string_equal(p.text, want);
        }
    }
}

static void test_drops_cut_exactly(void **state)
{
    for (size_t n = 0; n <= 12; n++) {
        struct pieces p;
        char buf[12];
        cut(&p);
        struct iovec *iov = p.iov;
        unsigned count = iov_drop_front(&iov, 4, n);
        size_t left = n < 10 ? 10 - n : 0;
        assert_int_equal(iov_bytes(iov, count), left);
        assert_int_equal(iov_copy_out(iov, count, 0, buf, 12), left);
        assert_memory_equal(buf, &TEXT[10 - left], left);

        cut(&p);
        count = iov_drop_back(p.iov, 4, n);
        assert_int_equal(iov_bytes(p.iov, count), left);
        assert_int_equal(iov_copy_out(p.iov, count, 0, buf, 12), left);
        assert_memory_equal(buf, TEXT, left);
    }
}

static void test_slices_and_fills_are_exact(void **state)
{
    for (size_t from = 0; from <= 10; from++) {
        for (size_t len = 0; from + len <= 10; len++) {
            struct pieces p;
            struct iovec slice[4];
            char buf[12];
            cut(&p);
            unsigned count = iov_slice(p.iov, 4, from, len, slice);
            assert_true(count <= 4);
            assert_int_equal(iov_bytes(slice, count), len);
            assert_int_equal(iov_copy_out(slice, count, 0, buf, 12), len);
            assert_memory_equal(buf, &TEXT[from], len);

            char want[] = TEXT;
            memset(want + from, 'X', len);
            iov_fill(p.iov, 4, from, 'X', len);
            assert_string_equal(p.text, want);
        }
    }
}

static void test_a_cursor_goes_forward(void **state)
{
    for (size_t step = 1; step <= 10; step++) {
        struct pieces p;
        char buf[12] = "";
        cut(&p);
        struct iov_cursor cursor = {p.iov, 4, 0};
        for (size_t at = 0; at < 10; at += step) {
            size_t n = MIN(step, 10 - at);
            const char *there = iov_next(&cursor, n);
            if (there)
                memcpy(buf, there, n);
            else
                iov_next_out(&cursor, buf, n);
            assert_memory_equal(buf, &TEXT[at], n);
        }
        assert_null(iov_next(&cursor, 1));
    }
    struct pieces p;
    cut(&p);
    struct iov_cursor cursor = {p.iov, 4, 0};
    iov_skip(&cursor, 4);
    iov_next_in(&cursor, "XY", 2);
    char want[] = TEXT;
    memcpy(want + 4, "XY", 2);
    assert_string_equal(p.text, want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies_cross_segments),
        cmocka_unit_test(test_drops_cut_exactly),
        cmocka_unit_test(test_slices_and_fills_are_exact),
        cmocka_unit_test(test_a_cursor_goes_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
