/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/source.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/apt_sources.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/home.h"
#include "util/io.h"
#include "util/program.h"
#include "util/tree.h"

/* Where it is fetched to, until it is whole. */
#define FRESH "fresh"

/* The one file NAME_*.orig.tar.* below `dir`. */
static int find_archive(const char *dir, const char *package, char out[PATH_MAX])
{
    char pattern[PATH_MAX];
    glob_t found;
    int n = snprintf(pattern, sizeof(pattern), "%s/%s_*.orig.tar.?z*", dir, package);
    if (n >= (int)sizeof(pattern) || glob(pattern, 0, NULL, &found))
        return -ENOENT;
    snprintf(out, PATH_MAX, "%s", found.gl_pathv[found.gl_pathc - 1]);
    globfree(&found);
    return 0;
}

/* Lines of a sources.list for binary packages, as those of sources. */
static int write_list(int dir_fd, struct dayfly_err *err)
{
    char release[APT_RELEASE_BYTES];
    _cleanup_free_ char *text = NULL;
    if (!apt_sources_host(release))
        return err_set(err, ENOENT, "this host is no Debian");
    int r = apt_sources_collect("/etc/apt", release, release, &text, err);
    if (r < 0)
        return r;
    if (!*text)
        return err_set(err, ENOENT, "this host's apt has no Debian mirror");
    _cleanup_close_ int fd =
        openat(dir_fd, "sources.list", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_errno(err, errno, "write apt's sources");
    for (char *rest = text, *line; (line = strtok_r(rest, "\n", &rest));)
        if (strncmp(line, "deb ", 4) == 0 && dprintf(fd, "deb-src %s\n", line + 4) < 0)
            return err_errno(err, errno, "write apt's sources");
    return 0;
}

/* apt-get with all of its state below `dir`; its progress goes to stderr where that is a terminal. */
static int apt(const char *dir, const char *const *words, struct dayfly_err *err)
{
    char options[3][PATH_MAX + 40];
    const char *argv[32] = {"apt-get", "--quiet", "--option", "Dir::Etc::SourceParts=-"};
    size_t n = 4;
    const char *const places[] = {"Dir::Etc::SourceList=%s/sources.list", "Dir::State::Lists=%s/lists",
                                  "Dir::Cache=%s/cache"};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        char *option = options[i];
        const char *rest = strstr(places[i], "%s");
        snprintf(option, sizeof(options[i]), "%.*s%s%s", (int)(rest - places[i]), places[i], dir,
                 rest + 2);
        argv[n++] = "--option";
        argv[n++] = option;
    }
    /* apt's own user may not reach the data directory. */
    argv[n++] = "--option";
    argv[n++] = "APT::Sandbox::User=root";
    while (*words)
        argv[n++] = *words++;
    argv[n] = NULL;
    const struct program program = {.argv = argv,
                                    .package = "apt",
                                    .stdin_fd = -1,
                                    .stdout_fd = isatty(STDERR_FILENO) ? STDERR_FILENO : -1,
                                    .stderr_fd = -1};
    return program_run(&program, err);
}

/* In `dir`, which is empty. */
static int fetch(const char *dir, const char *package, struct dayfly_err *err)
{
    /* Left alone it calls it a success when no mirror answers. */
    const char *const update[] = {"update", "--option", "APT::Update::Error-Mode=any", NULL};
    const char *const get[] = {"source", "--download-only", package, NULL};
    _cleanup_close_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0 || mkdirat(dir_fd, "lists", 0755) < 0 || mkdirat(dir_fd, "cache", 0755) < 0)
        return err_errno(err, errno, "make directories in %s", dir);
    int r = write_list(dir_fd, err);
    if (r < 0 || (r = apt(dir, update, err)) < 0)
        return r;
    /* It downloads to where it is. */
    _cleanup_close_ int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (here < 0 || fchdir(dir_fd) < 0)
        return err_errno(err, errno, "go to %s", dir);
    r = apt(dir, get, err);
    if (fchdir(here) < 0 && r == 0)
        r = err_errno(err, errno, "go back");
    return r;
}

/* Fetch it beside, and only then to where it will be looked for. */
static int fetch_whole(const char *dir, int dir_fd, const char *package, struct dayfly_err *err)
{
    char fresh[PATH_MAX], archive[PATH_MAX];
    if (snprintf(fresh, sizeof(fresh), "%s/" FRESH, dir) >= (int)sizeof(fresh))
        return err_set(err, ENAMETOOLONG, "the data directory's path is too long");
    tree_remove(dir_fd, FRESH); /* of one that was killed */
    if (mkdirat(dir_fd, FRESH, 0755) < 0)
        return err_errno(err, errno, "make %s", fresh);
    int r = fetch(fresh, package, err);
    if (r == 0 && find_archive(fresh, package, archive) < 0)
        r = err_set(err, ENOENT, "apt fetched none");
    if (r == 0 && renameat(AT_FDCWD, archive, dir_fd, strrchr(archive, '/') + 1) < 0)
        r = err_errno(err, errno, "move %s", archive);
    tree_remove(dir_fd, FRESH);
    return r;
}

int source_fetch(const char *package, void (*say)(void *opaque, const char *text), void *opaque,
                 char out[PATH_MAX], struct dayfly_err *err)
{
    char home[PATH_MAX], dir[PATH_MAX];
    int r = home_data_dir(home, sizeof(home), err);
    if (r < 0)
        return r;
    if (snprintf(dir, sizeof(dir), "%s/bench/sources", home) >= (int)sizeof(dir))
        return err_set(err, ENAMETOOLONG, "the data directory's path is too long");
    if (find_archive(dir, package, out) == 0)
        return 0;
    if ((r = home_make_dirs(dir, 0755, err)) < 0)
        return r;
    _cleanup_close_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0 || flock(dir_fd, LOCK_EX) < 0)
        return err_errno(err, errno, "%s", dir);
    /* Another one may have fetched it meanwhile. */
    if (find_archive(dir, package, out) == 0)
        return 0;
    if (say)
        say(opaque, "fetching sources by apt");
    if ((r = fetch_whole(dir, dir_fd, package, err)) < 0)
        return err_wrap(err, "cannot fetch the sources of %s, give others by --source", package);
    return find_archive(dir, package, out);
}
