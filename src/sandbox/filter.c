/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/filter_rules.h"

#include <errno.h>
#include <sys/mman.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

int filter_make(const struct filter_options *options, struct dayfly_err *err)
{
    const struct filter_program *program = &filter_programs[filter_index(options)];
    _cleanup_close_ int fd = memfd_create("seccomp filter", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : io_write_full(fd, program->bytes, program->len);
    return r < 0 ? err_errno(err, -r, "write a seccomp filter") : steal_fd(&fd);
}
