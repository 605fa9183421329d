/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engine tcg: QEMU's translator as the processor, our own devices around it.
 *
 * Theory of operation. QEMU runs as a child with -machine microvm and a PCI Express bus. Disks, shares,
 * networks, vsock and entropy are vhost-user front ends there, each at one end of a socketpair; the
 * other end is a transport/vhost_user.c of ours on the device's loop, around the very device that
 * engine kvm would carry over PCI. Guest memory is a memfd that QEMU shares with them. Consoles and the
 * serial port are QEMU's own, relayed to where the description wants them. QMP, over a socketpair too,
 * starts, pauses and ends the guest. No socket or file has a name, so nothing is left behind, whoever
 * dies first: QEMU gets SIGKILL with our thread, and we see its pidfd when it goes. (A network device's
 * socket QEMU wants to find by a path: vhost_user_bind_nameless.)
 *
 * QEMU is started stopped (-S) by create, so that everything that can be wrong with the description is
 * found there, and the description is not needed afterwards.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/x86_64/tsc.h"
#include "engine/boot.h"
#include "engine/command_line.h"
#include "engine/devices.h"
#include "engine/engine.h"
#include "engine/qmp.h"
#include "engine/relay.h"
#include "transport/vhost_user.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/program.h"
#include "util/text.h"
#include "virtio/fs.h"
#include "virtio/net.h"

#define TCG_PROGRAM      "qemu-system-x86_64"
#define TCG_ANSWER_MS    20000 /* QEMU's own start on a busy host */
#define TCG_STDERR_BYTES 1024

struct engine {
    struct loop *loop, *keeper;
    const struct log *log;
    struct trace *trace;
    void (*ended)(void *opaque, enum engine_ending ending, const char *why);
    void *opaque;

    struct vhost_user *back_ends[DEVICES_MAX];
    unsigned back_end_count;
    struct relay *relays[1 + CONFIG_MAX_CONSOLES];
    int relay_outputs[1 + CONFIG_MAX_CONSOLES]; /* opened for a path; -1: none */
    unsigned relay_count;
    struct qmp *qmp;

    pid_t pid;
    struct loop_source exited;   /* its pidfd */
    struct loop_source messages; /* its stderr */
    char stderr_text[TCG_STDERR_BYTES];
    size_t stderr_bytes;

    pthread_mutex_t lock; /* guards what follows */
    bool running;         /* started: an ending is an event */
    bool reaped;
    char shutdown_reason[32]; /* QMP's; "" until the guest asked */
};

/* It is not tried: loading it takes longer than our whole part of a start, and one that does not run
 * says why when the machine is made. */
static int tcg_probe(struct dayfly_err *why)
{
    _cleanup_free_ char *program = program_find(TCG_PROGRAM);
    return program ? 0
                   : err_set(why, errno, "%s is not installed: apt-get install qemu-system-x86",
                             TCG_PROGRAM);
}

/* -- what QEMU says ----------------------------------------------------------------------------------
 */

static void qmp_event(void *opaque, const char *name, const char *reason)
{
    struct engine *engine = opaque;
    if (strcmp(name, "SHUTDOWN") != 0)
        return;
    pthread_mutex_lock(&engine->lock);
    snprintf(engine->shutdown_reason, sizeof(engine->shutdown_reason), "%s", reason);
    pthread_mutex_unlock(&engine->lock);
}

/* Keeps the newest TCG_STDERR_BYTES. False at the end. */
static bool read_messages(struct engine *engine)
{
    char chunk[TCG_STDERR_BYTES / 2];
    ssize_t n = read(engine->messages.fd, chunk, sizeof(chunk));
    if (n < 0)
        return errno == EINTR;
    if (n == 0)
        return false;
    size_t keep = MIN(engine->stderr_bytes, sizeof(engine->stderr_text) - 1 - (size_t)n);
    memmove(engine->stderr_text, engine->stderr_text + engine->stderr_bytes - keep, keep);
    memcpy(engine->stderr_text + keep, chunk, (size_t)n);
    engine->stderr_bytes = keep + (size_t)n;
    engine->stderr_text[engine->stderr_bytes] = '\0';
    return true;
}

