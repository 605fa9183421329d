/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See job.h. The order of things, in whatever place (place.h):
 *
 *   open      what the job needs: shares, image, kernel
 *   create    the place: a machine
 *   boot      start it; its agent calls
 *   ready     tell the agent what the place is to become, and the secrets
 *   command   run it, pass bytes and signals, wait for its end, copy its artifacts out
 *   destroy   pull the plug: nothing in the place is worth a clean shutdown, except what a machine's
 *             page cache still holds of shares that the job writes to
 *   caches    what the job left in them becomes their next generation, or is dropped
 *
 * A `struct run` holds all of it; run_finish undoes whatever was reached.
 */
#include "job/job.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "job/mask.h"
#include "job/place.h"
#include "job/report.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"

/* An agent that has not called by then never will: translated, on a loaded host, it takes seconds. */
#define JOB_BOOT_NS (180 * NS_PER_S)
/* How long the agent may take to take the secrets. */
#define JOB_SECRET_NS (30 * NS_PER_S)
/* How long the agent may take to answer a question about a job that has ended. */
#define JOB_STAT_NS (10 * NS_PER_S)
/* How long the guest may take to write back what it holds of its shares. */
#define JOB_WRITE_BACK_NS (120 * NS_PER_S)

/* The agent sees to it that these are there (agent/trust.h): all that the guest trusts, and the
 * border's alone. */
#define TRUST_STORE "/etc/ssl/certs/ca-certificates.crt"
#define TRUST_OURS  "/usr/local/share/ca-certificates/dayfly-border.crt"

struct run {
    const struct job_options *options;
    uint64_t start_ns;
    struct job_timings timings;
    struct place *place;
    struct guest *guest;
    struct job_options given; /* to the place: with the caches among the shares */
    struct job_caches *caches;
    json_t *cache_state; /* for the start state; NULL: there are none */
    struct mask *mask;   /* of the secrets; NULL: there are none */
    json_t *steps;       /* for the report; NULL: none has ended */
};

static uint64_t since(const struct run *run)
{
    return clock_ns() - run->start_ns;
}

static void say(const struct run *run, const char *what)
{
    if (run->options->progress)
        run->options->progress(run->options->opaque, what);
}

/* The person's word, else the image's, where an empty text is none. */
static const char *either(const char *own, const char *image, const char *otherwise)
{
    return own ? own : image && *image ? image : otherwise;
}

/* -- open and create -------------------------------------------------------------------------- */

static bool uses_border(const struct job_options *options)
{
    for (size_t i = 0; i < options->secret_count; i++)
        if (options->secrets[i].hosts)
            return true;
    return false;
}

/* The places know of shares alone. */
static int open_caches(struct run *run, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    int r = job_caches_open(&run->caches, options->caches, options->cache_count, options->trusted,
                            options->shares, options->share_count, err);
    if (r == 0)
        run->given.shares = job_caches_shares(run->caches, &run->given.share_count);
    return r;
}

