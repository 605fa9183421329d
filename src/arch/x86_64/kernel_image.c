/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bzImage to ELF (Linux's Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
 *
 *     | boot sector, setup code         | protected-mode code ... | payload ... | rest |
 *     0                  (setup_sects + 1) * 512       + payload_offset   + payload_length
 *
 * The payload is a compressed ELF file. Its last four bytes are the size of that file, little-endian:
 * appended by Linux's build, except for gzip, whose own trailer ends in it. (They are cut off before
 * the decompressor sees them: several of these would take them for the begin of another frame.)
 *
 * The decompressors are libarchive's, and exactly the one that the payload's magic names is enabled.
 * libarchive would run a program for a format it was built without; that is refused.
 *
 * Limits: the size in the trailer is checked against KERNEL_IMAGE_MAX_BYTES before anything is
 * written, and the output must have that size to the byte.
 */
#include "arch/x86_64/kernel_image.h"

#include <archive.h>
#include <archive_entry.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arch/x86_64/elf.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/late.h"

#define BLOCK_BYTES  (64 * 1024)
#define SECTOR_BYTES 512

/* Offsets in the file. */
#define HDR_SETUP_SECTS    0x1f1
#define HDR_BOOT_FLAG      0x1fe
#define HDR_MAGIC          0x202
#define HDR_VERSION        0x206
#define HDR_PAYLOAD_OFFSET 0x248
#define HDR_PAYLOAD_LENGTH 0x24c
#define HDR_END            0x250

#define VERSION_WITH_PAYLOAD 0x208
#define DEFAULT_SETUP_SECTS  4

struct codec {
    const char *name;
    unsigned char magic[6];
    uint8_t magic_len;
    bool own_size; /* the trailing size is part of the stream */
    int (*enable)(struct archive *);
};

static const struct codec codecs[] = {
    {"gzip", {0x1f, 0x8b}, 2, true, archive_read_support_filter_gzip},
    {"bzip2", {'B', 'Z', 'h'}, 3, false, archive_read_support_filter_bzip2},
    {"lzma", {0x5d, 0x00, 0x00}, 3, false, archive_read_support_filter_lzma},
    {"xz", {0xfd, '7', 'z', 'X', 'Z', 0x00}, 6, false, archive_read_support_filter_xz},
    {"LZ4", {0x02, 0x21, 0x4c, 0x18}, 4, false, archive_read_support_filter_lz4},
    {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, false, archive_read_support_filter_zstd},
};

/* The output: written front to back in blocks, zeroes as holes. */
struct sink {
    int fd;
    uint64_t bytes;
};

