/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_IDMAP_H
#define FS_IDMAP_H

/*
 * Whose files a guest's users make on the host, and as whose it sees those that are there.
 *
 *   squash    every guest id acts as one id of the host; files of that id are shown as `shown_uid` and
 *             `shown_gid`, all others as 65534 (nobody). chown to whomever is accepted and keeps the
 *             owner. No special rights: the server has only those of that id, set-id bits and file
 *             capabilities are not stored, device nodes are refused.
 *   identity  guest ids are the host's. Root in the guest is root on these files.
 *   map       by extents, like user_namespaces(7). An id without an extent is shown as 65534; making a
 *             file as one, or chown to one, fails with EPERM. Over an inode whose owner or group has no
 *             extent the guest's root has no special rights: the host decides about the mapped user,
 *             without supplementary groups.
 *
 * identity and map need a process that may take other identities (root).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FS_IDMAP_EXTENTS_MAX 8
#define FS_NOBODY            65534u

enum fs_idmap_kind { FS_IDMAP_SQUASH, FS_IDMAP_IDENTITY, FS_IDMAP_MAP };

struct fs_idmap_extent {
    uint32_t guest, host, count; /* count at least 1; neither range passes UINT32_MAX - 1 */
};

struct fs_idmap_table {
    struct fs_idmap_extent extents[FS_IDMAP_EXTENTS_MAX];
    unsigned count;
};

struct fs_idmap {
    enum fs_idmap_kind kind;
    uid_t host_uid; /* squash */
    gid_t host_gid;
    uint32_t shown_uid;
    uint32_t shown_gid;
    struct fs_idmap_table uids, gids; /* map */
};

/* Ranges sane and not overlapping, on either side. Returns 0 or -EINVAL. */
int fs_idmap_check(const struct fs_idmap *map);

/* False when the guest's id has no host id (map only). UINT32_MAX ("keep", as in chown) maps to itself.
 */
bool fs_idmap_uid_to_host(const struct fs_idmap *map, uint32_t guest, uid_t *host);
bool fs_idmap_gid_to_host(const struct fs_idmap *map, uint32_t guest, gid_t *host);
uint32_t fs_idmap_uid_to_guest(const struct fs_idmap *map, uid_t host);
uint32_t fs_idmap_gid_to_guest(const struct fs_idmap *map, gid_t host);

#endif
