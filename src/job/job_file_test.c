/* SPDX-License-Identifier: Apache-2.0 */
#include "job/job_file.h"

#include "util/arith.h"
#include "util/testing_files.h"

/* A directory with a job file in it, as the working directory. */
static int enter(void **state)
{
    enter_folder(state);
    assert_int_equal(mkdir("in", 0755), 0);
    assert_int_equal(mkdir("in/src", 0755), 0);
    return 0;
}

struct seen {
    char text[4096];
};

static void see(void *opaque, const struct dayfly_fault *fault)
{
    struct seen *seen = opaque;
    size_t len = strlen(seen->text);
    snprintf(seen->text + len, sizeof(seen->text) - len, "%u:%u %s: %s%s%s\n", fault->line,
             fault->column, fault->where, fault->message, fault->hint ? " | " : "",
             fault->hint ? fault->hint : "");
}

static int load(const char *text, struct job_file **file, struct seen *seen)
{
    _cleanup_close_ int fd = open("in/job.yaml", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0 && io_write_full(fd, text, strlen(text)) == 0);
    seen->text[0] = '\0';
    return job_file_load("in/job.yaml", file, see, seen, NULL);
}

static void test_all_that_can_be_said(void **state)
{
    struct job_file *file;
    struct seen seen;
    int r = load("image: debian\n"
                 "kernel: 6.12\n"
                 "engine: tcg\n"
                 "cpus: 2\n"
                 "memory: 512MiB\n"
                 "disk: 20GiB\n"
                 "timeout: 30m\n"
                 "workdir: /src\n"
                 "user: builder\n"
                 "entrypoint: \"\"\n"
                 "env: {CI: \"true\", LEVEL: 3}\n"
                 "inherit: [LANG]\n"
                 "shares:\n"
                 "  - {source: src, path: /src, options: ro}\n"
                 "  - {source: /tmp, path: /host}\n"
                 "caches:\n"
                 "  - {name: deps, path: /c, policy: promote}\n"
                 "  - {name: tools, path: /t}\n"
                 "net: none\n"
                 "secrets:\n"
                 "  - name: TOKEN\n"
                 "  - {name: key.pem, file: key.pem}\n"
                 "  - {name: API, env: CI_API, variable: true}\n"
                 "steps:\n"
                 "  - name: build\n"
                 "    run: |\n"
                 "      make\n"
                 "      make check\n"
                 "  - command: [./sign, \"a b\"]\n"
                 "artifacts:\n"
                 "  - path: out/*.deb\n"
                 "    to: packages/\n"
                 "  - path: log\n"
                 "artifact_limit: 1GiB\n"
                 "artifacts_required: true\n"
                 "report: report.json\n",
                 &file, &seen);
    if (r < 0)
        fail_msg("%s", seen.text);
    assert_string_equal(file->image, "debian");
    assert_string_equal(job_file_engines[file->engine], "tcg");
    assert_int_equal(file->timeout_ns, UINT64_C(1800000000000));
    assert_string_equal(file->entrypoint, "");
    assert_int_equal(file->env.count, 2);
    assert_string_equal(file->env.words[0], "CI=true");
    assert_string_equal(file->env.words[1], "LEVEL=3");
    assert_null(file->env.words[2]);
    assert_int_equal(file->share_words.count, 2);
    assert_string_equal(file->share_words.words[0], "in/src:/src:ro");
    assert_string_equal(file->share_words.words[1], "/tmp:/host");
    assert_int_equal(file->cache_words.count, 2);
    assert_string_equal(file->cache_words.words[0], "deps:/c:promote");
    assert_string_equal(file->cache_words.words[1], "tools:/t:private");
    assert_string_equal(file->secret_words.words[0], "TOKEN=env:TOKEN");
    assert_string_equal(file->secret_words.words[1], "key.pem=file:in/key.pem");
    assert_string_equal(file->env_secret_words.words[0], "API=env:CI_API");
    assert_int_equal(file->step_count, 2);
    assert_string_equal(file->steps[0].run, "make\nmake check\n");
    assert_null(file->steps[1].run);
    assert_string_equal(file->steps[1].command.words[1], "a b");
    assert_string_equal(file->artifacts[0].to, "in/packages/");
    assert_null(file->artifacts[1].to);
    assert_string_equal(file->folder, "in/");
    assert_string_equal(file->report, "in/report.json");
    assert_true(file->artifacts_required);
    job_file_free(file);

    assert_int_equal(load("image: debian\n", &file, &seen), 0);
    assert_int_equal(file->cpus, 0);
    assert_int_equal(file->memory_bytes, 0);
    assert_null(file->entrypoint);
    job_file_free(file);
}