static void messages_ready(struct loop_source *source, uint32_t events)
{
    struct engine *engine = container_of(source, struct engine, messages);
    (void)events;
    if (!read_messages(engine))
        loop_remove(source);
}

/* The last line that QEMU wrote to stderr, printable: a guest may have taken it over. "" when it was
 * silent. Changes the buffer. */
static const char *last_message(struct engine *engine)
{
    char *text = engine->stderr_text;
    while (engine->stderr_bytes && text[engine->stderr_bytes - 1] == '\n')
        text[--engine->stderr_bytes] = '\0';
    char *newline = strrchr(text, '\n');
    char *line = newline ? newline + 1 : text;
    text_make_printable(line);
    return line;
}

static void exited(struct loop_source *source, uint32_t events)
{
    struct engine *engine = container_of(source, struct engine, exited);
    char why[256];
    int status = 0;
    (void)events;

    pid_t ended = waitpid(engine->pid, &status, WNOHANG);
    /* No child any more: the program ignores SIGCHLD, or has waited for it. It has ended all the same.
     */
    bool known = ended == engine->pid;
    if (!known && (ended == 0 || errno != ECHILD))
        return;
    loop_remove(source);
    if (engine->messages.loop)
        while (read_messages(engine))
            ;
    pthread_mutex_lock(&engine->lock);
    engine->reaped = true;
    bool running = engine->running;
    const char *reason = engine->shutdown_reason;
    enum engine_ending ending = ENGINE_FAILED;
    if (strcmp(reason, "guest-shutdown") == 0) {
        ending = ENGINE_POWERED_OFF;
        snprintf(why, sizeof(why), "power off");
    } else if (strcmp(reason, "guest-reset") == 0) {
        ending = ENGINE_RESET;
        snprintf(why, sizeof(why), "reset");
    } else if (!known) {
        snprintf(why, sizeof(why), "QEMU ended, and its status went to somebody else");
    } else if (WIFSIGNALED(status)) {
        snprintf(why, sizeof(why), "QEMU was ended by signal %d", WTERMSIG(status));
    } else {
        const char *message = last_message(engine);
        snprintf(why, sizeof(why), "QEMU ended with status %d%s%.200s", WEXITSTATUS(status),
                 *message ? ": " : "", message);
    }
    pthread_mutex_unlock(&engine->lock);
    if (running)
        engine->ended(engine->opaque, ending, why);
}

/* -- its command line --------------------------------------------------------------------------------
 */

/* One end for QEMU, the other returned; -1 when there is none to be had. */
static int pass_socket(struct command_line *line, int *ours)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        line->failed = true;
        *ours = -1;
        return -1;
    }
    *ours = pair[0];
    int theirs = command_line_pass(line, pair[1]);
    if (theirs < 0)
        close_fd(ours);
    return theirs;
}

/* The tag of a share as QEMU's option parser wants it. */
static const char *double_commas(char out[static 2 * VIRTIO_FS_TAG_BYTES + 1],
                                 struct virtio_device *device)
{
    char tag[VIRTIO_FS_TAG_BYTES], *at = out;
    virtio_config_read(device, 0, tag, sizeof(tag));
    for (size_t i = 0; i < sizeof(tag) && tag[i]; i++) {
        if (tag[i] == ',')
            *at++ = ',';
        *at++ = tag[i];
    }
    *at = '\0';
    return out;
}

/*
 * QEMU's network device is two, with a wire between them, and what the guest reads of it is QEMU's own.
 * It has no MSI-X: QEMU 7.2 crashes, without KVM, where a vhost-user network device uses it. And no
 * boot ROM.
 */
