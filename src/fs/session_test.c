/* SPDX-License-Identifier: Apache-2.0 */

/* Sessions: what INIT agrees on, what comes before it and after DESTROY, and requests of wrong forms.
 */

#include "fs/server.h"
#include "fs/testing_fs.h"
#include "util/arith.h"

static void a_session_begins_with_init(void **state)
{
    struct share s;
    struct fuse_attr attr;
    share_begin(&s);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), 0);
    assert_true(S_ISDIR(attr.mode));
    assert_int_equal(attr.ino, host_stat(&s, ".").st_ino);
    fs_reset(s.fs);
    assert_int_equal(client_getattr(s.c, ROOT, &attr), -EIO);
    share_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_begins_with_init),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
