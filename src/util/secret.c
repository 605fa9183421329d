/* SPDX-License-Identifier: Apache-2.0 */
#include "util/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/err.h"

int secret_new(struct secret *secret, size_t bytes, const struct log *log, struct dayfly_err *err)
{
    size_t mapped = align_up(bytes, (size_t)sysconf(_SC_PAGESIZE));
    void *map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *secret = (struct secret){0};
    if (map == MAP_FAILED)
        return err_errno(err, errno, "memory for a secret");
    if (madvise(map, mapped, MADV_DONTDUMP) < 0 || madvise(map, mapped, MADV_DONTFORK) < 0) {
        int rc = err_errno(err, errno, "keep a secret out of core dumps and children");
        munmap(map, mapped);
        return rc;
    }
    if (mlock(map, mapped) < 0)
        log_line(log, LOG_WARN, "a secret could be swapped out: locking its memory: %s",
                 strerrordesc_np(errno));
    *secret = (struct secret){map, mapped};
    return 0;
}

void secret_finish(struct secret *secret)
{
    if (!secret->bytes)
        return;
    explicit_bzero(secret->bytes, secret->mapped_bytes);
    munmap(secret->bytes, secret->mapped_bytes); /* unlocks, too */
    *secret = (struct secret){0};
}
