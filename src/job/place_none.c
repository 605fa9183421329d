/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See place.h: no place at all. The command runs on the host as the caller, in a session of its own,
 * with nothing between it and anything else: the baseline that the other engines are measured against.
 *
 * The agent is in between here too, so that all else is the same: it runs the command, and ends what
 * the command leaves behind, also when its runner is killed (it sees the end of their connection). What
 * becomes another's child on purpose (a service manager's) gets away.
 */
#include "job/place.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/bare.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/program.h"

struct none_place {
    struct place base;
    char release[80], kernel[160];
    pid_t pid; /* of the agent; 0: none */
    int link_fd;
    char user[40]; /* the caller's, as EXEC has it */
    char cwd[PATH_MAX];
};

static struct none_place *none_of(struct place *place)
{
    return (struct none_place *)place;
}

static struct place *none_alloc(void)
{
    struct none_place *n = calloc(1, sizeof(*n));
    if (!n)
        return NULL;
    n->base.image.root_fd = n->link_fd = -1;
    return &n->base;
}

static int none_open(struct place *place, struct dayfly_err *err)
{
    struct none_place *n = none_of(place);
    const struct job_options *options = place->options;
    if (!place_is_host(place))
        return err_set(err, ENOTSUP,
                       "engine none runs this system's own programs: name the image '" PLACE_HOST "'");
    /* What is said of the network by default is what the host has. */
    const struct job_net *net = options->net;
    bool host_net = !net || (net->present && net->mode == DAYFLY_NET_NAT && !*net->options &&
                             !net->allow[0] && !net->publish[0]);
    if (options->cache_count)
        return err_set(err, ENOTSUP,
                       "engine none has no place to show a cache at: take engine user, or leave "
                       "out --cache");
    if (options->user || options->kernel || options->share_count || !host_net || options->cpus ||
        options->memory_bytes || options->disk_bytes || options->jail != DAYFLY_JAIL_AUTO)
        return err_set(
            err, ENOTSUP,
            "engine none separates and limits nothing: leave out --user, --kernel, --share, --net, "
            "--cpus, --memory, --disk and --jail");
    for (size_t i = 0; i < options->secret_count; i++)
        if (!options->secrets[i].in_env)
            return err_set(
                err, ENOTSUP,
                "engine none has no place of its own for the secret %s: give it as a variable",
                options->secrets[i].name);
    snprintf(place->image.name, sizeof(place->image.name), "%s", PLACE_HOST);
    snprintf(n->user, sizeof(n->user), "%u:%u", geteuid(), getegid());
    struct utsname host;
    uname(&host);
    snprintf(n->release, sizeof(n->release), "%s", host.release);
    snprintf(n->kernel, sizeof(n->kernel), "host: %s %s", host.release, host.version);
    return getcwd(n->cwd, sizeof(n->cwd)) ? 0 : err_errno(err, errno, "the working directory");
}

static int none_create(struct place *place, struct dayfly_err *err)
{
    struct none_place *n = none_of(place);
    n->pid = bare_start(&n->link_fd, err);
    return n->pid < 0 ? n->pid : 0;
}

static const char *none_engine(const struct place *place)
{
    return "none";
}

static const char *none_why(const struct place *place)
{
    return "asked for";
}

static int none_start(struct place *place, struct dayfly_err *err)
{
    return 0;
}

static int none_call(struct place *place, const struct guest_wait *wait, struct dayfly_err *err)
{
    return steal_fd(&none_of(place)->link_fd);
}

static int none_set_up(struct place *place, struct proto_setup *setup, struct dayfly_err *err)
{
    return 0;
}

static void none_adapt(const struct place *place, struct guest_command *command)
{
    const struct none_place *n = (const struct none_place *)place;
    command->user = n->user;
    if (!place->options->workdir)
        command->cwd = n->cwd;
}

static void none_measure(struct place *place, struct report_facts *facts)
{
    struct none_place *n = none_of(place);
    facts->overhead_bytes = report_overhead(n->pid);
    facts->kernel_release = n->release;
}

static int none_ended(struct place *place, struct dayfly_err *err)
{
    struct none_place *n = none_of(place);
    int status;
    if (n->pid <= 0 || waitpid(n->pid, &status, WNOHANG) != n->pid)
        return 0;
    n->pid = 0;
    return err_set(err, EIO, "the process that runs the command ended");
}

static json_t *none_network(const struct place *place)
{
    return json_pack("{s:s}", "mode", "host");
}

static void none_state(const struct place *place, struct start_state *state)
{
    const struct none_place *n = (const struct none_place *)place;
    state->kernel = n->kernel;
    state->image = PLACE_HOST;
    state->command_line = "none";
    state->cpus = place->options->cpus;
}

static void none_free(struct place *place)
{
    struct none_place *n = none_of(place);
    int status;
    close_fd(&n->link_fd);
    /* It has seen the end of the connection: it kills what is left, and ends. */
    if (n->pid > 0)
        program_wait(n->pid, &status);
    place_close(place);
    free(n);
}

const struct place_ops place_none = {
    .alloc = none_alloc,
    .open = none_open,
    .create = none_create,
    .engine = none_engine,
    .why = none_why,
    .start = none_start,
    .call = none_call,
    .set_up = none_set_up,
    .adapt = none_adapt,
    .measure = none_measure,
    .ended = none_ended,
    .network = none_network,
    .state = none_state,
    .free = none_free,
};
