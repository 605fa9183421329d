/* SPDX-License-Identifier: Apache-2.0 */

/* One case for each operation, and for what it refuses. */

#include "fs/testing_fs.h"

static void files_are_made_written_and_read(void **state)
{
    struct share s;
    uint64_t node;
    char buf[64] = {0};
    for (enum client_cut cut = 0; cut < CLIENT_CUTS; cut++) {
        share_begin(&s);
        client_cut(s.c, cut);
        uint64_t fh = new_file(&s, "file", &node);
        assert_int_equal(client_write(s.c, node, fh, "hello, host", 11, 0, 0), 11);
        assert_int_equal(host_stat(&s, "file").st_size, 11);
        assert_int_equal(client_read(s.c, node, fh, buf, sizeof(buf), 7), 4);
        assert_memory_equal(buf, "host", 4);
        assert_int_equal(client_release(s.c, node, fh), 0);
        assert_int_equal(client_read(s.c, node, fh, buf, sizeof(buf), 7), -EBADF);
        assert_int_equal(client_unlink(s.c, ROOT, "file"), 0);
        assert_false(host_has(&s, "file"));
        share_end(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_are_made_written_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
