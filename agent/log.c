/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "util/cleanup.h"

void log_say(const char *fmt, ...)
{
    char line[400] = "<3>dayfly-agent: ";
    size_t at = sizeof("<3>dayfly-agent: ") - 1;
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line + at, sizeof(line) - at, fmt, args);
    va_end(args);
    _cleanup_close_ int fd = open("/dev/kmsg", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && n > 0)
        (void)!write(fd, line, (size_t)n + at < sizeof(line) ? (size_t)n + at : sizeof(line) - 1);
}
