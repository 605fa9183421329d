/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/irq.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"

int irq_line_init(struct irq_line *line, const struct hypervisor *hv, uint32_t gsi,
                  struct dayfly_err *err)
{
    *line = (struct irq_line){.hv = hv, .gsi = gsi, .fd = -1};
    _cleanup_close_ int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0)
        return err_errno(err, errno, "eventfd");
    int rc = hv->ops->irqfd(hv->opaque, gsi, fd, true);
    if (rc < 0)
        return err_errno(err, -rc, "tying interrupt line %u", gsi);
    line->fd = steal_fd(&fd);
    return 0;
}

void irq_line_finish(struct irq_line *line)
{
    if (line->fd >= 0)
        line->hv->ops->irqfd(line->hv->opaque, line->gsi, line->fd, false);
    close_fd(&line->fd);
}

void irq_line_raise(const struct irq_line *line)
{
    /* EAGAIN: the counter is full, which nobody can reach who is served by an irqfd. */
    uint64_t one = 1;
    while (line->fd >= 0 && write(line->fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}
