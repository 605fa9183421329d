/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File to guest memory in one copy: pread() writes straight where the guest will run.
 *
 * A kernel's .bss is part of its file (Linux links it so), and kernel_image_unpack() leaves such
 * zeroes as holes. They are skipped: guest memory is fresh, and a page that nobody touches costs
 * neither a fault now nor memory later.
 */
#include "arch/x86_64/kernel_load.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "arch/x86_64/elf.h"
#include "util/arith.h"
#include "util/err.h"
#include "util/io.h"

/* The next [*pos, *pos + result) of data at or behind *pos and below end; 0 when only a hole is left.
 * A file system that cannot tell holes has data everywhere. */
static uint64_t next_data(int fd, uint64_t *pos, uint64_t end)
{
    off_t data = lseek(fd, (off_t)*pos, SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? 0 : end - *pos;
    if ((uint64_t)data >= end)
        return 0;
    if ((uint64_t)data < *pos) /* of a file system whose server lies */
        return end - *pos;
    *pos = (uint64_t)data;
    off_t hole = lseek(fd, data, SEEK_HOLE);
    return hole <= data ? end - *pos : MIN((uint64_t)hole, end) - *pos;
}

static int load_segment(int fd, const struct elf_segment *segment, unsigned char *hva,
                        struct dayfly_err *err)
{
    uint64_t pos = segment->offset, end = segment->offset + segment->file_bytes, len;
    while (pos < end && (len = next_data(fd, &pos, end)) > 0) {
        ssize_t n = io_pread_full(fd, hva + (pos - segment->offset), len, (off_t)pos);
        if (n < 0)
            return err_errno(err, (int)-n, "the kernel cannot be read");
        if ((uint64_t)n < len)
            return err_set(err, EBADMSG, "the kernel file became shorter while it was read");
        pos += len;
    }
    return 0;
}

int kernel_load(int fd, const struct kernel_target *target, struct kernel_info *out,
                struct dayfly_err *err)
{
    struct elf_kernel kernel;
    int rc = elf_read(fd, &kernel, err);
    if (rc < 0)
        return rc;
    *out = (struct kernel_info){.entry = kernel.entry, .start = UINT64_MAX};
    for (size_t i = 0; i < kernel.count; i++) {
        const struct elf_segment *s = &kernel.segments[i];
        out->start = MIN(out->start, s->gpa);
        out->end = MAX(out->end, s->gpa + s->mem_bytes);
    }
    for (size_t i = 0; i < kernel.count; i++) {
        const struct elf_segment *s = &kernel.segments[i];
        unsigned char *hva = target->span(target->opaque, s->gpa, s->mem_bytes);
        if (!hva)
            return err_set(err, ENOMEM,
                           "the kernel needs memory up to %" PRIu64
                           " MiB: give the machine more than that",
                           align_up(out->end, 1 << 20) >> 20);
        rc = load_segment(fd, s, hva, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}
