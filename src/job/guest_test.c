/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The host's client against the agent's own engine, run in a forked child over a socket pair: no
 * machine, no cgroups, this host's files.
 */

#include "job/guest_pump.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../agent/secret.h"
#include "../../agent/serve.h"
#include "job/testing_agent.h"
#include "proto/link.h"
#include "proto/proto.h"
#include "util/arith.h"
#include "util/clock.h"
#include "util/io.h"

static void test_exit_codes_and_signals(void **state)
{
    struct fixture *x = *state;
    assert_exit(finish(x, start_sh(x, "exit 0", -1, -1, -1)), 0);
    assert_exit(finish(x, start_sh(x, "exit 1", -1, -1, -1)), 1);
    assert_exit(finish(x, start_sh(x, "exit 42", -1, -1, -1)), 42);
    struct guest_result r = finish(x, start_sh(x, "kill -9 $$", -1, -1, -1));
    assert_int_equal(r.outcome, GUEST_SIGNALED);
    assert_int_equal(r.signal, SIGKILL);
    assert_int_equal(guest_result_status(&r), 137);
}

static void test_output_streams_are_apart(void **state)
{
    struct fixture *x = *state;
    int out = memory_file(), err = memory_file();
    struct guest_result r = finish(x, start_sh(x, "echo one; echo two >&2; echo three", -1, out, err));
    assert_exit(r, 0);
    assert_string_equal(text_of(out), "one\nthree\n");
    assert_string_equal(text_of(err), "two\n");
    assert_int_equal(r.out_bytes, 10);
    assert_int_equal(r.err_bytes, 4);
    close(out);
    close(err);
}

static void test_10_mib_through_cat_unchanged(void **state)
{
    struct fixture *x = *state;
    const size_t size = (10u << 20) + 12345;
    int in = memory_file(), out = memory_file();
    uint32_t *data = malloc(size + 4), *back = malloc(size + 4);
    uint32_t v = 1;
    for (size_t i = 0; i < size / 4 + 1; i++)
        data[i] = v = v * 1664525 + 1013904223;
    assert_int_equal(io_pwrite_full(in, data, size, 0), 0);
    struct guest_result r = finish(x, start_sh(x, "cat", in, out, -1));
    assert_exit(r, 0);
    assert_int_equal(r.in_bytes, size);
    assert_int_equal(r.out_bytes, size);
    struct stat st;
    assert_int_equal(fstat(out, &st), 0);
    assert_int_equal(st.st_size, size);
    assert_int_equal(io_pread_full(out, back, size, 0), size);
    assert_memory_equal(data, back, size);
    free(data);
    free(back);
    close(in);
    close(out);
}

static void test_stdin_ends_or_is_not_there(void **state)
{
    struct fixture *x = *state;
    int pipes[2], out = memory_file();
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    close(pipes[1]);
    assert_exit(finish(x, start_sh(x, "cat; echo end", pipes[0], out, -1)), 0);
    assert_string_equal(text_of(out), "end\n");
    assert_exit(finish(x, start_sh(x, "cat; test /dev/null -ef /dev/stdin", -1, -1, -1)), 0);
    /* An input without end, of which the command wants a little; another that wants none. */
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    assert_exit(finish(x, start_sh(x, "head -c 300000 >/dev/null", zero, -1, -1)), 0);
    assert_exit(finish(x, start_sh(x, "exec <&-; exit 4", zero, -1, -1)), 4);
    /* An open input that says nothing keeps no command alive. */
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_exit(finish(x, start_sh(x, "exit 5", pipes[0], -1, -1)), 5);
    close(pipes[0]);
    close(pipes[1]);
    close(zero);
    close(out);
}

static void test_closed_output_breaks_the_pipe(void **state)
{
    struct fixture *x = *state;
    int pipes[2];
    const char *const yes[] = {"yes", NULL};
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    close(pipes[0]);
    struct guest_result r = finish(
        x,
        start(x, &(struct guest_command){.argv = yes, .in_fd = -1, .out_fd = pipes[1], .err_fd = -1}));
    assert_int_equal(r.outcome, GUEST_SIGNALED);
    assert_int_equal(r.signal, SIGPIPE);
    close(pipes[1]);
}