static int add_network(struct engine *engine, struct command_line *line, struct virtio_device *device,
                       struct dayfly_err *err)
{
    struct virtio_net_config config;
    unsigned i = engine->back_end_count;
    int door, listener = vhost_user_bind_nameless(&door, err);
    if (listener < 0)
        return listener;
    /* QEMU may be another user by then. The socket has no name: who has the descriptor is whom we gave
     * it to. */
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", door);
    chmod(path, 0666);
    door = command_line_pass(line, door);
    int r = vhost_user_accept(&engine->back_ends[i], device, listener, NULL, NULL, err);
    if (r < 0)
        return r;
    engine->back_end_count++;
    virtio_config_read(device, 0, &config, sizeof(config));
    const uint8_t *mac = config.mac;
    unsigned pairs = le16toh(config.max_virtqueue_pairs);
    command_line_add(line, "-chardev");
    command_line_addf(line, "socket,id=back-end%u,path=/proc/self/fd/%d", i, door);
    command_line_add(line, "-netdev");
    command_line_addf(line, "vhost-user,id=net%u,chardev=back-end%u,queues=%u", i, i, pairs);
    command_line_add(line, "-device");
    command_line_addf(line,
                      "virtio-net-pci,netdev=net%u,romfile=,mac=%02x:%02x:%02x:%02x:%02x:%02x,"
                      "host_mtu=%u,mq=%s,vectors=0,rx_queue_size=%u,tx_queue_size=%u",
                      i, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], le16toh(config.mtu),
                      pairs > 1 ? "on" : "off", device->queues[0].size_max, device->queues[1].size_max);
    return 0;
}

static int add_back_end(struct engine *engine, struct command_line *line, struct virtio_device *device,
                        struct dayfly_err *err)
{
    static const char *const front_ends[] = {
        [VIRTIO_ID_BLOCK] = "vhost-user-blk-pci",
        [VIRTIO_ID_VSOCK] = "vhost-user-vsock-pci",
        [VIRTIO_ID_ENTROPY] = "vhost-user-rng-pci",
        [VIRTIO_ID_FS] = "vhost-user-fs-pci",
    };
    char tag[2 * VIRTIO_FS_TAG_BYTES + 1];
    unsigned i = engine->back_end_count;
    if (device->ops->id == VIRTIO_ID_NET)
        return add_network(engine, line, device, err);
    int ours, theirs = pass_socket(line, &ours);
    if (theirs < 0)
        return err_set(err, EMFILE, "no socket for the %s device", device->ops->name);
    int r = vhost_user_new(&engine->back_ends[i], device, ours, NULL, NULL, err);
    if (r < 0)
        return r;
    engine->back_end_count++;
    command_line_add(line, "-chardev");
    command_line_addf(line, "socket,id=back-end%u,fd=%d", i, theirs);
    command_line_add(line, "-device");
    if (device->ops->id == VIRTIO_ID_FS) /* QEMU shows the guest this tag, and not the device's */
        command_line_addf(line, "%s,chardev=back-end%u,tag=%s,num-request-queues=%u,queue-size=%u",
                          front_ends[device->ops->id], i, double_commas(tag, device),
                          device->queue_count - 1, device->queues[0].size_max);
    else if (device->ops->id == VIRTIO_ID_BLOCK)
        command_line_addf(line, "%s,chardev=back-end%u,num-queues=%u", front_ends[device->ops->id], i,
                          device->queue_count);
    else
        command_line_addf(line, "%s,chardev=back-end%u", front_ends[device->ops->id], i);
    return 0;
}

/* A character device `id` of QEMU's that ends where `stream` says. */
static int add_stream(struct engine *engine, struct command_line *line, const char *id,
                      const struct config_stream *stream, struct dayfly_err *err)
{
    unsigned i = engine->relay_count;
    struct relay_options options = {.loop = engine->loop, .input_fd = stream->input_fd};
    int r = stream_open_output(stream, &engine->relay_outputs[i], err);
    if (r < 0)
        return r;
    options.output_fd = engine->relay_outputs[i] >= 0 ? engine->relay_outputs[i] : stream->output_fd;
    int theirs = pass_socket(line, &options.socket);
    engine->relay_count++; /* from here on finish closes relay_outputs[i] */
    if (theirs < 0)
        return err_set(err, EMFILE, "no socket for console %s", id);
    r = relay_new(&engine->relays[i], &options, err);
    if (r < 0)
        return r;
    command_line_add(line, "-chardev");
    command_line_addf(line, "socket,id=%s,fd=%d", id, theirs);
    return 0;
}

