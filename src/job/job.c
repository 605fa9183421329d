/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See job.h. The order of things:
 *
 *   open      shares, image and kernel from the store, the initramfs in memory, the empty file system
 *             that the writable layer begins as
 *   create    a description of the machine, and the machine
 *   boot      start it; the agent calls back over vsock
 *   ready     tell the agent what the machine is to become, and the secrets
 *   command   run it, pass bytes and signals, wait for its end, copy its artifacts out
 *   destroy   pull the plug: nothing in the machine is worth a clean shutdown, except what its page
 *             cache still holds of shares that the job writes to
 *
 * A `struct run` holds all of it; run_finish undoes whatever was reached.
 */
#include "job/job.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "config/config.h"
#include "image/image.h"
#include "image/kernel.h"
#include "image/store.h"
#include "job/layer.h"
#include "job/mask.h"
#include "job/report.h"
#include "proto/proto.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"

/* A machine that has not called by then never will: translated, on a loaded host, it takes seconds. */
#define JOB_BOOT_NS (180 * NS_PER_S)
/* How long the agent may take to take the secrets. */
#define JOB_SECRET_NS (30 * NS_PER_S)
/* How long the agent may take to answer a question about a job that has ended. */
#define JOB_STAT_NS (10 * NS_PER_S)
/* How long the guest may take to write back what it holds of its shares. */
#define JOB_WRITE_BACK_NS    (120 * NS_PER_S)
#define JOB_MAX_DEFAULT_CPUS 8
#define JOB_CONSOLE_BYTES    (1u << 20)

#define ROOT_SERIAL  "root"
#define LAYER_SERIAL "scratch"

static const char command_line[] =
    "console=ttyS0 quiet panic=-1 reboot=a cryptomgr.notests random.trust_cpu=on pci=lastbus=0 "
    "8250.nr_uarts=1 rcupdate.rcu_expedited=1";

struct run {
    const struct job_options *options;
    uint64_t start_ns;
    struct job_timings timings;

    struct store store;
    struct image image;
    struct kernel kernel;
    int initramfs_fd, layer_fd;
    int share_fds[CONFIG_MAX_SHARES]; /* of options->shares, as many as are open */
    size_t share_fd_count;
    int console[2]; /* a pipe: what does not fit is dropped */
    struct dayfly_config *config;
    struct dayfly_vm *vm;
    struct guest *guest;
    struct mask *mask; /* of the secrets; NULL: there are none */
    json_t *steps;     /* for the report; NULL: none has ended */

