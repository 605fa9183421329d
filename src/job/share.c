/* SPDX-License-Identifier: Apache-2.0 */
#include "job/share.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/text.h"
#include "util/units.h"

static_assert((int)CONFIG_MAX_SHARES <= PROTO_MOUNTS_MAX, "the agent mounts every share");

/* -- reading ---------------------------------------------------------------------------------- */

/* The value behind "NAME=", or NULL when `option` is not of that name. */
static const char *value_of(const char *option, const char *name)
{
    size_t len = strlen(name);
    return strncmp(option, name, len) == 0 && option[len] == '=' ? option + len + 1 : NULL;
}

/* The index of `word` in `words`, or -1. */
static int index_of(const char *const *words, const char *word)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    return -1;
}

static int parse_id(const char *text, uint32_t *out, struct dayfly_err *err)
{
    uint64_t number;
    int r = units_parse_number(text, 0, UINT32_MAX - 1, &number, err);
    if (r == 0)
        *out = (uint32_t)number;
    return r;
}

static int parse_option(struct job_share *share, const char *option, struct dayfly_err *err)
{
    const char *value;
    int i = index_of(config_mode_words, option);
    if (i >= 0) {
        share->mode = (enum dayfly_share_mode)i;
    } else if (strcmp(option, "writeback") == 0) {
        share->writeback = true;
    } else if (strcmp(option, "xattr") == 0) {
        share->xattr = true;
    } else if ((value = value_of(option, "dax"))) {
        return units_parse_size(value, &share->window_bytes, err);
    } else if ((value = value_of(option, "changes"))) {
        free(share->changes);
        if (!(share->changes = strdup(value)))
            return err_set(err, ENOMEM, "out of memory");
    } else if ((value = value_of(option, "cache"))) {
        if ((i = index_of(config_cache_words, value)) < 0)
            return err_set(err, EINVAL, "cache is auto, none or always, and not \"%.40s\"", value);
        share->cache = (enum dayfly_share_cache)i;
    } else if ((value = value_of(option, "ids"))) {
        if ((i = index_of(config_ids_words, value)) < 0 || i == DAYFLY_SHARE_MAP)
            return err_set(err, EINVAL, "ids is squash or identity, and not \"%.40s\"", value);
        share->ids = (enum dayfly_share_ids)i;
    } else if ((value = value_of(option, "shown_uid"))) {
        return parse_id(value, &share->shown_uid, err);
    } else if ((value = value_of(option, "shown_gid"))) {
        return parse_id(value, &share->shown_gid, err);
    } else {
        return err_set(err, EINVAL,
                       "\"%.40s\" is no option; there are ro, rw, cow, changes=DIR, "
                       "cache=auto|none|always, writeback, xattr, dax=SIZE, ids=squash|identity, "
                       "shown_uid=N and shown_gid=N",
                       option);
    }
    return 0;
}

/* Options that contradict each other. */
static int check_options(const struct job_share *share, struct dayfly_err *err)
{
    if (share->writeback && share->cache == DAYFLY_SHARE_CACHE_NONE)
        return err_set(err, EINVAL,
                       "with cache=none there is nothing to gather writes in: leave out "
                       "writeback");
    if (!config_window_fits(share->window_bytes))
        return err_set(err, EINVAL, "dax is a power of two from 2MiB to 16GiB, such as dax=1GiB");
    if (share->window_bytes && share->mode == DAYFLY_SHARE_COW)
        return err_set(err, EINVAL, "files of cow cannot be mapped from the host: leave out dax");
    if (share->window_bytes && share->cache == DAYFLY_SHARE_CACHE_NONE)
        return err_set(err, EINVAL, "dax does not go with cache=none: leave one of the two out");
    if (share->changes && (share->mode != DAYFLY_SHARE_COW || !*share->changes))
        return err_set(err, EINVAL, "changes=DIR names where the difference of cow is kept");
    if (share->ids != DAYFLY_SHARE_SQUASH && (share->shown_uid || share->shown_gid))
        return err_set(err, EINVAL, "shown_uid and shown_gid count only with ids=squash");
    if (share->ids != DAYFLY_SHARE_SQUASH && geteuid() != 0)
        return err_set(err, EPERM, "only root can take the ids of others: leave out ids=%s",
                       config_ids_words[share->ids]);
    return 0;
}

