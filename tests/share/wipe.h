/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHARE_WIPE_H
#define SHARE_WIPE_H

/* Remove a file, or a directory with all that is in it, however deep. -1 with errno on failure. */
int wipe(int dir, const char *name);

#endif
