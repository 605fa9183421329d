/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/row.h"

#include <assert.h>

#include "bench/process.h"
#include "engine/engine.h"
#include "image/kernel.h"
#include "image/store.h"
#include "sandbox/sandbox.h"
#include "util/err.h"
#include "util/program.h"

static int probe_none(struct dayfly_err *why)
{
    return 0;
}

static int probe_kernel(struct dayfly_err *why)
{
    struct store store;
    struct kernel kernel;
    int r = store_open(&store, NULL, STORE_READ, why);
    if (r < 0)
        return r;
    r = kernel_open(&store, NULL, &kernel, why);
    if (r == 0)
        kernel_finish(&kernel);
    store_close(&store);
    return r;
}

static int probe_kvm(struct dayfly_err *why)
{
    int r = engine_kvm.probe(why);
    return r < 0 ? r : probe_kernel(why);
}

static int probe_tcg(struct dayfly_err *why)
{
    int r = engine_tcg.probe(why);
    return r < 0 ? r : probe_kernel(why);
}

/* What it remarks on when it works is no reason. */
static int probe_user(struct dayfly_err *why)
{
    return sandbox_probe(why);
}

static int probe_podman(struct dayfly_err *why)
{
    return program_probe("podman", "podman", why);
}

static int probe_docker(struct dayfly_err *why)
{
    static const char *const argv[] = {"docker", "version", NULL};
    const struct program ask = {
        .argv = argv, .package = "docker.io", .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    return program_run(&ask, why);
}

const struct bench_row_info bench_rows[ROW_KINDS] = {
    [ROW_NONE] = {.name = "none",
                  .title = "bare metal",
                  .engine = "none",
                  .on_host = true,
                  .disk = "the host's own (--dir)",
                  .probe = probe_none},
    [ROW_USER_HOST] = {.name = "user-host",
                       .title = "Dayfly, engine user, the host's programs",
                       .engine = "user",
                       .on_host = true,
                       .disk = "memory",
                       .probe = probe_user},
    [ROW_USER] = {.name = "user",
                  .title = "Dayfly, engine user",
                  .engine = "user",
                  .disk = "memory",
                  .probe = probe_user},
    [ROW_KVM] = {.name = "kvm",
                 .title = "Dayfly, engine kvm",
                 .engine = "kvm",
                 .disk = "encrypted, a file of the host's",
                 .probe = probe_kvm},
    [ROW_TCG] = {.name = "tcg",
                 .title = "Dayfly, engine tcg",
                 .engine = "tcg",
                 .disk = "encrypted, a file of the host's",
                 .probe = probe_tcg},
    [ROW_PODMAN] = {.name = "podman",
                    .title = "podman",
                    .program = "podman",
                    .transport = "containers-storage",
                    .disk = "a layer of podman's storage",
                    .probe = probe_podman},
    [ROW_DOCKER] = {.name = "docker",
                    .title = "docker",
                    .program = "docker",
                    .transport = "docker-daemon",
                    .disk = "a layer of docker's storage",
                    .probe = probe_docker},
};

const char *bench_row_name(size_t index)
{
    return bench_rows[index].name;
}

struct words {
    const char **list;
    size_t count;
};

static void add(struct words *words, const char *word)
{
    assert(words->count < BENCH_MAX_WORDS - 1);
    words->list[words->count++] = word;
}

static void add_ours(struct words *words, const struct bench_row_info *row,
                     const struct bench_command *command)
{
    add(words, "dayfly");
    add(words, "run");
    add(words, "--quiet");
    add(words, "--interactive");
    add(words, "--engine");
    add(words, row->engine);
    /* Bare metal has the host's, whatever is asked for. */
    if (!command->network && row != &bench_rows[ROW_NONE]) {
        add(words, "--net");
        add(words, "none");
    }
}

static void add_container(struct words *words, const struct bench_row_info *row,
                          const struct bench_command *command)
{
    bool early = row == &bench_rows[ROW_PODMAN]; /* where it wants its runtime's name */
    add(words, row->program);
    if (!early)
        add(words, "run");
    if (command->runtime) {
        add(words, "--runtime");
        add(words, command->runtime);
    }
    if (early)
        add(words, "run");
    add(words, "--rm");
    add(words, "--interactive");
    add(words, "--name");
    add(words, command->name);
    if (command->low_limits) {
        add(words, "--ulimit=nofile=1024:1024");
        add(words, "--ulimit=nproc=4096:4096");
    }
    if (!command->network) {
        add(words, "--network");
        add(words, "none");
    }
}

void bench_row_words(const struct bench_row_info *row, const struct bench_command *command,
                     const char *words[BENCH_MAX_WORDS])
{
    struct words all = {words, 0};
    if (row->engine)
        add_ours(&all, row, command);
    else
        add_container(&all, row, command);
    add(&all, "--env");
    add(&all, PROCESS_JOB_MARK);
    add(&all, "--workdir");
    add(&all, command->workdir);
    /* The image's own would run instead. */
    add(&all, "--entrypoint");
    add(&all, "");
    add(&all, row->on_host ? "host" : command->image);
    if (row->engine)
        add(&all, "--");
    add(&all, "/bin/sh");
    add(&all, "-c");
    add(&all, command->script);
    add(&all, "sh");
    for (size_t i = 0; i < 2 && command->args[i]; i++)
        add(&all, command->args[i]);
    words[all.count] = NULL;
}
