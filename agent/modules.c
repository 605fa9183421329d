/* SPDX-License-Identifier: Apache-2.0 */
#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"
#include "util/cleanup.h"
#include "util/io.h"

#define LIST_BYTES 65536

static void load(const char *path)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    /* ENODEV: a driver for a processor's feature that this one has not. */
    if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENODEV)
        log_say("%s: %s", path, strerror(errno));
}

void modules_load(void)
{
    _cleanup_free_ char *list = NULL;
    if (io_read_file(AT_FDCWD, MODULES_LIST, LIST_BYTES, &list, NULL) < 0)
        return;
    char *rest = list;
    for (char *path = strtok_r(rest, "\n", &rest); path; path = strtok_r(NULL, "\n", &rest))
        load(path);
}
