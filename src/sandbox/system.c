/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stage 4 of setup.h: what the kernel has to say, and devices.
 *
 * The job's own processes are all that /proc shows, and its own network all that /sys does; what both
 * tell of the machine stays to be read, as builds ask it for processors and memory, but is not to be
 * written to. What tells of keys, timers and the like of others is covered.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/mounts.h"
#include "sandbox/setup.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

struct system_mount {
    const char *type, *path;
    const struct mounts_setting *settings;
    uint64_t attributes;
    bool optional; /* not in every kernel, or not for everybody */
};

static const struct mounts_setting dev_settings[] = {{"size", "1m"}, {"mode", "0755"}, {NULL, NULL}};
/* The agent's, for agent/secret.h: later nothing can be mounted. */
static const struct mounts_setting secrets_settings[] = {
    {"size", "8m"}, {"nr_inodes", "256"}, {"mode", "0755"}, {NULL, NULL}};
/* `max`: a host has 4096 for all. */
static const struct mounts_setting pts_settings[] = {
    {"gid", "5"}, {"mode", "620"}, {"ptmxmode", "666"}, {"max", "512"}, {NULL, NULL}};
/* Only root has a group 5 to give. */
static const struct mounts_setting pts_settings_user[] = {
    {"mode", "620"}, {"ptmxmode", "666"}, {"max", "512"}, {NULL, NULL}};

static int make_all(const struct system_mount *all, size_t count, int root, struct dayfly_err *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct system_mount *m = &all[i];
        int fd = mounts_make(m->type, m->settings, m->attributes, err);
        int r = fd < 0 ? fd : mounts_place(fd, root, m->path, err);
        if (r < 0 && !m->optional)
            return err_wrap(err, "%s", m->path);
    }
    return 0;
}

static int place_devices(const struct setup_gathered *gathered, int root, struct dayfly_err *err)
{
    static const char *const links[][2] = {
        {"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
        {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},
    };
    _cleanup_close_ int dev = mounts_open(root, "dev", O_RDONLY | O_DIRECTORY, 0);
    if (dev < 0)
        return err_errno(err, -dev, "/dev");
    for (int i = 0; i < SETUP_DEVICES; i++) {
        _cleanup_close_ int target =
            openat(dev, setup_devices[i], O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
        int r = target < 0 ? -errno : mounts_attach(gathered->devices[i], target);
        if (r < 0)
            return err_errno(err, -r, "/dev/%s", setup_devices[i]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        if (symlinkat(links[i][0], dev, links[i][1]) < 0)
            return err_errno(err, errno, "/dev/%s", links[i][1]);
    return 0;
}

/* Read-only, where it is. What this kernel has not needs no cover. */
static int cover_with_itself(int root, const char *path)
{
    _cleanup_close_ int target = mounts_open(root, path, O_PATH, 0);
    if (target < 0)
        return target == -ENOENT ? 0 : target;
    _cleanup_close_ int copy =
        open_tree(target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    int r = copy < 0 ? -errno : mounts_restrict(copy, MOUNTS_STRICT | MOUNT_ATTR_RDONLY);
    return r < 0 ? r : mounts_attach(copy, target);
}

static int cover_with_nothing(int root, const char *path, int null)
{
    _cleanup_close_ int target = mounts_open(root, path, O_PATH, 0);
    if (target < 0)
        return target == -ENOENT ? 0 : target;
    _cleanup_close_ int copy = open_tree(null, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    return copy < 0 ? -errno : mounts_attach(copy, target);
}

static int cover_proc(int root, struct dayfly_err *err)
{
    static const char *const read_only[] = {"proc/sys", "proc/bus",      "proc/fs",
                                            "proc/irq", "proc/pressure", "proc/sysrq-trigger"};
    static const char *const hidden[] = {"proc/kcore",      "proc/keys",        "proc/key-users",
                                         "proc/timer_list", "proc/sched_debug", "proc/latency_stats",
                                         "proc/kmsg",       "proc/kallsyms"};
    int r = 0;
    /* Its network is the sandbox's own, and for the agent to set up. */
    _cleanup_close_ int target = mounts_open(root, "proc/sys/net", O_PATH, 0);
    _cleanup_close_ int network =
        open_tree(target, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    for (size_t i = 0; i < ARRAY_SIZE(read_only) && r == 0; i++)
        if ((r = cover_with_itself(root, read_only[i])) < 0)
            return err_errno(err, -r, "cover /%s", read_only[i]);
    if (network >= 0)
        mounts_place(steal_fd(&network), root, "proc/sys/net", err);
    _cleanup_close_ int null = mounts_open(root, "dev/null", O_PATH, 0);
    if (null < 0)
        return err_errno(err, -null, "/dev/null");
    for (size_t i = 0; i < ARRAY_SIZE(hidden); i++)
        if ((r = cover_with_nothing(root, hidden[i], null)) < 0)
            return err_errno(err, -r, "cover /%s", hidden[i]);
    return 0;
}

static const char *const setup_system[SETUP_SYSTEM] = {"proc", "sys", "dev", "dev/pts"};

/* Which file system is there. */
static int find_system(int root, int i, dev_t *out, struct dayfly_err *err)
{
    struct stat st;
    _cleanup_close_ int fd = mounts_open(root, setup_system[i], O_PATH, 0);
    if (fd != -ENOENT && (fd < 0 || fstat(fd, &st) < 0))
        return err_errno(err, fd < 0 ? -fd : errno, "/%s", setup_system[i]);
    *out = fd < 0 ? 0 : st.st_dev;
    return 0;
}

int system_make(const struct setup *setup, const struct setup_gathered *gathered,
                const struct setup_parts *parts, int root, struct setup_kept *kept,
                struct dayfly_err *err)
{
    const struct system_mount all[] = {
        {"proc", "proc", NULL, MOUNTS_STRICT, false},
        {"sysfs", "sys", NULL, MOUNTS_STRICT | MOUNT_ATTR_RDONLY, true},
        {"tmpfs", "dev", dev_settings, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, false},
        {"devpts", "dev/pts", setup->user_namespace ? pts_settings_user : pts_settings,
         MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, false},
        {"mqueue", "dev/mqueue", NULL, MOUNTS_STRICT, true},
        {"tmpfs", "run", dev_settings, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, false},
        {"tmpfs", "run/secrets", secrets_settings, MOUNTS_STRICT, false},
    };
    int r = make_all(all, ARRAY_SIZE(all), root, err);
    if (r == 0)
        r = mounts_place(parts->shm, root, "dev/shm", err);
    if (r == 0 && (r = kept->secrets = mounts_open(root, "run/secrets", O_RDONLY | O_DIRECTORY, 0)) < 0)
        err_errno(err, -r, "/run/secrets");
    if (r >= 0)
        r = place_devices(gathered, root, err);
    for (int i = 0; i < SETUP_SYSTEM && r >= 0; i++)
        r = find_system(root, i, &kept->system[i], err);
    return r < 0 ? r : cover_proc(root, err);
}

int system_check(int root, const struct setup_kept *kept, struct dayfly_err *err)
{
    for (int i = 0; i < SETUP_SYSTEM; i++) {
        dev_t now;
        int r = find_system(root, i, &now, err);
        if (r < 0)
            return r;
        if (now != kept->system[i])
            return err_set(err, EINVAL, "a link leads a share to /%s, which is the system's",
                           setup_system[i]);
    }
    return 0;
}