/* The user that the image names is known once it is open. */
static int settle_caches(struct run *run, struct dayfly_err *err)
{
    if (!run->options->cache_count)
        return 0;
    job_caches_show_to(run->caches, either(run->options->user, run->place->image.config.user, NULL));
    run->cache_state = job_caches_state(run->caches);
    return run->cache_state ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int open_parts(struct run *run, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    int r = job_secrets_check(options->secrets, options->secret_count, run->given.shares,
                              run->given.share_count, err);
    if (r == 0)
        r = job_secrets_mask(options->secrets, options->secret_count, options->log, &run->mask, err);
    if (r == 0 && uses_border(options) && !run->place->ops->net_report)
        r = err_set(err, ENOTSUP, "--for-host needs a machine: engine kvm or tcg");
    if (r == 0)
        r = run->place->ops->open(run->place, err);
    if (r == 0)
        r = settle_caches(run, err);
    if (r == 0)
        trace_mark(options->trace, TRACE_OPENED);
    return r;
}

/* Once the parts are open. */
static struct start_state state_of(const struct run *run)
{
    const struct job_options *options = run->options;
    struct start_state state = {
        .shares = options->shares,
        .share_count = options->share_count,
        .net = place_has_net(run->place) ? options->net : NULL,
        .caches = run->cache_state,
    };
    run->place->ops->state(run->place, &state);
    return state;
}

static int expect_state(const struct run *run, struct dayfly_err *err)
{
    const struct start_state state = state_of(run);
    return run->options->expect_state ? start_state_expect(&state, run->options->expect_state, err) : 0;
}

static int create(struct run *run, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    struct place *place = run->place;
    int r = place->ops->create(place, err);
    if (r < 0)
        return r;
    place->has_created = true;
    if (options->chosen)
        options->chosen(options->opaque, place->ops->engine(place), place->ops->why(place));
    run->timings.create_ns = since(run);
    trace_mark(options->trace, TRACE_CREATED);
    return 0;
}

/* -- boot ------------------------------------------------------------------------------------- */

/* The first signal that is to end the run, or 0. */
static int pending_signal(const struct run *run)
{
    struct signalfd_siginfo info;
    while (run->options->signal_fd >= 0 &&
           read(run->options->signal_fd, &info, sizeof(info)) == sizeof(info))
        if (info.ssi_signo != SIGWINCH)
            return (int)info.ssi_signo;
    return 0;
}

/* After a wait was cancelled: 0 to go on with it (only the window changed), else -EINTR. */
static int cancelled(struct run *run, int *signal_number, struct dayfly_err *err)
{
    *signal_number = pending_signal(run);
    return *signal_number ? err_set(err, EINTR, "ended by signal %d", *signal_number) : 0;
}

static void fill_setup(struct proto_setup *setup)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *setup = (struct proto_setup){
        .hostname = "dayfly",
        .wall_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec,
        .deadline_ns = 60 * NS_PER_S,
        .entropy_len = 64,
    };
    /* 64 bytes: getrandom neither blocks (the host has booted) nor comes short. */
    if (getrandom(setup->entropy, setup->entropy_len, 0) < 0)
        setup->entropy_len = 0;
}

/* What the agent says of its clock is hostile: no more of it is believed than lies within this run. */
static void mark_boot(const struct run *run, const struct proto_hello *hello)
{
    struct trace *trace = run->options->trace;
    uint64_t now = clock_ns(), most = now - run->start_ns;
    trace_mark_at(trace, TRACE_HELLO, now);
    trace_mark_at(trace, TRACE_AGENT, now - MIN(hello->age_ns, most));
    /* Elsewhere the kernel is the host's, and has run for long. */
    if (run->options->wall == JOB_IN_MACHINE)
        trace_mark_at(trace, TRACE_KERNEL,
                      now - MIN(hello->age_ns, most) -
                          MIN(hello->start_ns, most - MIN(hello->age_ns, most)));
}

static int boot(struct run *run, int *signal_number, struct dayfly_err *err)
{
    const struct guest_wait wait = {
        .deadline_ns = clock_ns() + JOB_BOOT_NS,
        .cancel_fd = run->options->signal_fd,
    };
    struct place *place = run->place;
    struct proto_hello hello;
    struct proto_ready ready;

    int r = place->ops->start(place, err), fd;
    if (r < 0)
        return r;
    while ((fd = place->ops->call(place, &wait, err)) == -ECANCELED)
        if ((r = cancelled(run, signal_number, err)) < 0)
            return r;
    if (fd < 0)
        return fd;
    if ((r = guest_new(fd, &run->guest, err)) < 0)
        return r;
    do
        r = guest_wait_hello(run->guest, &wait, &hello, err);
    while (r == -ECANCELED && (r = cancelled(run, signal_number, err)) == 0);
    if (r < 0)
        return r;
    run->timings.boot_ns = since(run) - MIN(hello.age_ns, since(run) - run->timings.create_ns);
    mark_boot(run, &hello);

    /* Large, for a stack that helpers share. */
    _cleanup_free_ struct proto_setup *setup = malloc(sizeof(*setup));
    if (!setup)
        return err_set(err, ENOMEM, "out of memory");
    fill_setup(setup);
    r = place->ops->set_up(place, setup, err);
    while (r == 0 && (r = guest_setup(run->guest, setup, &wait, &ready, err)) == -ECANCELED)
        r = cancelled(run, signal_number, err);
    explicit_bzero(setup, sizeof(*setup));
    if (r == 0)
        run->timings.ready_ns = since(run);
    if (r == 0)
        trace_mark(run->options->trace, TRACE_READY);
    return r;
}

