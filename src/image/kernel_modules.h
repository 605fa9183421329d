/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_KERNEL_MODULES_H
#define IMAGE_KERNEL_MODULES_H

/*
 * Which modules of a kernel package the guest needs, and in which order they load.
 *
 * The package's modules are spooled, still compressed, to one nameless file while the package streams
 * by (a package's order is not a load order); then the wanted ones and what they depend on are read
 * back, depth first.
 */

#include "image/kernel.h"

/* A package's modules while it is read. */
struct module_spool {
    int fd;
    uint64_t bytes;
    struct spooled {
        char name[KERNEL_NAME_BYTES];
        uint64_t offset;
        size_t len;
    } * items;
    size_t count, room;
    char *builtin; /* the text of modules.builtin; NULL: there was none */
};

struct deb_file;

/* Spool the file under visit as the module of that path (".../x.ko[.xz|.zst|.gz]"). */
int module_spool_add(struct module_spool *spool, struct deb_file *file, struct dayfly_err *err);
void module_spool_finish(struct module_spool *spool); /* the fd stays the caller's */

/* True when `path` is that of a module file. */
bool module_path(const char *path);

/* Choose, decompress and order. *out is the caller's to free with kernel_modules_free. -ENOENT names a
 * driver that the guest cannot do without and the kernel does not have. */
int kernel_modules_choose(const struct module_spool *spool, struct kernel_module **out, size_t *count,
                          struct dayfly_err *err);
void kernel_modules_free(struct kernel_module *modules, size_t count);

#endif
