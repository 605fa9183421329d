/* SPDX-License-Identifier: Apache-2.0 */
#include "collect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/record.h"
#include "proto/wire.h"
#include "util/cleanup.h"
#include "util/io.h"

#define OPEN_FLAGS (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC)

struct collector {
    int fd;
    uint32_t pattern;
    int error;                            /* of fd; then nothing more is written */
    const char *place;                    /* of the match in the guest */
    dev_t dev;                            /* of the match */
    char name[PROTO_RECORD_NAME_MAX + 1]; /* below the match */
    uint8_t piece[4 + PROTO_PIECE_MAX];
};

static void put(struct collector *c, const void *bytes, size_t len)
{
    if (!c->error)
        c->error = io_write_full(c->fd, bytes, len);
}

static void record(struct collector *c, enum proto_record_kind kind, mode_t mode, const char *name,
                   const char *text)
{
    uint8_t head[PROTO_RECORD_BYTES];
    size_t name_len = strnlen(name, PROTO_RECORD_NAME_MAX),
           text_len = strnlen(text, PROTO_RECORD_NAME_MAX);
    const struct proto_record r = {
        .kind = (uint16_t)kind, .mode = (uint16_t)(mode & 0777), .pattern = c->pattern};
    proto_record_put(head, &r, name_len, text_len);
    put(c, head, sizeof(head));
    put(c, name, name_len);
    put(c, text, text_len);
}

/* About what is at c->name. */
static void note(struct collector *c, const char *why)
{
    char path[2 * PATH_MAX];
    snprintf(path, sizeof(path), "%s%s%s", c->place, c->name[0] ? "/" : "", c->name);
    record(c, PROTO_RECORD_NOTE, 0, path, why);
}

static void put_file(struct collector *c, int fd, const struct stat *st)
{
    char changed[PROTO_RECORD_TIME_BYTES];
    proto_record_time_put(changed, &st->st_mtim);
    record(c, PROTO_RECORD_FILE, st->st_mode, c->name, changed);
    ssize_t n;
    do {
        n = read(fd, c->piece + 4, PROTO_PIECE_MAX);
        if (n > 0) {
            wire_store32(c->piece, (uint32_t)n);
            put(c, c->piece, 4 + (size_t)n);
        }
    } while ((n > 0 || (n < 0 && errno == EINTR)) && !c->error);
    wire_store32(c->piece, 0);
    wire_store32(c->piece + 4, n < 0 ? (uint32_t)errno : 0);
    put(c, c->piece, 8);
}

static void put_link(struct collector *c, int dir, const char *leaf)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dir, leaf, target, sizeof(target) - 1);
    if (n < 0) {
        note(c, strerror(errno));
        return;
    }
    target[n] = '\0';
    if (proto_record_link_stays(c->name, target))
        record(c, PROTO_RECORD_LINK, 0, c->name, target);
    else
        note(c, "a link that leads out of the directory");
}

static void put_directory(struct collector *c, int fd, mode_t mode, int depth);

/* What stands at c->name, `leaf` of dir. */
static void put_entry(struct collector *c, int dir, const char *leaf, int depth)
{
    struct stat st;
    if (fstatat(dir, leaf, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        note(c, strerror(errno));
        return;
    }
    if (S_ISLNK(st.st_mode)) {
        put_link(c, dir, leaf);
        return;
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        note(c, "neither a file nor a directory");
        return;
    }
    /* It may be another thing by now; what was opened counts. */
    int fd = openat(dir, leaf, OPEN_FLAGS);
    if (fd < 0 || fstat(fd, &st) < 0)
        note(c, strerror(errno));
    else if (S_ISREG(st.st_mode))
        put_file(c, fd, &st);
    else if (!S_ISDIR(st.st_mode))
        note(c, "neither a file nor a directory");
    else if (st.st_dev != c->dev)
        note(c, "another file system");
    else if (depth >= PROTO_RECORD_DEPTH)
        note(c, "too many directories within each other");
    else
        put_directory(c, steal_fd(&fd), st.st_mode, depth);
    close_fd(&fd);
}

/* Takes fd. */
static void put_directory(struct collector *c, int fd, mode_t mode, int depth)
{
    size_t len = strlen(c->name);
    record(c, PROTO_RECORD_DIR, mode, c->name, "");
    DIR *dir = fdopendir(fd);
    if (!dir) {
        note(c, strerror(errno));
        close(fd);
        return;
    }
    for (struct dirent *e; !c->error && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (len + 1 + strlen(e->d_name) > PROTO_RECORD_NAME_MAX) {
            note(c, "a name in it is too long");
            continue;
        }
        sprintf(c->name + len, "%s%s", len ? "/" : "", e->d_name);
        put_entry(c, dirfd(dir), e->d_name, depth + 1);
        c->name[len] = '\0';
    }
    closedir(dir);
}

/* The last component of a path, which "." and ".." have only once they are resolved. */
static const char *call(const char *path, char resolved[PATH_MAX])
{
    size_t len;
    snprintf(resolved, PATH_MAX, "%s", path);
    while ((len = strlen(resolved)) > 1 && resolved[len - 1] == '/')
        resolved[len - 1] = '\0';
    const char *name = strrchr(resolved, '/');
    name = name ? name + 1 : resolved;
    if (*name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        return name;
    if (!realpath(path, resolved) || !resolved[1])
        return "root";
    return strrchr(resolved, '/') + 1;
}

static void put_match(struct collector *c, const char *path)
{
    char resolved[PATH_MAX];
    struct stat st;
    c->place = path;
    c->name[0] = '\0';
    /* Here a link is followed: it is what was asked for by name. */
    if (stat(path, &st) < 0) {
        note(c, strerror(errno));
        return;
    }
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        note(c, "neither a file nor a directory");
        return;
    }
    int fd = open(path, OPEN_FLAGS & ~O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0) {
        note(c, strerror(errno));
    } else {
        c->dev = st.st_dev;
        record(c, PROTO_RECORD_MATCH, 0, call(path, resolved), path);
        if (S_ISREG(st.st_mode))
            put_file(c, fd, &st);
        else if (S_ISDIR(st.st_mode))
            put_directory(c, steal_fd(&fd), st.st_mode, 0);
    }
    close_fd(&fd);
}

static void put_pattern(struct collector *c, const char *pattern)
{
    struct stat st;
    glob_t found = {0};
    if (lstat(pattern, &st) == 0)
        put_match(c, pattern); /* also a name with a bracket in it */
    else if (glob(pattern, 0, NULL, &found) != 0 || !found.gl_pathc)
        record(c, PROTO_RECORD_MISSING, 0, "", "");
    for (size_t i = 0; i < found.gl_pathc && !c->error; i++)
        put_match(c, found.gl_pathv[i]);
    globfree(&found);
}

int collect(int fd, const char *const *patterns, uint32_t count)
{
    struct collector *c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    c->fd = fd;
    for (c->pattern = 0; c->pattern < count && !c->error; c->pattern++)
        put_pattern(c, patterns[c->pattern]);
    c->pattern = 0;
    record(c, PROTO_RECORD_DONE, 0, "", "");
    int r = c->error;
    free(c);
    return r;
}
