/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_CHANGES_H
#define FS_CHANGES_H

/*
 * The difference that a copy-on-write share (cow.h) left in a directory: listed, promoted into the
 * directory that it is a difference of, or dropped.
 *
 * The names in it are a guest's. They are resolved one at a time below descriptors, and no link is
 * followed. Nothing here works on changes that are mounted (-EBUSY), and while it works no mount can be
 * made of them.
 */

#include <stdbool.h>

#include "dayfly/error.h"

#define CHANGES_UPPER     "upper"
#define CHANGES_UPPER_NEW "upper.new" /* an upper on its way in */
#define CHANGES_WORK      "work"
#define CHANGES_DEPTH_MAX 256 /* directories nested deeper are not listed or promoted (-ELOOP) */

enum change_kind {
    CHANGE_ADDED,    /* also every file and directory below an added directory */
    CHANGE_MODIFIED, /* content or attributes, or another kind of file in its place */
    CHANGE_DELETED,  /* a directory counts as one */
};

/* `path` is relative to the directory, any bytes but NUL. Another result than 0 ends the listing. */
typedef int change_fn(void *opaque, enum change_kind kind, const char *path);

struct changes {
    int fd;       /* the directory of changes, locked */
    int upper_fd; /* -1: nothing has been changed */
    int base_fd;
    char *base; /* its path */
};

/* Open for what follows. -ENOENT when the directory holds no changes, -EBUSY when they are in use. */
int changes_open(struct changes *changes, const char *path, struct dayfly_err *err);
/* Safe on a zeroed or closed one. */
void changes_close(struct changes *changes);

int changes_list(struct changes *changes, change_fn *fn, void *opaque, struct dayfly_err *err);

/*
 * Make the base what the guest saw. Every file appears whole or not at all, and what was promoted
 * leaves the changes at that moment: killed half-way, base and changes together still show what the
 * guest saw, and another promote finishes the work. The base must not be in use. Hard links between
 * changed files become files of their own.
 */
int changes_promote(struct changes *changes, struct dayfly_err *err);

/* Forget them: the directory is empty afterwards. At no moment is there a part of them. */
int changes_drop(struct changes *changes, struct dayfly_err *err);

/* ---- for cow.c ---- */

/*
 * Take the directory `path` for changes of `base`: made if missing, locked by *lock_fd until that is
 * closed. *fresh: it holds none yet, and changes_begin has to be called when the mount stands.
 */
int changes_claim(int *lock_fd, const char *path, const char *base, bool *fresh,
                  struct dayfly_err *err);
int changes_begin(int lock_fd, const char *base, struct dayfly_err *err);

#endif
