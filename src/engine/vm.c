/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public machine (dayfly/vm.h) on top of whichever engine runs it: states, their rules, events.
 *
 * Locks. `owner` serialises the calls of the API, so that an engine sees one at a time; `lock` guards
 * the state, is held for moments only, and is the one that the engine's threads take when the guest
 * ends. Order: owner before lock. An ending may arrive during any call: whoever changes the state does
 * so by advance(), which never leaves a final one. The owner hears of it in the keeper's thread, with
 * no lock held.
 *
 * The jail. The loop is locked up before the engine is made, devices' loops when they are, processors
 * before the guest runs. What cannot be done there is done by the keeper, a second loop that no guest's
 * data reaches: it starts processes, and calls the owner's callbacks, whose code we do not know. It is
 * there only where one of these is asked for.
 */
#include "engine/vm.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "dayfly/version.h"
#include "engine/devices.h"
#include "engine/engine.h"
#include "engine/net_report.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/options.h"
#include "virtio/vsock.h"

struct dayfly_vm {
    struct dayfly_vm_options options;
    struct trace *trace;
    struct log log;
    struct jail *jail;
    struct loop *loop, *keeper; /* the latter may be NULL */
    struct device_set devices;
    const struct engine_ops *ops;
    struct engine *engine;
    char why[ENGINE_WHY_BYTES];
    atomic_uint untold; /* connections on their way to the owner */
    pthread_mutex_t owner;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    enum dayfly_vm_state state;
    struct list listeners; /* guarded by owner */
    struct list news;      /* changes that the owner has not been told of, oldest first */
};

/* An owner's listener on a vsock port. It lives as long as the machine. */
struct listener {
    struct dayfly_vm *vm;
    void (*accepted)(void *opaque, int fd, uint32_t guest_port);
    void *opaque;
    struct list node;
};

struct news {
    enum dayfly_vm_state state;
    char message[DAYFLY_ERR_MSG_BYTES];
    struct list node;
};

static_assert((int)DAYFLY_LOG_DEBUG == (int)LOG_DEBUG, "log levels are the same in and out");

static void write_log(void *opaque, enum log_level level, const char *line)
{
    struct dayfly_vm *vm = opaque;
    vm->options.log(vm->options.opaque, (enum dayfly_log_level)level, line);
}

static bool is_final(enum dayfly_vm_state state)
{
    return state == DAYFLY_VM_STOPPED || state == DAYFLY_VM_FAILED;
}

/* In the keeper's thread: tell what has happened, in order, with no lock held. */
static void tell(void *arg)
{
    struct dayfly_vm *vm = arg;
    for (;;) {
        pthread_mutex_lock(&vm->lock);
        struct news *news = NULL;
        if (!list_empty(&vm->news)) {
            news = list_entry(vm->news.next, struct news, node);
            list_remove(&news->node);
        }
        pthread_mutex_unlock(&vm->lock);
        if (!news)
            return;
        vm->options.event(vm->options.opaque,
                          &(struct dayfly_vm_event){.size = sizeof(struct dayfly_vm_event),
                                                    .state = news->state,
                                                    .message = news->message});
        free(news);
    }
}

/*
 * Enter `next` unless the machine has ended; have the owner told. News for which there is no memory are
 * lost; the state is not, and dayfly_vm_wait needs none.
 */
static void advance(struct dayfly_vm *vm, enum dayfly_vm_state next, const char *message)
{
    struct news *news = vm->options.event ? malloc(sizeof(*news)) : NULL;
    pthread_mutex_lock(&vm->lock);
    bool moved = !is_final(vm->state);
    if (moved) {
        vm->state = next;
        pthread_cond_broadcast(&vm->changed);
    }
    if (moved && news) {
        news->state = next;
        snprintf(news->message, sizeof(news->message), "%s", message);
        list_append(&vm->news, &news->node);
    }
    pthread_mutex_unlock(&vm->lock);
    if (!moved)
        free(news);
    else if (news)
        loop_post(vm->keeper, tell, vm);
}

static void ended(void *opaque, enum engine_ending ending, const char *why)
{
    struct dayfly_vm *vm = opaque;
    advance(vm, ending == ENGINE_FAILED ? DAYFLY_VM_FAILED : DAYFLY_VM_STOPPED, why);
}

static int make_keeper(struct dayfly_vm *vm, struct dayfly_err *err)
{
    struct loop *keeper = NULL;
    if (vm->keeper)
        return 0;
    int r = loop_new(&keeper);
    if (r == 0)
        r = loop_start(keeper, "dayfly keeper");
    if (r < 0) {
        loop_free(keeper);
        return err_errno(err, -r, "start the machine's keeper");
    }
    vm->keeper = keeper;
    return 0;
}

