/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_REPORT_FILE_H
#define JOB_REPORT_FILE_H

/*
 * Where a report goes. That is settled before the job runs: when the report is written, the job may
 * have put links into a folder that was shared with it.
 */

#include <jansson.h>

#include "dayfly/error.h"

struct report_file {
    int special_fd; /* a standard stream, or what is no regular file; -1: it is to be a file */
    char *folder, *name;
};

#define REPORT_FILE_NONE                                                                               \
    (struct report_file)                                                                               \
    {                                                                                                  \
        .special_fd = -1                                                                               \
    }

/* Find out where `path` is, and whether it can be written to; an older file there goes. 0 or -errno; to
 * be finished also then. */
int report_file_find(struct report_file *file, const char *path, struct dayfly_err *err);
void report_file_finish(struct report_file *file); /* safe on REPORT_FILE_NONE, and twice */

/* Write it there, in place of the file that is there, in directories that are made where they are
 * missing; whole or not at all, unless it is special or its
 * file system has no unnamed files. */
int report_file_write(const struct report_file *file, const json_t *report, struct dayfly_err *err);

#endif
