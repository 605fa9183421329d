/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations of the differential test: drawing, doing, printing.
 *
 * Names come from a small pool, so that operations meet what others left. Everything is opened with
 * O_NONBLOCK: a FIFO must not stop the test.
 */
#include "differential.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "manifest.h"

#define TRANSFER    16384 /* bytes of one read or write at most */
#define REACH       65536 /* files end there, about */
#define XATTR_NAMES 2

/* Most directories have these names, and most of the rest those, so that few paths lead nowhere. */
static const char *const DIRECTORIES[] = {"dir", "sub", "\xff\xfe not text"};
static const char *const FILES[] = {
    "a",
    "b",
    "c",
    "d",
    "e",
    "a-name-of-two-hundred-bytes-and-more--------------------------------------------------------------"
    "---"
    "--------------------------------------------------------------------------------------------------"
    "---",
};

static const int OPEN_FLAGS[] = {
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    O_RDWR | O_APPEND,
    O_RDWR | O_TRUNC,
    O_RDONLY | O_DIRECTORY,
    O_RDWR | O_NOFOLLOW,
    O_RDONLY | O_TRUNC,
};

static const unsigned MODES[] = {0644, 0600, 0666,  0755,  0777,  0700,
                                 0400, 0,    01777, 02775, 04755, 0640};

static const char *const TARGETS[] = {"a", "dir",      "../b",           "missing",
                                      ".", "sub/../a", "/nowhere/at/all"};

static const struct {
    const char *name;
    unsigned weight, paths;
    bool slot;
} KINDS[OP_KINDS] = {
    [OP_OPEN] = {"open", 30, 1, true},
    [OP_CREATE] = {"create", 50, 1, true},
    [OP_TMPFILE] = {"tmpfile", 4, 1, true},
    [OP_CLOSE] = {"close", 10, 0, true},
    [OP_MKDIR] = {"mkdir", 30, 1, false},
    [OP_RMDIR] = {"rmdir", 5, 1, false},
    [OP_UNLINK] = {"unlink", 15, 1, false},
    [OP_RENAME] = {"rename", 20, 2, false},
    [OP_EXCHANGE] = {"exchange", 6, 2, false},
    [OP_LINK] = {"link", 15, 2, false},
    [OP_LINK_SLOT] = {"link-open", 6, 1, true},
    [OP_SYMLINK] = {"symlink", 10, 1, false},
    [OP_READLINK] = {"readlink", 5, 1, false},
    [OP_MKFIFO] = {"mkfifo", 4, 1, false},
    [OP_CHMOD] = {"chmod", 12, 1, false},
    [OP_CHOWN] = {"chown", 10, 1, false},
    [OP_UTIMENS] = {"utimens", 25, 1, false},
    [OP_SET_XATTR] = {"setxattr", 10, 1, false},
    [OP_GET_XATTR] = {"getxattr", 8, 1, false},
    [OP_REMOVE_XATTR] = {"removexattr", 5, 1, false},
    [OP_LIST_XATTR] = {"listxattr", 5, 1, false},
    [OP_LIST] = {"list", 10, 1, false},
    [OP_STAT] = {"stat", 10, 1, false},
    [OP_READ] = {"read", 30, 0, true},
    [OP_WRITE] = {"write", 45, 0, true},
    [OP_TRUNCATE] = {"truncate", 15, 0, true},
    [OP_FALLOCATE] = {"fallocate", 6, 0, true},
    [OP_PUNCH] = {"punch", 6, 0, true},
    [OP_SEEK_END] = {"seek-end", 5, 0, true},
    [OP_FSYNC] = {"fsync", 5, 0, true},
    [OP_COPY] = {"copy", 8, 0, true},
    [OP_MAP_WRITE] = {"map-write", 8, 0, true},
    [OP_MAP_READ] = {"map-read", 8, 0, true},
    [OP_FLOCK] = {"flock", 6, 0, true},
    [OP_LOCK] = {"lock", 6, 0, true},
    [OP_UMASK] = {"umask", 2, 0, false},
};

bool operation_uses_slot(enum operation_kind kind)
{
    return KINDS[kind].slot;
}

unsigned operation_paths(enum operation_kind kind)
{
    return KINDS[kind].paths;
}

/* -- drawing ---------------------------------------------------------------------------------- */