static int add_consoles(struct engine *engine, struct command_line *line,
                        const struct dayfly_config *config, struct dayfly_err *err)
{
    if (config->console_count == 0)
        return 0;
    command_line_add(line, "-device");
    command_line_addf(line, "virtio-serial-pci,max_ports=%zu", config->console_count + 1);
    for (size_t i = 0; i < config->console_count; i++) {
        const struct config_console *console = &config->consoles[i];
        char id[32];
        snprintf(id, sizeof(id), "console%zu", i);
        int r = add_stream(engine, line, id, &console->stream, err);
        if (r < 0)
            return r;
        command_line_add(line, "-device");
        command_line_addf(line, "%s,chardev=%s,name=%s",
                          console->primary ? "virtconsole" : "virtserialport", id, console->name);
    }
    return 0;
}

/* "-kernel /proc/self/fd/N": QEMU reads the very file that we checked. Takes file. */
static void add_file(struct command_line *line, const char *option, int file)
{
    command_line_add(line, option);
    command_line_addf(line, "/proc/self/fd/%d", command_line_pass(line, file));
}

/* Processors in threads of their own, unless they would get in the way of a kernel that patches itself:
 * QEMU (7.2) can translate code while another processor writes it, and then keeps what was there
 * before. Linux puts a breakpoint where it patches, meets a kept one that it does not know any more,
 * and dies. */
static void add_accelerator(struct command_line *line, unsigned cpus, int kernel)
{
    command_line_add(line, "-accel");
    command_line_addf(line, "tcg,thread=%s",
                      cpus > 1 && boot_kernel_patches_itself(kernel) ? "single" : "multi");
}

static int add_boot(struct command_line *line, const struct dayfly_config *config,
                    struct dayfly_err *err)
{
    const struct config_boot *boot = &config->boot;
    int kernel = boot_open_kernel(boot, err), initrd;
    if (kernel < 0)
        return kernel;
    add_accelerator(line, config->cpus, kernel);
    add_file(line, "-kernel", kernel);
    int r = boot_open_initrd(boot, &initrd, err);
    if (r < 0)
        return r;
    if (initrd >= 0)
        add_file(line, "-initrd", initrd);
    /* QEMU's time stamp counter is the host's. The guest would calibrate it against a timer that is
     * late whenever the host is busy, and then find no clock at all: tell it. Work-arounds for
     * speculation cost a translated guest much and protect it from nothing. */
    command_line_add(line, "-append");
    command_line_addf(line, "tsc_early_khz=%u tsc=reliable no_timer_check mitigations=off %s",
                      tsc_measure_khz(), boot->command_line ? boot->command_line : "");
    return 0;
}

static int build_command_line(struct engine *engine, struct command_line *line,
                              const struct engine_setup *setup, int *qmp_fd, struct dayfly_err *err)
{
    const struct dayfly_config *config = setup->config;
    int r;

    command_line_add(line, TCG_PROGRAM);
    for (const char *const *word =
             (const char *const[]){
                 "-nodefaults", "-no-user-config", "-no-reboot", "-S", "-display", "none", "-sandbox",
                 "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", "-cpu",
                 "max", NULL};
         *word; word++)
        command_line_add(line, *word);
    command_line_add(line, "-machine");
    command_line_add(line, "microvm,acpi=on,pcie=on,auto-kernel-cmdline=off,x-option-roms=off,"
                           "memory-backend=ram");
    command_line_add(line, "-object");
    command_line_addf(line, "memory-backend-memfd,id=ram,share=on,size=%llu",
                      (unsigned long long)config->memory_bytes);
    command_line_add(line, "-m");
    command_line_addf(line, "%lluk", (unsigned long long)config->memory_bytes / 1024);
    command_line_add(line, "-smp");
    command_line_addf(line, "%u", config->cpus);

    if ((r = add_boot(line, config, err)) < 0)
        return r;

    command_line_add(line, "-chardev");
    command_line_addf(line, "socket,id=control,fd=%d", pass_socket(line, qmp_fd));
    command_line_add(line, "-mon");
    command_line_add(line, "chardev=control,mode=control");

    if ((r = add_stream(engine, line, "serial", &config->serial.stream, err)) < 0)
        return r;
    command_line_add(line, "-serial");
    command_line_add(line, "chardev:serial");
    if ((r = add_consoles(engine, line, config, err)) < 0)
        return r;
    for (unsigned i = 0; i < setup->devices->count; i++)
        if ((r = add_back_end(engine, line, setup->devices->devices[i], err)) < 0)
            return r;
    return 0;
}

