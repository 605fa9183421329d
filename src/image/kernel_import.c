/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel from a Debian package into the store. The package streams by once: the kernel and the
 * modules are spooled to nameless files, then unpacked and chosen into a directory below tmp/, which a
 * rename makes the kernel.
 */
#include "image/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arch/x86_64/kernel_image.h"
#include "image/deb.h"
#include "image/kernel_modules.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/json.h"
#include "util/tree.h"

#define VMLINUZ_MAX_BYTES (UINT64_C(256) << 20)
#define BUILTIN_MAX_BYTES (1u << 20)

/* What has been seen of the package. */
struct package {
    char release[KERNEL_NAME_BYTES];         /* from boot/vmlinuz-RELEASE */
    char modules_release[KERNEL_NAME_BYTES]; /* from lib/modules/RELEASE/ */
    struct store_file vmlinuz, spooled;
    struct module_spool spool;
};

/* ---- reading the package ---- */

static int take_vmlinuz(struct package *p, const char *release, struct deb_file *file,
                        struct dayfly_err *err)
{
    if (p->release[0])
        return err_set(err, EINVAL, "the package holds more than one kernel");
    if (!kernel_name_ok(release))
        return err_set(err, EINVAL, "refused: the package's kernel is called \"%.80s\"", release);
    if (file->size > VMLINUZ_MAX_BYTES)
        return err_set(err, EFBIG, "the package's kernel is larger than %llu MiB",
                       (unsigned long long)(VMLINUZ_MAX_BYTES >> 20));
    strcpy(p->release, release);
    char buf[65536];
    ssize_t n;
    while ((n = deb_file_read(file, buf, sizeof(buf), err)) > 0) {
        int rc = store_file_write(&p->vmlinuz, buf, (size_t)n, err);
        if (rc)
            return rc;
    }
    return (int)n;
}

static int take_builtin(struct package *p, struct deb_file *file, struct dayfly_err *err)
{
    if (file->size > BUILTIN_MAX_BYTES || p->spool.builtin)
        return err_set(err, EINVAL,
                       "refused: the package's modules.builtin is too large, or there are two");
    char *text = calloc(1, file->size + 1);
    if (!text)
        return err_errno(err, ENOMEM, "modules.builtin");
    p->spool.builtin = text;
    for (size_t at = 0; at < file->size;) {
        ssize_t n = deb_file_read(file, text + at, file->size - at, err);
        if (n <= 0)
            return n < 0 ? (int)n : err_set(err, EBADMSG, "modules.builtin is cut short");
        at += (size_t)n;
    }
    return 0;
}

static int visit(void *opaque, struct deb_file *file, struct dayfly_err *err)
{
    static const char kernel[] = "boot/vmlinuz-", modules[] = "lib/modules/";
    struct package *p = opaque;
    const char *path = file->path;
    if (!strncmp(path, kernel, strlen(kernel)))
        return take_vmlinuz(p, path + strlen(kernel), file, err);
    if (!strncmp(path, "usr/", 4)) /* where newer packages have it */
        path += 4;
    if (strncmp(path, modules, strlen(modules)) != 0)
        return 0;
    const char *release = path + strlen(modules);
    size_t len = strcspn(release, "/");
    if (len == 0 || len >= KERNEL_NAME_BYTES || !release[len])
        return 0;
    if (!p->modules_release[0])
        memcpy(p->modules_release, release, len);
    if (strlen(p->modules_release) != len || memcmp(p->modules_release, release, len) != 0)
        return err_set(err, EINVAL, "the package holds modules of more than one kernel");
    if (!strcmp(release + len, "/modules.builtin"))
        return take_builtin(p, file, err);
    return module_path(path) ? module_spool_add(&p->spool, file, err) : 0;
}

static int read_package(const char *path, struct package *p, struct digest *digest,
                        struct dayfly_err *err)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(err, errno, "cannot read %.150s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "%.150s is not a file", path);
    int rc = digest_of_fd(fd, digest, NULL);
    if (rc)
        return err_errno(err, -rc, "cannot read %.150s", path);
    rc = deb_read(fd, visit, p, err);
    if (!rc && !p->release[0])
        rc = err_set(err, ENOENT,
                     "the package holds no boot/vmlinuz-*; a metapackage's Depends line names "
                     "the one that does");
    if (!rc && strcmp(p->release, p->modules_release) != 0)
        rc = err_set(err, ENOENT, "the package holds no modules of its kernel %s", p->release);
    return rc;
}

