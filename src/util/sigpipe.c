/* SPDX-License-Identifier: Apache-2.0 */
#include "util/sigpipe.h"

#include <errno.h>
#include <time.h>

struct sigpipe sigpipe_begin(void)
{
    struct sigpipe q;
    sigset_t now;
    sigemptyset(&q.set);
    sigaddset(&q.set, SIGPIPE);
    sigpending(&now);
    q.was_pending = sigismember(&now, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &q.set, &now);
    q.was_blocked = sigismember(&now, SIGPIPE) == 1;
    return q;
}

void sigpipe_end(struct sigpipe *q)
{
    int saved = errno;
    struct timespec none = {0};
    if (!q->was_pending) {
        while (sigtimedwait(&q->set, NULL, &none) < 0 && errno == EINTR)
            ;
    }
    if (!q->was_blocked)
        pthread_sigmask(SIG_UNBLOCK, &q->set, NULL);
    errno = saved;
}
