/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "arch/x86_64/elf.h"
#include "arch/x86_64/kernel_image.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

static int open_part(const char *path, int fd, const char *what, struct dayfly_err *err)
{
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return file < 0 ? err_errno(err, errno, "open %s %s", what, path ? path : "descriptor") : file;
}

/* Anything but an ELF file is taken for a bzImage, whose reader says what is wrong with it. */
static int unpack(int file, struct dayfly_err *err)
{
    _cleanup_close_ int unpacked = memfd_create("dayfly-kernel", MFD_CLOEXEC);
    if (unpacked < 0)
        return err_errno(err, errno, "unpack the kernel");
    int r = kernel_image_unpack(file, unpacked, err);
    return r < 0 ? r : steal_fd(&unpacked);
}

static int checked(int file, struct dayfly_err *err)
{
    char magic[4];
    struct elf_kernel kernel;
    if (io_pread_full(file, magic, sizeof(magic), 0) != sizeof(magic) ||
        memcmp(magic, "\177ELF", 4) != 0)
        return unpack(file, err);
    int r = elf_read(file, &kernel, err);
    if (r < 0)
        return r;
    int same = fcntl(file, F_DUPFD_CLOEXEC, 0);
    return same < 0 ? err_errno(err, errno, "open the kernel") : same;
}

int boot_open_kernel(const struct config_boot *boot, struct dayfly_err *err)
{
    _cleanup_close_ int file = open_part(boot->kernel, boot->kernel_fd, "kernel", err);
    if (file < 0)
        return file;
    int kernel = checked(file, err);
    return kernel < 0 && boot->kernel ? err_wrap(err, "%s", boot->kernel) : kernel;
}

/* What Linux says when it finds other code than it wants to change: in no kernel without jump labels.
 */
static const char jump_label_mark[] = "jump_label: Fatal kernel bug";

bool boot_kernel_patches_itself(int kernel)
{
    char chunk[1u << 16];
    const size_t mark = sizeof(jump_label_mark) - 1;
    ssize_t n;
    for (off_t at = 0; (n = io_pread_full(kernel, chunk, sizeof(chunk), at)) >= (ssize_t)mark;
         at += n - (ssize_t)mark + 1)
        if (memmem(chunk, (size_t)n, jump_label_mark, mark))
            return true;
    return n < 0;
}

int boot_open_initrd(const struct config_boot *boot, int *fd, struct dayfly_err *err)
{
    *fd = -1;
    if (!boot->initrd && boot->initrd_fd < 0)
        return 0;
    *fd = open_part(boot->initrd, boot->initrd_fd, "initrd", err);
    return *fd < 0 ? *fd : 0;
}
