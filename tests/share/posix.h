/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARE_POSIX_H
#define SHARE_POSIX_H

/*
 * Cases of POSIX behaviour. Each case runs in a process of its own, whose working directory is a fresh,
 * empty directory of the file system under test, with umask 0. A check that does not hold prints where
 * and what, and ends the case; so a case reads as a list of what must be.
 *
 * What a case needs (POSIX_*) is tried out before; without it the case is skipped with the reason, or
 * fails when --must names it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "common.h"

enum posix_need {
    POSIX_ROOT = 1 << 0,   /* we are root */
    POSIX_OWNERS = 1 << 1, /* and chown changes what stat shows, as other users' rights do */
    POSIX_XATTR = 1 << 2,  /* user.* */
    POSIX_ACL = 1 << 3,
    POSIX_MMAP = 1 << 4,     /* shared writable mappings */
    POSIX_PUNCH = 1 << 5,    /* fallocate: PUNCH_HOLE */
    POSIX_ZERO = 1 << 6,     /* fallocate: ZERO_RANGE */
    POSIX_TMPFILE = 1 << 7,  /* O_TMPFILE */
    POSIX_EXCHANGE = 1 << 8, /* renameat2: RENAME_EXCHANGE */
    POSIX_SMALL = 1 << 9,    /* --small names a file system that can be filled */
    POSIX_NLINK = 1 << 10,   /* a directory's link count counts its directories */
    POSIX_HOLES = 1 << 11,   /* SEEK_HOLE finds holes; else all of a file may be data */
};

struct posix_case {
    const char *name;
    void (*run)(void);
    unsigned needs;
};

struct posix_chapter {
    const struct posix_case *cases;
    unsigned count;
};

extern const struct posix_chapter posix_names, posix_data, posix_space, posix_attributes, posix_owners,
    posix_locks, posix_directories;

/* The directory that may be filled, of a case that needs POSIX_SMALL. */
const char *posix_small_directory(void);

/* -- checks ----------------------------------------------------------------------------------- */

/* The call succeeds; the value is its result. */
#define OK(call) posix_ok((call), #call, __FILE__, __LINE__)
/* The call fails with this errno. */
#define FAILS(call, error) posix_fails((call), error, #call, __FILE__, __LINE__)
#define THAT(condition)    posix_that((condition), #condition, __FILE__, __LINE__)
#define EQUAL(a, b)        posix_equal((int64_t)(a), (int64_t)(b), #a, #b, __FILE__, __LINE__)

long posix_ok(long result, const char *call, const char *file, int line);
void posix_fails(long result, int error, const char *call, const char *file, int line);
void posix_that(bool holds, const char *condition, const char *file, int line);
void posix_equal(int64_t a, int64_t b, const char *a_text, const char *b_text, const char *file,
                 int line);

/* The case cannot be told here, for a reason that only the case could find out. */
_Noreturn void posix_skip(const char *why);

/* -- what most cases do ----------------------------------------------------------------------- */

/* A new file with this text. */
void posix_make(const char *name, const char *text);
/* A new file with this text, mode and owner. */
void posix_make_for(const char *name, const char *text, mode_t mode, uid_t uid, gid_t gid);
/* The file holds exactly this text. */
void posix_holds(const char *name, const char *text);
struct stat posix_stat(const char *name);
struct stat posix_fstat(int fd);
bool posix_exists(const char *name);
/* How many entries a directory has, without . and .. */
unsigned posix_entries(const char *name);

/*
 * fork. In the child (0) checks work as in the case; it ends with posix_done. The parent waits with
 * posix_join, which fails the case when the child failed.
 */
pid_t posix_fork(void);
_Noreturn void posix_done(void);
void posix_join(pid_t pid);

/* One process tells another that it has got somewhere. Make gates before the fork. */
struct posix_gate {
    int fds[2];
};
struct posix_gate posix_gate(void);
void posix_open_gate(struct posix_gate *gate);
void posix_pass_gate(struct posix_gate *gate);

/* Be this user from now on, in this group alone, without capabilities. */
void posix_become(uid_t uid, gid_t gid);

#endif
