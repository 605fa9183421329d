/* SPDX-License-Identifier: Apache-2.0 */
#include "util/home.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/err.h"

static int join(char *out, size_t bytes, const char *variable, const char *base, const char *rest,
                struct dayfly_err *err)
{
    if (base[0] != '/')
        return err_set(err, EINVAL, "%s is \"%.80s\": set it to an absolute path", variable, base);
    int n = snprintf(out, bytes, "%s%s", base, rest);
    if (n < 0 || (size_t)n >= bytes)
        return err_set(err, ENAMETOOLONG, "%s is too long a path", variable);
    return 0;
}

/* An empty variable counts as unset (XDG Base Directory Specification). */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

int home_data_dir(char *out, size_t bytes, struct dayfly_err *err)
{
    const char *value;
    if ((value = variable("DAYFLY_HOME")))
        return join(out, bytes, "DAYFLY_HOME", value, "", err);
    if (geteuid() == 0)
        return join(out, bytes, "the data directory", "/var/lib/dayfly", "", err);
    if ((value = variable("XDG_DATA_HOME")))
        return join(out, bytes, "XDG_DATA_HOME", value, "/dayfly", err);
    if ((value = variable("HOME")))
        return join(out, bytes, "HOME", value, "/.local/share/dayfly", err);
    return err_set(err, ENOENT, "no place for images and kernels: set HOME or DAYFLY_HOME");
}

int home_run_dir(char *out, size_t bytes, struct dayfly_err *err)
{
    const char *value;
    if (geteuid() == 0)
        return join(out, bytes, "the run directory", "/run/dayfly", "", err);
    if ((value = variable("XDG_RUNTIME_DIR")))
        return join(out, bytes, "XDG_RUNTIME_DIR", value, "/dayfly", err);
    return err_set(err, ENOENT,
                   "no place for running sandboxes: XDG_RUNTIME_DIR is not set (log in through "
                   "systemd-logind, or set it to a private directory)");
}

int home_make_dirs(const char *path, unsigned mode, struct dayfly_err *err)
{
    char part[PATH_MAX];
    size_t len = strlen(path);
    if (len >= sizeof(part))
        return err_set(err, ENAMETOOLONG, "the path %.80s... is too long", path);
    memcpy(part, path, len + 1);
    for (size_t i = 1; i <= len; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        part[i] = '\0';
        if (mkdir(part, mode) < 0 && errno != EEXIST) {
            /* A parent that may not be written may still be there (EACCES, EROFS before EEXIST). */
            struct stat st;
            int code = errno;
            if (stat(part, &st) < 0 || !S_ISDIR(st.st_mode))
                return err_errno(err, code, "cannot create the directory %s", part);
        }
        if (i < len)
            part[i] = '/';
    }
    return 0;
}
