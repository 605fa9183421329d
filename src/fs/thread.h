/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_THREAD_H
#define FS_THREAD_H

/*
 * Who a serving thread is while it acts for the guest. Linux keeps identity, capabilities, umask and
 * working directory per task (credentials(7), unshare(2) CLONE_FS); the raw system calls change them
 * for this thread alone.
 *
 * The working directory of a serving thread is its /proc/thread-self/fd: "17" names what descriptor 17
 * is open on, for the calls that take a path and no O_PATH descriptor (open, getxattr, chmod,
 * utimensat). fs_fd_path makes such a name.
 */

#include "fs/fs.h"
#include "fs/inode.h"

#define FS_FD_PATH_BYTES 12

/* What a thread that serves may ever use: to take guests' identities, and over files. */
extern const uint64_t fs_thread_capabilities;

/* "17" for 17; relative to a serving thread's working directory. */
const char *fs_fd_path(int fd, char buf[static FS_FD_PATH_BYTES]);

/* On a serving thread: open what an O_PATH descriptor names (ref->fd, after inode_open) for reading or
 * writing. Reading what may not be changed does not change its access time either, where the host lets
 * this user. Returns a descriptor or -errno. */
int fs_fd_open(const struct inode_ref *ref, int flags);

/*
 * Act on files of this export, on behalf of this guest user, until the next call: creating files makes
 * them the mapped user's. Squash: as the host's user, without capabilities. Identity and map: as the
 * mapped user but with the capabilities over files, since the guest's kernel has checked the
 * permissions already (without CAP_FSETID, so that set-group-id follows the group, CVE-2022-0358).
 * Costs nothing while nothing changes. Returns 0, -EPERM (no such id), or another -errno.
 */
int fs_thread_act(struct fs_thread *thread, const struct export *export, uint32_t guest_uid,
                  uint32_t guest_gid);

/* The same where the user does not matter: nothing is created. Keeps the current identity if that
 * serves. */
int fs_thread_act_any(struct fs_thread *thread, const struct export *export);

/* After either, where the files' owner has no guest id (map): the host's kernel decides about the
 * guest's user as about anybody, until the next of those. A user without a host id is nobody. */
int fs_thread_act_plain(struct fs_thread *thread, const struct export *export, uint32_t guest_uid,
                        uint32_t guest_gid);

/*
 * Whether set-user-id and set-group-id bits stay when what follows writes to a file, truncates it or
 * sets its mode (CAP_FSETID). Who may keep them is the guest's kernel's decision; it asks for them to
 * be dropped (FUSE_WRITE_KILL_SUIDGID and its like). They stay until fs_thread_act or another call of
 * this. Squash: they are not kept, whatever is asked.
 */
int fs_thread_keep_setid(struct fs_thread *thread, const struct export *export, bool keep);

/* One supplementary group until the next fs_thread_act (FUSE_CREATE_SUPP_GROUP); UINT32_MAX: none. */
int fs_thread_supplementary(struct fs_thread *thread, const struct export *export, uint32_t guest_gid);

/* Whether this process can serve an export with this map. Returns 0 or -EPERM. */
int fs_thread_check_idmap(const struct fs_idmap *map, struct dayfly_err *err);

void fs_thread_umask(struct fs_thread *thread, mode_t umask_bits);

#endif
