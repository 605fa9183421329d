/* SPDX-License-Identifier: Apache-2.0 */
#include "command.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/testing.h"

struct run_options {
    bool interactive, tty;
    const char *engine, *user;
    uint64_t memory_bytes, timeout_ns, cpus;
    struct word_list env;
};

/* What the last run saw, as one line of text. */
static char seen[512];

static int show(const struct call *call)
{
    const struct run_options *o = call->options;
    int n = snprintf(seen, sizeof(seen),
                     "%s: i%d t%d engine=%s user=%s mem=%llu time=%llu cpus=%llu env=", call->name,
                     o->interactive, o->tty, o->engine, o->user ? o->user : "-",
                     (unsigned long long)o->memory_bytes, (unsigned long long)o->timeout_ns,
                     (unsigned long long)o->cpus);
    for (size_t i = 0; i < o->env.count; i++)
        n += snprintf(seen + n, sizeof(seen) - (size_t)n, "%s,", o->env.words[i]);
    n += snprintf(seen + n, sizeof(seen) - (size_t)n, " |");
    for (unsigned i = 0; i < call->operand_count; i++)
        n += snprintf(seen + n, sizeof(seen) - (size_t)n, " %s", call->operands[i]);
    return 42;
}

static const struct option_row rows[] = {
    {"interactive", 'i', NULL, "keep stdin open", OPTION_FLAG(struct run_options, interactive)},
    {"tty", 't', NULL, "give it a terminal", OPTION_FLAG(struct run_options, tty)},
    {"engine", 0, "auto|kvm|tcg", "the wall", OPTION_CHOICE(struct run_options, engine)},
    {"user", 'u', "NAME", "who", OPTION_STRING(struct run_options, user)},
    {"memory", 'm', "SIZE", "how much", OPTION_SIZE(struct run_options, memory_bytes)},
    {"timeout", 0, "DURATION", "how long", OPTION_DURATION(struct run_options, timeout_ns)},
    {"cpus", 'c', "N", "how many", OPTION_NUMBER(struct run_options, cpus, 1, 8)},
    {"env", 'e', "K=V", "set a variable", OPTION_LIST(struct run_options, env)},
    {0},
};
static const struct run_options defaults = {.engine = "auto", .cpus = 2};
static const struct command run = {
    .name = "run",
    .summary = "run a thing",
    .operands = "IMAGE [--] CMD",
    .min_operands = 1,
    .max_operands = OPERANDS_ANY,
    .stop_after = 1,
    .rows = rows,
    .options_size = sizeof(struct run_options),
    .defaults = &defaults,
    .run = show,
};
static const struct command ls = {
    .name = "ls",
    .summary = "list",
    .max_operands = 1,
    .rows = rows,
    .options_size = sizeof(struct run_options),
    .defaults = &defaults,
    .run = show,
};
static const struct command image = {
    .name = "image",
    .summary = "images",
    .children = (const struct command *const[]){&ls, NULL},
};
static const struct command root = {
    .name = "dayfly",
    .summary = "the tool",
    .children = (const struct command *const[]){&run, &image, NULL},
};
/* A command that is a group as well. */
static const struct command both = {
    .name = "both",
    .summary = "list, or do more",
    .operands = "[NAME]",
    .run = show,
    .runs_job = true,
    .children = (const struct command *const[]){&ls, NULL},
};

/* command_main over the words of `line` (parted by single spaces), its stderr in `said`. */
static int main_with(const char *line, char said[1024])
{
    char words[256], *argv[32];
    int argc = 0;
    assert_true(strlen(line) < sizeof(words));
    strcpy(words, line);
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    seen[0] = '\0';

    FILE *capture = tmpfile();
    assert_non_null(capture);
    fflush(stderr);
    int old = dup(STDERR_FILENO);
    assert_true(dup2(fileno(capture), STDERR_FILENO) >= 0);
    int status = command_main(&root, argc, argv);
    fflush(stderr);
    assert_true(dup2(old, STDERR_FILENO) >= 0);
    close(old);
    rewind(capture);
    said[fread(said, 1, 1023, capture)] = '\0';
    fclose(capture);
    return status;
}

static void test_what_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *line, *seen;
    } cases[] = {
        {"dayfly run deb", "dayfly run: i0 t0 engine=auto user=- mem=0 time=0 cpus=2 env= | deb"},
        {"dayfly run -it --engine=kvm --memory 2G deb",
         "dayfly run: i1 t1 engine=kvm user=- mem=2147483648 time=0 cpus=2 env= | deb"},
        {"dayfly run -c4 -c 5 -itm 1K deb",
         "dayfly run: i1 t1 engine=auto user=- mem=1024 time=0 cpus=5 env= | deb"},
        {"dayfly run -e A=1 --env=B=2 --timeout 1m --env C= deb",
         "dayfly run: i0 t0 engine=auto user=- mem=0 time=60000000000 cpus=2 env=A=1,B=2,C=, | deb"},
        {"dayfly run deb ls --help -i",
         "dayfly run: i0 t0 engine=auto user=- mem=0 time=0 cpus=2 env= | deb ls --help -i"},
        {"dayfly run deb -- ls -- x",
         "dayfly run: i0 t0 engine=auto user=- mem=0 time=0 cpus=2 env= | deb ls -- x"},
        {"dayfly run -- -odd", "dayfly run: i0 t0 engine=auto user=- mem=0 time=0 cpus=2 env= | -odd"},
        {"dayfly run --user= -", "dayfly run: i0 t0 engine=auto user= mem=0 time=0 cpus=2 env= | -"},
        {"dayfly image ls x -i",
         "dayfly image ls: i1 t0 engine=auto user=- mem=0 time=0 cpus=2 env= | x"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char said[1024];
        int status = main_with(cases[i].line, said);
        if (status != 42 || strcmp(seen, cases[i].seen) != 0 || said[0])
            fail_msg("%s: status %d\n  saw  %s\n  want %s\n  said %s", cases[i].line, status, seen,
                     cases[i].seen, said);
    }
}

