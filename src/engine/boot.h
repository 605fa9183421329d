/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ENGINE_BOOT_H
#define ENGINE_BOOT_H

/* The files that a guest boots from, opened and checked the same way for every engine. */

#include <stdbool.h>

#include "config/config.h"
#include "dayfly/error.h"

/* The kernel as an ELF file with a PVH entry: the file itself, or, for a bzImage, a memfd with what it
 * unpacks to. Returns a descriptor, the caller's, or -errno with the kernel named in err. */
int boot_open_kernel(const struct config_boot *boot, struct dayfly_err *err);

/* Whether a kernel that boot_open_kernel returned changes its own code while it runs, which Linux with
 * CONFIG_JUMP_LABEL does. True when it cannot be read. */
bool boot_kernel_patches_itself(int kernel);

/* *fd is the initrd, the caller's, or -1 when the description has none. Returns 0 or -errno. */
int boot_open_initrd(const struct config_boot *boot, int *fd, struct dayfly_err *err);

#endif
