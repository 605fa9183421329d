/* SPDX-License-Identifier: Apache-2.0 */
#include "image/root.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "image/scratch.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/late.h"
#include "util/program.h"
#include "util/tree.h"

#define EROFS_SUPER_OFFSET 1024
#define EROFS_MAGIC        0xE0F5E1E2u

/* In the child: what the job needs, and what went wrong. */
struct job {
    const struct root_source *source;
    int out_fd;
};

/* ---- extraction, in a process of its own behind a chroot ---- */

struct extraction {
    int rc;
    struct layer_extracted extracted;
    struct dayfly_err err;
};

static int extract_here(const struct root_source *source, bool whole, struct layer_extracted *out,
                        struct dayfly_err *err)
{
    umask(0);
    /* For layers that say nothing about the root itself. */
    if (chmod(".", 0755) < 0 || chown(".", 0, 0) < 0)
        return err_errno(err, errno, "root directory");
    return layer_extract(source->layers, source->layer_count, &LAYER_LIMITS, source->epoch, whole, out,
                         err);
}

static void extract_child(const struct job *job, const struct scratch_place *place, int report_fd)
{
    struct extraction result = {0};
    /* The second wall, behind libarchive's own refusals: nothing outside has a name. */
    bool walled = chdir(place->dir) == 0 && chroot(".") == 0;
    if (!walled && chdir(place->dir) < 0)
        result.rc = err_errno(&result.err, errno, "chdir");
    else
        result.rc = extract_here(job->source, place->whole, &result.extracted, &result.err);
    io_write_full(report_fd, &result, sizeof(result));
    _exit(0);
}

