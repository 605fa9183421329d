/* SPDX-License-Identifier: Apache-2.0 */
/* Who serving threads are, as the kernel sees it. As root, since nobody else can be another. */
#include "fs/thread.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/server.h"
#include "util/testing.h"

static const struct export squashed = {
    .idmap = {.kind = FS_IDMAP_SQUASH, .host_uid = 12345, .host_gid = 23456},
};
static const struct export identity = {.idmap = {.kind = FS_IDMAP_IDENTITY}};

static void assert_acts_as(uid_t uid, gid_t gid)
{
    assert_int_equal(setfsuid((uid_t)-1), uid);
    assert_int_equal(setfsgid((gid_t)-1), gid);
}

static void *serve_identity(void *arg)
{
    struct fs fs = {.fds_fd = -1};
    struct fs_thread thread;
    struct dayfly_err err;
    assert_int_equal(fs_thread_enter(&fs, &thread, &err), 0);
    assert_true(thread.privileged);
    assert_acts_as(0, 0);
    assert_int_equal(fs_thread_act(&thread, &identity, 7, 8), 0);
    assert_acts_as(7, 8);
    assert_int_equal(fs_thread_act(&thread, &squashed, 7, 8), 0);
    assert_acts_as(12345, 23456);
    fs_thread_leave(&thread);
    return NULL;
}

/* Workers are made by a thread that serves already. */
static void *serve_squashed(void *arg)
{
    struct fs fs = {.fds_fd = -1};
    struct fs_thread thread;
    struct dayfly_err err;
    pthread_t other;
    assert_int_equal(fs_thread_enter(&fs, &thread, &err), 0);
    assert_int_equal(fs_thread_act(&thread, &squashed, 0, 0), 0);
    assert_acts_as(12345, 23456);
    assert_int_equal(pthread_create(&other, NULL, serve_identity, NULL), 0);
    pthread_join(other, NULL);
    assert_acts_as(12345, 23456);
    fs_thread_leave(&thread);
    return NULL;
}

static void a_serving_thread_makes_others(void **state)
{
    pthread_t thread;
    if (geteuid() != 0)
        skip();
    assert_int_equal(pthread_create(&thread, NULL, serve_squashed, NULL), 0);
    pthread_join(thread, NULL);
    assert_acts_as(0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_serving_thread_makes_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