static int give_authority(struct run *run, const char *pem, const struct guest_wait *wait,
                          struct dayfly_err *err)
{
    const struct proto_secret m = {.flags = PROTO_SECRET_TRUST,
                                   .name = "authority",
                                   .len = (uint32_t)strlen(pem),
                                   .bytes = (const uint8_t *)pem};
    return guest_secret(run->guest, &m, wait, err);
}

/* It takes a moment: a signal is seen when the command runs. */
static int give_secrets(struct run *run, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    const struct guest_wait wait = {.deadline_ns = clock_ns() + JOB_SECRET_NS, .cancel_fd = -1};
    _cleanup_net_report_ struct dayfly_net_report *report = NULL;
    size_t for_hosts = 0;
    int r = uses_border(options) ? run->place->ops->net_report(run->place, &report, err) : 0;
    for (size_t i = 0; i < options->secret_count && r == 0; i++) {
        const struct job_secret *secret = &options->secrets[i];
        const char *placeholder = secret->hosts ? report->secrets[for_hosts++].placeholder : NULL;
        struct proto_secret m = {
            .flags = secret->in_env ? PROTO_SECRET_ENV : 0,
            .len = placeholder ? (uint32_t)strlen(placeholder) : (uint32_t)secret->len,
            .bytes = placeholder ? (const uint8_t *)placeholder : secret->value.bytes,
        };
        memcpy(m.name, secret->name, sizeof(m.name));
        r = guest_secret(run->guest, &m, &wait, err);
    }
    if (r == 0 && report)
        r = give_authority(run, report->authority, &wait, err);
    job_secrets_wipe(options->secrets, options->secret_count);
    return r;
}

/* -- command ---------------------------------------------------------------------------------- */

static size_t count_words(const char *const *words)
{
    size_t n = 0;
    while (words && words[n])
        n++;
    return n;
}

/* a, then b, in a fresh NULL-terminated array of borrowed words. */
static const char **join(const char *const *a, const char *const *b)
{
    size_t na = count_words(a), nb = count_words(b);
    const char **all = calloc(na + nb + 1, sizeof(*all));
    if (!all)
        return NULL;
    for (size_t i = 0; i < na; i++)
        all[i] = a[i];
    for (size_t i = 0; i < nb; i++)
        all[na + i] = b[i];
    return all;
}

/* The image's environment with the job's over it: of a name that both have, the first that a program
 * finds must be the job's. */
static const char **merge_env(const char *const *image, const char *const *own)
{
    const char **all = calloc(count_words(image) + count_words(own) + 1, sizeof(*all));
    size_t n = 0;
    if (!all)
        return NULL;
    for (; image && *image; image++) {
        size_t name = strcspn(*image, "=");
        bool replaced = false;
        for (size_t i = 0; own && own[i] && !replaced; i++)
            replaced = strcspn(own[i], "=") == name && !memcmp(*image, own[i], name);
        /* What has no value is no variable, and a program may stumble over it. */
        if (!replaced && (*image)[name] == '=' && name)
            all[n++] = *image;
    }
    for (; own && *own; own++)
        all[n++] = *own;
    return all;
}

