/* SPDX-License-Identifier: Apache-2.0 */
/* See place.h: a job in a sandbox of namespaces, with a user of its own (sandbox/sandbox.h). */
#include "job/place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/net_report.h"
#include "net/nat.h"
#include "sandbox/cable.h"
#include "sandbox/sandbox.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/meminfo.h"

#define DEFAULT_PIDS 4096u

struct user_place {
    struct place base;
    struct sandbox *sandbox;
    struct nat *nat; /* the way out of its network, if it has one */
    int frames_fd;
    struct cable *cable;
    char release[80], kernel[160]; /* the host's, and so the job's */
    char why[240];
};

static struct user_place *user_of(struct place *place)
{
    return (struct user_place *)place;
}

static const struct user_place *user_of_const(const struct place *place)
{
    return (const struct user_place *)place;
}

static struct place *user_alloc(void)
{
    struct user_place *u = calloc(1, sizeof(*u));
    if (!u)
        return NULL;
    u->base.image.root_fd = u->frames_fd = -1;
    return &u->base;
}

/* What a machine has and a sandbox has not. */
static int check_options(const struct job_options *options, struct dayfly_err *err)
{
    if (options->user)
        return err_set(err, ENOTSUP,
                       "engine user runs everything as the job's own user: leave out --user, or take a "
                       "machine (--engine kvm or tcg)");
    if (options->kernel)
        return err_set(err, ENOTSUP, "engine user runs on the host's kernel: leave out --kernel");
    if (options->jail != DAYFLY_JAIL_AUTO)
        return err_set(err, ENOTSUP,
                       "engine user has no monitor to lock up: leave out --jail, or take a machine");
    if (options->net && options->net->present && options->net->mode != DAYFLY_NET_NAT)
        return err_set(err, ENOTSUP, "engine user has --net nat and none");
    /* They would have the job's uid, which is nobody's soon. A cache's get their owner later. */
    for (size_t i = 0; i < options->share_count; i++) {
        const struct job_share *share = &options->shares[i];
        if (share->changes && !share->is_cache)
            return err_set(err, ENOTSUP, "share %s: engine user keeps no changes (changes=)",
                           share->source);
    }
    return 0;
}

static int user_open(struct place *place, struct dayfly_err *err)
{
    int r = check_options(place->options, err);
    if (r == 0 && geteuid() != 0 && !place_is_host(place))
        return err_set(err, EPERM,
                       "engine user: only root mounts an image's file system; run as root, or name the "
                       "image '" PLACE_HOST "' to use this system's own programs");
    if (r == 0)
        r = place_open_shares(place, err);
    if (r == 0 && place_is_host(place))
        snprintf(place->image.name, sizeof(place->image.name), "%s", PLACE_HOST);
    else if (r == 0)
        r = place_open_image(place, err);
    struct user_place *u = user_of(place);
    struct utsname host;
    uname(&host);
    snprintf(u->release, sizeof(u->release), "%s", host.release);
    snprintf(u->kernel, sizeof(u->kernel), "host: %s %s", host.release, host.version);
    return r;
}

static int start_nat(struct user_place *u, struct dayfly_err *err)
{
    const struct job_net *net = u->base.options->net;
    _cleanup_free_ struct net_rule *rules = calloc(CONFIG_MAX_RULES, sizeof(*rules));
    _cleanup_free_ struct net_publish *publish = calloc(CONFIG_MAX_PUBLISHED, sizeof(*publish));
    if (!rules || !publish)
        return err_set(err, ENOMEM, "out of memory");
    struct nat_options options = {
        .rules = rules,
        .publish = publish,
        .mtu = (uint16_t)net->guest.mtu,
        .log = u->base.options->log,
    };
    int r = job_net_rules(net, rules, &options.rule_count, publish, &options.publish_count, err);
    return r < 0 ? r : nat_start(&u->nat, &options, &u->frames_fd, err);
}

