/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network device of a sandbox: one end is its own, the other, a tap, goes to the runner, who brings
 * the frames to a back end. It is gone with either of them. A tap belongs to the namespace in which its
 * file was opened: hence from within.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/setup.h"
#include "util/cleanup.h"
#include "util/err.h"

#define TUN "/dev/net/tun"

static int send_fd(int socket, int fd)
{
    char byte = 0;
    struct iovec text = {&byte, 1};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {
        .msg_iov = &text, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    control.header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    return sendmsg(socket, &message, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

int device_make(const struct setup *setup, struct dayfly_err *err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    if (!setup->options->network)
        return 0;
    strcpy(request.ifr_name, "eth0");
    _cleanup_close_ int tap = open(TUN, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (tap < 0)
        return err_errno(err, errno, "a network device (" TUN "; 'modprobe tun' may make it)");
    if (ioctl(tap, TUNSETIFF, &request) < 0)
        return err_errno(err, errno, "a network device");
    request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(request.ifr_hwaddr.sa_data, setup->options->mac, sizeof(setup->options->mac));
    if (ioctl(tap, SIOCSIFHWADDR, &request) < 0)
        return err_errno(err, errno, "the network device's address");
    int r = send_fd(setup->report_fd, tap);
    return r < 0 ? err_errno(err, -r, "hand over the network device") : 0;
}