/* As the OCI specification has it: arguments replace Cmd, and Entrypoint stays in front. As podman has
 * it: another entrypoint leaves the image's Cmd out as well; an empty one is none. */
static const char **command_of(const struct job_options *options, const struct oci_config *image)
{
    bool own = count_words(options->argv) > 0;
    const char *const entrypoint[] = {options->entrypoint, NULL};
    if (options->entrypoint)
        return join(*options->entrypoint ? entrypoint : NULL, options->argv);
    return join((const char *const *)image->entrypoint,
                own ? options->argv : (const char *const *)image->cmd);
}

static const char *cwd_of(const struct run *run)
{
    return either(run->options->workdir, run->place->image.config.working_dir, "/");
}

/* One command, to its end. */
static int run_one(struct run *run, const char *const *argv, const char *const *env,
                   uint64_t deadline_ns, struct guest_result *result, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    struct guest_command command = {
        .argv = argv,
        .env = env,
        .user = either(options->user, run->place->image.config.user, NULL),
        .cwd = cwd_of(run),
        .make_cwd = !options->workdir,
        .secrets = options->secret_count > 0,
        .mask = run->mask,
        .tty = options->tty,
        .rows = options->rows,
        .cols = options->cols,
        .in_fd = options->in_fd,
        .out_fd = options->out_fd,
        .err_fd = options->err_fd,
    };
    if (run->place->ops->adapt)
        run->place->ops->adapt(run->place, &command);
    const struct guest_pump pump = {
        .cancel_fd = -1,
        .deadline_ns = deadline_ns,
        .signal_fd = options->signal_fd,
        .tty_fd = options->tty_fd,
    };
    uint32_t session;
    int r = guest_exec(run->guest, &command, &session, err);
    if (r == 0)
        r = guest_pump(run->guest, session, &pump, result, err);
    if (r == 0 && result->started_ns)
        trace_mark_at(options->trace, TRACE_STARTED, result->started_ns);
    if (r == 0 && result->ended_ns)
        trace_mark_at(options->trace, TRACE_ENDED, result->ended_ns);
    return r;
}

static int run_steps(struct run *run, const char *const *env, uint64_t deadline_ns,
                     struct job_result *result, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    for (size_t i = 0; i < options->step_count; i++) {
        uint64_t begin = clock_ns();
        if (options->step)
            options->step(options->opaque, i);
        result->last_step = i;
        int r = run_one(run, options->steps[i].argv, env, deadline_ns, &result->guest, err);
        if (r < 0)
            return r;
        struct guest_result *guest = &result->guest;
        if (options->want_report &&
            report_step(&run->steps, options->steps[i].name, clock_ns() - begin, guest) < 0)
            return err_set(err, ENOMEM, "out of memory for the report");
        if (guest_result_status(guest) != 0)
            return 0;
        if (guest->interrupted && i + 1 < options->step_count) {
            /* It took the signal well, but those behind it do not run: the job did not succeed. */
            guest->outcome = GUEST_SIGNALED;
            guest->signal = guest->interrupted;
            return 0;
        }
    }
    return 0;
}

static int run_command(struct run *run, struct job_result *result, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    const struct oci_config *image = &run->place->image.config;
    _cleanup_free_ const char **argv = command_of(options, image);
    /* For programs that know other places than the agent does. */
    static const char *const trust[] = {"SSL_CERT_FILE=" TRUST_STORE, "REQUESTS_CA_BUNDLE=" TRUST_STORE,
                                        "NODE_EXTRA_CA_CERTS=" TRUST_OURS, NULL};
    _cleanup_free_ const char **base =
        merge_env(uses_border(options) ? trust : NULL, (const char *const *)image->env);
    _cleanup_free_ const char **env = base ? merge_env(base, options->env) : NULL;
    if (!argv || !env)
        return err_set(err, ENOMEM, "out of memory");
    if (!argv[0] && !options->step_count)
        return err_set(err, EINVAL, "image %s names no command: give one behind it",
                       run->place->image.name);
    uint64_t begin = clock_ns();
    uint64_t deadline_ns = options->timeout_ns ? begin + options->timeout_ns : 0;
    int r = options->step_count ? run_steps(run, env, deadline_ns, result, err)
                                : run_one(run, argv, env, deadline_ns, &result->guest, err);
    run->timings.command_ns = clock_ns() - begin;
    return r;
}

