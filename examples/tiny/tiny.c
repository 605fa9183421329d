/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest machine on libdayfly: boot a kernel and an initramfs, with the serial port on the
 * terminal, until the guest switches itself off.
 *
 *     cc tiny.c $(pkg-config --cflags --libs dayfly) -o tiny
 *     ./tiny vmlinux initrd.cpio "console=ttyS0"
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <dayfly/config.h>
#include <dayfly/vm.h>

/* Called from a thread of the machine's, for every change of state. */
static void changed(void *opaque, const struct dayfly_vm_event *event)
{
    (void)opaque;
    if (event->state == DAYFLY_VM_STOPPED || event->state == DAYFLY_VM_FAILED)
        fprintf(stderr, "tiny: the machine ended: %s\n", event->message);
}

/* A call without a message of its own: the number says why. */
static int fail(const char *what, int r)
{
    fprintf(stderr, "tiny: cannot %s: %s\n", what, strerror(-r));
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: tiny KERNEL INITRD [COMMAND LINE]\n");
        return 2;
    }

    /* 1. Describe. Options structs start from their INIT macro; a setter copies what it is given. */
    struct dayfly_config *config;
    struct dayfly_linux boot = DAYFLY_LINUX_INIT;
    struct dayfly_serial serial = DAYFLY_SERIAL_INIT;
    int r = dayfly_config_new(&config);
    if (r < 0)
        return fail("make a description", r);
    boot.kernel = argv[1];
    boot.initrd = argv[2];
    boot.command_line = argc > 3 ? argv[3] : "console=ttyS0 panic=-1";
    serial.output_fd = STDOUT_FILENO; /* borrowed until the machine is freed */
    serial.input_fd = STDIN_FILENO;
    if ((r = dayfly_config_set_cpus(config, 1)) < 0 ||
        (r = dayfly_config_set_memory(config, 256u << 20)) < 0 ||
        (r = dayfly_config_set_linux(config, &boot)) < 0 ||
        (r = dayfly_config_set_serial(config, &serial)) < 0)
        return fail("describe the machine", r);

    /* 2. Make. The description is validated here; err names the first fault and what to do about it. */
    struct dayfly_vm *vm = NULL;
    struct dayfly_vm_options options = DAYFLY_VM_OPTIONS_INIT;
    struct dayfly_err err;
    const char *engine = getenv("TINY_ENGINE");
    options.event = changed;
    if (engine)
        options.engine = engine[0] == 'k' ? DAYFLY_ENGINE_KVM : DAYFLY_ENGINE_TCG;
    r = dayfly_vm_new(&vm, config, &options, &err);
    dayfly_config_free(config); /* the machine does not need it any more */

    /* 3. Run, in threads of the machine's own. */
    if (r == 0)
        r = dayfly_vm_start(vm, &err);
    if (r < 0)
        fprintf(stderr, "tiny: %s\n", err.msg);
    else
        dayfly_vm_wait(vm, -1);

    /* 4. Whatever state it is in: nothing of it stays. */
    int status = r < 0 || dayfly_vm_state(vm) == DAYFLY_VM_FAILED;
    dayfly_vm_free(vm);
    return status;
}