/* ---- writing the directory ---- */

static int create(int dir_fd, const char *name, struct dayfly_err *err)
{
    int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);
    if (fd < 0)
        return err_errno(err, errno, "cannot create %s in the store", name);
    fchmod(fd, 0444); /* whatever the umask: a QEMU that is nobody reads it */
    return fd;
}

/* Write, sync, close. */
static int write_file(int dir_fd, const char *name, const void *data, size_t len,
                      struct dayfly_err *err)
{
    _cleanup_close_ int fd = create(dir_fd, name, err);
    if (fd < 0)
        return fd;
    int rc = io_write_full(fd, data, len);
    if (!rc && fsync(fd) < 0)
        rc = -errno;
    return rc ? err_errno(err, -rc, "cannot write %s to the store", name) : 0;
}

/* The digest over everything: of the lines "DIGEST NAME\n", vmlinux first, then the modules as they
 * load. */
struct total {
    struct hasher hasher;
};

static void total_add(struct total *total, const struct digest *digest, const char *name)
{
    char line[DIGEST_STR_BYTES + KERNEL_NAME_BYTES + 2], text[DIGEST_STR_BYTES];
    int n = snprintf(line, sizeof(line), "%s %s\n", digest_str(digest, text), name);
    hasher_add(&total->hasher, line, (size_t)n);
}

static int write_vmlinux(int dir_fd, int vmlinuz_fd, json_t *doc, struct total *total,
                         struct dayfly_err *err)
{
    char text[DIGEST_STR_BYTES];
    struct digest digest;
    uint64_t size;
    _cleanup_close_ int fd = create(dir_fd, "vmlinux", err);
    if (fd < 0)
        return fd;
    int rc = kernel_image_unpack(vmlinuz_fd, fd, err);
    if (rc)
        return rc;
    rc = digest_of_fd(fd, &digest, &size);
    if (!rc && fsync(fd) < 0)
        rc = -errno;
    if (rc)
        return err_errno(err, -rc, "cannot write vmlinux to the store");
    total_add(total, &digest, "vmlinux");
    json_object_set_new(
        doc, "vmlinux",
        json_pack("{s:s, s:I}", "sha256", digest_str(&digest, text), "size", (json_int_t)size));
    return 0;
}

static int write_modules(int dir_fd, const struct kernel_module *modules, size_t count, json_t *doc,
                         struct total *total, struct dayfly_err *err)
{
    if (mkdirat(dir_fd, "modules", 0700) < 0)
        return err_errno(err, errno, "cannot create a directory in the store");
    _cleanup_close_ int modules_fd = openat(dir_fd, "modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    json_t *list = json_array();
    json_object_set_new(doc, "modules", list);
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++) {
        char name[KERNEL_NAME_BYTES + 32], text[DIGEST_STR_BYTES];
        struct digest digest;
        snprintf(name, sizeof(name), "%02zu-%s.ko", i, modules[i].name);
        rc = write_file(modules_fd, name, modules[i].data, modules[i].len, err);
        if (rc)
            break;
        digest_of(modules[i].data, modules[i].len, &digest);
        total_add(total, &digest, modules[i].name);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I}", "name", modules[i].name, "for",
                                              modules[i].sake, "sha256", digest_str(&digest, text),
                                              "size", (json_int_t)modules[i].len));
    }
    if (!rc && fsync(modules_fd) < 0)
        rc = err_errno(err, errno, "cannot sync a directory of the store");
    return rc;
}

