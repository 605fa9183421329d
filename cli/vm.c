/* SPDX-License-Identifier: Apache-2.0 */
/* `dayfly vm run`: a described machine in the foreground. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "command.h"
#include "dayfly/config.h"
#include "dayfly/vm.h"
#include "engine_option.h"
#include "fault.h"
#include "job/job_file.h"
#include "signals.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/log.h"

struct vm_run_options {
    const char *engine, *jail, *file;
    bool verbose;
};

static const struct vm_run_options defaults = {.engine = "auto"};

static const struct option_row rows[] = {
    {"file", 'f', "FILE", "the machine's description (see 'dayfly help machine-file')",
     OPTION_STRING(struct vm_run_options, file)},
    ENGINE_OPTION(struct vm_run_options, engine),
    JAIL_OPTION(struct vm_run_options, jail),
    {"verbose", 'v', NULL, "say how the engine was chosen, and what the machine does",
     OPTION_FLAG(struct vm_run_options, verbose)},
    {0},
};

static const struct example examples[] = {
    {"dayfly vm run -f machine.yaml", "boot it, until it switches itself off"},
    {0},
};

struct ending {
    int event_fd;
    char why[160]; /* written before event_fd is signalled */
};

static void changed(void *opaque, const struct dayfly_vm_event *event)
{
    struct ending *ending = opaque;
    if (event->state != DAYFLY_VM_STOPPED && event->state != DAYFLY_VM_FAILED)
        return;
    snprintf(ending->why, sizeof(ending->why), "%s", event->message);
    eventfd_write(ending->event_fd, 1);
}

static void log_line_out(void *opaque, enum dayfly_log_level level, const char *line)
{
    log_to_stderr(opaque, (enum log_level)level, line);
}

/*
 * Until it ends. The first signal presses the power button, a second one, or a guest that does not
 * obey within ten seconds, pulls the plug.
 */
static int serve(const struct call *call, struct dayfly_vm *vm, struct ending *ending, int signal_fd)
{
    int caught = 0;
    for (;;) {
        struct pollfd fds[] = {{.fd = ending->event_fd, .events = POLLIN},
                               {.fd = signal_fd, .events = POLLIN}};
        int n = poll(fds, 2, caught ? 10000 : -1);
        if (n < 0)
            continue; /* EINTR, or no memory for a moment */
        if (fds[0].revents & POLLIN)
            break;
        struct signalfd_siginfo info = {0};
        if (n > 0 && read(signal_fd, &info, sizeof(info)) != sizeof(info))
            continue;
        if (n == 0 || caught || dayfly_vm_request_stop(vm, NULL) < 0) {
            dayfly_vm_stop(vm);
            return EXIT_SIGNAL + (caught ? caught : (int)info.ssi_signo);
        }
        caught = (int)info.ssi_signo;
    }
    if (dayfly_vm_state(vm) == DAYFLY_VM_FAILED) {
        struct dayfly_err err;
        err_set(&err, EIO, "the machine failed: %s", ending->why);
        return command_fail(call, &err);
    }
    return 0;
}

static int vm_run(const struct call *call)
{
    const struct vm_run_options *options = call->options;
    struct dayfly_err err = {0};

    if (!options->file) {
        err_set(&err, EINVAL, "which machine? Name its description by -f FILE");
        return command_fail(call, &err);
    }
    if (job_file_is_one(options->file)) {
        err_set(&err, EINVAL, "%s is a job: `dayfly run -f %s`", options->file, options->file);
        return command_fail(call, &err);
    }
    signal(SIGPIPE, SIG_IGN);
    _cleanup_close_ int signal_fd = signals_catch(NULL, &err);
    _cleanup_close_ int event_fd = eventfd(0, EFD_CLOEXEC);
    struct ending ending = {.event_fd = event_fd};
    struct dayfly_vm_options vm_options = {
        .size = sizeof(vm_options),
        .engine = engine_option(options->engine),
        .event = changed,
        .log = log_line_out,
        .log_level = options->verbose ? DAYFLY_LOG_INFO : DAYFLY_LOG_ERROR,
        .opaque = &ending,
    };

    struct dayfly_config *config = NULL;
    struct dayfly_vm *vm = NULL;
    int r = signal_fd;
    if (r >= 0)
        r = event_fd < 0 ? err_errno(&err, errno, "prepare") : dayfly_config_new(&config);
    struct fault_teller faults = {.file = options->file};
    if (r == 0)
        r = dayfly_config_load_yaml(config, options->file, fault_tell, &faults, &err);
    if (r == 0 && options->jail) /* before what the file says */
        r = dayfly_config_set_jail(config, jail_option(options->jail));
    if (r == 0)
        r = dayfly_config_validate(config, fault_tell, &faults, &err);
    r = fault_told(&faults, r, &err);
    if (r == 0)
        r = dayfly_vm_new(&vm, config, &vm_options, &err);
    if (r == 0 && options->verbose)
        fprintf(stderr, "dayfly: engine %s (%s)\n", dayfly_vm_engine(vm), dayfly_vm_engine_why(vm));
    if (r == 0)
        r = dayfly_vm_start(vm, &err);
    int status = r < 0 ? command_fail(call, &err) : serve(call, vm, &ending, signal_fd);
    dayfly_vm_free(vm);
    dayfly_config_free(config);
    return status;
}

static const struct command vm_run_command = {
    .name = "run",
    .summary = "run a described machine in the foreground",
    .description =
        "Boots the machine that FILE describes and waits until it is switched off. Ctrl-C (SIGINT, as "
        "SIGTERM and SIGHUP) presses its power button; a second one, or ten seconds, pulls the "
        "plug.\n\n"
        "Exit status: 0 when the guest switched itself off or reset; 125 when the description is "
        "faulty or the machine failed; 128+N when signal N ended it.",
    .rows = rows,
    .options_size = sizeof(struct vm_run_options),
    .defaults = &defaults,
    .examples = examples,
    .run = vm_run,
};

static const struct command *const children[] = {&vm_run_command, NULL};

const struct command vm_command = {
    .name = "vm",
    .summary = "work with a described machine",
    .children = children,
};
