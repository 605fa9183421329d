/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARE_MANIFEST_H
#define SHARE_MANIFEST_H

/*
 * A directory tree as text, one line for each entry, in an order that is always the same:
 *
 *   KIND MODE LINKS OWNER SIZE TIME CONTENT ATTRIBUTES PATH
 *
 * for instance `f 0644 2=7 1000:1000 120 1000000000.5 c:5f0c... a:0 some/file`. LINKS is the link count
 * and, when it is more than 1, the line where this file came first. SIZE and LINKS of directories are
 * left out, since file systems differ there. TIME is exact before MANIFEST_NOW and "now" after it: the
 * exercisers set times long ago, and what changed since bears the time of some clock. CONTENT and
 * ATTRIBUTES are hashes. Bytes of PATH that are no printable ASCII, and the backslash, are \xNN.
 */

#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

/* 2020: a modification time before it was set by somebody. */
#define MANIFEST_NOW 1577836800

struct manifest_options {
    bool owners; /* else OWNER is left out */
};

/* Returns 0 or -errno. */
int manifest_print(FILE *out, int dir, const struct manifest_options *options);

/* Print a name in the form of PATH. */
void manifest_print_name(FILE *out, const char *name);

#endif