static int parse_options(struct job_share *share, char *options, struct dayfly_err *err)
{
    for (char *rest = options, *option; (option = strsep(&rest, ","));) {
        int r = parse_option(share, option, err);
        if (r < 0)
            return r;
    }
    return check_options(share, err);
}

/* Whether `path` is `at`, or below it. */
static bool is_within(const char *path, const char *at)
{
    size_t len = strlen(at);
    return strncmp(path, at, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* What the agent mounts before; a share there would take the system's ground away. */
static int check_place(const char *path, struct dayfly_err *err)
{
    static const char *const system[] = {"/proc", "/sys", "/dev"};
    if (!path[0])
        return err_set(err, EINVAL, "the guest's root is the image's: name a place below it");
    for (size_t i = 0; i < ARRAY_SIZE(system); i++)
        if (is_within(path, system[i]))
            return err_set(err, EINVAL, "%s belongs to the guest's kernel: take another place",
                           system[i]);
    if (strcmp(path, "/run") == 0)
        return err_set(err, EINVAL, "/run belongs to the guest's system: take a place below it");
    return 0;
}

/* "//a/./b/" is "/a/b". */
int job_share_parse_place(const char *text, char out[PROTO_PATH_BYTES], struct dayfly_err *err)
{
    _cleanup_free_ char *printable = strdup(text);
    if (!printable)
        return err_set(err, ENOMEM, "out of memory");
    text_make_printable(printable);
    if (strcmp(printable, text) != 0)
        return err_set(err, EINVAL,
                       "the place in the guest has to be UTF-8, without control characters");
    size_t used = 0;
    while (*text) {
        text += strspn(text, "/");
        size_t len = strcspn(text, "/");
        if (len == 2 && memcmp(text, "..", 2) == 0)
            return err_set(err, EINVAL, "the place in the guest has \"..\" in it: write where it is");
        if (len && !(len == 1 && *text == '.')) {
            if (used + 1 + len >= PROTO_PATH_BYTES)
                return err_set(err, ENAMETOOLONG, "the place in the guest is longer than %d bytes",
                               PROTO_PATH_BYTES - 1);
            out[used++] = '/';
            memcpy(out + used, text, len);
            used += len;
        }
        text += len;
    }
    out[used] = '\0';
    return check_place(out, err);
}

static int parse(struct job_share *share, const char *word, struct dayfly_err *err)
{
    _cleanup_free_ char *copy = strdup(word);
    if (!copy)
        return err_set(err, ENOMEM, "out of memory");
    char *options = NULL, *place = strrchr(copy, ':');
    if (place && place[1] != '/') {
        options = place + 1;
        *place = '\0';
        place = strrchr(copy, ':');
    }
    if (!place || place[1] != '/')
        return err_set(err, EINVAL, "write SRC:DST, with DST as an absolute path in the guest");
    *place = '\0';
    if (!*copy)
        return err_set(err, EINVAL, "the directory of the host is missing: write SRC:DST");
    share->source = strdup(copy);
    if (!share->source)
        return err_set(err, ENOMEM, "out of memory");
    int r = job_share_parse_place(place + 1, share->path, err);
    return r < 0 || !options ? r : parse_options(share, options, err);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct job_share *)a)->path, ((const struct job_share *)b)->path);
}

