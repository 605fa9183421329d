/* SPDX-License-Identifier: Apache-2.0 */
/* See place.h: a job in a virtual machine, which an agent serves over vsock. */
#include "job/place.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/vm.h"
#include "image/kernel.h"
#include "job/layer.h"
#include "proto/proto.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"

#define MACHINE_MAX_DEFAULT_CPUS 8
#define CONSOLE_BYTES            (1u << 20)

#define ROOT_SERIAL  "root"
#define LAYER_SERIAL "scratch"

/*
 * Three of the kernel's set-up functions are left out; Debian's kernels spend four tenths of their boot
 * in them (doc/boot.md), our own has none of them. What a guest then lacks: a source of randomness that
 * times the processor, beside the processor's own and the virtio device's; names instead of numbers in
 * the format texts of trace events; Debian's key, so that a module that is signed loads like one that
 * is not.
 */
static const char command_line[] =
    "console=ttyS0 quiet panic=-1 reboot=a cryptomgr.notests random.trust_cpu=on pci=lastbus=0 "
    "8250.nr_uarts=1 rcupdate.rcu_expedited=1 "
    "initcall_blacklist=jent_mod_init,trace_eval_init,load_system_certificate_list";

struct machine_place {
    struct place base;
    struct kernel kernel;
    int initramfs_fd, layer_fd;
    int console[2]; /* a pipe: what does not fit is dropped */
    struct dayfly_config *config;
    struct dayfly_vm *vm;
    char jail_lacks[64];

    int wake_fd; /* readable when something below changed */
    pthread_mutex_t lock;
    int agent_fd; /* the agent's call, until it is answered */
    bool ended;
    char why[160];
};

static struct machine_place *machine_of(struct place *place)
{
    return (struct machine_place *)place;
}

static const struct machine_place *machine_of_const(const struct place *place)
{
    return (const struct machine_place *)place;
}

static struct place *machine_alloc(void)
{
    struct machine_place *m = calloc(1, sizeof(*m));
    if (!m)
        return NULL;
    m->base.image.root_fd = -1;
    m->kernel.vmlinux_fd = m->initramfs_fd = m->layer_fd = -1;
    m->console[0] = m->console[1] = m->wake_fd = m->agent_fd = -1;
    pthread_mutex_init(&m->lock, NULL);
    return &m->base;
}

/* -- what the machine's threads tell ------------------------------------------------------------------
 */

static void agent_called(void *opaque, int fd, uint32_t guest_port)
{
    (void)guest_port;
    struct machine_place *m = opaque;
    pthread_mutex_lock(&m->lock);
    if (m->agent_fd < 0)
        m->agent_fd = fd;
    else
        close(fd); /* the guest called twice */
    pthread_mutex_unlock(&m->lock);
    eventfd_write(m->wake_fd, 1);
}

static void machine_changed(void *opaque, const struct dayfly_vm_event *event)
{
    struct machine_place *m = opaque;
    if (event->state != DAYFLY_VM_STOPPED && event->state != DAYFLY_VM_FAILED)
        return;
    pthread_mutex_lock(&m->lock);
    m->ended = true;
    snprintf(m->why, sizeof(m->why), "%s", event->message);
    pthread_mutex_unlock(&m->lock);
    eventfd_write(m->wake_fd, 1);
}

static void machine_logged(void *opaque, enum dayfly_log_level level, const char *line)
{
    struct machine_place *m = opaque;
    log_line(m->base.options->log, (enum log_level)level, "%s", line);
}

/* -- open and create -------------------------------------------------------------------------- */

static unsigned cpus_of(const struct job_options *options)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return options->cpus ? options->cpus : (unsigned)MAX(1, MIN(online, MACHINE_MAX_DEFAULT_CPUS));
}

static uint64_t memory_of(const struct job_options *options)
{
    return options->memory_bytes ? options->memory_bytes : JOB_DEFAULT_MEMORY_BYTES;
}

static uint64_t disk_of(const struct job_options *options)
{
    return options->disk_bytes ? options->disk_bytes : JOB_DEFAULT_DISK_BYTES;
}

static int machine_open(struct place *place, struct dayfly_err *err)
{
    struct machine_place *m = machine_of(place);
    const struct job_options *options = place->options;
    int r;
    if ((r = place_open_shares(place, err)) < 0 || (r = place_open_image(place, err)) < 0 ||
        (r = kernel_open(&place->store, options->kernel, &m->kernel, err)) < 0)
        return r;
    /* Disks, vsock and entropy, all over PCI, are none of the devices that are told apart. */
    const unsigned devices = (options->share_count ? (unsigned)KERNEL_SHARE : 0) |
                             (place_has_net(place) ? (unsigned)KERNEL_NET : 0);
    if ((r = kernel_initramfs(&m->kernel, devices, &m->initramfs_fd, err)) < 0)
        return r;
    m->layer_fd = layer_open(place->store.home_fd, place->store.path, disk_of(options), err);
    return m->layer_fd < 0 ? m->layer_fd : 0;
}