/* -- life --------------------------------------------------------------------------------------------
 */

struct spawn {
    struct engine *engine;
    struct command_line *line;
    const struct confine *confine; /* NULL: QEMU is not locked up */
    unsigned applied;
    int stderr_fd;
    struct dayfly_err *err;
    int result;
};

/* In the keeper's thread: QEMU is killed when the thread that started it ends, and this one lives as
 * long as the machine; and one that is locked up starts nothing. */
static void spawn_in_keeper(void *arg)
{
    struct spawn *spawn = arg;
    struct engine *engine = spawn->engine;
    pid_t pid =
        command_line_spawn(spawn->line, spawn->stderr_fd, spawn->confine, &spawn->applied, spawn->err);
    if (pid < 0) {
        spawn->result = (int)pid;
        return;
    }
    engine->pid = pid;
    trace_mark(engine->trace, TRACE_VM);
    engine->exited = (struct loop_source){.fd = pidfd_open(pid, 0), .events = EPOLLIN, .ready = exited};
    if (engine->exited.fd < 0) {
        spawn->result = err_errno(spawn->err, errno, "watch QEMU");
        kill(pid, SIGKILL);
    }
}

static void watch(void *arg)
{
    struct spawn *spawn = arg;
    struct engine *engine = spawn->engine;
    int r = loop_add(engine->loop, &engine->exited);
    if (r == 0)
        r = loop_add(engine->loop, &engine->messages);
    spawn->result = r < 0 ? err_errno(spawn->err, -r, "watch QEMU") : 0;
}

static int start_qemu(struct engine *engine, const struct engine_setup *setup, struct dayfly_err *err)
{
    struct command_line line = {0};
    struct confine confine = CONFINE_NONE;
    bool confined = jail_is_on(setup->jail);
    int qmp_fd = -1, messages[2] = {-1, -1};
    int r = build_command_line(engine, &line, setup, &qmp_fd, err);
    if (r == 0 && pipe2(messages, O_CLOEXEC) < 0)
        r = err_errno(err, errno, "start QEMU");
    engine->messages =
        (struct loop_source){.fd = messages[0], .events = EPOLLIN, .ready = messages_ready};
    if (r == 0 && confined)
        r = confine_prepare(&confine, line.fds, line.fd_count, err);
    if (r == 0) {
        struct spawn spawn = {.engine = engine,
                              .line = &line,
                              .confine = confined ? &confine : NULL,
                              .stderr_fd = messages[1],
                              .err = err};
        fcntl(messages[0], F_SETFL, O_NONBLOCK);
        loop_call(engine->keeper, spawn_in_keeper, &spawn);
        if (spawn.result == 0)
            loop_call(engine->loop, watch, &spawn);
        r = spawn.result;
        if (r == 0 && confined)
            r = jail_account(setup->jail, "QEMU", confine_wanted(&confine) & ~spawn.applied, err);
    }
    close_fd(&messages[1]);
    command_line_finish(&line);
    confine_finish(&confine);
    if (r < 0) {
        close_fd(&qmp_fd);
        return r;
    }
    r = qmp_new(
        &engine->qmp,
        &(struct qmp_options){.fd = qmp_fd, .loop = engine->loop, .event = qmp_event, .opaque = engine},
        err);
    return r;
}

static void forget_sources(void *arg)
{
    struct engine *engine = arg;
    loop_remove(&engine->exited);
    loop_remove(&engine->messages);
}

