/* SPDX-License-Identifier: Apache-2.0 */
/* Measured runs of a shell, which stands for any program. */
#include "bench/run.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/process.h"
#include "bench/work.h"
#include "util/clock.h"
#include "util/testing.h"

static int measure(const char *script, const struct run_request *with, struct run_figures *figures,
                   struct dayfly_err *err)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct run_request request = *with;
    request.file = "/bin/sh";
    request.argv = argv;
    if (!request.limit_ns)
        request.limit_ns = 60 * NS_PER_S;
    return run_measure(&request, figures, err);
}

static const struct run_request held = {.stdin_fd = -1, .signal_fd = -1};

static void assert_nothing_runs(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void test_start(void **state)
{
    struct run_figures figures;
    struct dayfly_err err;
    struct run_request request = held;
    request.wants_memory = true;
    assert_int_equal(measure(work_start, &request, &figures, &err), 0);
    assert_true(figures.begin_ms > 0 && figures.end_ms > 0);
    assert_true(isnan(figures.work_s));
    assert_true(figures.overhead_bytes > 0);
    assert_nothing_runs();
}

/* The command's own process is none of the place's. */
static void test_memory_is_not_the_jobs(void **state)
{
    struct run_figures figures;
    struct dayfly_err err;
    struct run_request request = held;
    request.wants_memory = true;
    setenv("DAYFLY_BENCH_JOB", "1", 1);
    int r = measure(work_start, &request, &figures, &err);
    unsetenv("DAYFLY_BENCH_JOB");
    assert_int_equal(r, 0);
    assert_true(figures.overhead_bytes < 0);
}

/* What a run started and left is waited for: only then is it gone. */
static void test_end_is_of_the_last_process(void **state)
{
    struct run_figures figures;
    struct dayfly_err err;
    const char *script = "(sleep 0.3) >/dev/null 2>&1 & echo @dayfly begin; read x; exit 0";
    assert_int_equal(measure(script, &held, &figures, &err), 0);
    assert_true(figures.end_ms > 100);
    assert_nothing_runs();
}

static void test_work(void **state)
{
    struct run_figures figures;
    struct dayfly_err err;
    struct run_request request = held;
    request.stdin_fd = memfd_create("input", MFD_CLOEXEC);
    assert_int_equal(write(request.stdin_fd, "abc\n", 4), 4);
    const char *script = "read x; echo @dayfly begin; [ $x = abc ] && sleep 0.1; echo @dayfly end";
    for (int i = 0; i < 2; i++) { /* each reads from the beginning */
        assert_int_equal(measure(script, &request, &figures, &err), 0);
        assert_true(figures.work_s >= 0.09);
    }
    close(request.stdin_fd);
}

/* What makes no sense gives no figure. */
static void test_end_without_begin(void **state)
{
    struct run_figures figures;
    struct dayfly_err err;
    const char *script = "echo @dayfly end; sleep 0.05; echo @dayfly begin; read x; exit 0";
    assert_int_equal(measure(script, &held, &figures, &err), 0);
    assert_true(isnan(figures.work_s));
}

static void test_failures(void **state)
{
    struct run_figures figures;
    struct dayfly_err err;
    assert_int_equal(measure("echo the reason >&2; exit 3", &held, &figures, &err), -EIO);
    assert_string_equal(err.msg, "status 3: the reason");
    /* The last words, however many there were. */
    const char *much = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i + 1)); done >&2; exit 1";
    assert_int_equal(measure(much, &held, &figures, &err), -EIO);
    assert_string_equal(err.msg + strlen(err.msg) - 19, "line 2998 line 2999");
    assert_int_equal(measure("exit 0", &held, &figures, &err), -EIO);
    assert_string_equal(err.msg, "it said nothing");
    assert_int_equal(measure("kill -9 $$", &held, &figures, &err), -EIO);
    struct run_request request = held;
    request.limit_ns = 200 * NS_PER_MS;
    assert_int_equal(measure("sleep 100", &request, &figures, &err), -ETIME);
    assert_nothing_runs();
}

/* One that does not care is killed, with all that it made, after a moment. */
static void test_signal(void **state)
{
    struct run_figures figures;
    struct dayfly_err err;
    struct run_request request = held;
    request.signal_fd = eventfd(1, EFD_CLOEXEC);
    uint64_t start_ns = clock_ns();
    assert_int_equal(measure("trap '' TERM; setsid sleep 100 & sleep 100", &request, &figures, &err),
                     -EINTR);
    assert_true(clock_ns() - start_ns < 60 * NS_PER_S);
    assert_nothing_runs();
    close(request.signal_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_memory_is_not_the_jobs),
        cmocka_unit_test(test_end_is_of_the_last_process),
        cmocka_unit_test(test_work),
        cmocka_unit_test(test_end_without_begin),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_signal),
    };
    process_adopt();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
