/* SPDX-License-Identifier: Apache-2.0 */
#include "image/kernel_modules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/deb.h"
#include "image/modinfo.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"

#define SPOOL_MAX_MODULES 20000u
#define SPOOL_MAX_BYTES   (UINT64_C(4) << 30)
#define MAX_DEPTH         16 /* of dependencies; Debian's deepest is 5 */

/* What the agent needs before it can load anything from the root, and what a sandbox without a network
 * or a module tree of its own would never get. */
static const struct wanted {
    const char *name;
    bool required;
} wanted[] = {
    {"virtio_pci", true},
    {"virtio_mmio", false},               /* QEMU's microvm */
    {"vmw_vsock_virtio_transport", true}, /* the way to the host */
    {"virtio_blk", true},
    {"crc32c_intel", false}, /* before the file systems that sum by it */
    {"erofs", true},
    {"overlay", true},
    {"ext4", true},
    {"virtio_console", false},
    {"virtio_rng", false},
    {"button", false}, /* the ACPI power button: a guest that can be asked to stop */
    {"af_packet", false},
    {"virtio_net", false},
    {"fuse", false},
    {"virtiofs", false},
    {"virtio_balloon", false},
};

/* The extent of a module's name within its path: ".../virtio-rng.ko.xz" -> "virtio-rng". */
static const char *name_part(const char *path, size_t *len)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const char *suffix = strstr(name, ".ko");
    *len = suffix ? (size_t)(suffix - name) : 0;
    return name;
}

bool module_path(const char *path)
{
    static const char *const suffixes[] = {".ko", ".ko.xz", ".ko.zst", ".ko.gz"};
    size_t len = strlen(path);
    for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++) {
        size_t n = strlen(suffixes[i]);
        if (len > n && !strcmp(path + len - n, suffixes[i]))
            return true;
    }
    return false;
}

int module_spool_add(struct module_spool *spool, struct deb_file *file, struct dayfly_err *err)
{
    size_t name_len;
    const char *name = name_part(file->path, &name_len);
    if (name_len == 0 || name_len >= KERNEL_NAME_BYTES || file->size > KERNEL_MODULE_MAX_BYTES)
        return err_set(err, EINVAL, "refused: the module %.100s is too large, or its name is",
                       file->path);
    if (spool->count == SPOOL_MAX_MODULES || spool->bytes + file->size > SPOOL_MAX_BYTES)
        return err_set(err, EFBIG, "refused: the package holds too many modules");
    if (spool->count == spool->room) {
        size_t room = spool->room ? 2 * spool->room : 256;
        struct spooled *bigger = realloc(spool->items, room * sizeof(*bigger));
        if (!bigger)
            return err_errno(err, ENOMEM, "modules");
        spool->items = bigger;
        spool->room = room;
    }
    struct spooled *item = &spool->items[spool->count];
    *item = (struct spooled){.offset = spool->bytes, .len = (size_t)file->size};
    for (size_t i = 0; i < name_len; i++)
        item->name[i] = name[i] == '-' ? '_' : name[i];

    char buf[16384];
    for (size_t left = item->len; left;) {
        ssize_t n = deb_file_read(file, buf, MIN(left, sizeof(buf)), err);
        if (n <= 0)
            return n < 0 ? (int)n : err_set(err, EBADMSG, "the module %.100s is cut short", file->path);
        int rc = io_pwrite_full(spool->fd, buf, (size_t)n, (off_t)spool->bytes);
        if (rc)
            return err_errno(err, -rc, "cannot write to the store");
        spool->bytes += (uint64_t)n;
        left -= (size_t)n;
    }
    spool->count++;
    return 0;
}

void module_spool_finish(struct module_spool *spool)
{
    free(spool->items);
    free(spool->builtin);
    *spool = (struct module_spool){.fd = -1};
}

/* ---- choosing ---- */

struct choice {
    const struct module_spool *spool;
    const char *sake; /* the wanted module under way */
    struct kernel_module *modules;
    size_t count;
};

static bool is_builtin(const struct module_spool *spool, const char *name, size_t len)
{
    for (const char *line = spool->builtin; line && *line;) {
        char path[256];
        size_t line_len = strcspn(line, "\n");
        if (line_len < sizeof(path)) {
            size_t have;
            memcpy(path, line, line_len);
            path[line_len] = '\0';
            const char *part = name_part(path, &have);
            char word[256];
            memcpy(word, part, have);
            word[have] = '\0';
            if (modinfo_same_name(name, len, word))
                return true;
        }
        line += line_len + (line[line_len] == '\n');
    }
    return false;
}

static const struct spooled *spooled_find(const struct module_spool *spool, const char *name,
                                          size_t len)
{
    for (size_t i = 0; i < spool->count; i++) {
        if (modinfo_same_name(name, len, spool->items[i].name))
            return &spool->items[i];
    }
    return NULL;
}

