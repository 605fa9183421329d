/* SPDX-License-Identifier: Apache-2.0 */
#include "util/testing.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hw/serial.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };

struct env {
    struct loop *loop;
    struct serial serial;
    int in[2], out[2];
    unsigned edges;
    atomic_bool warm, quiet; /* of chatter */
};

static void raise_line(void *opaque)
{
    ((struct env *)opaque)->edges++;
}

static int setup(void **state)
{
    struct env *env = calloc(1, sizeof(*env));
    assert_non_null(env);
    assert_int_equal(loop_new(&env->loop), 0);
    assert_int_equal(pipe2(env->in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(env->out, O_CLOEXEC), 0);
    const struct serial_options options = {.loop = env->loop,
                                           .in_fd = env->in[0],
                                           .out_fd = env->out[1],
                                           .raise = raise_line,
                                           .opaque = env};
    assert_int_equal(serial_init(&env->serial, &options, NULL), 0);
    *state = env;
    return 0;
}

static int teardown(void **state)
{
    struct env *env = *state;
    serial_finish(&env->serial);
    loop_free(env->loop);
    for (unsigned i = 0; i < 2; i++) {
        close(env->in[i]);
        close(env->out[i]);
    }
    free(env);
    return 0;
}

static uint8_t get(struct env *env, unsigned reg)
{
    uint8_t v = 0xff;
    serial_bus_ops.read(&env->serial, reg, &v, 1);
    return v;
}

static void put(struct env *env, unsigned reg, uint8_t v)
{
    serial_bus_ops.write(&env->serial, reg, &v, 1);
}

static void turn(struct env *env)
{
    while (loop_run_once(env->loop, 0) > 0)
        ;
}

static void output_comes_out(void **state)
{
    struct env *env = *state;
    for (const char *c = "hello"; *c; c++) {
        assert_int_equal(get(env, LSR) & 0x60, 0x60);
        put(env, DATA, (uint8_t)*c);
    }
    turn(env);
    char got[8] = "";
    assert_int_equal(read(env->out[0], got, sizeof(got)), 5);
    assert_string_equal(got, "hello");
}

static void output_without_a_reader_is_bounded(void **state)
{
    struct env *env = *state;
    fcntl(env->out[0], F_SETPIPE_SZ, 4096);
    for (unsigned i = 0; i < SERIAL_BUFFER_BYTES + 4096 + 5000; i++) {
        put(env, DATA, (uint8_t)i);
        if (i % 1024 == 0)
            turn(env);
    }
    turn(env);
    assert_true(serial_dropped_bytes(&env->serial) > 0);
    uint64_t dropped = serial_dropped_bytes(&env->serial);
    /* What was kept is the beginning, in order, and all of it arrives once somebody reads. */
    fcntl(env->out[0], F_SETFL, O_NONBLOCK);
    uint64_t got = 0;
    for (;;) {
        uint8_t bytes[4096];
        ssize_t n = read(env->out[0], bytes, sizeof(bytes));
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            assert_int_equal(bytes[i], (uint8_t)(got + (uint64_t)i));
        got += (uint64_t)n;
        turn(env);
    }
    assert_int_equal(got + dropped, SERIAL_BUFFER_BYTES + 4096 + 5000);
}

static void output_to_a_closed_pipe_is_dropped(void **state)
{
    struct env *env = *state;
    int spare = dup(env->out[1]);
    close(env->out[0]);
    env->out[0] = spare; /* so that teardown closes something */
    /* The process's own SIGPIPE is not ours to change: here the test takes it off. */
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    put(env, DATA, 'x');
    turn(env);
    put(env, DATA, 'y');
    turn(env);
    assert_int_equal(serial_dropped_bytes(&env->serial), 2);
    signal(SIGPIPE, before);
}

static void input_arrives_and_interrupts(void **state)
{
    struct env *env = *state;
    put(env, IIR, 0x01); /* FIFO on */
    put(env, MCR, 0x08);
    put(env, IER, 0x01);
    assert_int_equal(env->edges, 0);
    assert_int_equal(get(env, LSR) & 1, 0);
    assert_int_equal(write(env->in[1], "ab", 2), 2);
    turn(env);
    assert_int_equal(env->edges, 1);
    assert_int_equal(get(env, IIR) & 0x0f, 4);
    assert_int_equal(get(env, LSR) & 1, 1);
    assert_int_equal(get(env, DATA), 'a');
    assert_int_equal(get(env, DATA), 'b');
    assert_int_equal(get(env, LSR) & 1, 0);
    assert_int_equal(get(env, IIR) & 0x0f, 1);
    assert_int_equal(write(env->in[1], "c", 1), 1);
    turn(env);
    assert_int_equal(env->edges, 2);
}

static void input_waits_for_room(void **state)
{
    struct env *env = *state;
    put(env, IIR, 0x01);
    char sent[1000];
    for (unsigned i = 0; i < sizeof(sent); i++)
        sent[i] = (char)i;
    assert_int_equal(write(env->in[1], sent, sizeof(sent)), sizeof(sent));
    close(env->in[1]);
    env->in[1] = -1;
    for (unsigned i = 0; i < sizeof(sent); i++) {
        turn(env);
        assert_int_equal(get(env, LSR) & 3, 1); /* there, and nothing was overrun */
        assert_int_equal(get(env, DATA), (uint8_t)i);
    }
    turn(env);
    assert_int_equal(get(env, LSR) & 1, 0);
}

static void the_transmitter_interrupts(void **state)
{
    struct env *env = *state;
    put(env, MCR, 0x08);
    put(env, IER, 0x02);
    assert_int_equal(env->edges, 1); /* it is empty */
    assert_int_equal(get(env, IIR) & 0x0f, 2);
    assert_int_equal(get(env, IIR) & 0x0f, 1); /* reading took it away */
    for (unsigned i = 0; i < 16; i++)
        put(env, DATA, 'x');
    assert_int_equal(env->edges, 2); /* one for all of them */
    assert_int_equal(get(env, IIR) & 0x0f, 2);
    put(env, MCR, 0); /* OUT2 gates */
    put(env, IER, 0);
    put(env, IER, 2);
    assert_int_equal(env->edges, 2);
}

static void loopback_finds_a_uart(void **state)
{
    struct env *env = *state;
    put(env, MCR, 0x10 | 0x0a); /* Linux's test: RTS and OUT2 come back as CTS and DCD */
    assert_int_equal(get(env, MSR) & 0xf0, 0x90);
    put(env, DATA, 'z');
    assert_int_equal(get(env, DATA), 'z');
    turn(env);
    fcntl(env->out[0], F_SETFL, O_NONBLOCK);
    char c;
    assert_int_equal(read(env->out[0], &c, 1), -1); /* nothing went out */
    put(env, DATA, '1');                            /* no FIFO: the second one overruns */
    put(env, DATA, '2');
    assert_int_equal(get(env, LSR) & 2, 2);
    assert_int_equal(get(env, LSR) & 2, 0);
    put(env, MCR, 0);
    assert_int_equal(get(env, MSR) & 0xf0, 0xb0);
}

static void registers_remember(void **state)
{
    struct env *env = *state;
    put(env, SCR, 0xa5);
    assert_int_equal(get(env, SCR), 0xa5);
    put(env, LCR, 0x83);
    put(env, DATA, 0x01);
    put(env, IER, 0x02);
    assert_int_equal(get(env, DATA), 0x01);
    assert_int_equal(get(env, IER), 0x02);
    put(env, LCR, 0x03);
    assert_int_equal(get(env, IER), 0);
    assert_int_equal(get(env, IIR), 0x01); /* no FIFO */
    put(env, IIR, 0x01);
    assert_int_equal(get(env, IIR), 0xc1);
    put(env, LSR, 0);
    assert_int_equal(get(env, LSR), 0x60);
}

static void output_to_a_file_goes_on_where_it_was(void **state)
{
    struct env *env = *state;
    int file = memfd_create("out", MFD_CLOEXEC);
    assert_int_equal(write(file, "before ", 7), 7);
    struct serial other;
    const struct serial_options options = {.loop = env->loop, .in_fd = -1, .out_fd = file};
    assert_int_equal(serial_init(&other, &options, NULL), 0);
    serial_bus_ops.write(&other, DATA, "x", 1);
    serial_finish(&other);
    char got[16] = "";
    assert_int_equal(pread(file, got, sizeof(got), 0), 8);
    assert_string_equal(got, "before x");
    close(file);
}

/* Writes as fast as it can, until it is told to stop or has written much. */
static void *chatter(void *arg)
{
    struct env *env = arg;
    for (unsigned i = 0; i < 100 * SERIAL_BUFFER_BYTES && !atomic_load(&env->quiet); i++) {
        put(env, DATA, 'x');
        if (i == 1000)
            atomic_store(&env->warm, true);
    }
    atomic_store(&env->warm, true);
    return NULL;
}

static void a_guest_that_never_stops_holds_nobody(void **state)
{
    struct env *env = *state;
    /* Slow, so that there is always more when a write is done. */
    int file = open("/var/tmp", O_TMPFILE | O_RDWR | O_DSYNC | O_CLOEXEC, 0600);
    int before = env->serial.out_fd;
    if (file < 0)
        skip();
    pthread_t guest;
    struct stat st;
    env->serial.out_fd = file;
    assert_int_equal(pthread_create(&guest, NULL, chatter, env), 0);
    while (!atomic_load(&env->warm))
        ;
    serial_flush(&env->serial);
    fstat(file, &st);
    atomic_store(&env->quiet, true);
    pthread_join(guest, NULL);
    assert_true(st.st_size <= SERIAL_BUFFER_BYTES); /* one buffer, not what came in meanwhile */
    turn(env);
    env->serial.out_fd = before;
    fstat(file, &st);
    close(file);
    assert_int_equal(env->serial.put, env->serial.taken); /* and nothing is forgotten */
}

/* Without /proc a pipe cannot be opened again. Its own process: a root directory does not come back. */
static void output_never_waits(void **state)
{
    if (geteuid() != 0)
        skip();
    char dir[] = "/tmp/serial-XXXXXX";
    assert_non_null(mkdtemp(dir));
    pid_t child = fork();
    if (child == 0) {
        struct env env = {0};
        alarm(20);
        if (pipe2(env.out, O_CLOEXEC) < 0 || loop_new(&env.loop) < 0 || chroot(dir) < 0)
            _exit(2);
        const struct serial_options options = {.loop = env.loop, .in_fd = -1, .out_fd = env.out[1]};
        if (serial_init(&env.serial, &options, NULL) < 0)
            _exit(3);
        for (unsigned i = 0; i < 3 * SERIAL_BUFFER_BYTES; i++) {
            put(&env, DATA, 'x');
            if (i % 4096 == 0)
                serial_flush(&env.serial);
        }
        _exit(serial_dropped_bytes(&env.serial) > 0 ? 0 : 4);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    rmdir(dir);
    assert_int_equal(status, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(output_comes_out),
        TEST(output_without_a_reader_is_bounded),
        TEST(output_to_a_closed_pipe_is_dropped),
        TEST(input_arrives_and_interrupts),
        TEST(input_waits_for_room),
        TEST(the_transmitter_interrupts),
        TEST(loopback_finds_a_uart),
        TEST(registers_remember),
        TEST(output_to_a_file_goes_on_where_it_was),
        TEST(a_guest_that_never_stops_holds_nobody),
        cmocka_unit_test(output_never_waits),
    };
    return cmocka_run_group_tests_name("hw-serial", tests, NULL, NULL);
}
