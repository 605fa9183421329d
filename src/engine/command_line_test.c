/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/command_line.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/io.h"
#include "util/testing.h"

static int status_of(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_words_and_descriptors_arrive(void **state)
{
    (void)state;
    struct command_line line = {0};
    struct dayfly_err err;
    int out[2], messages[2];
    char text[64] = "";
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(messages, O_CLOEXEC), 0);
    command_line_add(&line, "sh");
    command_line_add(&line, "-c");
    command_line_addf(&line, "printf '[%%s]' \"$@\" >&%d; echo oops >&2; exit 3", out[1]);
    command_line_add(&line, "sh");
    command_line_add(&line, "a b");
    command_line_add(&line, "");
    assert_int_equal(command_line_pass(&line, out[1]), out[1]);
    pid_t pid = command_line_spawn(&line, messages[1], NULL, NULL, &err);
    assert_true(pid > 0);
    command_line_finish(&line); /* closes out[1] here */
    close(messages[1]);
    int status = status_of(pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    io_read_full(out[0], text, sizeof(text) - 1);
    assert_string_equal(text, "[a b][]");
    memset(text, 0, sizeof(text));
    io_read_full(messages[0], text, sizeof(text) - 1);
    assert_string_equal(text, "oops\n");
    close(out[0]);
    close(messages[0]);
}

static void test_other_descriptors_do_not(void **state)
{
    (void)state;
    struct command_line line = {0};
    int secret = open("/dev/null", O_RDONLY | O_CLOEXEC);
    command_line_add(&line, "sh");
    command_line_add(&line, "-c");
    command_line_addf(&line, "test ! -e /proc/self/fd/%d", secret);
    int status = status_of(command_line_spawn(&line, STDERR_FILENO, NULL, NULL, NULL));
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    command_line_finish(&line);
    close(secret);
}

static void test_a_missing_program_is_named(void **state)
{
    (void)state;
    struct command_line line = {0};
    struct dayfly_err err;
    command_line_add(&line, "no-such-program-anywhere");
    assert_int_equal(command_line_spawn(&line, STDERR_FILENO, NULL, NULL, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "no-such-program-anywhere"));
    command_line_finish(&line);
    command_line_add(&line, "/etc/passwd");
    assert_int_equal(command_line_spawn(&line, STDERR_FILENO, NULL, NULL, &err), -EACCES);
    command_line_finish(&line);
}

static void *spawn_and_leave(void *arg)
{
    struct command_line line = {0};
    command_line_add(&line, "sleep");
    command_line_add(&line, "1000");
    *(pid_t *)arg = command_line_spawn(&line, STDERR_FILENO, NULL, NULL, NULL);
    command_line_finish(&line);
    return NULL;
}

static void test_the_program_dies_with_the_thread_that_started_it(void **state)
{
    (void)state;
    pthread_t thread;
    pid_t pid = 0;
    assert_int_equal(pthread_create(&thread, NULL, spawn_and_leave, &pid), 0);
    pthread_join(thread, NULL);
    assert_true(pid > 0);
    int status = status_of(pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_and_descriptors_arrive),
        cmocka_unit_test(test_other_descriptors_do_not),
        cmocka_unit_test(test_a_missing_program_is_named),
        cmocka_unit_test(test_the_program_dies_with_the_thread_that_started_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