static_assert((int)DAYFLY_JAIL_REQUIRED == (int)JAIL_REQUIRED && (int)DAYFLY_JAIL_OFF == (int)JAIL_OFF,
              "modes of the jail are the same in and out");

static int lock_loop_up(struct dayfly_vm *vm, struct dayfly_err *err)
{
    struct isolate_options isolate = {0};
    if (!jail_is_on(vm->jail))
        return 0;
    if (!isolate_add_calls(&isolate, vm->ops->loop_calls) || !devices_isolate(&vm->devices, &isolate))
        return err_set(err, EMFILE, "prepare to lock up the machine's I/O thread");
    return loop_lock_up(vm->loop, vm->jail, "input and output", &isolate, err);
}

static int build(struct dayfly_vm *vm, const struct dayfly_config *config, struct dayfly_err *err)
{
    int r = dayfly_config_validate(config, NULL, NULL, err);
    if (r < 0)
        return r;
    /* Its namespaces are made while the engine is chosen. */
    if ((r = jail_new(&vm->jail, (enum jail_mode)config->jail, &vm->log, err)) < 0)
        return r;
    vm->ops = engine_choose(vm->options.engine, vm->why, err);
    if (!vm->ops)
        return err ? -err->code : -ENOTSUP;
    trace_mark(vm->trace, TRACE_ENGINE);
    if ((r = loop_new(&vm->loop)) < 0)
        return err_errno(err, -r, "make the machine's event loop");
    if ((vm->ops->spawns || vm->options.event) && (r = make_keeper(vm, err)) < 0)
        return r;
    const struct device_setup devices = {
        .engine = vm->ops, .loop = vm->loop, .jail = vm->jail, .log = &vm->log};
    if ((r = devices_make(&vm->devices, config, &devices, err)) < 0)
        return r;
    if ((r = loop_start(vm->loop, "dayfly io")) < 0)
        return err_errno(err, -r, "start the machine's I/O thread");
    if ((r = lock_loop_up(vm, err)) < 0)
        return r;
    trace_mark(vm->trace, TRACE_DEVICES);
    struct engine_setup setup = {
        .config = config,
        .devices = &vm->devices,
        .loop = vm->loop,
        .keeper = vm->keeper,
        .jail = vm->jail,
        .log = &vm->log,
        .trace = vm->trace,
        .ended = ended,
        .opaque = vm,
    };
    return vm->ops->create(&vm->engine, &setup, err);
}

int vm_new_traced(struct dayfly_vm **out, const struct dayfly_config *config,
                  const struct dayfly_vm_options *options, struct trace *trace, struct dayfly_err *err)
{
    struct dayfly_err local;
    if (!err)
        err = &local;
    struct dayfly_vm_options known = DAYFLY_VM_OPTIONS_INIT;
    int r = options ? options_take(&known, sizeof(known), FIRST_BYTES(struct dayfly_vm_options, opaque),
                                   options)
                    : 0;
    if (r < 0)
        return err_errno(err, -r, "dayfly_vm_options of %zu bytes", options->size);
    struct dayfly_vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return err_set(err, ENOMEM, "out of memory");
    vm->options = known;
    vm->trace = trace;
    if (vm->options.log)
        vm->log = (struct log){
            .write = write_log, .opaque = vm, .level = (enum log_level)vm->options.log_level};
    list_init(&vm->news);
    list_init(&vm->listeners);
    pthread_mutex_init(&vm->owner, NULL);
    pthread_mutex_init(&vm->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&vm->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);

    r = build(vm, config, err);
    if (r < 0) {
        dayfly_vm_free(vm);
        return r;
    }
    *out = vm;
    return 0;
}

int dayfly_vm_new(struct dayfly_vm **out, const struct dayfly_config *config,
                  const struct dayfly_vm_options *options, struct dayfly_err *err)
{
    return vm_new_traced(out, config, options, NULL, err);
}