static int load(const struct module_spool *spool, const struct spooled *item, struct kernel_module *out,
                struct dayfly_err *err)
{
    _cleanup_free_ char *packed = malloc(item->len + 1);
    if (!packed)
        return err_errno(err, ENOMEM, "module %s", item->name);
    if (io_pread_full(spool->fd, packed, item->len, (off_t)item->offset) != (ssize_t)item->len)
        return err_set(err, EIO, "cannot read the module %s back", item->name);
    strcpy(out->name, item->name);
    int rc = deb_decompress(packed, item->len, KERNEL_MODULE_MAX_BYTES, &out->data, &out->len, err);
    if (rc)
        return err_wrap(err, "module %s", item->name);
    /* It comes from the host, which the guest has to believe anyway. */
    out->len = modinfo_unsigned_len(out->data, out->len);
    return 0;
}

static int choose(struct choice *choice, const char *name, size_t len, bool must, unsigned depth,
                  struct dayfly_err *err);

/* Choose each name in a list separated by commas or spaces, up to `end` characters. */
static int choose_list(struct choice *choice, const char *list, size_t end, bool must, unsigned depth,
                       struct dayfly_err *err)
{
    for (size_t at = 0; at < end;) {
        size_t len = strcspn(list + at, ", ");
        if (len > end - at)
            len = end - at;
        int rc = len ? choose(choice, list + at, len, must, depth, err) : 0;
        if (rc)
            return rc;
        at += len + (at + len < end);
    }
    return 0;
}

/* "pre: crc32c aes post: x": what comes before is wanted when there is such a thing. The names are
 * often aliases of the crypto interface, whose plain implementation is called X_generic. */
static int choose_soft(struct choice *choice, const char *soft, unsigned depth, struct dayfly_err *err)
{
    const char *pre = strstr(soft, "pre:");
    if (!pre)
        return 0;
    pre += strlen("pre:");
    const char *post = strstr(pre, "post:");
    return choose_list(choice, pre, post ? (size_t)(post - pre) : strlen(pre), false, depth, err);
}

static int choose(struct choice *choice, const char *name, size_t len, bool must, unsigned depth,
                  struct dayfly_err *err)
{
    for (size_t i = 0; i < choice->count; i++) {
        if (modinfo_same_name(name, len, choice->modules[i].name))
            return 0;
    }
    if (is_builtin(choice->spool, name, len))
        return 0;
    const struct spooled *item = spooled_find(choice->spool, name, len);
    char generic[KERNEL_NAME_BYTES + 8];
    if (!item && !must && len < KERNEL_NAME_BYTES) {
        memcpy(generic, name, len);
        strcpy(generic + len, "_generic");
        item = spooled_find(choice->spool, generic, strlen(generic));
    }
    if (!item)
        return must ? err_set(err, ENOENT,
                              "the kernel has no %.*s, neither built in nor as a module; "
                              "use Debian's linux-image-*-cloud-amd64",
                              (int)len, name)
                    : 0;
    /* Also what ends a circle of dependencies. */
    if (depth == MAX_DEPTH)
        return err_set(err, ELOOP, "the dependencies of the module %s go too deep", item->name);

    struct kernel_module module = {0};
    snprintf(module.sake, sizeof(module.sake), "%s", choice->sake);
    int rc = load(choice->spool, item, &module, err);
    if (rc)
        return rc;
    const char *depends = modinfo_get(module.data, module.len, "depends", NULL);
    if (!depends)
        rc = err_set(err, EBADMSG, "module %s is no kernel module", item->name);
    else
        rc = choose_list(choice, depends, strlen(depends), true, depth + 1, err);
    for (const char *soft = NULL;
         !rc && (soft = modinfo_get(module.data, module.len, "softdep", soft));)
        rc = choose_soft(choice, soft, depth + 1, err);
    if (!rc && choice->count == KERNEL_MAX_MODULES)
        rc = err_set(err, EFBIG, "the guest would need more than %u modules", KERNEL_MAX_MODULES);
    if (rc)
        free(module.data);
    else
        choice->modules[choice->count++] = module;
    return rc;
}

int kernel_modules_choose(const struct module_spool *spool, struct kernel_module **out, size_t *count,
                          struct dayfly_err *err)
{
    struct choice choice = {.spool = spool,
                            .modules = calloc(KERNEL_MAX_MODULES, sizeof(*choice.modules))};
    int rc = choice.modules ? 0 : err_errno(err, ENOMEM, "modules");
    for (size_t i = 0; !rc && i < ARRAY_SIZE(wanted); i++) {
        choice.sake = wanted[i].name;
        rc = choose(&choice, wanted[i].name, strlen(wanted[i].name), wanted[i].required, 0, err);
    }
    if (rc) {
        kernel_modules_free(choice.modules, choice.count);
        return rc;
    }
    *out = choice.modules;
    *count = choice.count;
    return 0;
}

void kernel_modules_free(struct kernel_module *modules, size_t count)
{
    for (size_t i = 0; modules && i < count; i++)
        free(modules[i].data);
    free(modules);
}