static void test_what_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *line, *said;
    } cases[] = {
        {"dayfly", "dayfly: a command is needed\nTry 'dayfly --help'.\n"},
        {"dayfly rnu",
         "dayfly: unknown command \"rnu\"; did you mean \"run\"?\nTry 'dayfly --help'.\n"},
        {"dayfly zzz", "dayfly: unknown command \"zzz\"\nTry 'dayfly --help'.\n"},
        {"dayfly --zzz", "dayfly: unknown option --zzz\nTry 'dayfly --help'.\n"},
        {"dayfly image", "dayfly image: a command is needed\nTry 'dayfly image --help'.\n"},
        {"dayfly image l",
         "dayfly image: unknown command \"l\"; did you mean \"ls\"?\nTry 'dayfly image --help'.\n"},
        {"dayfly image ls a b",
         "dayfly image ls: unexpected operand \"b\"\nTry 'dayfly image ls --help'.\n"},
        {"dayfly run",
         "dayfly run: too few operands; expected IMAGE [--] CMD\nTry 'dayfly run --help'.\n"},
        {"dayfly run --memroy=1 d",
         "dayfly run: unknown option --memroy; did you mean --memory?\nTry 'dayfly run --help'.\n"},
        {"dayfly run -x d", "dayfly run: unknown option -x\nTry 'dayfly run --help'.\n"},
        {"dayfly run --tty=1 d", "dayfly run: --tty takes no value\nTry 'dayfly run --help'.\n"},
        {"dayfly run --help=x d", "dayfly run: --help takes no value\nTry 'dayfly run --help'.\n"},
        {"dayfly run --memory",
         "dayfly run: --memory needs a value: --memory SIZE\nTry 'dayfly run --help'.\n"},
        {"dayfly run -im", "dayfly run: -m needs a value: -m SIZE\nTry 'dayfly run --help'.\n"},
        {"dayfly run -c 9 d",
         "dayfly run: --cpus: 9 is out of range: it must be from 1 to 8\nTry 'dayfly run --help'.\n"},
        {"dayfly run --engine kv d",
         "dayfly run: --engine: \"kv\" is not one of auto|kvm|tcg\nTry 'dayfly run --help'.\n"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char said[1024];
        int status = main_with(cases[i].line, said);
        if (status != EXIT_DAYFLY || strcmp(said, cases[i].said) != 0 || seen[0])
            fail_msg("%s: status %d\n  said %s\n  want %s", cases[i].line, status, said, cases[i].said);
    }
}

static void help_of(char text[8192], const char *path, const struct command *command)
{
    FILE *out = fmemopen(text, 8192, "w");
    assert_non_null(out);
    help_print(out, path, command);
    fclose(out);
}

static void man_of(char text[8192], const char *path, const struct command *command)
{
    FILE *out = fmemopen(text, 8192, "w");
    assert_non_null(out);
    help_print_man(out, path, &root, command);
    fclose(out);
}

static void test_help_and_man_name_every_option(void **state)
{
    (void)state;
    char help[8192] = "", man[8192] = "";
    help_of(help, "dayfly run", &run);
    man_of(man, "dayfly image", &image);
    assert_non_null(strstr(help, "Usage: dayfly run [OPTION...] IMAGE [--] CMD\n"));
    for (const struct option_row *row = rows; row->name; row++) {
        if (!strstr(help, row->name) || !strstr(help, row->help))
            fail_msg("the help of run does not explain --%s", row->name);
        if (!strstr(man, row->name) || !strstr(man, row->help))
            fail_msg("the page of image does not explain --%s", row->name);
    }
    man_of(man, "dayfly run", &run);
    assert_non_null(strstr(man, ".SH OPTIONS\n.TP\n"));
}

static void test_a_group_that_runs_by_itself_says_so_first(void **state)
{
    (void)state;
    char help[8192] = "", man[8192] = "";
    help_of(help, "dayfly both", &both);
    assert_non_null(strstr(help, "Usage: dayfly both [OPTION...] [NAME]\n"
                                 "       dayfly both COMMAND [ARG...]\n\n"));
    help_of(help, "dayfly image", &image);
    assert_non_null(strstr(help, "Usage: dayfly image COMMAND [ARG...]\n\n"));
    man_of(man, "dayfly both", &both);
    assert_non_null(strstr(man, "\\fBdayfly both\\fR [\\fIOPTION\\fR...] [NAME]\n.br\n"
                                "\\fBdayfly both\\fR \\fICOMMAND\\fR [\\fIARG\\fR...] \n"));
}

static void test_the_status_of_a_job_is_on_its_page_alone(void **state)
{
    (void)state;
    char man[8192] = "";
    man_of(man, "dayfly both", &both);
    assert_non_null(strstr(man, "124 when"));
    man_of(man, "dayfly image", &image);
    assert_non_null(strstr(man, "125 when"));
    assert_null(strstr(man, "124 when"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_read),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_help_and_man_name_every_option),
        cmocka_unit_test(test_a_group_that_runs_by_itself_says_so_first),
        cmocka_unit_test(test_the_status_of_a_job_is_on_its_page_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