    int wake_fd; /* readable when something below changed */
    pthread_mutex_t lock;
    int agent_fd; /* the agent's call, until it is answered */
    bool ended;
    char why[160];
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

/* -- what the machine's threads tell ------------------------------------------------------------------
 */

static void agent_called(void *opaque, int fd, uint32_t guest_port)
{
    (void)guest_port;
    struct run *run = opaque;
    pthread_mutex_lock(&run->lock);
    if (run->agent_fd < 0)
        run->agent_fd = fd;
    else
        close(fd); /* the guest called twice */
    pthread_mutex_unlock(&run->lock);
    eventfd_write(run->wake_fd, 1);
}

static void machine_changed(void *opaque, const struct dayfly_vm_event *event)
{
    struct run *run = opaque;
    if (event->state != DAYFLY_VM_STOPPED && event->state != DAYFLY_VM_FAILED)
        return;
    pthread_mutex_lock(&run->lock);
    run->ended = true;
    snprintf(run->why, sizeof(run->why), "%s", event->message);
    pthread_mutex_unlock(&run->lock);
    eventfd_write(run->wake_fd, 1);
}

static void machine_logged(void *opaque, enum dayfly_log_level level, const char *line)
{
    struct run *run = opaque;
    log_line(run->options->log, (enum log_level)level, "%s", line);
}

/* -- open and create -------------------------------------------------------------------------- */

static bool has_net(const struct job_options *options)
{
    return options->net && options->net->present;
}

static int open_parts(struct run *run, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    int r;
    if ((r = job_secrets_check(options->secrets, options->secret_count, options->shares,
                               options->share_count, err)) < 0 ||
        (r = job_secrets_mask(options->secrets, options->secret_count, options->log, &run->mask, err)) <
            0)
        return r;
    for (size_t i = 0; i < options->share_count; i++) {
        if ((r = job_share_open(&options->shares[i], err)) < 0)
            return r;
        run->share_fds[run->share_fd_count++] = r;
    }
    if ((r = store_open(&run->store, NULL, STORE_READ, err)) < 0)
        return r;
    if ((r = image_open(&run->store, options->image, &run->image, options->log, err)) < 0)
        return r;
    if ((r = kernel_open(&run->store, options->kernel, &run->kernel, err)) < 0)
        return r;
    /* Disks, vsock and entropy, all over PCI, are none of the devices that are told apart. */
    const unsigned devices = (options->share_count ? (unsigned)KERNEL_SHARE : 0) |
                             (has_net(options) ? (unsigned)KERNEL_NET : 0);
    if ((r = kernel_initramfs(&run->kernel, devices, &run->initramfs_fd, err)) < 0)
        return r;
    run->layer_fd = layer_open(run->store.home_fd, run->store.path, options->disk_bytes, err);
    return run->layer_fd < 0 ? run->layer_fd : 0;
}

static unsigned default_cpus(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return (unsigned)MAX(1, MIN(online, JOB_MAX_DEFAULT_CPUS));
}

/* Once the parts are open. */
static struct start_state state_of(const struct run *run)
{
    const struct job_options *options = run->options;
    return (struct start_state){
        .kernel = run->kernel.digest,
        .image = run->image.root_digest,
        .command_line = command_line,
        .cpus = options->cpus ? options->cpus : default_cpus(),
        .memory_bytes = options->memory_bytes,
        .disk_bytes = options->disk_bytes,
        .shares = options->shares,
        .share_count = options->share_count,
        .net = has_net(options) ? options->net : NULL,
    };
}

static int expect_state(const struct run *run, struct dayfly_err *err)
{
    const struct start_state state = state_of(run);
    return run->options->expect_state ? start_state_expect(&state, run->options->expect_state, err) : 0;
}

static int describe(struct run *run, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    struct dayfly_disk root = DAYFLY_DISK_INIT, layer = DAYFLY_DISK_INIT;
    struct dayfly_vsock vsock = DAYFLY_VSOCK_INIT;
    struct dayfly_serial serial = DAYFLY_SERIAL_INIT;

    boot.kernel_fd = run->kernel.vmlinux_fd;
    boot.initrd_fd = run->initramfs_fd;
    boot.command_line = command_line;
    root.fd = run->image.root_fd;
    root.id = ROOT_SERIAL;
    root.read_only = true;
    layer.fd = run->layer_fd;
    layer.id = LAYER_SERIAL;
    layer.ephemeral = true;
    layer.scratch = run->store.path;
    serial.output_fd = run->console[1];

    struct dayfly_config *config;
    int r = dayfly_config_new(&config);
    if (r < 0)
        return err_set(err, -r, "out of memory");
    run->config = config;
    if ((r = dayfly_config_set_cpus(config, options->cpus ? options->cpus : default_cpus())) < 0 ||
        (r = dayfly_config_set_memory(config, options->memory_bytes)) < 0 ||
        (r = dayfly_config_set_linux(config, &boot)) < 0 ||
        (r = dayfly_config_add_disk(config, &root)) < 0 ||
        (r = dayfly_config_add_disk(config, &layer)) < 0 ||
        (r = dayfly_config_set_vsock(config, &vsock)) < 0 ||
        (r = dayfly_config_set_serial(config, &serial)) < 0 ||
        (has_net(options) && (r = job_net_describe(options->net, config)) < 0))
        return err_errno(err, -r, "describe the machine");
    return job_shares_describe(options->shares, run->share_fds, options->share_count, config, err);
}

static int create(struct run *run, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    if ((run->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ||
        pipe2(run->console, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(err, errno, "prepare the machine");
    fcntl(run->console[1], F_SETPIPE_SZ,
          JOB_CONSOLE_BYTES); /* a user may be allowed less: then less is kept */
    int r = describe(run, err);
    if (r < 0)
        return r;
    const struct dayfly_vm_options vm_options = {
        .size = sizeof(vm_options),
        .engine = options->engine,
        .event = machine_changed,
        .log = machine_logged,
        .log_level = options->log ? (enum dayfly_log_level)options->log->level : DAYFLY_LOG_ERROR,
        .opaque = run,
    };
    if ((r = dayfly_vm_new(&run->vm, run->config, &vm_options, err)) < 0)
        return r;
    if (options->chosen)
        options->chosen(options->opaque, dayfly_vm_engine(run->vm), dayfly_vm_engine_why(run->vm));
    if ((r = dayfly_vm_vsock_listen(run->vm, PROTO_VSOCK_PORT, agent_called, run, err)) < 0)
        return r;
    run->timings.create_ns = since(run);
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

static int machine_ended(struct run *run, struct dayfly_err *err)
{
    pthread_mutex_lock(&run->lock);
    int r = run->ended ? err_set(err, EIO, "the machine ended: %s", run->why) : 0;
    pthread_mutex_unlock(&run->lock);
    return r;
}

/* The agent's connection, or -errno; -EINTR when a signal came (*signal_number). */
static int wait_for_call(struct run *run, uint64_t deadline_ns, int *signal_number,
                         struct dayfly_err *err)
{
    for (;;) {
        pthread_mutex_lock(&run->lock);
        int fd = steal_fd(&run->agent_fd);
        pthread_mutex_unlock(&run->lock);
        if (fd >= 0)
            return fd;
        int r = machine_ended(run, err);
        if (r < 0)
            return r;
        uint64_t now = clock_ns();
        if (now >= deadline_ns)
            return err_set(err, ETIMEDOUT, "the guest's agent did not call within %llu s",
                           (unsigned long long)(JOB_BOOT_NS / NS_PER_S));
        struct pollfd fds[] = {{.fd = run->wake_fd, .events = POLLIN},
                               {.fd = run->options->signal_fd, .events = POLLIN}};
        if (poll(fds, 2, (int)((deadline_ns - now) / NS_PER_MS) + 1) < 0 && errno != EINTR)
            return err_errno(err, errno, "wait for the guest");
        eventfd_t count;
        eventfd_read(run->wake_fd, &count);
        if ((*signal_number = pending_signal(run)))
            return err_set(err, EINTR, "ended by signal %d", *signal_number);
    }
}

/* After a guest_* call was cancelled: 0 to go on with it (only the window changed), else -EINTR. */
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
        .root = {.serial = ROOT_SERIAL, .fstype = "erofs"},
        .scratch = {.serial = LAYER_SERIAL, .fstype = "ext4"},
        .hostname = "dayfly",
        .wall_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec,
        .deadline_ns = 60 * NS_PER_S,
        .entropy_len = 64,
    };
    /* 64 bytes: getrandom neither blocks (the host has booted) nor comes short. */
    if (getrandom(setup->entropy, setup->entropy_len, 0) < 0)
        setup->entropy_len = 0;
}

static int boot(struct run *run, int *signal_number, struct dayfly_err *err)
{
    const struct guest_wait wait = {
        .deadline_ns = clock_ns() + JOB_BOOT_NS,
        .cancel_fd = run->options->signal_fd,
    };
    struct proto_hello hello;
    struct proto_ready ready;

    int r = dayfly_vm_start(run->vm, err);
    if (r < 0)
        return r;
    int fd = wait_for_call(run, wait.deadline_ns, signal_number, err);
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

    /* Large, for a stack that helpers share. */
    _cleanup_free_ struct proto_setup *setup = malloc(sizeof(*setup));
    if (!setup)
        return err_set(err, ENOMEM, "out of memory");
    fill_setup(setup);
    job_shares_mount(run->options->shares, run->options->share_count, setup);
    r = has_net(run->options) ? job_net_setup(run->options->net, run->vm, setup, err) : 0;
    while (r == 0 && (r = guest_setup(run->guest, setup, &wait, &ready, err)) == -ECANCELED)
        r = cancelled(run, signal_number, err);
    explicit_bzero(setup, sizeof(*setup));
    if (r == 0)
        run->timings.ready_ns = since(run);
    return r;
}

/* It takes a moment: a signal is seen when the command runs. */
static int give_secrets(struct run *run, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    const struct guest_wait wait = {.deadline_ns = clock_ns() + JOB_SECRET_NS, .cancel_fd = -1};
    int r = 0;
    for (size_t i = 0; i < options->secret_count && r == 0; i++) {
        const struct job_secret *secret = &options->secrets[i];
        struct proto_secret m = {
            .flags = secret->in_env ? PROTO_SECRET_ENV : 0,
            .len = (uint32_t)secret->len,
            .bytes = secret->value.bytes,
        };
        memcpy(m.name, secret->name, sizeof(m.name));
        r = guest_secret(run->guest, &m, &wait, err);
    }
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
    const char *image = run->image.config.working_dir;
    return run->options->workdir ? run->options->workdir : *image ? image : "/";
}

/* One command, to its end. */
static int run_one(struct run *run, const char *const *argv, const char *const *env,
                   uint64_t deadline_ns, struct guest_result *result, struct dayfly_err *err)
{
    const struct job_options *options = run->options;
    const char *image_user = run->image.config.user;
    const struct guest_command command = {
        .argv = argv,
        .env = env,
        .user = options->user ? options->user
                : *image_user ? image_user
                              : NULL,
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
    const struct guest_pump pump = {
        .cancel_fd = -1,
        .deadline_ns = deadline_ns,
        .signal_fd = options->signal_fd,
        .tty_fd = options->tty_fd,
    };
    uint32_t session;
    int r = guest_exec(run->guest, &command, &session, err);
    return r < 0 ? r : guest_pump(run->guest, session, &pump, result, err);
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
    const struct oci_config *image = &run->image.config;
    _cleanup_free_ const char **argv = command_of(options, image);
    _cleanup_free_ const char **env = merge_env((const char *const *)image->env, options->env);
    if (!argv || !env)
        return err_set(err, ENOMEM, "out of memory");
    if (!argv[0] && !options->step_count)
        return err_set(err, EINVAL, "image %s names no command: give one behind it", run->image.name);
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
    const struct job_artifact_options how = {
        .cwd = cwd_of(run),
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

/* What the kernel printed, for a machine that failed. NULL when it was silent. */
static char *take_console(struct run *run)
{
    char *text = malloc(JOB_CONSOLE_BYTES + 1);
    if (!text || run->console[0] < 0) {
        free(text);
        return NULL;
    }
    ssize_t n = read(run->console[0], text, JOB_CONSOLE_BYTES);
    if (n <= 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    if (run->mask)
        mask_text(run->mask, text); /* the command can write there as well */
    return text;
}

static bool writes_to_shares(const struct job_options *options)
{
    for (size_t i = 0; i < options->share_count; i++)
        if (options->shares[i].mode != DAYFLY_SHARE_RO)
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
    dayfly_vm_free(run->vm);
    dayfly_config_free(run->config);
    close_fd(&run->agent_fd);
    close_fd(&run->wake_fd);
    close_fd(&run->console[0]);
    close_fd(&run->console[1]);
    close_fd(&run->layer_fd);
    for (size_t i = 0; i < run->share_fd_count; i++)
        close_fd(&run->share_fds[i]);
    close_fd(&run->initramfs_fd);
    kernel_finish(&run->kernel);
    image_finish(&run->image);
    store_close(&run->store);
    pthread_mutex_destroy(&run->lock);
}

/* What the report says of a machine that is about to go. */
static int measure(struct run *run, struct report_facts *facts, struct dayfly_err *err)
{
    const struct guest_wait wait = {.deadline_ns = clock_ns() + JOB_STAT_NS, .cancel_fd = -1};
    int r = guest_stat(run->guest, &wait, &facts->stat, err);
    if (r < 0)
        return r;
    facts->overhead_bytes = report_overhead(dayfly_vm_helper(run->vm));
    return 0;
}

static int run_all(struct run *run, struct job_result *result, struct report_facts *facts,
                   struct dayfly_err *err)
{
    int r;
    say(run, "preparing");
    if ((r = open_parts(run, err)) < 0 || (r = expect_state(run, err)) < 0 ||
        (r = create(run, err)) < 0)
        return r;
    snprintf(result->engine, sizeof(result->engine), "%s", dayfly_vm_engine(run->vm));
    say(run, "booting");
    if ((r = boot(run, &result->interrupted, err)) < 0 || (r = give_secrets(run, err)) < 0)
        return r;
    say(run, NULL);
    if ((r = run_command(run, result, err)) < 0 || (r = collect(run, result, err)) < 0)
        return r;
    return run->options->want_report ? measure(run, facts, err) : 0;
}

int job_run(const struct job_options *options, struct job_result *result, struct dayfly_err *err)
{
    struct run run = {
        .options = options,
        .start_ns = clock_ns(),
        .initramfs_fd = -1,
        .layer_fd = -1,
        .console = {-1, -1},
        .wake_fd = -1,
        .agent_fd = -1,
        .image.root_fd = -1,
        .kernel.vmlinux_fd = -1,
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    struct report_facts facts = {0};
    *result = (struct job_result){0};

    int r = run_all(&run, result, &facts, err);
    uint64_t end = clock_ns();
    bool ran = r == 0;
    if (ran && writes_to_shares(options))
        r = write_back(&run, &result->interrupted, err);
    say(&run, NULL);
    if (r < 0 && r != -EINTR) {
        /* A machine that died is the cause of whatever failed after it. */
        if (run.vm)
            machine_ended(&run, err);
        if (ran)
            err_wrap(err, "what the job wrote to its shares may not all be there");
        result->console = take_console(&run);
    }
    if (r == 0 && options->want_report) {
        const struct start_state state = state_of(&run);
        facts.image = run.image.name;
        facts.network = job_net_report(options->net, run.vm);
        facts.engine = result->engine;
        facts.why = dayfly_vm_engine_why(run.vm);
        facts.kernel_release = run.kernel.release;
        facts.artifacts = result->artifacts.rows;
        facts.steps = run.steps;
        result->report = report_begin(&facts, &state, &result->guest);
    }
    run_finish(&run);
    run.timings.destroy_ns = clock_ns() - end;
    run.timings.total_ns = since(&run);
    result->timings = run.timings;
    if (result->report && report_end(result->report, &result->timings) < 0) {
        json_decref(result->report);
        result->report = NULL;
        return err_set(err, ENOMEM, "out of memory for the report");
    }
    return r;
}
