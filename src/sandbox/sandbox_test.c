/* SPDX-License-Identifier: Apache-2.0 */
/* A sandbox's life without a job: what needs no image. Skipped where there are no namespaces. */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/proto.h"
#include "util/testing.h"

static const struct sandbox_options plain = {
    .root_fd = -1, .layer_bytes = 1 << 20, .limits = {.memory_bytes = 64 << 20, .pids = 32}};

static int start(struct sandbox *s, struct dayfly_err *err)
{
    int r = sandbox_start(s, err);
    return r < 0 ? r : sandbox_call(s, -1, err);
}

static void need_sandboxes(void)
{
    struct dayfly_err why = {0};
    if (sandbox_probe(&why) < 0) {
        print_message("no sandbox here: %s\n", why.msg);
        skip();
    }
}

/* The agent's first frame. */
static void expect_hello(int link)
{
    uint8_t header[PROTO_HEADER_BYTES];
    struct proto_frame f;
    assert_int_equal(recv(link, header, sizeof(header), MSG_WAITALL), sizeof(header));
    assert_int_equal(proto_get_header(header, &f), 0);
    assert_int_equal(f.type, PROTO_HELLO);
}

static void its_init_is_the_agent(void **state)
{
    struct sandbox *s;
    struct dayfly_err err = {0};
    need_sandboxes();
    assert_int_equal(sandbox_new(&s, &plain, &err), 0);
    int link = start(s, &err);
    if (link < 0)
        fail_msg("%s", err.msg);
    expect_hello(link);
    assert_int_equal(sandbox_ended(s, &err), 0);
    assert_int_equal(sandbox_take_tap(s), -1);
    close(link);
    sandbox_free(s);
}

/* Its processes are another's children: none of ours is left to wait for. */
static void nothing_is_left(void **state)
{
    struct sandbox *s;
    need_sandboxes();
    assert_int_equal(sandbox_new(&s, &plain, NULL), 0);
    pid_t pid = sandbox_init_pid(s);
    int link = start(s, NULL);
    expect_hello(link);
    sandbox_free(s);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    close(link);
    sandbox_free(NULL);
}

static void waiting_for_it_can_be_cancelled(void **state)
{
    struct sandbox *s;
    int ready[2];
    need_sandboxes();
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(write(ready[1], "", 1), 1);
    /* Not started, it says nothing. */
    assert_int_equal(sandbox_new(&s, &plain, NULL), 0);
    assert_int_equal(sandbox_call(s, ready[0], NULL), -ECANCELED);
    int link = start(s, NULL);
    expect_hello(link);
    sandbox_free(s);
    close(link);
    close(ready[0]);
    close(ready[1]);
}

static void one_that_was_never_started_goes_too(void **state)
{
    struct sandbox *s;
    need_sandboxes();
    assert_int_equal(sandbox_new(&s, &plain, NULL), 0);
    pid_t pid = sandbox_init_pid(s);
    sandbox_free(s);
    assert_int_equal(kill(pid, 0), -1);
}

static void a_death_is_seen(void **state)
{
    struct sandbox *s;
    struct dayfly_err err = {0};
    need_sandboxes();
    assert_int_equal(sandbox_new(&s, &plain, &err), 0);
    int link = start(s, &err);
    expect_hello(link);
    assert_int_equal(kill(sandbox_init_pid(s), SIGKILL), 0);
    struct pollfd p = {.fd = link, .events = 0};
    assert_int_equal(poll(&p, 1, 10000), 1);
    /* The descriptor goes before the process does. */
    while (sandbox_ended(s, &err) == 0)
        ;
    assert_non_null(strstr(err.msg, "killed"));
    close(link);
    sandbox_free(s);
}

/* As one does that may not enter its groups: it must not end us, too. */
static void one_that_dies_before_its_start(void **state)
{
    struct sandbox *s;
    struct dayfly_err err = {0};
    need_sandboxes();
    assert_int_equal(sandbox_new(&s, &plain, &err), 0);
    assert_int_equal(kill(sandbox_init_pid(s), SIGKILL), 0);
    while (sandbox_ended(s, &err) == 0)
        ;
    int link = start(s, &err);
    if (link >= 0) {
        struct pollfd p = {.fd = link, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 10000), 1);
        close(link);
    }
    sandbox_free(s);
}

static void what_cannot_be_set_up_is_said(void **state)
{
    struct sandbox *s;
    struct dayfly_err err = {0};
    struct sandbox_options options = plain;
    int here = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const struct sandbox_share share = {
        .source = "/", .fd = here, .path = "/here", .mode = DAYFLY_SHARE_RO, .same_ids = true};
    need_sandboxes();
    options.shares = &share;
    options.share_count = 1;
    assert_int_equal(sandbox_new(&s, &options, &err), 0);
    assert_int_equal(start(s, &err), -ESTALE);
    assert_non_null(strstr(err.msg, "replaced"));
    /* And not again, once it has ended. */
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)sandbox_init_pid(s), &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(sandbox_ended(s, &err), 0);
    assert_non_null(strstr(err.msg, "replaced"));
    sandbox_free(s);
    close(here);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_init_is_the_agent),
        cmocka_unit_test(nothing_is_left),
        cmocka_unit_test(waiting_for_it_can_be_cancelled),
        cmocka_unit_test(one_that_was_never_started_goes_too),
        cmocka_unit_test(a_death_is_seen),
        cmocka_unit_test(one_that_dies_before_its_start),
        cmocka_unit_test(what_cannot_be_set_up_is_said),
    };
    /* Not the ids of whatever else runs on this host. */
    setenv("DAYFLY_USER_RANGE", "1900000100-1900000199", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