static int write_all(int dir_fd, const struct package *p, const char *path, const struct digest *source,
                     struct dayfly_err *err)
{
    char text[DIGEST_STR_BYTES], imported[40];
    struct kernel_module *modules = NULL;
    size_t count = 0;
    struct total total;
    struct digest digest;
    time_t now = time(NULL);
    struct tm tm;
    const char *slash = strrchr(path, '/');
    strftime(imported, sizeof(imported), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    _cleanup_json_ json_t *doc =
        json_pack("{s:i, s:s, s:s, s:{s:s%, s:s}}", "schema", 1, "release", p->release, "imported",
                  imported, "source", "file", slash ? slash + 1 : path,
                  strlen(slash ? slash + 1 : path), "sha256", digest_str(source, text));
    if (!doc)
        return err_errno(err, ENOMEM, "kernel");
    hasher_begin(&total.hasher);
    int rc = write_vmlinux(dir_fd, p->vmlinuz.fd, doc, &total, err);
    if (!rc)
        rc = kernel_modules_choose(&p->spool, &modules, &count, err);
    if (!rc)
        rc = write_modules(dir_fd, modules, count, doc, &total, err);
    kernel_modules_free(modules, count);
    if (rc)
        return rc;
    hasher_digest(&total.hasher, &digest);
    json_object_set_new(doc, "digest", json_string(digest_str(&digest, text)));
    _cleanup_free_ char *json = json_dumps(doc, JSON_INDENT(2));
    if (!json)
        return err_errno(err, ENOMEM, "kernel");
    rc = write_file(dir_fd, "kernel.json", json, strlen(json), err);
    if (!rc && fsync(dir_fd) < 0)
        rc = err_errno(err, errno, "cannot sync a directory of the store");
    return rc;
}

/* Make the temporary directory the kernel `name`; what was there takes the temporary's place. The
 * exclusive lock is held. */
static int put_in_place(struct store *store, const char *temp, const char *name, struct dayfly_err *err)
{
    if (renameat(store->tmp_fd, temp, store->kernels_fd, name) < 0 &&
        renameat2(store->tmp_fd, temp, store->kernels_fd, name, RENAME_EXCHANGE) < 0)
        return err_errno(err, errno, "cannot put the kernel %s into %s", name, store->path);
    if (fsync(store->kernels_fd) < 0)
        return err_errno(err, errno, "cannot sync %s/kernels", store->path);
    return 0;
}

static int mark(struct store *store, const char *name, struct store_file *file, struct dayfly_err *err)
{
    return store_file_commit(store, file, store->kernels_fd, ".default", err);
}

static int import_package(struct store *store, const char *path, const char *name, struct package *p,
                          struct store_file *marker, char out_name[KERNEL_NAME_BYTES],
                          struct dayfly_err *err)
{
    struct digest source;
    char temp[40];
    int rc = read_package(path, p, &source, err);
    if (rc)
        return rc;
    if (!name)
        name = p->release;
    if (marker) {
        rc = store_file_begin(store, marker, err);
        if (!rc)
            rc = store_file_write(marker, name, strlen(name), err);
        if (!rc)
            rc = store_file_finish(marker, false, err);
        if (rc)
            return rc;
    }
    _cleanup_close_ int dir_fd = store_temp_dir(store, temp, err);
    if (dir_fd < 0)
        return dir_fd;
    rc = write_all(dir_fd, p, path, &source, err);
    if (!rc)
        rc = store_lock_exclusive(store, err);
    if (!rc) {
        rc = put_in_place(store, temp, name, err);
        if (!rc && marker)
            rc = mark(store, name, marker, err);
        store_unlock(store);
    }
    tree_remove(store->tmp_fd, temp);
    if (!rc && out_name)
        strcpy(out_name, name);
    return rc;
}

int kernel_import_deb(struct store *store, const char *path, const char *name, bool mark_default,
                      char out_name[KERNEL_NAME_BYTES], const struct log *log, struct dayfly_err *err)
{
    if (name && !kernel_name_ok(name))
        return err_set(err, EINVAL,
                       "\"%.80s\" cannot be a kernel's name: letters, digits and . + _ ~ - "
                       "only",
                       name);
    struct package p = {0};
    struct store_file marker = {0};
    log_line(log, LOG_INFO, "reading %s", path);
    int rc = store_file_begin(store, &p.vmlinuz, err);
    if (!rc)
        rc = store_file_begin(store, &p.spooled, err);
    if (!rc) {
        p.spool.fd = p.spooled.fd;
        rc = import_package(store, path, name, &p, mark_default ? &marker : NULL, out_name, err);
        if (rc)
            err_wrap(err, "%.80s", strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
    }
    module_spool_finish(&p.spool);
    store_file_discard(store, &p.vmlinuz);
    store_file_discard(store, &p.spooled);
    store_file_discard(store, &marker);
    return rc;
}
