/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_PATH_H
#define AGENT_PATH_H

#include "user.h"

/* Make the directories that are missing on the way to an absolute path, the user's own. What cannot be
 * made is left to who then goes there. */
void path_make(const char *path, const struct user *user);

/* The same for who may more than the user on a file system where others matter: only on that of the
 * root directory, whatever links lead to another one or are put there meanwhile. */
void path_make_on_root(const char *path, const struct user *user);

#endif
