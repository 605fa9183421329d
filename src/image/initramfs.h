/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_INITRAMFS_H
#define IMAGE_INITRAMFS_H

/*
 * The initramfs of every guest: the agent as /init, and the kernel modules that it loads before
 * anything else.
 *
 *     /init  /dev/console  /proc  /sys  /lib/modules/load  /lib/modules/NAME.ko ...
 *
 * Which modules. Those of this list that the kernel has as modules (one that is built in is left out),
 * each behind what its `depends=` and `softdep=pre:` name, decompressed, in this order:
 *
 *     virtio virtio_ring virtio_pci     the bus (built in on 6.12)
 *     vmw_vsock_virtio_transport        the way to the host
 *     virtio_blk                        the disks
 *     crc32c_intel                      a quicker checksum for the next two
 *     erofs                             the image
 *     ext4                              the scratch disk (built in on Debian's kernels)
 *     overlay                           one on the other
 *     virtio_console                    ports, for `dayfly.port=NAME` (built in on 6.12)
 *     virtio_rng                        entropy
 *     button                            the power button's events
 *
 * and virtio_mmio, virtio_net, virtiofs once a machine has such devices. Each one costs boot time.
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
