/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARE_DIFFERENTIAL_H
#define SHARE_DIFFERENTIAL_H

/*
 * The operations of the differential test: what each does on one side, and what it says afterwards.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common.h"

#define SLOTS         8
#define PATH_MAX_HERE 1024

/* One of the two directories. Slot i is descriptor `first_fd` + i, open or not. */
struct side {
    const char *name;
    int top; /* the directory that was given */
    int root, first_fd;
};

enum operation_kind {
    OP_OPEN,
    OP_CREATE,
    OP_TMPFILE,
    OP_CLOSE,
    OP_MKDIR,
    OP_RMDIR,
    OP_UNLINK,
    OP_RENAME,
    OP_EXCHANGE,
    OP_LINK,
    OP_LINK_SLOT,
    OP_SYMLINK,
    OP_READLINK,
    OP_MKFIFO,
    OP_CHMOD,
    OP_CHOWN,
    OP_UTIMENS,
    OP_SET_XATTR,
    OP_GET_XATTR,
    OP_REMOVE_XATTR,
    OP_LIST_XATTR,
    OP_LIST,
    OP_STAT,
    OP_READ,
    OP_WRITE,
    OP_TRUNCATE,
    OP_FALLOCATE,
    OP_PUNCH,
    OP_SEEK_END,
    OP_FSYNC,
    OP_COPY,
    OP_MAP_WRITE,
    OP_MAP_READ,
    OP_FLOCK,
    OP_LOCK,
    OP_UMASK,
    OP_KINDS
};

/* Drawn once, done on both sides. What a kind does not use is there all the same. */
struct operation {
    enum operation_kind kind;
    char path[PATH_MAX_HERE], other[PATH_MAX_HERE];
    unsigned slot, other_slot;
    uint64_t offset, length;
    unsigned mode;
    unsigned choice; /* flags, names, targets: what there is to choose from */
    unsigned who;    /* the user that does it; 0 is whoever we are */
    int64_t seconds;
    long nanoseconds;
};

struct outcome {
    int64_t value; /* -1 with `error`, as of a system call */
    int error;
    uint64_t hash; /* of what was read */
};

/* What the two sides can both do. */
struct abilities {
    bool owners; /* chown shows, and other users are refused */
    bool squash; /* we are root, but chown does not show: no mode may shut its owner out */
    bool xattr;
    bool mmap;
    bool tmpfile;
    bool exchange;
    bool fallocate;
    bool punch;
    bool directory_links;
};

/* Which of these both directories have; a message says which are left out. */
struct abilities differential_probe(const struct side *a, const struct side *b);

void operation_draw(struct operation *op, struct random *random, const struct abilities *abilities);
struct outcome operation_run(const struct operation *op, const struct side *side);
/* Whether the operation works on slots, or on paths (and on how many). */
bool operation_uses_slot(enum operation_kind kind);
unsigned operation_paths(enum operation_kind kind);
void operation_print(const struct operation *op);

#endif
