/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qmp.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/io.h"
#include "util/testing.h"

/* A QEMU of the test's: answers each command by the next of `answers`, then hangs up. */
struct peer {
    int fd;
    const char *const *answers;
    pthread_t thread;
};

static void *answer(void *arg)
{
    struct peer *peer = arg;
    char line[256];
    for (size_t i = 0; peer->answers[i]; i++) {
        if (read(peer->fd, line, sizeof(line)) <= 0)
            break;
        io_write_full(peer->fd, peer->answers[i], strlen(peer->answers[i]));
    }
    close(peer->fd);
    return NULL;
}

struct fixture {
    struct loop *loop;
    struct qmp *qmp;
    struct peer peer;
    char event[32], reason[32];
};

static void event(void *opaque, const char *name, const char *reason)
{
    struct fixture *f = opaque;
    snprintf(f->event, sizeof(f->event), "%s", name);
    snprintf(f->reason, sizeof(f->reason), "%s", reason);
}

static void begin(struct fixture *f, const char *const *answers)
{
    int pair[2];
    *f = (struct fixture){0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(loop_new(&f->loop), 0);
    assert_int_equal(loop_start(f->loop, "qmp test"), 0);
    f->peer = (struct peer){.fd = pair[1], .answers = answers};
    assert_int_equal(pthread_create(&f->peer.thread, NULL, answer, &f->peer), 0);
    const struct qmp_options options = {.fd = pair[0], .loop = f->loop, .event = event, .opaque = f};
    assert_int_equal(qmp_new(&f->qmp, &options, NULL), 0);
}

static void end(struct fixture *f)
{
    qmp_free(f->qmp);
    pthread_join(f->peer.thread, NULL);
    loop_free(f->loop);
}

static void test_answers_errors_and_events(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "{\"QMP\":{}}\r\n{\"return\":{},\"id\":1}\r\n",
        "{\"event\":\"SHUTDOWN\",\"data\":{\"reason\":\"guest-reset\"}}\n{\"id\":2,\"error\":{\"desc\":"
        "\"no\"}}\n",
        "rubbish\n{\"id\":1,\"return\":{}}\n{\"return\":{},\"id\":3}\n",
        NULL,
    };
    struct fixture f;
    struct dayfly_err err;
    begin(&f, answers);
    assert_int_equal(qmp_execute(f.qmp, "qmp_capabilities", 5000, &err), 0);
    assert_int_equal(qmp_execute(f.qmp, "stop", 5000, &err), -EIO);
    assert_string_equal(err.msg, "QEMU refused 'stop': no");
    assert_string_equal(f.event, "SHUTDOWN");
    assert_string_equal(f.reason, "guest-reset");
    assert_int_equal(qmp_execute(f.qmp, "cont", 5000, &err), 0);
    /* The peer has hung up. */
    assert_int_equal(qmp_execute(f.qmp, "cont", 5000, &err), -EPIPE);
    end(&f);
}

static void test_a_line_without_end_is_a_dead_peer(void **state)
{
    (void)state;
    static char endless[70000];
    memset(endless, 'x', sizeof(endless) - 1);
    const char *const answers[] = {endless, NULL};
    struct fixture f;
    begin(&f, answers);
    assert_int_equal(qmp_execute(f.qmp, "stop", 5000, NULL), -EPIPE);
    end(&f);
}

static void test_silence_is_a_timeout(void **state)
{
    (void)state;
    static const char *const answers[] = {"", "", NULL};
    struct fixture f;
    begin(&f, answers);
    assert_int_equal(qmp_execute(f.qmp, "stop", 20, NULL), -ETIMEDOUT);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_errors_and_events),
        cmocka_unit_test(test_a_line_without_end_is_a_dead_peer),
        cmocka_unit_test(test_silence_is_a_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