static bool possible(enum operation_kind kind, const struct abilities *abilities)
{
    switch (kind) {
    case OP_TMPFILE:
        return abilities->tmpfile;
    case OP_EXCHANGE:
        return abilities->exchange;
    case OP_CHOWN:
        return abilities->owners;
    case OP_SET_XATTR:
    case OP_GET_XATTR:
    case OP_REMOVE_XATTR:
    case OP_LIST_XATTR:
        return abilities->xattr;
    case OP_FALLOCATE:
        return abilities->fallocate;
    case OP_PUNCH:
        return abilities->punch;
    case OP_MAP_WRITE:
    case OP_MAP_READ:
        return abilities->mmap;
    default:
        return true;
    }
}

static enum operation_kind draw_kind(struct random *random, const struct abilities *abilities)
{
    unsigned total = 0, at;

    for (unsigned kind = 0; kind < OP_KINDS; kind++)
        total += KINDS[kind].weight;
    for (;;) {
        unsigned kind = 0;

        at = (unsigned)random_below(random, total);
        while (at >= KINDS[kind].weight)
            at -= KINDS[kind++].weight;
        if (possible(kind, abilities))
            return kind;
    }
}

static const char *draw_name(struct random *random, bool directory)
{
    if (random_one_in(random, 8))
        directory = !directory;
    if (directory)
        return DIRECTORIES[random_below(random, sizeof DIRECTORIES / sizeof DIRECTORIES[0])];
    return FILES[random_below(random, sizeof FILES / sizeof FILES[0])];
}

static void draw_path(char path[static PATH_MAX_HERE], struct random *random, bool directory)
{
    unsigned above = (unsigned)random_below(random, 3);
    size_t used = 0;

    for (unsigned i = 0; i < above; i++)
        used += (size_t)snprintf(path + used, PATH_MAX_HERE - used, "%s/", draw_name(random, true));
    snprintf(path + used, PATH_MAX_HERE - used, "%s%s", draw_name(random, directory),
             random_one_in(random, 50) ? "/" : "");
}

/* Mostly small, at times at a page's edge, at times far. */
static uint64_t draw_offset(struct random *random)
{
    switch (random_below(random, 4)) {
    case 0:
        return random_below(random, 100);
    case 1:
        return (1 + random_below(random, 15)) * 4096 - 1 + random_below(random, 3);
    case 2:
        return random_below(random, 8192);
    default:
        return random_below(random, REACH);
    }
}

void operation_draw(struct operation *op, struct random *random, const struct abilities *abilities)
{
    op->kind = draw_kind(random, abilities);
    draw_path(op->path, random,
              op->kind == OP_MKDIR || op->kind == OP_RMDIR || op->kind == OP_TMPFILE ||
                  op->kind == OP_LIST);
    draw_path(op->other, random, false);
    op->slot = (unsigned)random_below(random, SLOTS);
    op->other_slot = (unsigned)random_below(random, SLOTS);
    op->offset = draw_offset(random);
    op->length =
        1 + (random_one_in(random, 2) ? random_below(random, 100) : random_below(random, TRANSFER));
    op->mode = MODES[random_below(random, sizeof MODES / sizeof MODES[0])];
    if (abilities->squash)
        op->mode = (op->mode & 01777) | 0700;
    op->choice = (unsigned)random_below(random, 1 << 16);
    op->who = abilities->owners && random_one_in(random, 3) ? 1 + (unsigned)random_below(random, 2) : 0;
    op->seconds = (int64_t)random_below(random, MANIFEST_NOW);
    op->nanoseconds = (long)random_below(random, 1000000000);
}

/* -- doing ------------------------------------------------------------------------------------ */

static struct outcome outcome(int64_t value)
{
    return (struct outcome){value, value == -1 ? errno : 0, 0};
}

static int slot_fd(const struct side *side, unsigned slot)
{
    return side->first_fd + (int)slot;
}

/* Put a descriptor into the operation's slot, in place of what was there. */
static struct outcome keep(const struct operation *op, const struct side *side, int fd)
{
    struct outcome result = outcome(fd < 0 ? -1 : 0);

    if (fd < 0)
        return result;
    if (dup3(fd, slot_fd(side, op->slot), O_CLOEXEC) < 0)
        unable_errno("dup");
    close(fd);
    return result;
}