static bool is_zero(const unsigned char *p, size_t len)
{
    return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int sink_put(struct sink *sink, const unsigned char *block, size_t len, struct dayfly_err *err)
{
    if (!is_zero(block, len)) {
        int rc = io_pwrite_full(sink->fd, block, len, (off_t)sink->bytes);
        if (rc < 0)
            return err_errno(err, -rc, "the unpacked kernel cannot be written");
    }
    sink->bytes += len;
    return 0;
}

/* Give the file its length, for a hole at the end. */
static int sink_end(struct sink *sink, struct dayfly_err *err)
{
    if (ftruncate(sink->fd, (off_t)sink->bytes) < 0)
        return err_errno(err, errno, "the unpacked kernel cannot be written");
    return 0;
}

/* The payload as libarchive reads it. */
struct source {
    int fd;
    uint64_t pos;
    uint64_t end;
    unsigned char block[BLOCK_BYTES];
};

static la_ssize_t source_read(struct archive *a, void *opaque, const void **block)
{
    struct source *source = opaque;
    size_t len = (size_t)MIN(sizeof(source->block), source->end - source->pos);
    ssize_t n = io_pread_full(source->fd, source->block, len, (off_t)source->pos);
    if (n < 0) {
        archive_set_error(a, (int)-n, "read error");
        return -1;
    }
    source->pos += (uint64_t)n;
    *block = source->block;
    return n;
}

static void free_archive(struct archive **a)
{
    archive_read_free(*a);
}

static int damaged(struct archive *a, const struct codec *codec, struct dayfly_err *err)
{
    const char *reason = archive_error_string(a);
    return err_set(err, archive_errno(a) == ENOMEM ? ENOMEM : EBADMSG,
                   "the kernel's %s payload is damaged: %s", codec->name,
                   reason ? reason : "no reason given");
}

static int decompress(struct source *source, const struct codec *codec, uint64_t size,
                      struct sink *sink, struct dayfly_err *err)
{
    int rc = late_archive(err);
    if (rc < 0)
        return rc;
    _cleanup_(free_archive) struct archive *a = archive_read_new();
    _cleanup_free_ unsigned char *block = malloc(BLOCK_BYTES);
    if (!a || !block)
        return err_errno(err, ENOMEM, "the kernel's payload");
    if (codec->enable(a) != ARCHIVE_OK || archive_read_support_format_raw(a) != ARCHIVE_OK)
        return err_set(err, ENOTSUP,
                       "the kernel's payload is %s, which this system's libarchive cannot read",
                       codec->name);
    struct archive_entry *entry;
    if (archive_read_open(a, source, NULL, source_read, NULL) != ARCHIVE_OK ||
        archive_read_next_header(a, &entry) != ARCHIVE_OK)
        return damaged(a, codec, err);
    for (;;) {
        /* Fills the block unless the data ends. */
        la_ssize_t n = archive_read_data(a, block, BLOCK_BYTES);
        if (n < 0)
            return damaged(a, codec, err);
        if (n == 0)
            break;
        if ((uint64_t)n > size - sink->bytes)
            return err_set(err, EBADMSG,
                           "the kernel's %s payload is damaged: it is larger than the %" PRIu64
                           " bytes it says",
                           codec->name, size);
        rc = sink_put(sink, block, (size_t)n, err);
        if (rc < 0)
            return rc;
    }
    if (sink->bytes != size)
        return err_set(err, EBADMSG,
                       "the kernel's %s payload is damaged: it holds %" PRIu64 " bytes of the %" PRIu64
                       " it says",
                       codec->name, sink->bytes, size);
    return 0;
}

static uint32_t le32_at(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static const struct codec *find_codec(const unsigned char *magic)
{
    for (size_t i = 0; i < ARRAY_SIZE(codecs); i++)
        if (memcmp(magic, codecs[i].magic, codecs[i].magic_len) == 0)
            return &codecs[i];
    return NULL;
}

static int unpack_bzimage(int in_fd, uint64_t file_bytes, const unsigned char *header,
                          struct sink *sink, struct dayfly_err *err)
{
    unsigned version = header[HDR_VERSION] | header[HDR_VERSION + 1] << 8;
    if (version < VERSION_WITH_PAYLOAD)
        return err_set(err, ENOEXEC,
                       "the kernel is a bzImage of boot protocol %u.%02u; 2.08 (Linux 2.6.26) or "
                       "later is needed",
                       version >> 8, version & 0xff);
    unsigned setup_sects = header[HDR_SETUP_SECTS] ? header[HDR_SETUP_SECTS] : DEFAULT_SETUP_SECTS;
    /* Sums of 32-bit values: nothing wraps. */
    uint64_t start = (uint64_t)(setup_sects + 1) * SECTOR_BYTES + le32_at(header + HDR_PAYLOAD_OFFSET);
    uint64_t len = le32_at(header + HDR_PAYLOAD_LENGTH);
    if (!range_within(start, len, file_bytes))
        return err_set(err, EBADMSG,
                       "the kernel file is truncated: its payload ends at byte %" PRIu64
                       ", it has %" PRIu64,
                       start + len, file_bytes);
    unsigned char magic[sizeof(codecs[0].magic)], trailer[4];
    if (len < sizeof(magic) + sizeof(trailer))
        return err_set(err, EBADMSG, "the kernel is a bzImage with a payload of %" PRIu64 " bytes",
                       len);
    ssize_t n = io_pread_full(in_fd, magic, sizeof(magic), (off_t)start);
    ssize_t m = io_pread_full(in_fd, trailer, sizeof(trailer), (off_t)(start + len - 4));
    if (n < 0 || m < 0)
        return err_errno(err, (int)-MIN(n, m), "the kernel file cannot be read");
    if (n != sizeof(magic) || m != sizeof(trailer))
        return err_set(err, EBADMSG, "the kernel file became shorter while it was read");

    const struct codec *codec = find_codec(magic);
    if (!codec)
        return err_set(err, ENOTSUP,
                       "the kernel's payload begins with %02x %02x %02x %02x, a compression that is "
                       "not supported: build it with gzip, bzip2, lzma, xz, LZ4 or zstd",
                       magic[0], magic[1], magic[2], magic[3]);
    uint64_t size = le32_at(trailer);
    if (size > KERNEL_IMAGE_MAX_BYTES)
        return err_set(err, EFBIG,
                       "the kernel unpacks to %" PRIu64 " bytes; at most %" PRIu64 " are accepted",
                       size, KERNEL_IMAGE_MAX_BYTES);

    _cleanup_free_ struct source *source = malloc(sizeof(*source));
    if (!source)
        return err_errno(err, ENOMEM, "the kernel's payload");
    source->fd = in_fd;
    source->pos = start;
    source->end = start + len - (codec->own_size ? 0 : sizeof(trailer));
    return decompress(source, codec, size, sink, err);
}

static int copy_elf(int in_fd, struct sink *sink, struct dayfly_err *err)
{
    _cleanup_free_ unsigned char *block = malloc(BLOCK_BYTES);
    if (!block)
        return err_errno(err, ENOMEM, "the kernel");
    for (;;) {
        ssize_t n = io_pread_full(in_fd, block, BLOCK_BYTES, (off_t)sink->bytes);
        if (n < 0)
            return err_errno(err, (int)-n, "the kernel file cannot be read");
        if (n == 0)
            return 0;
        if ((uint64_t)n > KERNEL_IMAGE_MAX_BYTES - sink->bytes)
            return err_set(err, EFBIG, "the kernel is larger than %" PRIu64 " bytes: strip it",
                           KERNEL_IMAGE_MAX_BYTES);
        int rc = sink_put(sink, block, (size_t)n, err);
        if (rc < 0)
            return rc;
    }
}

int kernel_image_unpack(int in_fd, int out_fd, struct dayfly_err *err)
{
    struct stat st;
    if (fstat(in_fd, &st) < 0)
        return err_errno(err, errno, "the kernel file");
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "the kernel is not a regular file");
    unsigned char header[HDR_END] = {0};
    ssize_t n = io_pread_full(in_fd, header, sizeof(header), 0);
    if (n < 0)
        return err_errno(err, (int)-n, "the kernel file cannot be read");
    if (n == 0)
        return err_set(err, ENOEXEC, "the kernel file is empty");

    struct sink sink = {.fd = out_fd};
    struct elf_kernel kernel;
    int rc;
    if (memcmp(header, "\177ELF", 4) == 0) {
        rc = elf_read(in_fd, &kernel, err); /* before a copy of a large file that is no kernel */
        if (rc == 0)
            rc = copy_elf(in_fd, &sink, err);
    } else if (header[HDR_BOOT_FLAG] == 0x55 && header[HDR_BOOT_FLAG + 1] == 0xaa &&
               memcmp(header + HDR_MAGIC, "HdrS", 4) == 0) {
        rc = n == sizeof(header)
                 ? unpack_bzimage(in_fd, (uint64_t)st.st_size, header, &sink, err)
                 : err_set(err, EBADMSG, "the kernel file is truncated: it ends within its header");
    } else {
        rc = err_set(err, ENOEXEC, "the kernel is neither an ELF file (vmlinux) nor a bzImage");
    }
    if (rc == 0)
        rc = sink_end(&sink, err);
    return rc < 0 ? rc : elf_read(out_fd, &kernel, err);
}