struct collecting {
    struct run *run;
    struct job_result *result;
    struct dayfly_err *err;
};

static int collecting_cancelled(void *opaque)
{
    struct collecting *c = opaque;
    return cancelled(c->run, &c->result->interrupted, c->err);
}

/* However the command ended. What it left running would only change the files below our hands. */
static int collect(struct run *run, struct job_result *result, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    struct guest_command as = {.cwd = cwd_of(run)};
    if (run->place->ops->adapt)
        run->place->ops->adapt(run->place, &as);
    const struct job_artifact_options how = {
        .cwd = as.cwd,
        .user = as.user,
        .limit_bytes = options->artifact_limit_bytes,
        .cancel_fd = options->signal_fd,
    };
    struct collecting c = {run, result, err};
    if (!options->artifact_count)
        return 0;
    say(run, "copying artifacts");
    int r = guest_kill_leftovers(run->guest, err);
    if (r == 0)
        r = job_artifacts_collect(run->guest, options->artifacts, options->artifact_count, &how,
                                  collecting_cancelled, &c, &result->artifacts, err);
    say(run, NULL);
    return r == -ECANCELED ? -EINTR : r;
}

/* -- destroy ---------------------------------------------------------------------------------- */

static bool writes_to_shares(const struct job_options *options)
{
    for (size_t i = 0; i < options->share_count; i++)
        if (options->shares[i].mode == DAYFLY_SHARE_RW || options->shares[i].changes)
            return true;
    return false;
}

/* Have what the guest's page cache holds of its shares, of mapped files at least, written to them. */
static int write_back(struct run *run, int *signal_number, struct dayfly_err *err)
{
    const struct guest_wait wait = {
        .deadline_ns = clock_ns() + JOB_WRITE_BACK_NS,
        .cancel_fd = run->options->signal_fd,
    };
    int r;
    do
        r = guest_shutdown(run->guest, 0, &wait, err);
    while (r == -ECANCELED && (r = cancelled(run, signal_number, err)) == 0);
    return r;
}

static void run_finish(struct run *run)
{
    guest_free(run->guest);
    mask_free(run->mask);
    json_decref(run->steps);
    json_decref(run->cache_state);
    run->place->ops->free(run->place);
}

/* A job that went well, as whoever reads its caches next expects: all of it ran, to its own end. */
static bool has_succeeded(const struct job_result *result)
{
    const struct guest_result *guest = &result->guest;
    return guest_result_status(guest) == 0 && !guest->timed_out && !guest->interrupted &&
           !result->interrupted && !result->artifacts.failed.code;
}

/* Behind run_finish: nothing of the job is there that could write. */
static int end_caches(struct run *run, bool succeeded, struct job_result *result,
                      struct dayfly_err *err)
{
    int r = 0;
    if (run->caches && run->options->cache_count &&
        !(result->caches = job_caches_end(run->caches, succeeded)))
        r = err_set(err, ENOMEM, "out of memory");
    if (r == 0 && result->report && result->caches &&
        json_object_set(result->report, "caches", result->caches) < 0)
        r = err_set(err, ENOMEM, "out of memory for the report");
    job_caches_free(run->caches);
    return r;
}

/* What the report says of a place that is about to go. */
static int measure(struct run *run, struct report_facts *facts, struct dayfly_err *err)
{
    const struct guest_wait wait = {.deadline_ns = clock_ns() + JOB_STAT_NS, .cancel_fd = -1};
    int r = guest_stat(run->guest, &wait, &facts->stat, err);
    if (r < 0)
        return r;
    run->place->ops->measure(run->place, facts);
    return 0;
}

