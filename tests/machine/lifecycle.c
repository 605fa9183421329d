/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pause, resume and stop through the public API, on a guest that prints a line all the time; two
 * machines in one process, of which only one is paused.
 *
 *     lifecycle kvm|tcg KERNEL INITRD
 *
 * Exit status 0 when all is as it should be.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <dayfly/config.h>
#include <dayfly/vm.h>

#define BOOT_MS    120000
#define SILENCE_MS 1500 /* of a guest that prints ten times a second */

struct machine {
    struct dayfly_vm *vm;
    int serial;      /* our end of its serial port */
    char states[64]; /* a letter for each event */
    unsigned state_count;
};

static void expect(int ok, const char *what, const struct dayfly_err *err)
{
    if (ok) { /* so that one that does not end says where */
        printf("%s\n", what);
        fflush(stdout);
        return;
    }
    fprintf(stderr, "lifecycle: %s%s%s\n", what, err ? ": " : "", err ? err->msg : "");
    exit(1);
}

static void changed(void *opaque, const struct dayfly_vm_event *event)
{
    struct machine *m = opaque;
    if (m->state_count < sizeof(m->states) - 1)
        m->states[m->state_count++] = "nsRPTF"[event->state];
}

static void start(struct machine *m, const char *engine, const char *kernel, const char *initrd)
{
    struct dayfly_config *config;
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    struct dayfly_serial serial = DAYFLY_SERIAL_INIT;
    struct dayfly_vm_options options = DAYFLY_VM_OPTIONS_INIT;
    struct dayfly_err err;
    int pair[2];

    expect(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair", NULL);
    m->serial = pair[0];
    boot.kernel = kernel;
    boot.initrd = initrd;
    boot.command_line = "console=ttyS0 quiet panic=-1";
    serial.output_fd = pair[1];
    options.engine = strcmp(engine, "kvm") == 0 ? DAYFLY_ENGINE_KVM : DAYFLY_ENGINE_TCG;
    options.event = changed;
    options.opaque = m;
    expect(dayfly_config_new(&config) == 0 && dayfly_config_set_memory(config, 256u << 20) == 0 &&
               dayfly_config_set_linux(config, &boot) == 0 &&
               dayfly_config_set_serial(config, &serial) == 0,
           "describe", NULL);
    expect(dayfly_vm_new(&m->vm, config, &options, &err) == 0, "new", &err);
    dayfly_config_free(config);
    expect(dayfly_vm_pause(m->vm, &err) < 0, "a new machine cannot be paused", NULL);
    expect(dayfly_vm_start(m->vm, &err) == 0, "start", &err);
    expect(dayfly_vm_start(m->vm, &err) < 0, "a running machine cannot be started", NULL);
}

/* Read what there is; true when something came within the time. */
static int hears(struct machine *m, int timeout_ms)
{
    char text[4096];
    struct pollfd p = {.fd = m->serial, .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1 && read(m->serial, text, sizeof(text)) > 0;
}

static void drain(struct machine *m)
{
    char text[4096];
    while (recv(m->serial, text, sizeof(text), MSG_DONTWAIT) > 0)
        ;
}

int main(int argc, char **argv)
{
    struct machine a = {0}, b = {0};
    struct dayfly_err err;
    if (argc != 4)
        return 2;
    start(&a, argv[1], argv[2], argv[3]);
    start(&b, argv[1], argv[2], argv[3]);
    expect(hears(&a, BOOT_MS) && hears(&b, BOOT_MS), "both boot", NULL);

    expect(dayfly_vm_pause(a.vm, &err) == 0, "pause", &err);
    expect(dayfly_vm_state(a.vm) == DAYFLY_VM_PAUSED, "it is paused", NULL);
    while (hears(&a, 200)) /* what was on its way */
        ;
    drain(&b);
    expect(hears(&b, BOOT_MS), "the other one goes on", NULL);
    expect(!hears(&a, SILENCE_MS), "a paused machine is silent", NULL);
    expect(dayfly_vm_resume(a.vm, &err) == 0, "resume", &err);
    expect(hears(&a, BOOT_MS), "a resumed machine goes on", NULL);

    dayfly_vm_stop(a.vm);
    expect(dayfly_vm_state(a.vm) == DAYFLY_VM_STOPPED && dayfly_vm_wait(a.vm, 0) == 0, "it is stopped",
           NULL);
    drain(&b);
    expect(hears(&b, BOOT_MS), "the other one still goes on", NULL);
    expect(dayfly_vm_wait(b.vm, 0) < 0, "waiting for it times out", NULL);
    dayfly_vm_free(a.vm);
    dayfly_vm_free(b.vm); /* running: freeing stops it */
    expect(strcmp(a.states, "sRPRT") == 0, a.states, NULL);
    expect(strcmp(b.states, "sRT") == 0, b.states, NULL);
    return 0;
}