static int user_create(struct place *place, struct dayfly_err *err)
{
    struct user_place *u = user_of(place);
    const struct job_options *options = place->options;
    struct sandbox_share shares[CONFIG_MAX_SHARES];
    for (size_t i = 0; i < options->share_count; i++)
        shares[i] = (struct sandbox_share){
            .source = options->shares[i].source,
            .fd = place->share_fds[i],
            .path = options->shares[i].path,
            .mode = options->shares[i].mode,
            .changes = options->shares[i].changes,
            .same_ids = options->shares[i].ids == DAYFLY_SHARE_IDENTITY,
        };
    int r = place_has_net(place) ? start_nat(u, err) : 0;
    if (r < 0)
        return err_wrap(err, "network");
    struct sandbox_options sandbox = {
        .root_fd = place->image.root_fd,
        .shares = shares,
        .share_count = options->share_count,
        .layer_bytes = options->disk_bytes ? options->disk_bytes : meminfo_budget(),
        .limits = {.memory_bytes = options->memory_bytes, .pids = DEFAULT_PIDS, .cpus = options->cpus},
        .network = place_has_net(place),
    };
    if (sandbox.network)
        memcpy(sandbox.mac, options->net->guest.mac, sizeof(sandbox.mac));
    r = sandbox_new(&u->sandbox, &sandbox, err);
    if (r < 0)
        return r;
    place->uid = sandbox_uid(u->sandbox);
    const char *lacks = sandbox_shortcomings(u->sandbox);
    snprintf(u->why, sizeof(u->why), "asked for%s%s", *lacks ? "; " : "", lacks);
    return 0;
}

static const char *user_engine(const struct place *place)
{
    return "user";
}

static const char *user_why(const struct place *place)
{
    return user_of_const(place)->why;
}

static int user_start(struct place *place, struct dayfly_err *err)
{
    return sandbox_start(user_of(place)->sandbox, err);
}

static int user_call(struct place *place, const struct guest_wait *wait, struct dayfly_err *err)
{
    struct user_place *u = user_of(place);
    _cleanup_close_ int fd = sandbox_call(u->sandbox, wait->cancel_fd, err);
    if (fd < 0)
        return fd;
    int r = u->nat ? cable_new(&u->cable, u->nat, steal_fd(&u->frames_fd), sandbox_take_tap(u->sandbox),
                               err)
                   : 0;
    return r < 0 ? r : steal_fd(&fd);
}

static int user_set_up(struct place *place, struct proto_setup *setup, struct dayfly_err *err)
{
    const struct user_place *u = user_of_const(place);
    _cleanup_net_report_ struct dayfly_net_report *nat = NULL;
    if (!u->nat)
        return 0;
    if (net_report_make(u->nat, NULL, &nat) < 0)
        return err_set(err, ENOMEM, "out of memory");
    return job_net_setup(place->options->net, nat, setup, err);
}

static void user_adapt(const struct place *place, struct guest_command *command)
{
    command->user = SANDBOX_EXEC_USER;
    if (!place->options->workdir && place_is_host(place))
        command->cwd = SANDBOX_HOME;
}

static void user_measure(struct place *place, struct report_facts *facts)
{
    struct user_place *u = user_of(place);
    struct cgroup_figures figures;
    sandbox_measure(u->sandbox, &figures);
    if (figures.memory_peak_bytes)
        facts->stat.memory_peak_bytes = figures.memory_peak_bytes;
    if (figures.cpu_us)
        facts->stat.cpu_us = figures.cpu_us;
    facts->overhead_bytes = report_overhead(sandbox_init_pid(u->sandbox));
    facts->kernel_release = u->release;
}

static int user_ended(struct place *place, struct dayfly_err *err)
{
    return sandbox_ended(user_of(place)->sandbox, err);
}

static json_t *user_network(const struct place *place)
{
    const struct user_place *u = user_of_const(place);
    _cleanup_net_report_ struct dayfly_net_report *nat = NULL;
    if (u->nat && net_report_make(u->nat, NULL, &nat) < 0)
        return NULL;
    return job_net_report(place->options->net, nat);
}

static void user_state(const struct place *place, struct start_state *state)
{
    /* A host's kernel has no digest, only what it says of itself. */
    state->kernel = user_of_const(place)->kernel;
    state->image = place_is_host(place) ? PLACE_HOST : place->image.root_digest;
    state->command_line = "user";
    state->cpus = place->options->cpus;
    state->memory_bytes = place->options->memory_bytes;
    state->disk_bytes = place->options->disk_bytes;
}

static void user_free(struct place *place)
{
    struct user_place *u = user_of(place);
    sandbox_free(u->sandbox);
    cable_free(u->cable);
    nat_stop(u->nat);
    close_fd(&u->frames_fd);
    place_close(place);
    free(u);
}

const struct place_ops place_user = {
    .alloc = user_alloc,
    .open = user_open,
    .create = user_create,
    .engine = user_engine,
    .why = user_why,
    .start = user_start,
    .call = user_call,
    .set_up = user_set_up,
    .adapt = user_adapt,
    .measure = user_measure,
    .ended = user_ended,
    .network = user_network,
    .state = user_state,
    .free = user_free,
};
