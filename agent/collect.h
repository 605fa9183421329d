/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_COLLECT_H
#define AGENT_COLLECT_H

#include <stdint.h>

/*
 * Write the files and directories that match the patterns (glob(7), relative to the working directory)
 * to fd, as proto/record.h has it. In a child of its own, as it reads what a job has left: that may be
 * anything, and may change meanwhile. Regular files, directories and links that stay within a directory
 * go out; of the rest a NOTE. It does not cross into another file system below a directory.
 *
 * Returns 0, or -errno when fd took no more.
 */
int collect(int fd, const char *const *patterns, uint32_t count);

#endif
