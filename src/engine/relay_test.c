/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/relay.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/testing.h"

/* The loop runs in the test's thread, turn by turn. */
struct fixture {
    struct loop *loop;
    struct relay *relay;
    int qemu; /* the socket's other end */
    int in[2], out[2];
};

static void begin(struct fixture *x, int input_fd)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    x->qemu = pair[1];
    const struct relay_options options = {
        .loop = x->loop, .socket = pair[0], .output_fd = x->out[1], .input_fd = input_fd};
    assert_int_equal(relay_new(&x->relay, &options, NULL), 0);
}

static int setup(void **state)
{
    struct fixture *x = calloc(1, sizeof(*x));
    assert_int_equal(loop_new(&x->loop), 0);
    assert_int_equal(pipe2(x->in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(x->out, O_CLOEXEC), 0);
    *state = x;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *x = *state;
    relay_free(x->relay);
    loop_free(x->loop);
    close(x->qemu);
    for (unsigned i = 0; i < 2; i++) {
        close(x->in[i]);
        close(x->out[i]);
    }
    free(x);
    return 0;
}

static void settle(struct fixture *x)
{
    while (loop_run_once(x->loop, 0) > 0)
        ;
}

static void bytes_pass_both_ways(void **state)
{
    struct fixture *x = *state;
    char got[16] = "";
    begin(x, x->in[0]);
    assert_int_equal(write(x->qemu, "boot", 4), 4);
    assert_int_equal(write(x->in[1], "keys", 4), 4);
    settle(x);
    assert_int_equal(read(x->out[0], got, sizeof(got)), 4);
    assert_memory_equal(got, "boot", 4);
    assert_int_equal(read(x->qemu, got, sizeof(got)), 4);
    assert_memory_equal(got, "keys", 4);
}

/* A guest that does not read its console: the loop comes to rest, and nothing is lost. */
static void input_waits_at_rest(void **state)
{
    enum { BYTES = 1 << 20 };
    struct fixture *x = *state;
    static char block[4096];
    size_t sent = 0, got = 0;
    begin(x, x->in[0]);
    fcntl(x->in[1], F_SETFL, O_NONBLOCK);
    fcntl(x->qemu, F_SETFL, O_NONBLOCK);
    alarm(20); /* a loop that never rests */
    while (sent < BYTES && write(x->in[1], block, sizeof(block)) > 0) {
        sent += sizeof(block);
        settle(x);
    }
    alarm(0);
    assert_int_equal(loop_run_once(x->loop, 0), 0);
    for (;;) {
        ssize_t n = read(x->qemu, block, sizeof(block));
        if (n <= 0)
            break;
        got += (size_t)n;
        settle(x);
    }
    assert_int_equal(got, sent);
}

static void a_file_is_input_too(void **state)
{
    struct fixture *x = *state;
    static char text[10000], got[sizeof(text)];
    int file = memfd_create("in", MFD_CLOEXEC);
    memset(text, 'i', sizeof(text));
    assert_int_equal(write(file, text, sizeof(text)), sizeof(text));
    assert_int_equal(lseek(file, 0, SEEK_SET), 0);
    begin(x, file);
    settle(x); /* to its end, and then to rest */
    assert_int_equal(recv(x->qemu, got, sizeof(got), MSG_WAITALL | MSG_DONTWAIT), sizeof(got));
    assert_memory_equal(got, text, sizeof(text));
    close(file);
}

static void output_never_waits(void **state)
{
    struct fixture *x = *state;
    static char block[4096];
    begin(x, -1);
    alarm(20);
    for (int i = 0; i < 64; i++) { /* more than the pipe holds */
        assert_int_equal(write(x->qemu, block, sizeof(block)), sizeof(block));
        settle(x);
    }
    alarm(0);
    assert_int_equal(fcntl(x->out[1], F_GETFL) & O_NONBLOCK, 0); /* it is the caller's */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_pass_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(input_waits_at_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_is_input_too, setup, teardown),
        cmocka_unit_test_setup_teardown(output_never_waits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