static struct outcome run_open(const struct operation *op, const struct side *side)
{
    int flags =
        O_NONBLOCK | O_CLOEXEC | OPEN_FLAGS[op->choice % (sizeof OPEN_FLAGS / sizeof OPEN_FLAGS[0])];

    return keep(op, side, openat(side->root, op->path, flags));
}

static struct outcome run_create(const struct operation *op, const struct side *side)
{
    int flags = O_NONBLOCK | O_CLOEXEC | O_CREAT | (op->choice % 3 ? O_RDWR : O_WRONLY);

    if (op->choice / 3 % 3 == 0)
        flags |= O_EXCL;
    if (op->choice / 9 % 4 == 0)
        flags |= O_TRUNC;
    return keep(op, side, openat(side->root, op->path, flags, op->mode));
}

static struct outcome run_rename(const struct operation *op, const struct side *side, unsigned flags)
{
    return outcome(rename_flags(side->root, op->path, side->root, op->other, flags));
}

static struct outcome run_utimens(const struct operation *op, const struct side *side)
{
    struct timespec times[2] = {{op->seconds, op->nanoseconds}, {op->seconds, op->nanoseconds}};

    if (op->choice % 8 == 0)
        times[0].tv_nsec = UTIME_OMIT;
    if (op->choice % 8 == 1)
        times[1].tv_nsec = UTIME_NOW;
    return outcome(utimensat(side->root, op->path, times, op->choice % 2 ? AT_SYMLINK_NOFOLLOW : 0));
}

/* xattr calls take no directory. */
static struct outcome run_xattr(const struct operation *op, const struct side *side)
{
    char name[16], value[256];
    struct outcome result;
    ssize_t n;

    snprintf(name, sizeof name, "user.%u", op->choice % XATTR_NAMES);
    if (fchdir(side->root) < 0)
        return outcome(-1); /* its mode is drawn like any other's */
    if (op->kind == OP_SET_XATTR) {
        static const int flags[] = {0, 0, XATTR_CREATE, XATTR_REPLACE};

        pattern_fill(value, sizeof value, op->offset, 0);
        return outcome(lsetxattr(op->path, name, value, op->length % sizeof value,
                                 flags[op->choice / XATTR_NAMES % 4]));
    }
    if (op->kind == OP_REMOVE_XATTR)
        return outcome(lremovexattr(op->path, name));
    if (op->kind == OP_GET_XATTR) {
        n = lgetxattr(op->path, name, value, op->length % 3 ? sizeof value : op->length % 64);
        result = outcome(n);
        result.hash = hash_bytes(HASH_START, value, n > 0 && op->length % 64 ? (size_t)n : 0);
        return result;
    }
    n = llistxattr(op->path, value, sizeof value);
    result = outcome(n);
    for (const char *at = value; n > 0 && at < value + n; at += strlen(at) + 1)
        result.hash += hash_bytes(HASH_START, at, strlen(at)); /* in whatever order */
    return result;
}

static struct outcome run_list(const struct operation *op, const struct side *side)
{
    int fd = openat(side->root, op->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct outcome result = outcome(fd < 0 ? -1 : 0);
    DIR *dir;

    if (fd < 0)
        return result;
    dir = fdopendir(fd);
    if (!dir)
        unable_errno("fdopendir");
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir)); result.value++)
        result.hash += hash_bytes(HASH_START + entry->d_type, entry->d_name, strlen(entry->d_name));
    if (errno)
        result = outcome(-1);
    closedir(dir);
    return result;
}

/* Not that both stay as they are: that drops set-id bits too, which FUSE has no word for. */
static struct outcome run_chown(const struct operation *op, const struct side *side)
{
    unsigned uid = op->choice % 4, gid = op->choice / 4 % 3;

    return outcome(fchownat(side->root, op->path, uid == 3 ? (uid_t)-1 : 1000 + uid, 1000 + gid,
                            AT_SYMLINK_NOFOLLOW));
}

/* FUSE does not say who reserves or copies, hence whether set-id bits have to go: leave such files out.
 */
static bool has_set_id(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID));
}

static struct outcome run_fallocate(const struct operation *op, int fd)
{
    int mode = op->choice % 2 ? FALLOC_FL_KEEP_SIZE : 0;