/* A command whose output nobody takes stands still; its signals, and other commands, do not. */
static void test_blocked_streams_block_nothing_else(void **state)
{
    struct fixture *x = *state;
    int pipes[2];
    char *ready = in_dir(x, "ready"), *told = in_dir(x, "told"), script[512];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(mkfifo(ready, 0600), 0);
    assert_int_equal(mkfifo(told, 0600), 0);
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    /* It neither reads its stdin, which is endless, nor is its stdout read: not even the first line,
     * however late yes gets a processor. */
    fill_pipe(pipes[1]);
    snprintf(script, sizeof(script),
             "echo first; yes & trap 'kill $!; echo >%s; exit 7' TERM; echo >%s; wait", told, ready);
    uint32_t stuck = start_sh(x, script, zero, pipes[1], -1);
    snprintf(script, sizeof(script), "cat %s", ready);
    assert_exit(finish(x, start_sh(x, script, -1, -1, -1)), 0);
    int out = memory_file();
    assert_exit(finish(x, start_sh(x, "seq 100000 | tail -n 1", -1, out, -1)), 0);
    assert_string_equal(text_of(out), "100000\n");
    close(out);

    guest_signal(x->g, stuck, SIGTERM);
    snprintf(script, sizeof(script), "cat %s", told);
    assert_exit(finish(x, start_sh(x, script, -1, -1, -1)), 0);

    /* Its output is still there to be had: the end waits for it. */
    struct guest_pump opts = PUMP;
    opts.cancel_fd = zero; /* readable at once */
    struct guest_result r;
    assert_int_equal(guest_pump(x->g, stuck, &opts, &r, NULL), -ECANCELED);
    pid_t reader = fork();
    if (reader == 0) {
        char buf[4096];
        close(pipes[1]);
        while (read(pipes[0], buf, sizeof(buf)) > 0)
            ;
        _exit(0);
    }
    assert_exit(finish(x, stuck), 7);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(waitpid(reader, NULL, 0), reader);
    close(zero);
    free(ready);
    free(told);
}