void dayfly_vm_free(struct dayfly_vm *vm)
{
    if (!vm)
        return;
    if (vm->engine)
        dayfly_vm_stop(vm);
    if (vm->ops)
        vm->ops->destroy(vm->engine);
    if (vm->loop)
        loop_stop(vm->loop);
    if (vm->keeper)
        loop_stop(vm->keeper); /* tells the last news */
    devices_finish(&vm->devices);
    struct news *news, *next;
    list_for_each (news, next, &vm->news, node)
        free(news);
    struct listener *listener, *other;
    list_for_each (listener, other, &vm->listeners, node)
        free(listener);
    loop_free(vm->loop);
    loop_free(vm->keeper);
    jail_free(vm->jail);
    pthread_cond_destroy(&vm->changed);
    pthread_mutex_destroy(&vm->lock);
    pthread_mutex_destroy(&vm->owner);
    free(vm);
}

enum dayfly_vm_state dayfly_vm_state(const struct dayfly_vm *vm)
{
    struct dayfly_vm *v = (struct dayfly_vm *)vm;
    pthread_mutex_lock(&v->lock);
    enum dayfly_vm_state state = v->state;
    pthread_mutex_unlock(&v->lock);
    return state;
}

/* Locked by owner. */
static int expect(const struct dayfly_vm *vm, enum dayfly_vm_state wanted, const char *verb,
                  struct dayfly_err *err)
{
    static const char *const names[] = {
        [DAYFLY_VM_NEW] = "new",         [DAYFLY_VM_STARTING] = "starting",
        [DAYFLY_VM_RUNNING] = "running", [DAYFLY_VM_PAUSED] = "paused",
        [DAYFLY_VM_STOPPED] = "stopped", [DAYFLY_VM_FAILED] = "failed",
    };
    enum dayfly_vm_state state = dayfly_vm_state(vm);
    if (state == wanted)
        return 0;
    return err_set(err, EINVAL, "cannot %s a machine that is %s; it must be %s", verb, names[state],
                   names[wanted]);
}

int dayfly_vm_start(struct dayfly_vm *vm, struct dayfly_err *err)
{
    pthread_mutex_lock(&vm->owner);
    int r = expect(vm, DAYFLY_VM_NEW, "start", err);
    if (r == 0) {
        advance(vm, DAYFLY_VM_STARTING, "");
        /* Said before it is true: a guest may end before `start` returns. */
        advance(vm, DAYFLY_VM_RUNNING, "");
        struct dayfly_err why = {0};
        r = vm->ops->start(vm->engine, &why);
        if (r < 0) {
            advance(vm, DAYFLY_VM_FAILED, why.msg);
            r = err_set(err, -r, "%s", why.msg);
        }
    }
    pthread_mutex_unlock(&vm->owner);
    return r;
}

int dayfly_vm_pause(struct dayfly_vm *vm, struct dayfly_err *err)
{
    pthread_mutex_lock(&vm->owner);
    int r = expect(vm, DAYFLY_VM_RUNNING, "pause", err);
    if (r == 0 && (r = vm->ops->pause(vm->engine, err)) == 0)
        advance(vm, DAYFLY_VM_PAUSED, "");
    pthread_mutex_unlock(&vm->owner);
    return r;
}

int dayfly_vm_resume(struct dayfly_vm *vm, struct dayfly_err *err)
{
    pthread_mutex_lock(&vm->owner);
    int r = expect(vm, DAYFLY_VM_PAUSED, "resume", err);
    if (r == 0 && (r = vm->ops->resume(vm->engine, err)) == 0) {
        advance(vm, DAYFLY_VM_RUNNING, "");
        devices_resumed(&vm->devices);
    }
    pthread_mutex_unlock(&vm->owner);
    return r;
}

int dayfly_vm_request_stop(struct dayfly_vm *vm, struct dayfly_err *err)
{
    pthread_mutex_lock(&vm->owner);
    int r = expect(vm, DAYFLY_VM_RUNNING, "press the power button of", err);
    if (r == 0)
        r = vm->ops->request_stop(vm->engine, err);
    pthread_mutex_unlock(&vm->owner);
    return r;
}

void dayfly_vm_stop(struct dayfly_vm *vm)
{
    pthread_mutex_lock(&vm->owner);
    vm->ops->stop(vm->engine);
    advance(vm, DAYFLY_VM_STOPPED, "stopped by the host");
    pthread_mutex_unlock(&vm->owner);
}

int dayfly_vm_wait(struct dayfly_vm *vm, int timeout_ms)
{
    uint64_t deadline_ns = clock_ns() + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms) * NS_PER_MS;
    struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / NS_PER_S),
        .tv_nsec = (long)(deadline_ns % NS_PER_S),
    };
    int r = 0;
    pthread_mutex_lock(&vm->lock);
    while (!is_final(vm->state) && r == 0)
        r = timeout_ms < 0 ? pthread_cond_wait(&vm->changed, &vm->lock)
                           : pthread_cond_timedwait(&vm->changed, &vm->lock, &deadline);
    r = is_final(vm->state) ? 0 : -r;
    pthread_mutex_unlock(&vm->lock);
    return r;
}