    if (op->kind == OP_PUNCH)
        mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    if (has_set_id(fd))
        return (struct outcome){0};
    return outcome(fallocate(fd, mode, (off_t)op->offset, (off_t)op->length));
}

static struct outcome run_write(const struct operation *op, int fd)
{
    char buf[TRANSFER];

    pattern_fill(buf, op->length, op->choice, 0);
    return outcome(pwrite(fd, buf, op->length, (off_t)op->offset));
}

static struct outcome run_read(const struct operation *op, int fd)
{
    char buf[TRANSFER];
    ssize_t n = pread(fd, buf, op->length, (off_t)op->offset);
    struct outcome result = outcome(n);

    result.hash = hash_bytes(HASH_START, buf, n > 0 ? (size_t)n : 0);
    return result;
}

/* As much as there is: a short copy is no difference. */
static struct outcome run_copy(const struct operation *op, const struct side *side)
{
    loff_t in = (loff_t)op->offset, out = (loff_t)(op->choice % REACH);
    size_t left = op->length;
    ssize_t n = 0;

    if (has_set_id(slot_fd(side, op->other_slot)))
        return (struct outcome){0};
    while (left > 0) {
        n = copy_file_range(slot_fd(side, op->slot), &in, slot_fd(side, op->other_slot), &out, left, 0);
        if (n <= 0)
            break;
        left -= (size_t)n;
    }
    return outcome(n < 0 && left == op->length ? -1 : (int64_t)(op->length - left));
}

static struct outcome run_map(const struct operation *op, int fd)
{
    bool write = op->kind == OP_MAP_WRITE;
    struct outcome result = {0};
    struct stat st;
    uint64_t start = op->offset & ~4095ull, length;
    char *at;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size <= op->offset)
        return result;
    length =
        (uint64_t)st.st_size - op->offset < op->length ? (uint64_t)st.st_size - op->offset : op->length;
    at = mmap(NULL, op->offset - start + length, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, fd,
              (off_t)start);
    if (at == MAP_FAILED)
        return outcome(-1);
    if (write) {
        pattern_fill(at + (op->offset - start), length, op->choice, 0);
        result = outcome(msync(at, op->offset - start + length, MS_SYNC));
    } else {
        result.hash = hash_bytes(HASH_START, at + (op->offset - start), length);
    }
    munmap(at, op->offset - start + length);
    return result;
}

static struct outcome run_lock(const struct operation *op, int fd)
{
    static const int whole[] = {LOCK_SH, LOCK_EX, LOCK_UN, LOCK_UN};
    static const short types[] = {F_RDLCK, F_WRLCK, F_UNLCK, F_UNLCK};
    struct flock range = {.l_type = types[op->choice % 4],
                          .l_whence = SEEK_SET,
                          .l_start = (off_t)(op->offset % 100),
                          .l_len = (off_t)(op->length % 100)};

    if (op->kind == OP_FLOCK)
        return outcome(flock(fd, whole[op->choice % 4] | LOCK_NB));
    return outcome(fcntl(fd, F_OFD_SETLK, &range));
}

static struct outcome run(const struct operation *op, const struct side *side)
{
    int fd = slot_fd(side, op->slot);
    char text[64], target[4096];
    struct outcome result;
    struct stat st;