static void test_many_sessions_at_once(void **state)
{
    struct fixture *x = *state;
    uint32_t sessions[PROTO_SESSIONS_MAX];
    int outs[PROTO_SESSIONS_MAX];
    char *gate = in_dir(x, "gate"), script[256], want[32];
    for (int round = 0; round < 2; round++) {
        int lock = open(gate, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        assert_int_equal(flock(lock, LOCK_EX), 0); /* until all have begun */
        for (int i = 0; i < PROTO_SESSIONS_MAX; i++) {
            outs[i] = memory_file();
            snprintf(script, sizeof(script), "flock -s %s true; echo %d; exit %d", gate, i, i);
            sessions[i] = start_sh(x, script, -1, outs[i], -1);
        }
        const char *const argv[] = {"true", NULL};
        const struct guest_command more = {.argv = argv, .in_fd = -1, .out_fd = -1, .err_fd = -1};
        uint32_t none;
        assert_int_equal(guest_exec(x->g, &more, &none, NULL), -EAGAIN);
        close(lock);
        for (int i = 0; i < PROTO_SESSIONS_MAX; i++) {
            assert_exit(finish(x, sessions[i]), i);
            snprintf(want, sizeof(want), "%d\n", i);
            assert_string_equal(text_of(outs[i]), want);
            close(outs[i]);
        }
    }
    free(gate);
}

static void test_background_process_holds_nobody_up(void **state)
{
    struct fixture *x = *state;
    int out = memory_file();
    assert_exit(finish(x, start_sh(x, "sleep 1000 & echo $!; exit 3", -1, out, -1)), 3);
    pid_t pid = atoi(text_of(out));
    assert_true(pid > 1);
    assert_int_equal(kill(pid, SIGKILL), 0); /* it lives on */
    close(out);
}

static struct guest_result refused(struct fixture *x, struct guest_command c)
{
    c.in_fd = c.out_fd = c.err_fd = -1;
    struct guest_result r = finish(x, start(x, &c));
    assert_int_equal(r.outcome, GUEST_REFUSED);
    return r;
}

static void test_what_cannot_be_started(void **state)
{
    struct fixture *x = *state;
    const char *const gone[] = {"no-such-command", NULL}, *const path[] = {"/no/such", NULL};
    const char *const plain[] = {"/etc/passwd", NULL}, *const yes[] = {"true", NULL};
    char *script = in_dir(x, "script");
    const char *const orphan[] = {script, NULL};
    int fd = open(script, O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
    assert_int_equal(io_write_full(fd, "#!/no/interpreter\n", 18), 0);
    close(fd);

    struct guest_result r = refused(x, (struct guest_command){.argv = gone});
    assert_int_equal(guest_result_status(&r), 127);
    assert_non_null(strstr(r.refused.text, "no-such-command"));
    r = refused(x, (struct guest_command){.argv = path});
    assert_int_equal(guest_result_status(&r), 127);
    r = refused(x, (struct guest_command){.argv = plain});
    assert_int_equal(guest_result_status(&r), 126);
    assert_int_equal(r.refused.code, EACCES);
    r = refused(x, (struct guest_command){.argv = orphan});
    assert_int_equal(guest_result_status(&r), 126);
    assert_non_null(strstr(r.refused.text, "interpreter"));
    r = refused(x, (struct guest_command){.argv = gone, .tty = true});
    assert_int_equal(guest_result_status(&r), 127);
    r = refused(x, (struct guest_command){.argv = yes, .user = "no-such-user"});
    assert_int_equal(guest_result_status(&r), 125);
    assert_int_equal(r.refused.step, PROTO_STEP_USER);
    r = refused(x, (struct guest_command){.argv = yes, .cwd = "/no/such/directory"});
    assert_int_equal(r.refused.step, PROTO_STEP_CWD);
    free(script);
}

static void test_user_cwd_and_environment(void **state)
{
    struct fixture *x = *state;
    if (geteuid() != 0)
        skip();
    int out = memory_file();
    char *dir = in_dir(x, "made"), *want;
    const char *const env[] = {"A=b c", "HOME=/nowhere", NULL};
    const char *const argv[] = {
        "sh", "-c", "id -u; id -g; pwd; echo $A $HOME $USER $PATH; echo x >/dev/stdout", NULL};
    assert_int_equal(chmod(x->dir, 0755), 0);
    struct guest_result r = finish(x, start(x, &(struct guest_command){
                                                   .argv = argv,
                                                   .env = env,
                                                   .user = "nobody:12345",
                                                   .cwd = dir,
                                                   .make_cwd = true,
                                                   .in_fd = -1,
                                                   .out_fd = out,
                                                   .err_fd = -1,
                                               }));
    assert_exit(r, 0);
    assert_true(asprintf(&want,
                         "65534\n12345\n%s\nb c /nowhere nobody "
                         "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nx\n",
                         dir) > 0);
    assert_string_equal(text_of(out), want);
    rmdir(dir);
    free(dir);
    free(want);
    close(out);
}

static void test_a_command_begins_clean(void **state)
{
    struct fixture *x = *state;
    int out = memory_file();
    const char *const argv[] = {"sh", "-c",
                                "ls /proc/self/fd | tr '\\n' ' '; grep -E '^Sig(Blk|Ign)|^SigQ' "
                                "/proc/$$/status | grep -c 0000000000000000; umask",
                                NULL};
    for (int tty = 0; tty < 2; tty++) {
        assert_int_equal(ftruncate(out, 0), 0);
        assert_int_equal(lseek(out, 0, SEEK_SET), 0);
        assert_exit(
            finish(x, start(x,
                            &(struct guest_command){
                                .argv = argv, .tty = tty, .in_fd = -1, .out_fd = out, .err_fd = -1})),
            0);
        /* 3 is ls's own */
        assert_string_equal(text_of(out), tty ? "0 1 2 3 2\r\n0022\r\n" : "0 1 2 3 2\n0022\n");
    }
    close(out);
}

static uint32_t start_tty(struct fixture *x, const char *script, int in, int out)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    return start(x, &(struct guest_command){.argv = argv,
                                            .tty = true,
                                            .rows = 33,
                                            .cols = 77,
                                            .in_fd = in,
                                            .out_fd = out,
                                            .err_fd = -1});
}

static void test_terminal(void **state)
{
    struct fixture *x = *state;
    int out = memory_file(), in = memory_file();
    assert_exit(
        finish(x, start_tty(x, "test -t 0 && test -t 1 && test -t 2 && stty size; tty >/dev/null", -1,
                            out)),
        0);
    assert_string_equal(text_of(out), "33 77\r\n");
    assert_int_equal(ftruncate(out, 0), 0);
    lseek(out, 0, SEEK_SET);

    /* The end of stdin is the terminal's ^D, with and without a newline before it. */
    assert_int_equal(io_pwrite_full(in, "hello\nyou", 9, 0), 0);
    assert_exit(finish(x, start_tty(x, "stty -echo; cat; echo .", in, out)), 0);
    const char *text = text_of(out);
    assert_non_null(strstr(text, "hello\r\nyou.\r\n"));
    close(in);
    close(out);
}

/* Each line reaches the host though the command has long died when it is read. */
static void test_terminal_loses_nothing(void **state)
{
    struct fixture *x = *state;
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t reader = fork();
    if (reader == 0) {
        close(pipes[1]);
        FILE *f = fdopen(pipes[0], "r");
        char line[64];
        long n = 0;
        while (fgets(line, sizeof(line), f)) {
            if (atol(line) != ++n)
                _exit(1);
        }
        _exit(n == 200000 ? 0 : 2);
    }
    close(pipes[0]);
    assert_exit(finish(x, start_tty(x, "seq 200000", -1, pipes[1])), 0);
    close(pipes[1]);
    int status;
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_terminal_signals_and_size(void **state)
{
    struct fixture *x = *state;
    int out = memory_file();
    char *ready = in_dir(x, "ready"), script[256];
    assert_int_equal(mkfifo(ready, 0600), 0);
    snprintf(script, sizeof(script),
             "sleep 1000 & trap 'stty size; kill $!; exit 6' WINCH; echo >%s; wait", ready);
    uint32_t s = start_tty(x, script, -1, out);
    snprintf(script, sizeof(script), "cat %s", ready);
    assert_exit(finish(x, start_sh(x, script, -1, -1, -1)), 0);
    guest_resize(x->g, s, 11, 22);
    assert_exit(finish(x, s), 6);
    assert_non_null(strstr(text_of(out), "11 22\r\n"));

    const char *const sleeper[] = {"sleep", "1000", NULL};
    s = start(x, &(struct guest_command){
                     .argv = sleeper, .tty = true, .in_fd = -1, .out_fd = -1, .err_fd = -1});
    guest_signal(x->g, s, SIGINT);
    struct guest_result r = finish(x, s);
    assert_int_equal(r.outcome, GUEST_SIGNALED);
    assert_int_equal(r.signal, SIGINT);
    free(ready);
    close(out);
}

static void test_timeout_kills(void **state)
{
    struct fixture *x = *state;
    struct guest_pump opts = PUMP;
    opts.deadline_ns = clock_ns() + 50 * NS_PER_MS;
    struct guest_result r =
        finish_with(x, start_sh(x, "trap '' TERM; sleep 1000 & wait", -1, -1, -1), opts);
    assert_true(r.timed_out);
    assert_int_equal(r.outcome, GUEST_SIGNALED);
    assert_int_equal(r.signal, SIGKILL);
    assert_int_equal(guest_result_status(&r), 124);
}

static void test_interrupts_are_passed_on_once(void **state)
{
    struct fixture *x = *state;
    char *ready = in_dir(x, "ready"), script[256];
    struct guest_pump opts = PUMP;
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, &old);
    opts.signal_fd = signalfd(-1, &set, SFD_CLOEXEC);

    raise(SIGINT);
    const char *const sleeper[] = {"sleep", "1000", NULL};
    struct guest_result r = finish_with(
        x, start(x, &(struct guest_command){.argv = sleeper, .in_fd = -1, .out_fd = -1, .err_fd = -1}),
        opts);
    assert_int_equal(r.interrupted, SIGINT);
    assert_int_equal(guest_result_status(&r), 130);

    /* One that does not listen is killed in the end. */
    assert_int_equal(mkfifo(ready, 0600), 0);
    snprintf(script, sizeof(script), "trap '' INT; echo >%s; sleep 1000", ready);
    uint32_t deaf = start_sh(x, script, -1, -1, -1);
    snprintf(script, sizeof(script), "cat %s", ready);
    assert_exit(finish(x, start_sh(x, script, -1, -1, -1)), 0);
    opts.grace_ns = 1;
    raise(SIGINT);
    r = finish_with(x, deaf, opts);
    assert_int_equal(r.outcome, GUEST_SIGNALED);
    assert_int_equal(r.signal, SIGKILL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    close(opts.signal_fd);
    free(ready);
}

static void test_stat_shutdown(void **state)
{
    struct fixture *x = *state;
    struct guest_wait wait = soon();
    struct proto_stat st;
    assert_int_equal(guest_stat(x->g, &wait, &st, NULL), 0);
    assert_true(st.memory_total_bytes > 1 << 20);
    assert_int_equal(guest_shutdown(x->g, 0, &wait, NULL), 0);
    struct dayfly_err err;
    assert_int_equal(guest_stat(x->g, &wait, &st, &err), -ECONNRESET);
}

/* --- a host that lies */

/* The agent, too, gives up a host that breaks the rules. */
static void test_agent_gives_up_a_broken_host(void **state)
{
    (void)state;
    for (int fault = 0; fault < 3; fault++) {
        int fds[2], status;
        uint8_t buf[512], setup_msg[1024], head[PROTO_HEADER_BYTES];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        pid_t agent = fork();
        if (agent == 0) {
            close(fds[0]);
            run_agent(fds[1], "/tmp");
        }
        close(fds[1]);
        ssize_t n = proto_setup_encode(&SETUP, setup_msg, sizeof(setup_msg));
        proto_put_header(head, PROTO_SETUP, 0, 0, (uint32_t)n);
        assert_int_equal(io_write_full(fds[0], head, sizeof(head)), 0);
        assert_int_equal(io_write_full(fds[0], setup_msg, (size_t)n), 0);
        memset(head, 0xff, sizeof(head));
        if (fault == 1)
            proto_put_header(head, PROTO_READY, 0, 0, 0);
        if (fault == 2)
            proto_put_header(head, PROTO_EXEC, 0, 1, 0);
        assert_int_equal(io_write_full(fds[0], head, sizeof(head)), 0);
        while (read(fds[0], buf, sizeof(buf)) > 0)
            ;
        assert_int_equal(waitpid(agent, &status, 0), agent);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), SERVE_LOST);
        close(fds[0]);
    }
}

#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_AGENT(test_exit_codes_and_signals),
        WITH_AGENT(test_output_streams_are_apart),
        WITH_AGENT(test_10_mib_through_cat_unchanged),
        WITH_AGENT(test_stdin_ends_or_is_not_there),
        WITH_AGENT(test_closed_output_breaks_the_pipe),
        WITH_AGENT(test_blocked_streams_block_nothing_else),
        WITH_AGENT(test_many_sessions_at_once),
        WITH_AGENT(test_background_process_holds_nobody_up),
        WITH_AGENT(test_what_cannot_be_started),
        WITH_AGENT(test_user_cwd_and_environment),
        WITH_AGENT(test_a_command_begins_clean),
        WITH_AGENT(test_terminal),
        WITH_AGENT(test_terminal_loses_nothing),
        WITH_AGENT(test_terminal_signals_and_size),
        WITH_AGENT(test_timeout_kills),
        WITH_AGENT(test_interrupts_are_passed_on_once),
        WITH_AGENT(test_stat_shutdown),
        cmocka_unit_test(test_agent_gives_up_a_broken_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
