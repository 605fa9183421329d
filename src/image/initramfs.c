/* SPDX-License-Identifier: Apache-2.0 */
#include "image/initramfs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "image/cpio.h"
#include "util/arith.h"
#include "util/cleanup.h"

#define MODULES_MAX    64
#define NAME_MAX_BYTES 64

/* agent_blob.S, made by the build */
extern const char initramfs_agent_start[], initramfs_agent_end[];

void initramfs_agent(const void **data, size_t *len)
{
    *data = initramfs_agent_start;
    *len = (size_t)(initramfs_agent_end - initramfs_agent_start);
}

/*
 * A module's length without the signature that is appended to it (include/linux/module_signature.h: the
 * signature, 12 bytes of which the last four are its length, big-endian, and the mark).
 *
 * The kernel checks a signature that is there, and where nothing enforces signatures takes a module
 * that has none. The check buys nothing here, as whoever writes this initramfs chooses the kernel too,
 * and it is most of the time that loading takes: the first one alone brings up and self-tests the
 * kernel's RSA.
 */
static size_t unsigned_len(const uint8_t *data, size_t len)
{
    static const char MARK[] = "~Module signature appended~\n";
    const size_t mark = sizeof(MARK) - 1, info = 12;
    if (len < mark + info || memcmp(data + len - mark, MARK, mark) != 0)
        return len;
    const uint8_t *p = data + len - mark - 4;
    size_t signature = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
    return signature <= len - mark - info ? len - mark - info - signature : len;
}

static int add_modules(struct cpio *c, const struct initramfs_module *modules, size_t count,
                       struct dayfly_err *err)
{
    char list[MODULES_MAX * (NAME_MAX_BYTES + 32)];
    char path[NAME_MAX_BYTES + 32];
    size_t len = 0;
    if (count > MODULES_MAX)
        return err_set(err, E2BIG, "initramfs: %zu modules, at most %d", count, MODULES_MAX);
    for (size_t i = 0; i < count; i++) {
        const char *name = modules[i].name;
        if (!name[0] || strlen(name) > NAME_MAX_BYTES || name[0] == '.' || strpbrk(name, "/\n"))
            return err_set(err, EINVAL, "initramfs: '%s' is no module's name", name);
        snprintf(path, sizeof(path), "lib/modules/%s.ko", name);
        int r = cpio_add_file(c, path, 0600, modules[i].data,
                              unsigned_len(modules[i].data, modules[i].len), err);
        if (r < 0)
            return r;
        len += (size_t)snprintf(list + len, sizeof(list) - len, "/%s\n", path);
    }
    return cpio_add_file(c, "lib/modules/load", 0600, list, len, err);
}

static int add_all(struct cpio *c, const struct initramfs_module *modules, size_t count,
                   struct dayfly_err *err)
{
    static const char *const DIRS[] = {"dev", "proc", "sys", "lib", "lib/modules"};
    const void *agent;
    size_t agent_len;
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(DIRS); i++)
        r = cpio_add_dir(c, DIRS[i], 0755, err);
    if (r == 0)
        r = cpio_add_node(c, "dev/console", S_IFCHR | 0600, 5, 1, err);
    initramfs_agent(&agent, &agent_len);
    if (r == 0)
        r = cpio_add_file(c, "init", 0700, agent, agent_len, err);
    return r < 0 ? r : add_modules(c, modules, count, err);
}

int initramfs_build(const struct initramfs_module *modules, size_t count, int *memfd,
                    struct dayfly_err *err)
{
    _cleanup_(cpio_abandon) struct cpio c;
    int r = cpio_init(&c, err);
    if (r == 0)
        r = add_all(&c, modules, count, err);
    if (r == 0)
        r = cpio_finish(&c, memfd, err);
    return r;
}
