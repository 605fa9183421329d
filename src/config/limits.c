/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "config/config.h"
#include "util/arith.h"
#include "util/cleanup.h"

/* As many vCPUs as KVM takes; our own bound where it cannot be asked. */
static unsigned max_cpus(void)
{
    _cleanup_close_ int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        return CONFIG_MAX_CPUS;
    int max = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
    if (max <= 0)
        max = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS);
    return max <= 0 ? CONFIG_MAX_CPUS : MIN((unsigned)max, (unsigned)CONFIG_MAX_CPUS);
}

static uint64_t host_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_MAX;
}

int dayfly_limits_get(struct dayfly_limits *limits)
{
    size_t size = limits->size;
    struct dayfly_limits now = {
        .size = size,
        .min_cpus = 1,
        .max_cpus = max_cpus(),
        .min_memory_bytes = CONFIG_MIN_MEMORY,
        .max_memory_bytes = host_memory_bytes(),
    };
    if (size < sizeof(now)) /* the first version is the only one so far */
        return -EINVAL;
    *limits = now;
    return 0;
}