static void test_faults_have_their_place(void **state)
{
    static const struct {
        const char *text, *faults;
    } cases[] = {
        {"", "1:1 : the file is empty | see `dayfly help job-file`\n"},
        {"- a\n",
         "1:1 : a job file is a mapping | write `image: debian`, `command: [make, test]` and so "
         "on, each in a line\n"},
        {"command: [make]\n", "1:1 image: missing | write `image: debian`\n"},
        {"image: a\nstep: []\n", "2:1 : unknown key \"step\" | did you mean `steps`?\n"},
        {"image: a\nsteps:\n  - run: make\n    argv: [x]\n",
         "4:5 steps[0]: unknown key \"argv\" | known here: name, run, command\n"},
        {"image: a\nsteps:\n  - name: x\n",
         "3:5 steps[0]: it has neither run nor command | write `run: make`, or `command: [make]`\n"},
        {"image: a\nsteps:\n  - {run: x, command: [y]}\n",
         "3:5 steps[0]: it has both run and command | leave out one of the two\n"},
        {"image: a\ncommand: [x]\nsteps:\n  - run: x\n",
         "3:1 steps: there are both steps and a command | make the command a step\n"},
        {"image: a\ncommand: make\n",
         "2:10 command: expected a list of texts, found \"make\" | write `command: [make, test]`\n"},
        {"image: a\ncommand: [a, [b], ~]\n",
         "2:14 command[1]: expected a text, without NUL bytes | put it into quotes\n"
         "2:19 command[2]: expected a text, without NUL bytes | put it into quotes\n"},
        {"image: a\nenv: [A=b]\n",
         "2:6 env: expected a mapping of names to texts, found a list | write `env: {CI: \"true\"}`\n"},
        {"image: a\nenv: {A: b, A: c, \"B=\": d}\n",
         "2:13 env: \"A\" is given twice\n2:19 env: \"B=\" is no name | write `NAME: text`\n"},
        {"image: a\ntimeout: 10\n",
         "2:10 timeout: expected a duration, found \"10\" | write `timeout: 30m`\n"},
        {"image: a\ncpus: 0\nmemory: 0\ndisk: 0K\ntimeout: 0s\nartifact_limit: 0GiB\n",
         "2:7 cpus: it cannot be 0 | leave it out for the default: the host's, at most 8\n"
         "3:9 memory: it cannot be 0 | leave it out for the default: 1GiB in a machine, else no limit\n"
         "4:7 disk: it cannot be 0 | leave it out for the default: 10GiB; engine user: half of the "
         "free "
         "memory\n"
         "5:10 timeout: it cannot be 0 | leave it out for the default: none\n"
         "6:17 artifact_limit: it cannot be 0 | leave it out for the default: 10GiB\n"},
        {"image: a\ncpus: 255\n", "2:7 cpus: 255 is out of range | from 1 to 254 is possible\n"},
        {"image: a\nmemory: 1KiB\n",
         "2:9 memory: it is too little | at least 16MiB; a number without a unit is bytes\n"},
        {"image: a\nshares:\n  - {source: src, path: /proc}\n", "3:5 shares[0]: "},
        {"image: a\nshares:\n  - {path: /src}\n",
         "3:5 shares[0].source: missing | write `source: src`\n"},
        {"image: a\ncaches:\n  - {name: ../a, path: /c}\n", "3:12 caches[0].name: "},
        {"image: a\ncaches:\n  - {name: .a, path: /c}\n", "3:5 caches[0]: cache .a:/c:private: "},
        {"image: a\ncaches:\n  - {name: a, path: /c}\n  - {name: a, path: /d}\n",
         "4:5 caches[1]: the cache a is there twice\n"},
        {"image: a\ncaches:\n  - {name: a, path: /c, policy: rw}\n", "3:33 caches[0].policy: "},
        {"image: a\ncaches:\n  - {name: a, path: /c, trusted: true}\n",
         "3:25 caches[0]: unknown key \"trusted\""},
        {"image: a\ntrusted: true\n", "2:1 : unknown key \"trusted\""},
        {"image: a\nsecrets:\n  - {name: A, env: B, file: C}\n",
         "3:5 secrets[0]: it has both env and file | leave out one of the two\n"},
        {"image: a\nartifacts:\n  - {path: x, to: /etc/passwd/x}\n", "3:5 artifacts[0]: "},
        {"image: a\nnet: some\n", "2:6 net: "},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct job_file *file;
        struct seen seen;
        assert_int_equal(load(cases[i].text, &file, &seen), -EINVAL);
        assert_null(file);
        size_t len = strlen(cases[i].faults);
        /* Where another parser's words follow, the place is enough. */
        bool whole = cases[i].faults[len - 1] == '\n';
        if (strncmp(seen.text, cases[i].faults, len) != 0 || (whole && seen.text[len]))
            fail_msg("case %zu: have\n%swant\n%s", i, seen.text, cases[i].faults);
    }
}

static void test_a_job_is_told_from_a_machine(void **state)
{
    static const struct {
        const char *text;
        bool job, machine;
    } cases[] = {
        {"image: a\n", true, false},
        {"cpus: 2\nsteps:\n  - run: x\n", true, false},
        {"linux: {kernel: x}\n", false, true},
        {"cpus: 2\n", false, false},
        {"linux:\n  image: x\n", false, true},
        {"cpus: image\nmemory: steps\n", false, false},
        {"shares: [{image: x}, steps]\ncpus: 1\n", false, false},
        {"image: a\ndisks: []\n", false, true},
        {"[image]\n", false, false},
        {"image\n", false, false},
        {"", false, false},
        {"image: [\n", true, false},
        {"{{{{{{{{{{{{{{{{{{{{{{{{{{{{", false, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_close_ int fd = open("in/x.yaml", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        assert_int_equal(io_write_full(fd, cases[i].text, strlen(cases[i].text)), 0);
        if (job_file_is_one("in/x.yaml") != cases[i].job ||
            job_file_is_machine("in/x.yaml") != cases[i].machine)
            fail_msg("case %zu", i);
    }
    /* What can be read once is left to who reads all of it. */
    assert_int_equal(mkfifo("in/pipe", 0600), 0);
    assert_false(job_file_is_one("in/pipe"));
    assert_false(job_file_is_one("in/none.yaml"));
}

static void test_the_document_is_the_generated_text(void **state)
{
    assert_document(DAYFLY_SOURCE_ROOT "/doc/job-file.md", job_file_print_reference,
                    "build/cli/dayfly help job-file >doc/job-file.md");
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter, leave_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_all_that_can_be_said),
        IN_DIRECTORY(test_faults_have_their_place),
        IN_DIRECTORY(test_a_job_is_told_from_a_machine),
        cmocka_unit_test(test_the_document_is_the_generated_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
