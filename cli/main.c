/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dayfly, the command. A subcommand is a file of this folder that defines `const struct command
 * NAME_command`, and a word in two lists: COMMANDS below and cli/meson.build.
 */
#include "command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

/* In the order of `dayfly --help`. */
#define COMMANDS(X)                                                                                    \
    X(run)                                                                                             \
    X(vm)                                                                                              \
    X(image)                                                                                           \
    X(kernel)                                                                                          \
    X(fs)                                                                                              \
    X(changes)                                                                                         \
    X(cache)                                                                                           \
    X(prune)                                                                                           \
    X(doctor)                                                                                          \
    X(bench)                                                                                           \
    X(validate)                                                                                        \
    X(completion)                                                                                      \
    X(help)

#define DECLARE(name) extern const struct command name##_command;
#define REFER(name)   &name##_command,

COMMANDS(DECLARE)
static const struct command *const commands[] = {COMMANDS(REFER) NULL};

static const struct option_row rows[] = {
    {"version", 0, NULL, "print the version and exit"},
    {0},
};

static const struct command dayfly = {
    .name = "dayfly",
    .summary = "a machine of its own for every build",
    .description =
        "Dayfly describes virtual machines as data, validates the description and boots it. "
        "On top of that it runs a job in a fresh sandbox that exists in a moment, starts from "
        "exactly the same state every time, and is gone without a trace when the job ends.",
    .rows = rows,
    .children = commands,
};

/* What a guest has open in a shared folder is open in this process. */
static void raise_file_limit(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

/* Where the caller has left one closed, a file or socket of ours would be what messages are written to,
 * or what a child's streams are put in the place of. */
static void fill_standard_streams(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    /* A caller that ignores it hands that on: the ends of our children would then be known to nobody.
     */
    signal(SIGCHLD, SIG_DFL);
    fill_standard_streams();
    raise_file_limit();
    return command_main(&dayfly, argc, argv);
}
