/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_LOCK_RANGES_H
#define FS_LOCK_RANGES_H

/*
 * The byte ranges that one lock owner holds in one file: what the host's kernel keeps as well, but does
 * not tell with the process that set them. Sorted, apart, and joined where neighbours are alike.
 */

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>

struct lock_range {
    uint64_t start, end; /* the last byte; INT64_MAX: to wherever the file ends */
    uint32_t pid;        /* the guest's */
    short type;          /* F_RDLCK, F_WRLCK; F_UNLCK in lock_ranges_set alone */
};

/* Zeroed: none. */
struct lock_ranges {
    struct lock_range *at;
    uint32_t count, room;
};

void lock_ranges_free(struct lock_ranges *r);

/* Make room, so that the next lock_ranges_set needs no memory. 0 or -ENOMEM. */
int lock_ranges_reserve(struct lock_ranges *r);

/* What fcntl(F_SETLK) does: the new range takes the place of whatever it covers. */
void lock_ranges_set(struct lock_ranges *r, const struct lock_range *range);

/* A range that keeps another owner from setting `wanted`, or NULL. */
const struct lock_range *lock_ranges_conflict(const struct lock_ranges *r,
                                              const struct lock_range *wanted);

#endif