static int describe(struct machine_place *m, struct dayfly_err *err)
{
    const struct job_options *options = m->base.options;
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    struct dayfly_disk root = DAYFLY_DISK_INIT, layer = DAYFLY_DISK_INIT;
    struct dayfly_vsock vsock = DAYFLY_VSOCK_INIT;
    struct dayfly_serial serial = DAYFLY_SERIAL_INIT;

    boot.kernel_fd = m->kernel.vmlinux_fd;
    boot.initrd_fd = m->initramfs_fd;
    boot.command_line = command_line;
    root.fd = m->base.image.root_fd;
    root.id = ROOT_SERIAL;
    root.read_only = true;
    layer.fd = m->layer_fd;
    layer.id = LAYER_SERIAL;
    layer.ephemeral = true;
    layer.scratch = m->base.store.path;
    serial.output_fd = m->console[1];

    struct dayfly_net_secret secrets[JOB_SECRETS_MAX];
    size_t secret_count = job_secrets_of_hosts(options->secrets, options->secret_count, secrets);
    if (secret_count && !place_has_nat(&m->base))
        return err_set(err, EINVAL, "--for-host counts with --net nat alone");

    struct dayfly_config *config;
    int r = dayfly_config_new(&config);
    if (r < 0)
        return err_set(err, -r, "out of memory");
    m->config = config;
    if ((r = dayfly_config_set_cpus(config, cpus_of(options))) < 0 ||
        (r = dayfly_config_set_memory(config, memory_of(options))) < 0 ||
        (r = dayfly_config_set_linux(config, &boot)) < 0 ||
        (r = dayfly_config_add_disk(config, &root)) < 0 ||
        (r = dayfly_config_add_disk(config, &layer)) < 0 ||
        (r = dayfly_config_set_vsock(config, &vsock)) < 0 ||
        (r = dayfly_config_set_serial(config, &serial)) < 0 ||
        (r = dayfly_config_set_jail(config, options->jail)) < 0 ||
        (place_has_net(&m->base) &&
         (r = job_net_describe(options->net, secrets, secret_count, config)) < 0))
        return err_errno(err, -r, "describe the machine");
    return job_shares_describe(options->shares, m->base.share_fds, options->share_count, config, err);
}

