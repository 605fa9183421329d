/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONFIG_VALIDATE_H
#define CONFIG_VALIDATE_H

/* What the parts of the validation share. */

#include <stdbool.h>
#include <sys/stat.h>

#include "config/config.h"
#include "config/schema.h"

struct validator; /* validate.c */

typedef char place[SCHEMA_MAX_PATH]; /* "disks[1].path" */

/* Report a fault at `where`, unless the reading of YAML has reported that value. hint may be NULL. */
void validate_fault(struct validator *v, const char *where, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* `path`, a `what` ("file", "folder"), cannot be used, with errno `error`; the user would have to be
 * allowed to `verb` it. */
void validate_cannot_use(struct validator *v, const char *where, const char *path, const char *what,
                         int error, const char *verb);

/* Whether a file could be made at `path`: its folder is there and writable. */
void validate_can_make(struct validator *v, const char *where, const char *path);

/* Open `path` to look at it, if it is a regular file, or a block device where that is allowed. Returns
 * the descriptor, or -1 when a fault has been reported. */
int validate_open(struct validator *v, const char *where, const char *path, int flags, bool block_too,
                  struct stat *st);

/* Note that the file is used, and refuse a second use unless both only read. */
void validate_use(struct validator *v, const char *where, const struct stat *st, bool writes);

/*
 * Check what the schema knows of the struct at `base`, and then what `rest` (NULL: nothing) knows,
 * which reports by validate_fault. Places are those of `marks`. Returns 0, or -EINVAL with the first
 * fault in err.
 */
typedef void validate_rest_fn(void *opaque, struct validator *v);
int validate_rows(const struct dayfly_config *marks, const struct schema_row *rows, const void *base,
                  validate_rest_fn *rest, void *rest_opaque, dayfly_report_fn *report, void *opaque,
                  struct dayfly_err *err);

/* Disks: their files, whether they are free, and whether they can do what is asked (validate_disk.c).
 */
void validate_disks(struct validator *v, const struct dayfly_config *config);

/* Shares: what the schema does not know of them (validate_share.c). */
void validate_shares(struct validator *v, const struct dayfly_config *config);

/* Networks, likewise (validate_network.c). */
void validate_networks(struct validator *v, const struct dayfly_config *config);

#endif
