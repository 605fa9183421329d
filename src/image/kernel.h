/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_KERNEL_H
#define IMAGE_KERNEL_H

/*
 * Kernels of the store, each a directory that is whole or not there:
 *
 *   kernels/NAME/vmlinux            ELF with a PVH entry, unpacked once
 *   kernels/NAME/modules/NN-x.ko    what the guest needs before it has its root, in load order
 *   kernels/NAME/kernel.json        release, digests, sizes, where it came from
 *   kernels/.default                the name of the one that `--default` marked
 *
 * An open kernel keeps its files whatever is done to the store meanwhile.
 */

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "dayfly/error.h"
#include "image/digest.h"
#include "image/store.h"
#include "util/log.h"

#define KERNEL_NAME_BYTES       100       /* of a name, a release, a module's name; with the NUL */
#define KERNEL_OWN              "-dayfly" /* in the release, hence the name, of what kernel/build makes */
#define KERNEL_MAX_MODULES      64u
#define KERNEL_MODULE_MAX_BYTES (32u << 20)

struct kernel_module {
    char name[KERNEL_NAME_BYTES]; /* as lsmod spells it: virtio_blk */
    /* For the sake of which driver it is here: itself, or the first that depends on it. */
    char sake[KERNEL_NAME_BYTES];
    void *data; /* the .ko, uncompressed */
    size_t len;
};

struct kernel {
    char name[KERNEL_NAME_BYTES];
    char release[KERNEL_NAME_BYTES]; /* uname -r */
    char digest[DIGEST_STR_BYTES];   /* over vmlinux and the modules, in order */
    int vmlinux_fd;                  /* O_RDONLY */
    struct kernel_module *modules;   /* in load order; what is built in is not among them */
    size_t module_count;
};

/*
 * Open a kernel by its name; NULL is the default: the marked one, else the newest of Dayfly's own, else
 * the newest 6.12, else the newest. The modules' digests are verified, of vmlinux only size and kind:
 * reading it is most of a boot.
 *
 *   -ENOENT    there is none; the message says how to import one, or names the nearest
 *   -EBADMSG   damaged
 */
int kernel_open(struct store *store, const char *name, struct kernel *out, struct dayfly_err *err);
void kernel_finish(struct kernel *kernel); /* safe on a zeroed one */

/* What not every machine has. The drivers of everything else are always loaded; so is fuse, whose
 * /dev/fuse serves programs of the guest. */
enum kernel_device {
    KERNEL_NET = 1 << 0,
    KERNEL_SHARE = 1 << 1,
    KERNEL_BALLOON = 1 << 2,
    KERNEL_MMIO = 1 << 3, /* virtio over MMIO, as QEMU's microvm without PCI has it */
};

/*
 * The initramfs (see initramfs.h) with the kernel's modules, but without the drivers that only a device
 * which is not among `devices` would need: each costs boot time. The caller closes *memfd.
 */
int kernel_initramfs(const struct kernel *kernel, unsigned devices, int *memfd, struct dayfly_err *err);

/* Import from Debian's package file. `name` NULL: the kernel's release. Replaces one of that name.
 * out_name (may be NULL) receives the name. */
int kernel_import_deb(struct store *store, const char *path, const char *name, bool mark_default,
                      char out_name[KERNEL_NAME_BYTES], const struct log *log, struct dayfly_err *err);

int kernel_remove(struct store *store, const char *name, struct dayfly_err *err);

/* An array of objects: kernel.json's fields, and "default". NULL and *err on failure. */
json_t *kernel_list(struct store *store, struct dayfly_err *err);

/* Names are file names: letters, digits and . + _ ~ -, a letter or digit first. */
bool kernel_name_ok(const char *name);

#endif