static int extract(const struct job *job, const struct scratch_place *place,
                   struct layer_extracted *out, struct dayfly_err *err)
{
    int report[2], status;
    struct extraction result;
    if (pipe2(report, O_CLOEXEC) < 0)
        return err_errno(err, errno, "pipe");
    pid_t pid = fork();
    if (pid == 0)
        extract_child(job, place, report[1]);
    close(report[1]);
    ssize_t n = pid > 0 ? io_read_full(report[0], &result, sizeof(result)) : -1;
    close(report[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (n != sizeof(result))
        return err_set(err, ECHILD, "the extraction was killed; is memory short?");
    *out = result.extracted;
    if (result.rc && err)
        *err = result.err;
    return result.rc;
}

/* ---- packing ---- */

static void uuid_of(const struct digest *identity, char out[37])
{
    uint8_t b[16];
    memcpy(b, identity->bytes, sizeof(b));
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x80); /* RFC 9562, version 8: made by our own rule */
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
}

static int pack(const struct job *job, const struct scratch_place *place, int64_t newest,
                struct dayfly_err *err)
{
    char out[40], time[32], uuid[37];
    /* The output has no name: mkfs.erofs opens it through /proc. */
    int inherited = fcntl(job->out_fd, F_DUPFD, 3);
    if (inherited < 0)
        return err_errno(err, errno, "dup");
    snprintf(out, sizeof(out), "/proc/self/fd/%d", inherited);
    /* The file system's own time, and the limit of its files': no file is later, so all keep theirs.
     * The option -T would give its time to all of them. */
    snprintf(time, sizeof(time), "%lld", (long long)MAX(newest, 0));
    setenv("SOURCE_DATE_EPOCH", time, 1);
    uuid_of(&job->source->identity, uuid);
    const char *const argv[] = {"mkfs.erofs", "--quiet", "-U", uuid, out, place->dir, NULL};
    const struct program program = {
        .argv = argv, .package = "erofs-utils", .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    int rc = program_run(&program, err);
    close(inherited);
    return rc;
}

/* On disk the tree has to go as well, and from inside: its owners may be ids that only this namespace
 * has. */
static void empty_dir(const char *dir)
{
    char name[PATH_MAX];
    snprintf(name, sizeof(name), "%s", dir);
    char *slash = strrchr(name, '/');
    _cleanup_close_ int parent = -1;
    *slash = '\0';
    parent = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent >= 0)
        tree_remove(parent, slash + 1);
}

static int derive_in_child(void *opaque, const struct scratch_place *place, void *result,
                           struct dayfly_err *err)
{
    const struct job *job = opaque;
    struct layer_extracted extracted = {0};
    int rc = extract(job, place, &extracted, err);
    bool extracts = !rc;
    if (!rc)
        rc = pack(job, place, extracted.newest, err);
    /* It looks for what it has cut by a byte. */
    if (rc && extracts && extracted.long_names)
        err_wrap(err, "there are names of %d bytes, which mkfs.erofs 1.5 cannot write", NAME_MAX);
    if (!place->in_memory)
        empty_dir(place->dir);
    memcpy(result, &extracted, sizeof(extracted));
    return rc;
}
static_assert(sizeof(struct layer_extracted) <= SCRATCH_RESULT_BYTES, "carried in the result");

static int attempt(const struct scratch_options *options, const struct job *job,
                   struct layer_extracted *out, struct dayfly_err *err)
{
    struct scratch scratch;
    uint8_t result[SCRATCH_RESULT_BYTES];
    if (ftruncate(job->out_fd, 0) < 0)
        return err_errno(err, errno, "cannot write to the store");
    int rc = scratch_start(&scratch, options, derive_in_child, (void *)job, err);
    if (!rc)
        rc = scratch_wait(&scratch, result, err);
    if (!rc)
        memcpy(out, result, sizeof(*out));
    return rc;
}

int root_derive(struct store *store, const struct root_source *source, struct store_file *out,
                const struct log *log, struct dayfly_err *err)
{
    const struct job job = {.source = source, .out_fd = out->fd};
    struct layer_extracted extracted = {0};
    char dir[PATH_MAX], name[40];

    /* Always a directory of our own: without namespaces "in memory" quietly becomes "on disk". */
    _cleanup_close_ int held = store_temp_dir(store, name, err);
    if (held < 0)
        return held;
    snprintf(dir, sizeof(dir), "%s/tmp/%s", store->path, name);
    struct scratch_options options = {.dir = dir};
    int rc = late_archive(err); /* behind the chroot it could not be found */
    if (rc < 0)
        return rc;
    rc = attempt(&options, &job, &extracted, err);
    if (rc == -ENOSPC || rc == -ENOMEM || rc == -ECHILD || rc == -EOPNOTSUPP) {
        log_line(log, LOG_INFO, "not enough room in memory, extracting on disk");
        if (mkdirat(store->tmp_fd, name, 0700) < 0 && errno != EEXIST)
            return err_errno(err, errno, "cannot create a directory in %s/tmp", store->path);
        options.on_disk = true;
        rc = attempt(&options, &job, &extracted, err);
    }
    tree_remove(store->tmp_fd, name);
    if (rc) {
        err_wrap(err, geteuid() != 0 && rc != -EBADMSG
                          ? "cannot make the root file system; for files of other owners be root, or "
                            "have subordinate ids (/etc/subuid, the package uidmap)"
                          : "cannot make the root file system");
        return rc;
    }
    if (extracted.devices)
        log_line(log, LOG_WARN,
                 "%llu device nodes were left out: only root may make them (a sandbox has "
                 "its own /dev)",
                 (unsigned long long)extracted.devices);
    if (extracted.attributes)
        log_line(log, LOG_WARN,
                 "extended attributes or ACLs of %llu files were left out: only root may "
                 "set them",
                 (unsigned long long)extracted.attributes);
    rc = store_file_finish(out, true, err);
    return rc ? rc : root_check(out->fd, 0, err);
}

int root_check(int fd, uint64_t bytes, struct dayfly_err *err)
{
    uint32_t magic = 0;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "root file system");
    if (bytes && (uint64_t)st.st_size != bytes)
        return err_set(err, EBADMSG, "the root file system has %lld bytes instead of %llu",
                       (long long)st.st_size, (unsigned long long)bytes);
    if (io_pread_full(fd, &magic, sizeof(magic), EROFS_SUPER_OFFSET) != sizeof(magic) ||
        le32toh(magic) != EROFS_MAGIC)
        return err_set(err, EBADMSG, "the root file system is not an EROFS image");
    return 0;
}
