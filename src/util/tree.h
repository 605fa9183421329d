/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_TREE_H
#define UTIL_TREE_H

/* Trees of files that somebody else made: any names, any depth, any modes. */

/*
 * Remove `name` in dir_fd, and everything below it when it is a directory. Symbolic links are removed,
 * not followed, and nothing is removed on another file system. Depth costs neither stack nor
 * descriptors: what lies very deep is moved up first. What cannot be removed is left, the rest goes.
 * Returns 0 or the first -errno; -ENOENT when there is no such name.
 */
int tree_remove(int dir_fd, const char *name);

#endif