static int machine_create(struct place *place, struct dayfly_err *err)
{
    struct machine_place *m = machine_of(place);
    const struct job_options *options = place->options;
    if ((m->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ||
        pipe2(m->console, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_errno(err, errno, "prepare the machine");
    /* A user may be allowed less: then less is kept. */
    fcntl(m->console[1], F_SETPIPE_SZ, CONSOLE_BYTES);
    int r = describe(m, err);
    if (r < 0)
        return r;
    const struct dayfly_vm_options vm_options = {
        .size = sizeof(vm_options),
        .engine = options->engine,
        .event = machine_changed,
        .log = machine_logged,
        .log_level = options->log ? (enum dayfly_log_level)options->log->level : DAYFLY_LOG_ERROR,
        .opaque = m,
    };
    r = vm_new_traced(&m->vm, m->config, &vm_options, options->trace, err);
    dayfly_config_free(steal_ptr(&m->config)); /* and with it copies of secrets */
    return r;
}

static const char *machine_engine(const struct place *place)
{
    return dayfly_vm_engine(machine_of_const(place)->vm);
}

static const char *machine_why(const struct place *place)
{
    return dayfly_vm_engine_why(machine_of_const(place)->vm);
}

/* -- boot ------------------------------------------------------------------------------------- */

static int machine_start(struct place *place, struct dayfly_err *err)
{
    struct machine_place *m = machine_of(place);
    int r = dayfly_vm_vsock_listen(m->vm, PROTO_VSOCK_PORT, agent_called, m, err);
    return r < 0 ? r : dayfly_vm_start(m->vm, err);
}

static int machine_ended(struct place *place, struct dayfly_err *err)
{
    struct machine_place *m = machine_of(place);
    pthread_mutex_lock(&m->lock);
    int r = m->ended ? err_set(err, EIO, "the machine ended: %s", m->why) : 0;
    pthread_mutex_unlock(&m->lock);
    return r;
}

/* For the trace: until the agent's call, and until the end. */
static void count_exits(struct machine_place *m, bool at_end)
{
    struct trace *trace = m->base.options->trace;
    if (trace && m->vm)
        trace->has_exits = vm_exits(m->vm, at_end ? &trace->ended : &trace->booted);
}

static int machine_call(struct place *place, const struct guest_wait *wait, struct dayfly_err *err)
{
    struct machine_place *m = machine_of(place);
    for (;;) {
        pthread_mutex_lock(&m->lock);
        int fd = steal_fd(&m->agent_fd);
        pthread_mutex_unlock(&m->lock);
        if (fd >= 0) {
            count_exits(m, false);
            return fd;
        }
        int r = machine_ended(place, err);
        if (r < 0)
            return r;
        uint64_t now = clock_ns();
        if (now >= wait->deadline_ns)
            return err_set(err, ETIMEDOUT, "the guest's agent did not call in time");
        struct pollfd fds[] = {{.fd = m->wake_fd, .events = POLLIN},
                               {.fd = wait->cancel_fd, .events = POLLIN}};
        if (poll(fds, 2, (int)((wait->deadline_ns - now) / NS_PER_MS) + 1) < 0 && errno != EINTR)
            return err_errno(err, errno, "wait for the guest");
        eventfd_t count;
        eventfd_read(m->wake_fd, &count);
        if (fds[1].revents)
            return err_set(err, ECANCELED, "cancelled while waiting for the guest");
    }
}

static int machine_set_up(struct place *place, struct proto_setup *setup, struct dayfly_err *err)
{
    const struct job_options *options = place->options;
    setup->root = (struct proto_disk){.serial = ROOT_SERIAL, .fstype = "erofs"};
    setup->scratch = (struct proto_disk){.serial = LAYER_SERIAL, .fstype = "ext4"};
    job_shares_mount(options->shares, options->share_count, setup);
    if (!place_has_net(place))
        return 0;
    _cleanup_net_report_ struct dayfly_net_report *nat = NULL;
    int r = place_has_nat(place) ? dayfly_vm_net_report(machine_of(place)->vm, 0, &nat, err) : 0;
    return r < 0 ? r : job_net_setup(options->net, nat, setup, err);
}

/* -- the end ---------------------------------------------------------------------------------- */

static void machine_measure(struct place *place, struct report_facts *facts)
{
    struct machine_place *m = machine_of(place);
    facts->overhead_bytes = report_overhead(dayfly_vm_helper(m->vm));
    facts->kernel_release = m->kernel.release;
    dayfly_vm_jail(m->vm, m->jail_lacks, sizeof(m->jail_lacks));
    facts->jail_lacks = m->jail_lacks;
}

static char *machine_console(struct place *place)
{
    struct machine_place *m = machine_of(place);
    char *text = malloc(CONSOLE_BYTES + 1);
    if (!text || m->console[0] < 0) {
        free(text);
        return NULL;
    }
    ssize_t n = read(m->console[0], text, CONSOLE_BYTES);
    if (n <= 0) {
        free(text);
        return NULL;
    }
    text[n] = '\0';
    return text;
}

static int machine_net_report(const struct place *place, struct dayfly_net_report **out,
                              struct dayfly_err *err)
{
    return dayfly_vm_net_report(machine_of_const(place)->vm, 0, out, err);
}

static json_t *machine_network(const struct place *place)
{
    _cleanup_net_report_ struct dayfly_net_report *nat = NULL;
    if (place_has_nat(place) && dayfly_vm_net_report(machine_of_const(place)->vm, 0, &nat, NULL) < 0)
        return NULL;
    return job_net_report(place->options->net, nat);
}

static void machine_state(const struct place *place, struct start_state *state)
{
    const struct machine_place *m = machine_of_const(place);
    state->kernel = m->kernel.digest;
    state->image = place->image.root_digest;
    state->command_line = command_line;
    state->cpus = cpus_of(place->options);
    state->memory_bytes = memory_of(place->options);
    state->disk_bytes = disk_of(place->options);
}

static void machine_free(struct place *place)
{
    struct machine_place *m = machine_of(place);
    count_exits(m, true);
    dayfly_vm_free(m->vm);
    dayfly_config_free(m->config);
    close_fd(&m->agent_fd);
    close_fd(&m->wake_fd);
    close_fd(&m->console[0]);
    close_fd(&m->console[1]);
    close_fd(&m->layer_fd);
    close_fd(&m->initramfs_fd);
    kernel_finish(&m->kernel);
    place_close(place);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

const struct place_ops place_machine = {
    .alloc = machine_alloc,
    .open = machine_open,
    .create = machine_create,
    .engine = machine_engine,
    .why = machine_why,
    .start = machine_start,
    .call = machine_call,
    .set_up = machine_set_up,
    .measure = machine_measure,
    .writes_back = true,
    .ended = machine_ended,
    .console = machine_console,
    .net_report = machine_net_report,
    .network = machine_network,
    .state = machine_state,
    .free = machine_free,
};
