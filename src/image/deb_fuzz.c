/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first byte says what the rest is: a package, a tar archive, a module.
 * Mutations rarely get through a compressor's checksums, so small inputs without one (data.tar) matter.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/deb.h"
#include "image/layer.h"
#include "image/modinfo.h"
#include "util/arith.h"
#include "util/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int visit(void *opaque, struct deb_file *file, struct dayfly_err *err)
{
    char buf[4096];
    (void)opaque;
    for (int i = 0; i < 256; i++) {
        ssize_t n = deb_file_read(file, buf, sizeof(buf), err);
        if (n <= 0)
            return (int)n;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct dayfly_err err;
    if (len < 1)
        return 0;
    uint8_t kind = data[0] % 3;
    data++;
    len--;
    if (kind == 2) {
        void *out;
        size_t out_len;
        if (deb_decompress(data, len, 1 << 20, &out, &out_len, &err) == 0) {
            modinfo_get(out, out_len, "depends", NULL);
            for (const char *p = NULL; (p = modinfo_get(out, out_len, "softdep", p));)
                ;
            free(out);
        }
        return 0;
    }
    int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0 || io_write_full(fd, data, len) || lseek(fd, 0, SEEK_SET))
        abort();
    if (kind == 0) {
        deb_read(fd, visit, NULL, &err);
    } else {
        const struct layer_limits limits = {.entries = 100, .bytes = 1 << 20};
        struct store_file out = {.fd = memfd_create("output", MFD_CLOEXEC)};
        struct layer_facts facts;
        if (out.fd < 0)
            abort();
        hasher_begin(&out.hasher);
        layer_write_from_archive(fd, &limits, &out, &facts, NULL, &err);
        close(out.fd);
    }
    close(fd);
    return 0;
}