static void tcg_stop(struct engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->running = false;
    pthread_mutex_unlock(&engine->lock);
    /* First of all, and by its pidfd, so that a busy loop cannot delay it nor a reaped pid mislead it.
     */
    if (engine->exited.fd >= 0)
        pidfd_send_signal(engine->exited.fd, SIGKILL, NULL, 0);
    loop_call(engine->loop, forget_sources, engine);
    if (engine->pid > 0 && !engine->reaped) {
        while (waitpid(engine->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        engine->reaped = true;
    }
    for (unsigned i = 0; i < engine->back_end_count; i++) {
        vhost_user_free(engine->back_ends[i]);
        engine->back_ends[i] = NULL;
    }
}

static void tcg_destroy(struct engine *engine)
{
    if (!engine)
        return;
    tcg_stop(engine);
    qmp_free(engine->qmp);
    for (unsigned i = 0; i < engine->relay_count; i++) {
        relay_free(engine->relays[i]);
        close_fd(&engine->relay_outputs[i]);
    }
    close_fd(&engine->exited.fd);
    close_fd(&engine->messages.fd);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

static int tcg_create(struct engine **out, const struct engine_setup *setup, struct dayfly_err *err)
{
    struct engine *engine = calloc(1, sizeof(*engine));
    if (!engine)
        return err_set(err, ENOMEM, "out of memory");
    pthread_mutex_init(&engine->lock, NULL);
    engine->loop = setup->loop;
    engine->keeper = setup->keeper;
    engine->log = setup->log;
    engine->trace = setup->trace;
    engine->ended = setup->ended;
    engine->opaque = setup->opaque;
    engine->exited.fd = engine->messages.fd = -1;

    int r = start_qemu(engine, setup, err);
    if (r == 0)
        r = qmp_execute(engine->qmp, "qmp_capabilities", TCG_ANSWER_MS, err);
    if (r < 0) {
        /* QEMU says what is wrong on stderr and goes; that is worth more than a closed socket. */
        bool spoke = engine->pid > 0;
        tcg_stop(engine);
        while (spoke && read_messages(engine))
            ;
        const char *message = last_message(engine);
        if (*message)
            r = err_set(err, EIO, "%s", message);
        tcg_destroy(engine);
        return r;
    }
    *out = engine;
    return 0;
}

static int tcg_start(struct engine *engine, struct dayfly_err *err)
{
    pthread_mutex_lock(&engine->lock);
    engine->running = true;
    pthread_mutex_unlock(&engine->lock);
    int r = qmp_execute(engine->qmp, "cont", TCG_ANSWER_MS, err);
    if (r == 0)
        trace_mark(engine->trace, TRACE_ENTERED);
    return r;
}

static int tcg_pause(struct engine *engine, struct dayfly_err *err)
{
    return qmp_execute(engine->qmp, "stop", TCG_ANSWER_MS, err);
}

static int tcg_resume(struct engine *engine, struct dayfly_err *err)
{
    return qmp_execute(engine->qmp, "cont", TCG_ANSWER_MS, err);
}

static int tcg_request_stop(struct engine *engine, struct dayfly_err *err)
{
    return qmp_execute(engine->qmp, "system_powerdown", TCG_ANSWER_MS, err);
}

static pid_t tcg_helper(const struct engine *engine)
{
    return engine->pid;
}

/* In the loop: relays and QMP over sockets, the end of QEMU; the devices that have no loop of their
 * own. */
static const struct isolate_call calls[] = {
    ISOLATE_CALL_IF(sendto, 4, UINT64_MAX, 0), /* send(2) */
    ISOLATE_CALL(recvfrom),
    ISOLATE_CALL(poll),
    ISOLATE_CALL(wait4),
};
static const struct isolate_calls own_table = ISOLATE_CALLS(calls);
static const struct isolate_calls *const loop_tables[] = {&own_table, &vhost_user_calls, NULL};

const struct engine_ops engine_tcg = {
    .name = "tcg",
    .id = DAYFLY_ENGINE_TCG,
    .has_consoles = true,
    .carrier_calls = &vhost_user_calls,
    .loop_calls = loop_tables,
    .spawns = true,
    .probe = tcg_probe,
    .create = tcg_create,
    .start = tcg_start,
    .pause = tcg_pause,
    .resume = tcg_resume,
    .request_stop = tcg_request_stop,
    .stop = tcg_stop,
    .destroy = tcg_destroy,
    .helper = tcg_helper,
};