static int run_all(struct run *run, struct job_result *result, struct report_facts *facts,
                   struct dayfly_err *err)
{
    int r;
    say(run, "preparing");
    if ((r = open_caches(run, err)) < 0 || (r = open_parts(run, err)) < 0 ||
        (r = expect_state(run, err)) < 0 || (r = create(run, err)) < 0)
        return r;
    snprintf(result->engine, sizeof(result->engine), "%s", run->place->ops->engine(run->place));
    result->uid = run->place->uid;
    say(run, "booting");
    if ((r = boot(run, &result->interrupted, err)) < 0 || (r = give_secrets(run, err)) < 0)
        return r;
    say(run, NULL);
    if ((r = run_command(run, result, err)) < 0 || (r = collect(run, result, err)) < 0)
        return r;
    return run->options->want_report ? measure(run, facts, err) : 0;
}

static int begin_report(const struct run *run, struct report_facts *facts, struct job_result *result,
                        struct dayfly_err *err)
{
    const struct place *place = run->place;
    const struct start_state state = state_of(run);
    facts->image = place->image.name;
    facts->network = place->ops->network(place);
    facts->engine = result->engine;
    facts->why = place->ops->why(place);
    facts->artifacts = result->artifacts.rows;
    facts->steps = run->steps;
    result->report = report_begin(facts, &state, &result->guest);
    return result->report ? 0 : err_set(err, ENOMEM, "out of memory for the report");
}

/* -EINTR tells the caller of a signal to the run; a call of ours that was cut short is a host that
 * failed. */
static int outcome(int r, const struct job_result *result)
{
    return r == -EINTR && !result->interrupted ? -EIO : r;
}

int job_run(const struct job_options *options, struct job_result *result, struct dayfly_err *err)
{
    static const struct place_ops *const places[] = {
        [JOB_IN_MACHINE] = &place_machine, [JOB_AS_USER] = &place_user, [JOB_BARE] = &place_none};
    const struct place_ops *ops = places[options->wall];
    struct run run = {.options = options, .start_ns = clock_ns(), .place = ops->alloc()};
    struct report_facts facts = {0};
    *result = (struct job_result){0};
    if (!run.place)
        return err_set(err, ENOMEM, "out of memory");
    run.place->ops = ops;
    run.place->options = &run.given;
    run.given = *options;

    int r = run_all(&run, result, &facts, err);
    uint64_t end = clock_ns();
    bool ran = r == 0;
    if (ran && ops->writes_back && writes_to_shares(&run.given))
        r = write_back(&run, &result->interrupted, err);
    r = outcome(r, result);
    say(&run, NULL);
    if (r < 0 && r != -EINTR) {
        /* A place that died is the cause of whatever failed after it. */
        if (run.place->has_created)
            ops->ended(run.place, err);
        if (ran)
            err_wrap(err, "what the job wrote to its shares may not all be there");
        result->console = ops->console ? ops->console(run.place) : NULL;
        if (result->console && run.mask)
            mask_text(run.mask, result->console); /* the command can write there as well */
    }
    if (r == 0 && options->want_report)
        r = begin_report(&run, &facts, result, err);
    run_finish(&run);
    run.timings.destroy_ns = clock_ns() - end;
    trace_mark(options->trace, TRACE_DESTROYED);
    int kept = end_caches(&run, r == 0 && has_succeeded(result), result, err);
    r = r < 0 ? r : outcome(kept, result);
    run.timings.total_ns = since(&run);
    result->timings = run.timings;
    if (result->report && report_end(result->report, &result->timings) < 0) {
        json_decref(result->report);
        result->report = NULL;
        return err_set(err, ENOMEM, "out of memory for the report");
    }
    return r;
}
