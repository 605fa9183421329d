/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One jail for several threads. It is for ever, so each case runs in threads that end, and the first
 * thread stays what the program around a library is: free.
 */
#include "isolate/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/testing.h"

static const struct isolate_call looking[] = {
    ISOLATE_CALL(openat),
    ISOLATE_CALL(chdir),
};

struct inmate {
    struct jail *jail;
    int own_net; /* /proc/thread-self/ns, opened before */
    int dir;     /* -1: none */
    int result;
    struct dayfly_err err;
    ino_t net;
    bool sees_files, sees_dir;
};

static bool can_open(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0;
}

static void *live(void *arg)
{
    struct inmate *i = arg;
    struct stat st;
    const struct isolate_options options = {.calls = {isolate_base_calls, ISOLATE_CALLS(looking)},
                                            .change_dir = i->dir >= 0,
                                            .dir = i->dir};
    _cleanup_close_ int own = open("/proc/thread-self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC);
    i->result = jail_enter(i->jail, "test", &options, &i->err);
    if (i->result < 0)
        return NULL;
    i->net = fstatat(own, "net", &st, 0) == 0 ? st.st_ino : 0;
    i->sees_files = can_open("/etc/passwd");
    i->sees_dir = faccessat(AT_FDCWD, "marker", F_OK, 0) == 0;
    return NULL;
}

static void run(struct inmate *i)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, live, i), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static ino_t own_network(void)
{
    struct stat st;
    assert_int_equal(stat("/proc/self/ns/net", &st), 0);
    return st.st_ino;
}

static void threads_share_it_and_the_program_stays_free(void **state)
{
    (void)state;
    struct jail *jail;
    ino_t before = own_network();
    assert_int_equal(jail_new(&jail, JAIL_AUTO, NULL, NULL), 0);
    struct inmate a = {.jail = jail, .dir = -1}, b = a;
    run(&a);
    run(&b);
    assert_int_equal(a.result, 0);
    assert_int_equal(b.result, 0);
    assert_int_equal(a.net, b.net);
    assert_false(a.sees_files || b.sees_files);
    if (!(jail_lacks(jail) & ISOLATE_NAMESPACES))
        assert_int_not_equal(a.net, before);
    jail_free(jail);
    assert_true(can_open("/etc/passwd"));
    assert_int_equal(own_network(), before);
    assert_int_equal(mkdirat(AT_FDCWD, "/", 0), -1);
    assert_int_equal(errno, EEXIST);
}

/* Two machines in one process. */
static void jails_are_apart(void **state)
{
    (void)state;
    struct jail *first, *second;
    assert_int_equal(jail_new(&first, JAIL_AUTO, NULL, NULL), 0);
    assert_int_equal(jail_new(&second, JAIL_AUTO, NULL, NULL), 0);
    struct inmate a = {.jail = first, .dir = -1}, b = {.jail = second, .dir = -1};
    run(&a);
    run(&b);
    assert_int_equal(a.result, 0);
    assert_int_equal(b.result, 0);
    if (!(jail_lacks(first) & ISOLATE_NAMESPACES))
        assert_int_not_equal(a.net, b.net);
    jail_free(first);
    jail_free(second);
}

static void off_is_off(void **state)
{
    (void)state;
    struct jail *jail;
    assert_int_equal(jail_new(&jail, JAIL_OFF, NULL, NULL), 0);
    struct inmate a = {.jail = jail, .dir = -1};
    run(&a);
    assert_int_equal(a.result, 0);
    assert_true(a.sees_files);
    assert_false(jail_is_on(jail));
    jail_free(jail);
}

static void required_is_all_or_an_error(void **state)
{
    (void)state;
    struct jail *jail;
    int lacks = jail_lacks_here(NULL);
    assert_true(lacks >= 0);
    assert_int_equal(jail_new(&jail, JAIL_REQUIRED, NULL, NULL), 0);
    struct inmate a = {.jail = jail, .dir = -1};
    run(&a);
    assert_int_equal(a.result, lacks ? -EPERM : 0);
    assert_int_equal(jail_lacks(jail), lacks);
    if (lacks)
        assert_non_null(strstr(a.err.msg, jail_remedy((unsigned)lacks)));
    jail_free(jail);
}

/* What a host cannot give at all: a thread whose files are opened by handle goes without landlock. */
static void *goes_without_landlock(void *arg)
{
    struct inmate *i = arg;
    const struct isolate_options options = {.calls = {isolate_base_calls}, .no_landlock = true};
    i->result = jail_enter(i->jail, "test", &options, &i->err);
    return NULL;
}

static void what_is_missing_is_said(void **state)
{
    (void)state;
    for (enum jail_mode mode = JAIL_AUTO; mode <= JAIL_REQUIRED; mode++) {
        struct jail *jail;
        pthread_t thread;
        assert_int_equal(jail_new(&jail, mode, NULL, NULL), 0);
        struct inmate a = {.jail = jail};
        assert_int_equal(pthread_create(&thread, NULL, goes_without_landlock, &a), 0);
        pthread_join(thread, NULL);
        assert_int_equal(a.result, mode == JAIL_REQUIRED ? -EPERM : 0);
        assert_true(jail_lacks(jail) & ISOLATE_LANDLOCK);
        if (mode == JAIL_REQUIRED)
            assert_non_null(strstr(a.err.msg, "landlock"));
        jail_free(jail);
    }
}

static void stages_have_names(void **state)
{
    (void)state;
    char text[ISOLATE_STAGES_BYTES];
    assert_string_equal(isolate_stage_names(0, text), "");
    assert_string_equal(isolate_stage_names(ISOLATE_NAMESPACES | ISOLATE_SECCOMP, text),
                        "namespaces, seccomp");
    assert_string_equal(isolate_stage_names(31, text),
                        "namespaces, user, capabilities, landlock, seccomp");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_it_and_the_program_stays_free),
        cmocka_unit_test(jails_are_apart),
        cmocka_unit_test(off_is_off),
        cmocka_unit_test(required_is_all_or_an_error),
        cmocka_unit_test(what_is_missing_is_said),
        cmocka_unit_test(stages_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