    switch (op->kind) {
    case OP_OPEN:
        return run_open(op, side);
    case OP_CREATE:
        return run_create(op, side);
    case OP_TMPFILE:
        return keep(op, side, openat(side->root, op->path, O_TMPFILE | O_RDWR | O_CLOEXEC, op->mode));
    case OP_CLOSE:
        return outcome(close(fd));
    case OP_MKDIR:
        return outcome(mkdirat(side->root, op->path, op->mode));
    case OP_RMDIR:
        return outcome(unlinkat(side->root, op->path, AT_REMOVEDIR));
    case OP_UNLINK:
        return outcome(unlinkat(side->root, op->path, 0));
    case OP_RENAME:
        return run_rename(op, side, op->choice % 4 ? 0 : RENAME_KEEP);
    case OP_EXCHANGE:
        return run_rename(op, side, RENAME_SWAP);
    case OP_LINK:
        return outcome(linkat(side->root, op->path, side->root, op->other,
                              op->choice % 2 ? AT_SYMLINK_FOLLOW : 0));
    case OP_LINK_SLOT:
        snprintf(text, sizeof text, "/proc/self/fd/%d", fd);
        return outcome(linkat(AT_FDCWD, text, side->root, op->path, AT_SYMLINK_FOLLOW));
    case OP_SYMLINK:
        return outcome(symlinkat(TARGETS[op->choice % (sizeof TARGETS / sizeof TARGETS[0])], side->root,
                                 op->path));
    case OP_READLINK:
        result = outcome(readlinkat(side->root, op->path, target, sizeof target));
        result.hash = hash_bytes(HASH_START, target, result.value > 0 ? (size_t)result.value : 0);
        return result;
    case OP_MKFIFO:
        return outcome(mknodat(side->root, op->path, S_IFIFO | (op->mode & 0777), 0));
    case OP_CHMOD:
        return outcome(fchmodat(side->root, op->path, op->mode, 0));
    case OP_CHOWN:
        return run_chown(op, side);
    case OP_UTIMENS:
        return run_utimens(op, side);
    case OP_SET_XATTR:
    case OP_GET_XATTR:
    case OP_REMOVE_XATTR:
    case OP_LIST_XATTR:
        return run_xattr(op, side);
    case OP_LIST:
        return run_list(op, side);
    case OP_STAT:
        return outcome(fstatat(side->root, op->path, &st, 0));
    case OP_READ:
        return run_read(op, fd);
    case OP_WRITE:
        return run_write(op, fd);
    case OP_TRUNCATE:
        return outcome(ftruncate(fd, (off_t)op->offset));
    case OP_FALLOCATE:
    case OP_PUNCH:
        return run_fallocate(op, fd);
    case OP_SEEK_END:
        return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? outcome(lseek(fd, 0, SEEK_END))
                                                          : outcome(0);
    case OP_FSYNC:
        return outcome(op->choice % 2 ? fsync(fd) : fdatasync(fd));
    case OP_COPY:
        return run_copy(op, side);
    case OP_MAP_WRITE:
    case OP_MAP_READ:
        return run_map(op, fd);
    case OP_FLOCK:
    case OP_LOCK:
        return run_lock(op, fd);
    case OP_UMASK:
        umask((const mode_t[]){0, 022, 027, 077}[op->choice % 4]);
        return outcome(0);
    case OP_KINDS:
        break;
    }
    abort();
}

/* The identity that file systems go by, of this thread alone; with user 0 come root's rights again. */
static void act_as(unsigned who)
{
    unsigned id = who ? 999 + who : 0;

    if (who) {
        syscall(SYS_setfsgid, id);
        syscall(SYS_setfsuid, id);
    } else {
        syscall(SYS_setfsuid, 0);
        syscall(SYS_setfsgid, 0);
    }
}

struct outcome operation_run(const struct operation *op, const struct side *side)
{
    struct outcome result;

    if (op->who)
        act_as(op->who);
    result = run(op, side);
    if (op->who)
        act_as(0);
    return result;
}

/* -- printing --------------------------------------------------------------------------------- */

void operation_print(const struct operation *op)
{
    printf("%s", KINDS[op->kind].name);
    if (op->who)
        printf(" as user %u", 999 + op->who);
    if (KINDS[op->kind].paths >= 1) {
        putchar(' ');
        manifest_print_name(stdout, op->path);
    }
    if (KINDS[op->kind].paths >= 2) {
        printf(" -> ");
        manifest_print_name(stdout, op->other);
    }
    if (KINDS[op->kind].slot)
        printf(" slot %u", op->slot);
    switch (op->kind) {
    case OP_COPY:
        printf(" -> slot %u", op->other_slot);
        /* fall through */
    case OP_READ:
    case OP_WRITE:
    case OP_TRUNCATE:
    case OP_FALLOCATE:
    case OP_PUNCH:
    case OP_MAP_READ:
    case OP_MAP_WRITE:
        printf(" at %llu length %llu", (unsigned long long)op->offset, (unsigned long long)op->length);
        break;
    case OP_CREATE:
    case OP_TMPFILE:
    case OP_MKDIR:
    case OP_MKFIFO:
    case OP_CHMOD:
        printf(" mode %04o", op->mode);
        break;
    case OP_UTIMENS:
        printf(" to %lld.%09ld", (long long)op->seconds, op->nanoseconds);
        break;
    default:
        break;
    }
    printf(" choice %u", op->choice);
}
