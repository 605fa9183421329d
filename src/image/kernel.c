/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that are in the store: open, list, remove. kernel_import.c brings them in. */
#include "image/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/initramfs.h"
#include "image/kernel_modules.h"
#include "image/store_impl.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/json.h"
#include "util/nearest.h"
#include "util/tree.h"

#define KERNEL_JSON_MAX (256u << 10)

bool kernel_name_ok(const char *name)
{
    static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    static const char rest[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.+_~-";
    size_t len = strlen(name);
    return len > 0 && len < KERNEL_NAME_BYTES && strchr(first, name[0]) && strspn(name, rest) == len;
}

/* ---- names ---- */

struct names {
    char (*names)[KERNEL_NAME_BYTES];
    size_t count;
};

static int collect(void *opaque, const char *name)
{
    struct names *names = opaque;
    if (!kernel_name_ok(name))
        return 0;
    void *bigger = realloc(names->names, (names->count + 1) * sizeof(*names->names));
    if (!bigger)
        return -ENOMEM;
    names->names = bigger;
    strcpy(names->names[names->count++], name);
    return 0;
}

static int by_version(const void *a, const void *b)
{
    return strverscmp(a, b);
}

/* All names, oldest version first. */
static int list_names(struct store *store, struct names *out, struct dayfly_err *err)
{
    *out = (struct names){0};
    int rc = store_each_name(store->kernels_fd, collect, out);
    if (rc) {
        free(out->names);
        return err_errno(err, -rc, "cannot read %s/kernels", store->path);
    }
    if (out->count)
        qsort(out->names, out->count, sizeof(*out->names), by_version);
    return 0;
}

/* The name that is marked as the default, "" when none is. */
static void read_mark(struct store *store, char out[KERNEL_NAME_BYTES])
{
    _cleanup_free_ char *text = NULL;
    out[0] = '\0';
    if (io_read_file(store->kernels_fd, ".default", KERNEL_NAME_BYTES - 1, &text, NULL))
        return;
    text[strcspn(text, "\n")] = '\0';
    if (kernel_name_ok(text))
        strcpy(out, text);
}

/* The default among the names; "" when there are none. */
static void default_name(struct store *store, const struct names *names, char out[KERNEL_NAME_BYTES])
{
    const char *newest = "", *newest_612 = NULL, *newest_own = NULL;
    read_mark(store, out);
    for (size_t i = 0; i < names->count; i++) {
        if (!strcmp(names->names[i], out))
            return;
        newest = names->names[i];
        if (!strncmp(newest, "6.12.", 5))
            newest_612 = newest;
        if (strstr(newest, KERNEL_OWN))
            newest_own = newest;
    }
    strcpy(out, newest_own ? newest_own : newest_612 ? newest_612 : newest);
}

static int none_yet(struct dayfly_err *err)
{
    return err_set(err, ENOENT,
                   "there is no kernel yet: `dayfly kernel import FILE.deb` takes one from "
                   "Debian's package linux-image-6.12.*-cloud-amd64");
}

static int unknown(const char *name, const struct names *names, struct dayfly_err *err)
{
    struct nearest near = nearest_to(name);
    for (size_t i = 0; i < names->count; i++)
        nearest_offer(&near, names->names[i]);
    if (near.best)
        return err_set(err, ENOENT, "there is no kernel \"%.80s\"; did you mean \"%s\"?", name,
                       near.best);
    return err_set(err, ENOENT, "there is no kernel \"%.80s\"; `dayfly kernel ls` lists them", name);
}

/* ---- opening ---- */

static int damaged(const char *name, struct dayfly_err *err)
{
    err_wrap(err, "the kernel %.60s cannot be used; import its package again", name);
    return -EBADMSG;
}

static json_t *read_json(int dir_fd, struct dayfly_err *err)
{
    _cleanup_free_ char *text = NULL;
    size_t len;
    int rc = io_read_file(dir_fd, "kernel.json", KERNEL_JSON_MAX, &text, &len);
    if (rc) {
        err_errno(err, -rc, "kernel.json");
        return NULL;
    }
    json_t *doc = oci_json_load(text, len, err);
    if (!doc)
        err_wrap(err, "kernel.json");
    return doc;
}

static int read_string(const json_t *doc, const char *key, char *out, size_t size,
                       struct dayfly_err *err)
{
    const char *value = json_string_value(json_object_get(doc, key));
    if (!value || strlen(value) >= size)
        return err_set(err, EBADMSG, "kernel.json has no usable \"%s\"", key);
    strcpy(out, value);
    return 0;
}

static int open_vmlinux(int dir_fd, const json_t *doc, int *out, struct dayfly_err *err)
{
    json_int_t size = json_integer_value(json_object_get(json_object_get(doc, "vmlinux"), "size"));
    char magic[4];
    struct stat st;
    _cleanup_close_ int fd = openat(dir_fd, "vmlinux", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "vmlinux");
    if (st.st_size != size || size <= 0)
        return err_set(err, EBADMSG, "vmlinux has %lld bytes instead of %lld", (long long)st.st_size,
                       (long long)size);
    if (io_pread_full(fd, magic, sizeof(magic), 0) != sizeof(magic) || memcmp(magic, "\177ELF", 4) != 0)
        return err_set(err, EBADMSG, "vmlinux is not an ELF file");
    *out = steal_fd(&fd);
    return 0;
}

static int read_module(int dir_fd, size_t index, const json_t *entry, struct kernel_module *out,
                       struct dayfly_err *err)
{
    char path[KERNEL_NAME_BYTES + 32], *data;
    const char *digest = json_string_value(json_object_get(entry, "sha256"));
    struct digest wanted, found;
    int rc = read_string(entry, "name", out->name, sizeof(out->name), err);
    if (!rc)
        rc = read_string(entry, "for", out->sake, sizeof(out->sake), err);
    if (rc)
        return rc;
    if (!kernel_name_ok(out->name) || !digest || !digest_parse(digest, &wanted))
        return err_set(err, EBADMSG, "kernel.json does not describe the module %zu", index);
    snprintf(path, sizeof(path), "modules/%02zu-%s.ko", index, out->name);
    rc = io_read_file(dir_fd, path, KERNEL_MODULE_MAX_BYTES, &data, &out->len);
    if (rc)
        return err_errno(err, -rc, "%s", path);
    out->data = data;
    digest_of(data, out->len, &found);
    if (!digest_equal(&found, &wanted))
        return err_set(err, EBADMSG, "%s is damaged: its content has another digest", path);
    return 0;
}

static int open_dir(int dir_fd, struct kernel *out, struct dayfly_err *err)
{
    _cleanup_json_ json_t *doc = read_json(dir_fd, err);
    if (!doc)
        return -EBADMSG;
    json_t *modules = json_object_get(doc, "modules");
    size_t count = json_array_size(modules);
    int rc = read_string(doc, "release", out->release, sizeof(out->release), err);
    if (!rc)
        rc = read_string(doc, "digest", out->digest, sizeof(out->digest), err);
    if (!rc && count > KERNEL_MAX_MODULES)
        rc = err_set(err, EBADMSG, "kernel.json lists too many modules");
    if (!rc)
        rc = open_vmlinux(dir_fd, doc, &out->vmlinux_fd, err);
    if (!rc && !(out->modules = calloc(count + 1, sizeof(*out->modules))))
        rc = err_errno(err, ENOMEM, "modules");
    for (size_t i = 0; !rc && i < count; i++) {
        out->module_count++;
        rc = read_module(dir_fd, i, json_array_get(modules, i), &out->modules[i], err);
    }
    return rc;
}

int kernel_open(struct store *store, const char *name, struct kernel *out, struct dayfly_err *err)
{
    struct names names;
    *out = (struct kernel){.vmlinux_fd = -1};
    int rc = store_lock_shared(store, err);
    if (rc)
        return rc;
    _cleanup_close_ int dir_fd = -1;
    rc = list_names(store, &names, err);
    if (!rc) {
        if (name)
            snprintf(out->name, sizeof(out->name), "%s", name);
        else
            default_name(store, &names, out->name);
        if (kernel_name_ok(out->name))
            dir_fd =
                openat(store->kernels_fd, out->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (dir_fd < 0)
            rc = names.count ? unknown(out->name, &names, err) : none_yet(err);
        free(names.names);
    }
    if (!rc && open_dir(dir_fd, out, err))
        rc = damaged(out->name, err);
    store_unlock(store);
    if (rc)
        kernel_finish(out);
    return rc;
}

void kernel_finish(struct kernel *kernel)
{
    kernel_modules_free(kernel->modules, kernel->module_count);
    if (kernel->vmlinux_fd > 0)
        close_fd(&kernel->vmlinux_fd);
    *kernel = (struct kernel){.vmlinux_fd = -1};
}

/* ---- booting ---- */

/* None of these shares a dependency with a driver behind it in kernel_modules.c's list: a dependency
 * counts as the first one's, and would be missing with it. */
static bool is_needed(const struct kernel_module *module, unsigned devices)
{
    static const struct {
        const char *driver;
        enum kernel_device device;
    } rows[] = {
        {"virtio_net", KERNEL_NET},
        {"virtiofs", KERNEL_SHARE},
        {"virtio_balloon", KERNEL_BALLOON},
        {"virtio_mmio", KERNEL_MMIO},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (!strcmp(module->sake, rows[i].driver))
            return devices & rows[i].device;
    return true;
}

int kernel_initramfs(const struct kernel *kernel, unsigned devices, int *memfd, struct dayfly_err *err)
{
    struct initramfs_module modules[KERNEL_MAX_MODULES];
    size_t count = 0;
    for (size_t i = 0; i < kernel->module_count; i++) {
        const struct kernel_module *m = &kernel->modules[i];
        if (is_needed(m, devices))
            modules[count++] =
                (struct initramfs_module){.name = m->name, .data = m->data, .len = m->len};
    }
    return initramfs_build(modules, count, memfd, err);
}

/* ---- listing and removing ---- */

json_t *kernel_list(struct store *store, struct dayfly_err *err)
{
    struct names names;
    char chosen[KERNEL_NAME_BYTES];
    if (store_lock_shared(store, err))
        return NULL;
    json_t *out = NULL;
    if (list_names(store, &names, err) == 0) {
        out = json_array();
        default_name(store, &names, chosen);
        for (size_t i = 0; i < names.count; i++) {
            _cleanup_close_ int dir_fd = openat(store->kernels_fd, names.names[i],
                                                O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
            json_t *doc = dir_fd >= 0 ? read_json(dir_fd, NULL) : NULL;
            if (!doc)
                doc = json_pack("{s:b}", "damaged", 1);
            json_object_set_new(doc, "name", json_string(names.names[i]));
            json_object_set_new(doc, "default", json_boolean(!strcmp(names.names[i], chosen)));
            json_array_append_new(out, doc);
        }
        free(names.names);
    }
    store_unlock(store);
    return out;
}

int kernel_remove(struct store *store, const char *name, struct dayfly_err *err)
{
    struct names names;
    char temp[40], mark[KERNEL_NAME_BYTES];
    /* Moved out of sight in one step, then taken apart: a kill in between leaves a dead temporary. */
    _cleanup_close_ int held = store_temp_dir(store, temp, err);
    if (held < 0)
        return held;
    int rc = store_lock_exclusive(store, err);
    if (!rc) {
        if (!kernel_name_ok(name) || renameat(store->kernels_fd, name, store->tmp_fd, temp) < 0) {
            rc = list_names(store, &names, err);
            if (!rc) {
                rc = unknown(name, &names, err);
                free(names.names);
            }
        } else {
            read_mark(store, mark);
            if (!strcmp(mark, name))
                unlinkat(store->kernels_fd, ".default", 0);
        }
        store_unlock(store);
    }
    tree_remove(store->tmp_fd, temp);
    return rc;
}
