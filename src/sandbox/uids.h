/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_UIDS_H
#define SANDBOX_UIDS_H

/*
 * User ids that are made for one sandbox each.
 *
 * They come from a range that is nobody's: $DAYFLY_USER_RANGE ("FIRST-LAST"), else the default below. A
 * lease is a lock on one byte of one file in the run directory, for as long as any process has its
 * descriptor: the runner has it, and so has the sandbox's init. So a lease outlives a killed runner
 * until the sandbox is dead, and nothing is left to clean up after either. Ids are given out in turn:
 * one comes back only after all the others were used.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "dayfly/error.h"

#define UIDS_DEFAULT_FIRST 2000000000u
#define UIDS_DEFAULT_LAST  2000065535u
/* Below are the system's and people's. */
#define UIDS_LOWEST 65536u

struct uids {
    uid_t first, last;
    int fd; /* the file of locks, O_RDWR */
};

/* Read the range and open the file of locks in `dir`, a directory, made where it is missing. -EINVAL
 * for a range that is none, or that /etc/passwd, /etc/subuid or /etc/subgid have a part of. */
int uids_open(struct uids *uids, const char *dir, struct dayfly_err *err);
void uids_close(struct uids *uids); /* safe on a zeroed one; a lease stays */

/* Take one: its descriptor, which holds the lease, or -errno; -EBUSY when all are in use. */
int uids_take(struct uids *uids, uid_t *uid, struct dayfly_err *err);

/* The same for one that is known: -EBUSY when it is in use. */
int uids_take_this(const struct uids *uids, uid_t uid);

/* ---- for uids.c and its test ---- */

/* "FIRST-LAST" */
int uids_parse_range(const char *text, uid_t *first, uid_t *last, struct dayfly_err *err);

/* Whether the text of a passwd file (per line NAME:x:ID:...) has an id in the range, or one of a subuid
 * file (NAME:FIRST:COUNT) meets it; *name gets whose. */
bool uids_in_passwd(const char *text, uid_t first, uid_t last, char name[64]);
bool uids_in_subids(const char *text, uid_t first, uid_t last, char name[64]);

#endif
