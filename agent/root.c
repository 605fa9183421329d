/* SPDX-License-Identifier: Apache-2.0 */
#include "root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/io.h"

#define LOWER   "/lower"
#define SCRATCH "/scratch"
#define NEWROOT "/newroot"
#define UPPER   SCRATCH "/upper"
#define WORK    SCRATCH "/work"

/* Nothing of the upper layer outlives the machine, so nobody need wait for its disk (volatile); a
 * rename of a directory and a change of owner or mode do not copy the image (redirect_dir, metacopy).
 */
#define OVERLAY_OPTIONS                                                                                \
    "lowerdir=" LOWER ",upperdir=" UPPER ",workdir=" WORK ",volatile,redirect_dir=on,metacopy=on"

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif

struct system_mount {
    const char *source, *path, *type, *options;
    unsigned long flags;
    bool optional;
};

static const struct system_mount EARLY[] = {
    {"proc", "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false},
    {"sysfs", "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false},
    {"devtmpfs", "/dev", "devtmpfs", "mode=0755", MS_NOSUID, false},
};

static const struct system_mount LATE[] = {
    {"proc", "/proc", "proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false},
    {"sysfs", "/sys", "sysfs", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, false},
    {"devtmpfs", "/dev", "devtmpfs", "mode=0755", MS_NOSUID, false},
    {"devpts", "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC, false},
    {"tmpfs", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, false},
    {"mqueue", "/dev/mqueue", "mqueue", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC, true},
    {"tmpfs", "/run", "tmpfs", "mode=0755", MS_NOSUID | MS_NODEV, false},
};

static int mount_system(const struct system_mount *table, size_t count, struct proto_fail *why)
{
    for (size_t i = 0; i < count; i++) {
        const struct system_mount *m = &table[i];
        mkdir(m->path, 0755);
        if (mount(m->source, m->path, m->type, m->flags, m->options) < 0 && !m->optional &&
            errno != EBUSY)
            return fail(why, errno, "mounting %s on %s", m->type, m->path);
    }
    return 0;
}

int root_early(struct proto_fail *why)
{
    return mount_system(EARLY, ARRAY_SIZE(EARLY), why);
}

/* Whether /sys/block/NAME has this serial number. */
static bool has_serial(const char *name, const char *serial)
{
    char path[64 + sizeof(((struct dirent *)0)->d_name)];
    _cleanup_free_ char *text = NULL;
    snprintf(path, sizeof(path), "/sys/block/%s/serial", name);
    if (io_read_file(AT_FDCWD, path, PROTO_SERIAL_BYTES, &text, NULL) < 0)
        return false;
    text[strcspn(text, "\n")] = '\0';
    return strcmp(text, serial) == 0;
}

/* The device node of the disk with this serial number. */
static int find_disk(const char *serial, uint64_t deadline_ns, char *out, size_t size,
                     struct proto_fail *why)
{
    struct timespec pause = {.tv_nsec = 500 * 1000};
    for (;;) {
        bool found = false;
        DIR *dir = opendir("/sys/block");
        for (struct dirent *e; dir && !found && (e = readdir(dir));) {
            found = strncmp(e->d_name, "vd", 2) == 0 && has_serial(e->d_name, serial);
            if (found)
                snprintf(out, size, "/dev/%s", e->d_name);
        }
        if (dir)
            closedir(dir);
        if (found && access(out, F_OK) == 0)
            return 0;
        if (clock_ns() >= deadline_ns)
            return fail(why, ENODEV, "no disk with the serial number '%s' appeared", serial);
        nanosleep(&pause, NULL);
    }
}

static bool is_tag(const char *fstype)
{
    return strcmp(fstype, "virtiofs") == 0 || strcmp(fstype, "9p") == 0;
}

/* Mount d on path. A shared folder's "serial" is its tag; what it holds comes from the host, and is to
 * give nobody rights in the guest. */
static int mount_disk(const struct proto_disk *d, const char *path, unsigned long flags,
                      uint64_t deadline_ns, struct proto_fail *why)
{
    char node[300];
    bool shared = is_tag(d->fstype);
    if (shared) {
        snprintf(node, sizeof(node), "%s", d->serial);
        flags |= MS_NOSUID | MS_NODEV;
    } else {
        int r = find_disk(d->serial, deadline_ns, node, sizeof(node), why);
        if (r < 0)
            return r;
    }
    if (mount(node, path, d->fstype, flags, d->options) < 0)
        return fail(why, errno, "mounting %s '%s' (%s) on %s", shared ? "share" : "disk", d->serial,
                    d->fstype, path);
    return 0;
}

/* The overlay's root has the looks of the upper directory: give it the image's. */
static void copy_looks(const char *from, const char *to)
{
    struct stat st;
    if (stat(from, &st) == 0) {
        (void)!chown(to, st.st_uid, st.st_gid);
        chmod(to, st.st_mode & 07777);
    }
}

static int stack_layers(const struct proto_setup *s, uint64_t deadline_ns, struct proto_fail *why)
{
    mkdir(LOWER, 0700);
    mkdir(SCRATCH, 0700);
    mkdir(NEWROOT, 0700);
    int r = mount_disk(&s->root, LOWER, MS_RDONLY, deadline_ns, why);
    if (r < 0)
        return r;
    if (s->scratch.serial[0]) {
        r = mount_disk(&s->scratch, SCRATCH, MS_NOATIME, deadline_ns, why);
        if (r < 0)
            return r;
    } else if (mount("tmpfs", SCRATCH, "tmpfs", 0, "mode=0700,size=80%") < 0) {
        return fail(why, errno, "mounting tmpfs for the writable layer");
    }
    if (mkdir(UPPER, 0755) < 0 || mkdir(WORK, 0700) < 0)
        return fail(why, errno, "the scratch disk '%s' is not fresh", s->scratch.serial);
    copy_looks(LOWER, UPPER);
    if (mount("overlay", NEWROOT, "overlay", 0, OVERLAY_OPTIONS) < 0)
        return fail(why, errno, "stacking the writable layer on the image (overlay)");
    return 0;
}

/* Remove what dir holds on device dev. Takes fd. */
static void empty(int fd, dev_t dev)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
            continue;
        if (S_ISDIR(st.st_mode)) {
            int sub = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (sub >= 0)
                empty(sub, dev);
        }
        unlinkat(dirfd(dir), e->d_name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
    }
    closedir(dir);
}

static void empty_initramfs(void)
{
    struct stat st;
    int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &st) == 0)
        empty(fd, st.st_dev);
}

/* A mount of its own of what path shows, that no path leads to; it stays whatever happens to path. */
static int private_copy(const char *path)
{
    return (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

/* What the kernel's devtmpfs leaves to a device manager. */
static void finish_dev(void)
{
    static const char *const LINKS[][2] = {
        {"/proc/self/fd", "/dev/fd"},
        {"/proc/self/fd/0", "/dev/stdin"},
        {"/proc/self/fd/1", "/dev/stdout"},
        {"/proc/self/fd/2", "/dev/stderr"},
    };
    static const char *const FOR_ALL[] = {"/dev/fuse", "/dev/net/tun"};
    for (size_t i = 0; i < ARRAY_SIZE(LINKS); i++)
        (void)!symlink(LINKS[i][0], LINKS[i][1]);
    for (size_t i = 0; i < ARRAY_SIZE(FOR_ALL); i++)
        chmod(FOR_ALL[i], 0666);
}

static void make_directories(const char *path)
{
    char part[PROTO_PATH_BYTES];
    snprintf(part, sizeof(part), "%s", path);
    for (size_t i = 1; part[i]; i++) {
        if (part[i] == '/') {
            part[i] = '\0';
            mkdir(part, 0755);
            part[i] = '/';
        }
    }
    mkdir(part, 0755);
}

int root_switch(const struct proto_setup *setup, struct machine *m, struct proto_fail *why)
{
    uint64_t deadline_ns = clock_ns() + setup->deadline_ns;
    mode_t mask = umask(0);
    int r = stack_layers(setup, deadline_ns, why);
    if (r < 0)
        return r;
    m->scratch_fd = open(SCRATCH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (size_t i = ARRAY_SIZE(EARLY); i-- > 0;)
        umount2(EARLY[i].path, MNT_DETACH);
    empty_initramfs();
    if (chdir(NEWROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
        chdir("/") < 0)
        return fail(why, errno, "moving to the new root");

    r = mount_system(LATE, ARRAY_SIZE(LATE), why);
    if (r < 0)
        return r;
    finish_dev();
    mkdir("/tmp", 01777);
    m->proc_fd = private_copy("/proc");
    m->pts_fd = private_copy("/dev/pts");
    m->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (m->proc_fd < 0 || m->pts_fd < 0 || m->null_fd < 0)
        return fail(why, errno, "keeping /proc and /dev at hand");
    umask(mask);
    return 0;
}

int root_mount_more(const struct proto_setup *setup, struct proto_fail *why)
{
    uint64_t deadline_ns = clock_ns() + setup->deadline_ns;
    mode_t mask = umask(0);
    int r = 0;
    for (uint32_t i = 0; i < setup->mount_count && r == 0; i++) {
        const struct proto_mount *x = &setup->mounts[i];
        make_directories(x->path);
        r = mount_disk(&x->disk, x->path, x->flags & PROTO_MOUNT_READONLY ? MS_RDONLY : MS_NOATIME,
                       deadline_ns, why);
    }
    umask(mask);
    return r;
}

void root_finish(const struct proto_setup *setup, bool sync_all)
{
    for (uint32_t i = setup->mount_count; i-- > 0;) {
        const struct proto_mount *x = &setup->mounts[i];
        if (x->flags & PROTO_MOUNT_READONLY)
            continue;
        /* A job may have mounted over it, or still hold it in a namespace: then at least its data goes
         * out. */
        _cleanup_close_ int fd = open(x->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            syncfs(fd);
        close_fd(&fd);
        if (umount2(x->path, UMOUNT_NOFOLLOW) < 0)
            mount(NULL, x->path, NULL, MS_REMOUNT | MS_RDONLY, NULL);
    }
    if (sync_all)
        sync();
}
