/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_INITRAMFS_H
#define IMAGE_INITRAMFS_H

/*
 * The initramfs of every guest: the agent as /init, and the kernel modules that it loads before
 * anything else.
 *
 *     /init  /dev/console  /proc  /sys  /lib/modules/load  /lib/modules/NAME.ko ...
 *
 * Which modules is the caller's choice. What a guest cannot do without before it has its root, or would
 * be without for good, is the list in kernel_modules.c; each one costs boot time.
 */

#include <stddef.h>

#include "util/err.h"

struct initramfs_module {
    const char *name; /* "virtio_blk" */
    const void *data; /* the .ko's bytes, not compressed */
    size_t len;
};

/*
 * Write the initramfs with these modules, loaded in the order given, into a sealed memfd. The same
 * input makes the same bytes. Signatures appended to modules are left out. The caller closes *memfd.
 * -EINVAL for a name that is none.
 */
int initramfs_build(const struct initramfs_module *modules, size_t count, int *memfd,
                    struct dayfly_err *err);

/* The agent's program, as it was built into the library. */
void initramfs_agent(const void **data, size_t *len);

#endif
