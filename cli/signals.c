/* SPDX-License-Identifier: Apache-2.0 */
#include "signals.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "util/err.h"

int signals_catch(const int *more, struct dayfly_err *err)
{
    sigset_t caught;
    sigemptyset(&caught);
    sigaddset(&caught, SIGINT);
    sigaddset(&caught, SIGTERM);
    sigaddset(&caught, SIGHUP);
    for (; more && *more; more++)
        sigaddset(&caught, *more);
    sigprocmask(SIG_BLOCK, &caught, NULL);
    int fd = signalfd(-1, &caught, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? err_errno(err, errno, "watch for signals") : fd;
}
