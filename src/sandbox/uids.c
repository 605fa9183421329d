/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See uids.h. The file "uids" of the run directory: byte 0 is locked while one is chosen, byte 1 + UID
 * for its lease; its content is the id to try next, in decimal. All locks are of the open file
 * description (F_OFD_SETLK), so they belong to nobody's process and go with the last descriptor.
 */
#include "sandbox/uids.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/err.h"
#include "util/home.h"
#include "util/io.h"

#define ACCOUNTS_BYTES (4u << 20)

/* -- the range ---------------------------------------------------------------------------------------
 */

int uids_parse_range(const char *text, uid_t *first, uid_t *last, struct dayfly_err *err)
{
    unsigned long a, b;
    char end;
    if (sscanf(text, "%10lu-%10lu%c", &a, &b, &end) != 2 || a > b || b >= INT_MAX)
        return err_set(err, EINVAL, "DAYFLY_USER_RANGE is \"%.40s\": say FIRST-LAST, such as %u-%u",
                       text, UIDS_DEFAULT_FIRST, UIDS_DEFAULT_LAST);
    if (a < UIDS_LOWEST)
        return err_set(err, EINVAL, "DAYFLY_USER_RANGE begins at %lu: ids below %u are the system's", a,
                       UIDS_LOWEST);
    *first = (uid_t)a;
    *last = (uid_t)b;
    return 0;
}

/* The number in field `field` of the line, counted from 0. */
static bool number_at(const char *line, unsigned field, unsigned long *out)
{
    for (; field > 0; field--) {
        line = strpbrk(line, ":\n");
        if (!line || *line == '\n')
            return false;
        line++;
    }
    char *end;
    *out = strtoul(line, &end, 10);
    return end != line;
}

static void copy_name(char name[64], const char *line)
{
    size_t len = strcspn(line, ":\n");
    snprintf(name, 64, "%.*s", (int)(len < 63 ? len : 63), line);
}

bool uids_in_passwd(const char *text, uid_t first, uid_t last, char name[64])
{
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        unsigned long id;
        copy_name(name, line);
        if (number_at(line, 2, &id) && id >= first && id <= last)
            return true;
    }
    return false;
}

bool uids_in_subids(const char *text, uid_t first, uid_t last, char name[64])
{
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        unsigned long start, count;
        copy_name(name, line);
        if (number_at(line, 1, &start) && number_at(line, 2, &count) && count > 0 && start <= last &&
            start + (count - 1) >= first)
            return true;
    }
    return false;
}

static int check_range(const struct uids *uids, struct dayfly_err *err)
{
    static const struct {
        const char *path;
        bool (*has)(const char *text, uid_t first, uid_t last, char name[64]);
    } files[] = {
        {"/etc/passwd", uids_in_passwd},
        {"/etc/group", uids_in_passwd},
        {"/etc/subuid", uids_in_subids},
        {"/etc/subgid", uids_in_subids},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        _cleanup_free_ char *text = NULL;
        char name[64];
        int r = io_read_file(AT_FDCWD, files[i].path, ACCOUNTS_BYTES, &text, NULL);
        if (r < 0 && r != -ENOENT)
            return err_errno(err, -r, "%s, to see that the ids for jobs are nobody's", files[i].path);
        if (r == 0 && files[i].has(text, uids->first, uids->last, name))
            return err_set(err, EINVAL,
                           "the ids %u-%u for jobs meet those of %s in %s: set DAYFLY_USER_RANGE to a "
                           "range that is nobody's",
                           uids->first, uids->last, name, files[i].path);
    }
    return 0;
}

/* -- leases ------------------------------------------------------------------------------------------
 */

static int open_locks(const char *dir)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/uids", dir);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
}

int uids_open(struct uids *uids, const char *dir, struct dayfly_err *err)
{
    *uids = (struct uids){.first = UIDS_DEFAULT_FIRST, .last = UIDS_DEFAULT_LAST, .fd = -1};
    const char *range = getenv("DAYFLY_USER_RANGE");
    int r = range && *range ? uids_parse_range(range, &uids->first, &uids->last, err) : 0;
    if (r < 0 || (r = check_range(uids, err)) < 0 || (r = home_make_dirs(dir, 0700, err)) < 0)
        return r;
    uids->fd = open_locks(dir);
    return uids->fd < 0 ? err_errno(err, errno, "open %s/uids", dir) : 0;
}

void uids_close(struct uids *uids)
{
    if (uids->fd > 0)
        close_fd(&uids->fd);
}

static int lock_byte(int fd, off_t at, short type, int command)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    int r;
    do
        r = fcntl(fd, command, &lock);
    while (r < 0 && errno == EINTR);
    return r;
}

static off_t byte_of(uid_t uid)
{
    return (off_t)uid + 1;
}

static uid_t read_next(const struct uids *uids)
{
    char text[16] = "";
    if (pread(uids->fd, text, sizeof(text) - 1, 0) < 0)
        return uids->first;
    unsigned long next = strtoul(text, NULL, 10);
    return next >= uids->first && next <= uids->last ? (uid_t)next : uids->first;
}

/* What cannot be written only costs the turn. */
static void write_next(const struct uids *uids, uid_t next)
{
    char text[16];
    int n = snprintf(text, sizeof(text), "%-10u\n", next);
    (void)!pwrite(uids->fd, text, (size_t)n, 0);
}

/* An open file description of its own: the lease goes with it and with nothing else. */
static int open_again(const struct uids *uids)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", uids->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* 0; -EBUSY; or why it cannot be known. */
static int lock_uid(int fd, uid_t uid)
{
    if (lock_byte(fd, byte_of(uid), F_WRLCK, F_OFD_SETLK) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

int uids_take_this(const struct uids *uids, uid_t uid)
{
    _cleanup_close_ int fd = open_again(uids);
    int r = fd < 0 ? fd : lock_uid(fd, uid);
    return r < 0 ? r : steal_fd(&fd);
}

int uids_take(struct uids *uids, uid_t *uid, struct dayfly_err *err)
{
    _cleanup_close_ int fd = open_again(uids);
    if (fd < 0)
        return err_errno(err, -fd, "lock the ids for jobs");
    if (lock_byte(uids->fd, 0, F_WRLCK, F_OFD_SETLKW) < 0)
        return err_errno(err, errno, "lock the ids for jobs");
    uid_t count = uids->last - uids->first + 1, start = read_next(uids);
    int r = -EBUSY;
    for (uid_t i = 0; i < count && r == -EBUSY; i++) {
        *uid = uids->first + (start - uids->first + i) % count;
        r = lock_uid(fd, *uid);
    }
    if (r == 0)
        write_next(uids, *uid + 1);
    lock_byte(uids->fd, 0, F_UNLCK, F_OFD_SETLK);
    if (r == -EBUSY)
        return err_set(err, EBUSY, "all %u ids for jobs are in use; DAYFLY_USER_RANGE gives more",
                       count);
    return r < 0 ? err_errno(err, -r, "lock an id for the job") : steal_fd(&fd);
}