const char *dayfly_vm_engine(const struct dayfly_vm *vm)
{
    return vm->ops->name;
}

const char *dayfly_vm_engine_why(const struct dayfly_vm *vm)
{
    return vm->why;
}

const char *dayfly_version(void)
{
    return DAYFLY_VERSION;
}

bool vm_exits(const struct dayfly_vm *vm, struct trace_exits *out)
{
    if (vm->ops->exits)
        vm->ops->exits(vm->engine, out);
    return vm->ops->exits;
}

size_t dayfly_vm_jail(const struct dayfly_vm *vm, char *out, size_t size)
{
    char names[ISOLATE_STAGES_BYTES] = "everything";
    if (jail_is_on(vm->jail))
        isolate_stage_names(jail_lacks(vm->jail), names);
    return (size_t)snprintf(out, size, "%s", names);
}

int dayfly_vm_helper(const struct dayfly_vm *vm)
{
    return vm->ops->helper(vm->engine);
}

int dayfly_vm_net_report(const struct dayfly_vm *vm, unsigned index, struct dayfly_net_report **out,
                         struct dayfly_err *err)
{
    if (index >= vm->devices.network_count)
        return err_set(err, ENOENT, "the machine has no network %u", index);
    const struct nat *nat = network_nat(vm->devices.networks[index]);
    if (!nat)
        return err_set(err, ENOTSUP, "network %u keeps no report: its mode is not nat", index);
    int r = net_report_make(nat, network_border(vm->devices.networks[index]), out);
    return r < 0 ? err_errno(err, -r, "report on network %u", index) : 0;
}

/* What a listener is to be told of. A guest that connects faster than the program takes it finds nobody
 * there. */
#define UNTOLD_MAX 128
struct connection {
    const struct listener *listener;
    int fd;
    uint32_t guest_port;
};

static void tell_connection(void *arg)
{
    struct connection *c = arg;
    atomic_fetch_sub(&c->listener->vm->untold, 1);
    c->listener->accepted(c->listener->opaque, c->fd, c->guest_port);
    free(c);
}

/* In the loop's thread, which is locked up. */
static void connection_came(void *opaque, int fd, uint32_t guest_port)
{
    struct listener *listener = opaque;
    atomic_uint *untold = &listener->vm->untold;
    struct connection *c = atomic_fetch_add(untold, 1) < UNTOLD_MAX ? malloc(sizeof(*c)) : NULL;
    if (c)
        *c = (struct connection){listener, fd, guest_port};
    if (!c || loop_post(listener->vm->keeper, tell_connection, c) < 0) {
        atomic_fetch_sub(untold, 1);
        close(fd); /* the guest sees that nobody takes it */
        free(c);
    }
}

int dayfly_vm_vsock_listen(struct dayfly_vm *vm, uint32_t port,
                           void (*accepted)(void *opaque, int fd, uint32_t guest_port), void *opaque,
                           struct dayfly_err *err)
{
    if (!vm->devices.vsock)
        return err_set(err, ENODEV, "the machine has no vsock device: dayfly_config_set_vsock");
    if (!accepted) {
        virtio_vsock_listen(vm->devices.vsock, port, NULL, NULL);
        return 0;
    }
    struct listener *listener = malloc(sizeof(*listener));
    if (!listener)
        return err_set(err, ENOMEM, "out of memory");
    *listener = (struct listener){.vm = vm, .accepted = accepted, .opaque = opaque};
    pthread_mutex_lock(&vm->owner);
    int r = make_keeper(vm, err);
    if (r == 0 && (r = virtio_vsock_listen(vm->devices.vsock, port, connection_came, listener)) < 0)
        err_errno(err, -r, "listen on vsock port %u", port);
    if (r == 0)
        list_append(&vm->listeners, &listener->node);
    else
        free(listener);
    pthread_mutex_unlock(&vm->owner);
    return r;
}

int dayfly_vm_vsock_connect(struct dayfly_vm *vm, uint32_t port, struct dayfly_err *err)
{
    if (!vm->devices.vsock)
        return err_set(err, ENODEV, "the machine has no vsock device: dayfly_config_set_vsock");
    int fd = virtio_vsock_connect(vm->devices.vsock, port);
    return fd < 0 ? err_errno(err, -fd, "connect to vsock port %u of the guest", port) : fd;
}
