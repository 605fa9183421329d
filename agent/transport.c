/* SPDX-License-Identifier: Apache-2.0 */
#include "transport.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <linux/vm_sockets.h>
#include <unistd.h>

#include "fail.h"
#include "proto/proto.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/io.h"

#define PORT_NAME_BYTES 64
#define PORTS_DIR       "/sys/class/virtio-ports"

/* The value of name=VALUE in the command line. */
static bool cmdline_value(const char *cmdline, const char *name, char out[PORT_NAME_BYTES])
{
    size_t len = strlen(name);
    for (const char *p = cmdline; *p;) {
        size_t n = strcspn(p, " \n");
        if (n > len && strncmp(p, name, len) == 0 && p[len] == '=' && n - len <= PORT_NAME_BYTES) {
            memcpy(out, p + len + 1, n - len - 1);
            out[n - len - 1] = '\0';
            return true;
        }
        p += n;
        p += strspn(p, " \n");
    }
    return false;
}

static int open_vsock(void)
{
    struct sockaddr_vm host = {
        .svm_family = AF_VSOCK,
        .svm_cid = VMADDR_CID_HOST,
        .svm_port = PROTO_VSOCK_PORT,
    };
    _cleanup_close_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&host, sizeof(host)) < 0)
        return -errno;
    return steal_fd(&fd);
}

/* The port is usable once the host has opened its end: a hang-up until then. */
static int open_port(const char *name)
{
    char path[64 + sizeof(((struct dirent *)0)->d_name)];
    int found = -ENODEV;
    DIR *dir = opendir(PORTS_DIR);
    if (!dir)
        return -errno;
    for (struct dirent *e; found == -ENODEV && (e = readdir(dir));) {
        _cleanup_free_ char *text = NULL;
        snprintf(path, sizeof(path), PORTS_DIR "/%s/name", e->d_name);
        if (e->d_name[0] == '.' || io_read_file(AT_FDCWD, path, PORT_NAME_BYTES, &text, NULL) < 0)
            continue;
        text[strcspn(text, "\n")] = '\0';
        if (strcmp(text, name) != 0)
            continue;
        snprintf(path, sizeof(path), "/dev/%s", e->d_name);
        found = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (found < 0)
            found = -errno;
    }
    closedir(dir);
    struct pollfd p = {.fd = found, .events = POLLOUT};
    if (found >= 0 && (poll(&p, 1, 0) < 0 || p.revents & POLLHUP)) {
        close(found);
        return -EAGAIN;
    }
    return found;
}

int transport_open(const char *cmdline, uint64_t deadline_ns, struct proto_fail *why)
{
    char port[PORT_NAME_BYTES];
    bool use_port = cmdline_value(cmdline, "dayfly.port", port);
    struct timespec pause = {.tv_nsec = 500 * 1000};
    for (;;) {
        int fd = use_port ? open_port(port) : open_vsock();
        if (fd >= 0)
            return fd;
        if (clock_ns() >= deadline_ns)
            return use_port ? fail(why, -fd, "virtio port %s", port)
                            : fail(why, -fd, "vsock to the host");
        nanosleep(&pause, NULL);
    }
}
