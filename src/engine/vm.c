/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public machine (dayfly/vm.h) on top of whichever engine runs it: states, their rules, events.
 *
 * Locks. `owner` serialises the calls of the API, so that an engine sees one at a time; `lock` guards
 * the state, is held for moments only, and is the one that the engine's threads take when the guest
 * ends. Order: owner before lock. An ending may arrive during any call: whoever changes the state does
 * so by advance(), which never leaves a final one. The owner hears of it in the loop's thread, with no
 * lock held.
 */
#include "dayfly/vm.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/devices.h"
#include "engine/engine.h"
#include "engine/net_report.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/options.h"
#include "virtio/vsock.h"

struct dayfly_vm {
    struct dayfly_vm_options options;
    struct log log;
    struct loop *loop;
    struct device_set devices;
    const struct engine_ops *ops;
    struct engine *engine;
    char why[ENGINE_WHY_BYTES];
    pthread_mutex_t owner;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    enum dayfly_vm_state state;
    struct list news; /* changes that the owner has not been told of, oldest first */
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

/* In the loop's thread: tell what has happened, in order, with no lock held. */
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
        loop_post(vm->loop, tell, vm);
}

static void ended(void *opaque, enum engine_ending ending, const char *why)
{
    struct dayfly_vm *vm = opaque;
    advance(vm, ending == ENGINE_FAILED ? DAYFLY_VM_FAILED : DAYFLY_VM_STOPPED, why);
}

static int build(struct dayfly_vm *vm, const struct dayfly_config *config, struct dayfly_err *err)
{
    int r = dayfly_config_validate(config, NULL, NULL, err);
    if (r < 0)
        return r;
    vm->ops = engine_choose(vm->options.engine, vm->why, err);
    if (!vm->ops)
        return err ? -err->code : -ENOTSUP;
    if ((r = loop_new(&vm->loop)) < 0)
        return err_errno(err, -r, "make the machine's event loop");
    if ((r = devices_make(&vm->devices, config, vm->ops, vm->loop, &vm->log, err)) < 0)
        return r;
    if ((r = loop_start(vm->loop, "dayfly io")) < 0)
        return err_errno(err, -r, "start the machine's I/O thread");
    struct engine_setup setup = {
        .config = config,
        .devices = &vm->devices,
        .loop = vm->loop,
        .log = &vm->log,
        .ended = ended,
        .opaque = vm,
    };
    return vm->ops->create(&vm->engine, &setup, err);
}

int dayfly_vm_new(struct dayfly_vm **out, const struct dayfly_config *config,
                  const struct dayfly_vm_options *options, struct dayfly_err *err)
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
    if (vm->options.log)
        vm->log = (struct log){
            .write = write_log, .opaque = vm, .level = (enum log_level)vm->options.log_level};
    list_init(&vm->news);
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

void dayfly_vm_free(struct dayfly_vm *vm)
{
    if (!vm)
        return;
    if (vm->engine)
        dayfly_vm_stop(vm);
    if (vm->ops)
        vm->ops->destroy(vm->engine);
    if (vm->loop)
        loop_stop(vm->loop); /* tells the last news */
    devices_finish(&vm->devices);
    struct news *news, *next;
    list_for_each (news, next, &vm->news, node)
        free(news);
    loop_free(vm->loop);
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

int dayfly_vm_vsock_listen(struct dayfly_vm *vm, uint32_t port,
                           void (*accepted)(void *opaque, int fd, uint32_t guest_port), void *opaque,
                           struct dayfly_err *err)
{
    if (!vm->devices.vsock)
        return err_set(err, ENODEV, "the machine has no vsock device: dayfly_config_set_vsock");
    int r = virtio_vsock_listen(vm->devices.vsock, port, accepted, opaque);
    return r < 0 ? err_errno(err, -r, "listen on vsock port %u", port) : 0;
}

int dayfly_vm_vsock_connect(struct dayfly_vm *vm, uint32_t port, struct dayfly_err *err)
{
    if (!vm->devices.vsock)
        return err_set(err, ENODEV, "the machine has no vsock device: dayfly_config_set_vsock");
    int fd = virtio_vsock_connect(vm->devices.vsock, port);
    return fd < 0 ? err_errno(err, -fd, "connect to vsock port %u of the guest", port) : fd;
}
