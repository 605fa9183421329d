/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engine kvm: our own monitor (board/machine.h) on /dev/kvm, in this process.
 */
#include <errno.h>
#include <stdlib.h>

#include "board/machine.h"
#include "engine/boot.h"
#include "engine/devices.h"
#include "engine/engine.h"
#include "hw/serial.h"
#include "machine/kvm.h"
#include "machine/probe.h"
#include "util/cleanup.h"
#include "util/err.h"

struct engine {
    struct machine *machine;
    int serial_output; /* opened for a path; -1: none */
    void (*ended)(void *opaque, enum engine_ending ending, const char *why);
    void *opaque;
};

static void machine_changed(void *opaque, const struct machine_event *event)
{
    struct engine *engine = opaque;
    if (event->state == MACHINE_FAILED)
        engine->ended(engine->opaque, ENGINE_FAILED, event->text);
    else if (event->state != MACHINE_STOPPED)
        return;
    else if (event->reason == MACHINE_POWER_OFF)
        engine->ended(engine->opaque, ENGINE_POWERED_OFF, machine_reason_name(event->reason));
    else if (event->reason == MACHINE_RESET)
        engine->ended(engine->opaque, ENGINE_RESET, machine_reason_name(event->reason));
    else if (event->reason == MACHINE_TRIPLE_FAULT)
        engine->ended(engine->opaque, ENGINE_FAILED, "the guest crashed: triple fault");
}

static void kvm_destroy(struct engine *engine)
{
    if (!engine)
        return;
    machine_free(engine->machine);
    close_fd(&engine->serial_output);
    free(engine);
}

static int build(struct engine *engine, const struct engine_setup *setup, struct dayfly_err *err)
{
    const struct dayfly_config *config = setup->config;
    const struct config_stream *serial = &config->serial.stream;

    int r = stream_open_output(serial, &engine->serial_output, err);
    if (r < 0)
        return r;
    _cleanup_close_ int kernel = boot_open_kernel(&config->boot, err);
    if (kernel < 0)
        return kernel;
    _cleanup_close_ int initrd = -1;
    if ((r = boot_open_initrd(&config->boot, &initrd, err)) < 0)
        return r;

    struct machine_options options = {
        .cpus = config->cpus,
        .memory_bytes = config->memory_bytes,
        .kernel_fd = kernel,
        .initrd_fd = initrd,
        .cmdline = config->boot.command_line,
        .serial_in = serial->input_fd,
        .serial_out = engine->serial_output >= 0 ? engine->serial_output : serial->output_fd,
        .devices = setup->devices->devices,
        .device_count = setup->devices->count,
        .loop = setup->loop,
        .log = setup->log,
        .trace = setup->trace,
        .event = machine_changed,
        .opaque = engine,
        .jail = setup->jail,
    };
    return machine_new(&engine->machine, &options, err);
}

static int kvm_create(struct engine **out, const struct engine_setup *setup, struct dayfly_err *err)
{
    struct engine *engine = calloc(1, sizeof(*engine));
    if (!engine)
        return err_set(err, ENOMEM, "out of memory");
    engine->serial_output = -1;
    engine->ended = setup->ended;
    engine->opaque = setup->opaque;
    int r = build(engine, setup, err);
    if (r < 0) {
        kvm_destroy(engine);
        return r;
    }
    *out = engine;
    return 0;
}

static int kvm_probe(struct dayfly_err *why)
{
    static const int codes[] = {
        [PROBE_MISSING] = ENOENT, [PROBE_NO_PERMISSION] = EACCES, [PROBE_UNUSABLE] = ENOTSUP};
    struct probe_result result;
    probe_kvm(NULL, &result);
    return result.answer == PROBE_WORKS ? 0 : err_set(why, codes[result.answer], "%s", result.reason);
}

static int kvm_start(struct engine *engine, struct dayfly_err *err)
{
    return machine_start(engine->machine, err);
}

static int kvm_pause(struct engine *engine, struct dayfly_err *err)
{
    return machine_pause(engine->machine, err);
}

static int kvm_resume(struct engine *engine, struct dayfly_err *err)
{
    return machine_resume(engine->machine, err);
}

static int kvm_request_stop(struct engine *engine, struct dayfly_err *err)
{
    return machine_request_stop(engine->machine, err);
}

static void kvm_stop(struct engine *engine)
{
    machine_stop(engine->machine);
}

static pid_t kvm_helper(const struct engine *engine)
{
    (void)engine;
    return 0;
}

static void kvm_exits(const struct engine *engine, struct trace_exits *out)
{
    struct machine_stats stats;
    machine_stats(engine->machine, &stats);
    *out = (struct trace_exits){stats.exits_pio, stats.exits_mmio, stats.exits_kick, stats.exits_other};
}

/* The loop resets devices in the end, and takes them off the bus. */
static const struct isolate_calls *const loop_tables[] = {&kvm_register_calls, &serial_calls, NULL};

const struct engine_ops engine_kvm = {
    .name = "kvm",
    .id = DAYFLY_ENGINE_KVM,
    .shows_memory = true,
    .carrier_calls = &kvm_interrupt_calls,
    .loop_calls = loop_tables,
    .probe = kvm_probe,
    .create = kvm_create,
    .start = kvm_start,
    .pause = kvm_pause,
    .resume = kvm_resume,
    .request_stop = kvm_request_stop,
    .stop = kvm_stop,
    .destroy = kvm_destroy,
    .helper = kvm_helper,
    .exits = kvm_exits,
};
