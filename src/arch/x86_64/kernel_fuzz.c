/* SPDX-License-Identifier: Apache-2.0 */
/* Any file as a kernel: unpacked and loaded, or refused. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/x86_64/kernel_image.h"
#include "arch/x86_64/kernel_load.h"
#include "util/arith.h"
#include "util/io.h"

#define MEMORY_BYTES (UINT64_C(16) << 20)

static void *span(void *opaque, uint64_t gpa, uint64_t len)
{
    assert(len > 0 && gpa >= 0x100000);
    return range_within(gpa, len, MEMORY_BYTES) ? (unsigned char *)opaque + gpa : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char *memory;
    if (!memory)
        memory = malloc(MEMORY_BYTES);
    const struct kernel_target target = {.opaque = memory, .span = span};
    struct kernel_info info;
    struct dayfly_err err = {0};
    int in = memfd_create("in", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC);
    if (in < 0 || out < 0 || io_pwrite_full(in, data, size, 0) < 0)
        abort();

    int rc = kernel_image_unpack(in, out, &err);
    assert((rc == 0) == (err.code == 0));
    err.code = 0;
    int loaded = kernel_load(rc == 0 ? out : in, &target, &info, &err);
    assert((loaded == 0) == (err.code == 0));
    if (loaded == 0)
        assert(info.entry >= info.start && info.entry < info.end && info.end <= MEMORY_BYTES);
    /* What was unpacked is a kernel that only a machine too small can refuse. */
    if (rc == 0)
        assert(loaded == 0 || loaded == -ENOMEM);
    close(in);
    close(out);
    return 0;
}
