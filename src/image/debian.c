/* SPDX-License-Identifier: Apache-2.0 */
#include "image/debian.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/apt_sources.h"
#include "image/scratch.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/io.h"
#include "util/meminfo.h"
#include "util/program.h"

/* A chroot with a compiler takes 0.6 GiB and apt's downloads as much for a while. */
#define MEMORY_WANTED (UINT64_C(2) << 30)

/* The host's settings for fetching packages, for as long as mmdebstrap runs. mmdebstrap points apt at
 * the chroot by APT_CONFIG. */
#define HOST_SETTINGS "/etc/apt/apt.conf.d/00dayfly-host"
#define SETUP_HOOK                                                                                     \
    "--setup-hook=env -u APT_CONFIG apt-config dump | grep '^Acquire::' >\"$1\"" HOST_SETTINGS " || :"
/* mmdebstrap copies the host's resolv.conf and hostname for the packages' scripts. */
#define CUSTOMIZE_HOOK                                                                                 \
    "--customize-hook=rm -f \"$1\"" HOST_SETTINGS " \"$1\"/etc/resolv.conf \"$1\"/etc/hostname"

struct job {
    const struct debian_options *options;
    int tar_fd;     /* write end */
    int sources_fd; /* lines of a sources.list, or -1 */
    int64_t epoch;
};

static int run_mmdebstrap(void *opaque, const struct scratch_place *place, void *result,
                          struct dayfly_err *err)
{
    const struct job *job = opaque;
    char include[4096], epoch[24];
    const char *argv[16];
    unsigned n = 0;
    (void)result;
    if (place->in_memory && chmod(place->dir, 01777) < 0)
        return err_errno(err, errno, "chmod %s", place->dir);
    snprintf(epoch, sizeof(epoch), "%lld", (long long)job->epoch);
    setenv("TMPDIR", place->dir, 1);
    setenv("SOURCE_DATE_EPOCH", epoch, 1);
    setenv("DEBIAN_FRONTEND", "noninteractive", 1);

    argv[n++] = "mmdebstrap";
    argv[n++] = "--variant=minbase";
    argv[n++] = geteuid() == 0 ? "--mode=root" : "--mode=auto";
    argv[n++] = "--format=tar";
    argv[n++] = SETUP_HOOK;
    argv[n++] = CUSTOMIZE_HOOK;
    if (job->options->include) {
        snprintf(include, sizeof(include), "--include=%s", job->options->include);
        argv[n++] = include;
    }
    argv[n++] = job->options->suite;
    argv[n++] = "-";
    if (job->sources_fd >= 0)
        argv[n++] = "-";
    argv[n] = NULL;
    const struct program program = {.argv = argv,
                                    .package = "mmdebstrap",
                                    .stdin_fd = job->sources_fd,
                                    .stdout_fd = job->tar_fd,
                                    .stderr_fd = job->options->show_progress ? 2 : -1};
    return program_run(&program, err);
}

/* The host's sources in an anonymous file, at its beginning; *out stays -1 when there are none. */
static int open_sources(const char *suite, int *out, struct dayfly_err *err)
{
    char release[APT_RELEASE_BYTES];
    _cleanup_free_ char *text = NULL;
    if (!apt_sources_host(release))
        return 0;
    int rc = apt_sources_collect("/etc/apt", release, suite, &text, err);
    if (rc || !text[0])
        return rc;
    _cleanup_close_ int fd = memfd_create("sources.list", MFD_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "memfd");
    rc = io_write_full(fd, text, strlen(text));
    if (rc || lseek(fd, 0, SEEK_SET) < 0)
        return err_errno(err, rc ? -rc : errno, "memfd");
    *out = steal_fd(&fd);
    return 0;
}

static int check_options(const struct debian_options *options, struct dayfly_err *err)
{
    static const char suite_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789.-";
    static const char package_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789.+-:=~_,";
    struct oci_ref ref;
    const char *suite = options->suite, *include = options->include;
    int rc = oci_ref_parse(options->name, &ref, err);
    if (rc || ref.by_digest)
        return rc ? rc : err_set(err, EINVAL, "an image is built under a name, not a digest");
    if (!suite[0] || strlen(suite) > 64 || suite[0] == '-' ||
        strspn(suite, suite_chars) != strlen(suite))
        return err_set(err, EINVAL, "\"%.60s\" is no Debian release; write for example bookworm",
                       suite);
    if (include && (strlen(include) > 4000 || include[0] == '-' ||
                    strspn(include, package_chars) != strlen(include)))
        return err_set(err, EINVAL, "\"%.80s\" is no list of packages; write for example gcc,make",
                       include);
    return 0;
}

int debian_build(struct store *store, const struct debian_options *options,
                 char out_digest[DIGEST_STR_BYTES], const struct log *log, struct dayfly_err *err)
{
    static const char *const cmd[] = {"/bin/bash", NULL};
    char comment[512];
    int pipe_fds[2];
    time_t now = time(NULL);
    struct job job = {.options = options, .sources_fd = -1};
    int rc = check_options(options, err);
    if (!rc)
        rc = image_epoch(now - now % (24 * 60 * 60), &job.epoch, err);
    if (!rc)
        rc = open_sources(options->suite, &job.sources_fd, err);
    if (rc)
        return rc;
    _cleanup_close_ int sources_fd = job.sources_fd;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return err_errno(err, errno, "pipe");
    _cleanup_close_ int read_fd = pipe_fds[0], write_fd = pipe_fds[1];
    job.tar_fd = write_fd;
    log_line(log, LOG_INFO, "installing Debian %s%s%s", options->suite,
             options->include ? " with " : "", options->include ? options->include : "");

    struct scratch scratch;
    const struct scratch_options place = {
        .dir = "/tmp", .on_disk = meminfo_budget() < MEMORY_WANTED, .own_ids = geteuid() != 0};
    rc = scratch_start(&scratch, &place, run_mmdebstrap, &job, err);
    if (rc)
        return rc;
    close_fd(&write_fd);

    snprintf(comment, sizeof(comment), "dayfly image build --debian %s%s%s", options->suite,
             options->include ? " --include " : "", options->include ? options->include : "");
    const struct image_config config = {.cmd = cmd, .comment = comment, .epoch = job.epoch};
    struct dayfly_err import_err = {0}, build_err = {0};
    /* A stream that ends early has the reason at the other end; a whole one is followed by a success.
     */
    rc = image_import(store, options->name, "mmdebstrap's output", read_fd, &config, out_digest, log,
                      &import_err);
    close_fd(&read_fd);
    int build_rc = scratch_wait(&scratch, NULL, &build_err);
    if (build_rc) {
        if (err)
            *err = build_err;
        return build_rc;
    }
    if (rc && err)
        *err = import_err;
    return rc;
}