int job_shares_parse(const char *const *words, size_t count, struct job_share **out,
                     struct dayfly_err *err)
{
    *out = NULL;
    if (count > CONFIG_MAX_SHARES)
        return err_set(err, EINVAL, "%zu shares are too many: at most %d", count, CONFIG_MAX_SHARES);
    struct job_share *shares = calloc(count + 1, sizeof(*shares));
    if (!shares)
        return err_set(err, ENOMEM, "out of memory");
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++)
        if ((r = parse(&shares[i], words[i], err)) < 0)
            err_wrap(err, "share %s", words[i]);
    if (r == 0)
        qsort(shares, count, sizeof(*shares), by_path);
    for (size_t i = 1; i < count && r == 0; i++)
        if (strcmp(shares[i - 1].path, shares[i].path) == 0)
            r = err_set(err, EINVAL, "two shares at %s: give each its own place", shares[i].path);
    if (r < 0)
        job_shares_free(shares, count);
    else
        *out = shares;
    return r;
}

void job_shares_free(struct job_share *shares, size_t count)
{
    for (size_t i = 0; shares && i < count; i++) {
        free(shares[i].source);
        free(shares[i].changes);
    }
    free(shares);
}

/* -- using ------------------------------------------------------------------------------------ */

int job_share_open(const struct job_share *share, struct dayfly_err *err)
{
    int rw = share->mode == DAYFLY_SHARE_RW ? W_OK : 0;
    _cleanup_close_ int fd = open(share->source, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, ENOENT, "share %s: there is no folder of that name", share->source);
    if (fd < 0 && errno == ENOTDIR && access(share->source, F_OK) == 0)
        return err_set(err, ENOTDIR, "share %s: it is a file; share the folder that it is in",
                       share->source);
    if (fd < 0)
        return err_errno(err, errno, "share %s", share->source);
    if (faccessat(fd, ".", R_OK | X_OK | rw, AT_EACCESS) == 0)
        return steal_fd(&fd);
    if (errno == EROFS)
        return err_set(err, EROFS, "share %s: its file system is read-only; share it :ro",
                       share->source);
    if (rw && errno == EACCES && faccessat(fd, ".", R_OK | X_OK, AT_EACCESS) == 0)
        return err_set(err, EACCES, "share %s: user %u may not write there; share it :ro",
                       share->source, (unsigned)geteuid());
    return err_errno(err, errno, "share %s", share->source);
}

/* What the device is called. It has to fit the agent's message. */
static void write_tag(char tag[PROTO_SERIAL_BYTES], size_t index)
{
    snprintf(tag, PROTO_SERIAL_BYTES, "share%u", (unsigned)index);
}

int job_shares_describe(const struct job_share *shares, const int *fds, size_t count,
                        struct dayfly_config *config, struct dayfly_err *err)
{
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++) {
        struct dayfly_share share = DAYFLY_SHARE_INIT;
        struct dayfly_share_directory directory = DAYFLY_SHARE_DIRECTORY_INIT;
        char tag[PROTO_SERIAL_BYTES];
        write_tag(tag, i);
        directory.fd = fds[i];
        directory.mode = shares[i].mode;
        directory.changes = shares[i].changes;
        directory.ids = shares[i].ids;
        directory.shown_uid = shares[i].shown_uid;
        directory.shown_gid = shares[i].shown_gid;
        share.tag = tag;
        share.directories = &directory;
        share.directory_count = 1;
        share.cache = shares[i].cache;
        share.writeback = shares[i].writeback;
        share.window_bytes = shares[i].window_bytes;
        share.xattr = shares[i].xattr;
        r = dayfly_config_add_share(config, &share);
    }
    return r < 0 ? err_errno(err, -r, "describe the machine") : 0;
}

void job_shares_mount(const struct job_share *shares, size_t count, struct proto_setup *setup)
{
    for (size_t i = 0; i < count; i++) {
        struct proto_mount *mount = &setup->mounts[setup->mount_count++];
        *mount = (struct proto_mount){.disk.fstype = "virtiofs"};
        write_tag(mount->disk.serial, i);
        memcpy(mount->path, shares[i].path, sizeof(mount->path));
        if (shares[i].mode == DAYFLY_SHARE_RO)
            mount->flags = PROTO_MOUNT_READONLY;
    }
}
