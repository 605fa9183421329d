/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets on their way to the agent and back in the output. */
#include "job/guest_pump.h"

#include <sys/stat.h>

#include "../../agent/secret.h"
#include "../../agent/serve.h"
#include "job/testing_agent.h"
#include "job/mask.h"
#include "util/arith.h"

static void give(struct fixture *x, const char *name, const char *value, uint32_t flags)
{
    struct guest_wait wait = soon();
    struct dayfly_err err = {0};
    struct proto_secret m = {
        .flags = flags, .len = (uint32_t)strlen(value), .bytes = (const uint8_t *)value};
    snprintf(m.name, sizeof(m.name), "%s", name);
    if (guest_secret(x->g, &m, &wait, &err) < 0)
        fail_msg("%s", err.msg);
}

static struct mask *mask_of(const char *word)
{
    const struct mask_value value = {(const uint8_t *)word, strlen(word)};
    struct mask *mask;
    assert_int_equal(mask_new(&value, 1, NULL, &mask, NULL), 0);
    return mask;
}

static struct guest_result run(struct fixture *x, const char *script, int out, const struct mask *mask)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    const char *const env[] = {"TOKEN=not this", "OTHER=that", NULL};
    return finish(x, start(x, &(struct guest_command){.argv = argv,
                                                      .env = env,
                                                      .in_fd = -1,
                                                      .out_fd = out,
                                                      .err_fd = out,
                                                      .secrets = true,
                                                      .mask = mask}));
}

static void test_files_and_variables(void **state)
{
    struct fixture *x = *state;
    char script[256];
    int out = memory_file();
    give(x, "key.pem", "line one\nline two\n", 0);
    give(x, "TOKEN", "t0k3n", PROTO_SECRET_ENV);
    snprintf(script, sizeof(script), "stat -c %%a:%%u %s/key.pem; cat %s/key.pem; echo $TOKEN $OTHER",
             x->dir, x->dir);
    assert_exit(run(x, script, out, NULL), 0);
    char want[128];
    snprintf(want, sizeof(want), "400:%u\nline one\nline two\nt0k3n that\n", getuid());
    assert_string_equal(text_of(out), want);
    /* One that does not ask has no variable. */
    assert_exit(finish(x, start_sh(x, "test -z \"$TOKEN\"", -1, -1, -1)), 0);
    close(out);
}

static void test_one_that_cannot_be_kept_stops_the_command(void **state)
{
    struct fixture *x = *state;
    give(x, "same", "value", 0);
    give(x, "same", "value", 0);
    struct guest_result r = run(x, "true", -1, NULL);
    assert_int_equal(r.outcome, GUEST_REFUSED);
    assert_int_equal(r.refused.step, PROTO_STEP_SECRETS);
    assert_non_null(strstr(r.refused.text, "same"));
    assert_int_equal(guest_result_status(&r), 125);
}

static void test_output_is_masked(void **state)
{
    struct fixture *x = *state;
    struct mask *mask = mask_of("hunter22");
    int out = memory_file();
    assert_exit(
        run(x, "echo one hunter22 two; printf %s hunt; printf %s er22; echo; printf hunt", out, mask),
        0);
    assert_string_equal(text_of(out), "one *** two\n***\nhunt");
    close(out);
    mask_free(mask);
}

/* More output than a window, most of it masked away: credit must come back for what is not written. */
static void test_masked_output_gives_its_credit_back(void **state)
{
    struct fixture *x = *state;
    struct mask *mask = mask_of("a-rather-long-secret-of-forty-characters");
    int out = memory_file();
    struct stat st;
    assert_exit(run(x, "yes a-rather-long-secret-of-forty-characters | head -n 100000", out, mask), 0);
    assert_int_equal(fstat(out, &st), 0);
    assert_int_equal(st.st_size, 100000 * strlen("***\n"));
    close(out);
    mask_free(mask);
}

/* A beginning is let go when nothing follows: a prompt must not wait for its answer. */
static void test_a_prompt_is_not_held_for_ever(void **state)
{
    struct fixture *x = *state;
    struct mask *mask = mask_of("hunter22");
    const char *const argv[] = {"sh", "-c", "printf hunt; read answer; echo $answer", NULL};
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    /* Who answers only what was asked. */
    pid_t person = fork();
    if (person == 0) {
        char asked[4];
        close(in[0]);
        close(out[1]);
        if (io_read_full(out[0], asked, 4) == 4 && memcmp(asked, "hunt", 4) == 0)
            (void)!write(in[1], "done\n", 5);
        _exit(0);
    }
    close(in[1]);
    uint32_t session =
        start(x, &(struct guest_command){
                     .argv = argv, .in_fd = in[0], .out_fd = out[1], .err_fd = -1, .mask = mask});
    assert_exit(finish(x, session), 0);
    char answer[5];
    assert_int_equal(io_read_full(out[0], answer, 5), 5);
    assert_memory_equal(answer, "done\n", 5);
    assert_int_equal(waitpid(person, NULL, 0), person);
    close(in[0]);
    close(out[0]);
    close(out[1]);
    mask_free(mask);
}

static void test_a_terminal_is_masked(void **state)
{
    struct fixture *x = *state;
    if (access("/dev/pts/ptmx", R_OK | W_OK) < 0)
        skip(); /* an ordinary user may not have terminals there */
    struct mask *mask = mask_of("first line\nsecond line");
    const char *const argv[] = {"printf", "first line\nsecond line\nrest\n", NULL};
    int out = memory_file();
    assert_exit(finish(x, start(x, &(struct guest_command){.argv = argv,
                                                           .in_fd = -1,
                                                           .out_fd = out,
                                                           .err_fd = -1,
                                                           .tty = true,
                                                           .mask = mask})),
                0);
    assert_string_equal(text_of(out), "***\r\n***\r\nrest\r\n");
    close(out);
    mask_free(mask);
}

#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_AGENT(test_files_and_variables),
        WITH_AGENT(test_one_that_cannot_be_kept_stops_the_command),
        WITH_AGENT(test_output_is_masked),
        WITH_AGENT(test_masked_output_gives_its_credit_back),
        WITH_AGENT(test_a_prompt_is_not_held_for_ever),
        WITH_AGENT(test_a_terminal_is_masked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
