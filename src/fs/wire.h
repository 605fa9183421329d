/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_WIRE_H
#define FS_WIRE_H

/*
 * The FUSE protocol as the server speaks it: the system's <linux/fuse.h> (7.38 in Debian 12), and what
 * 7.39 to 7.41 added and the server uses. The names are the protocol's own; each stands under a guard,
 * so that a newer header may bring them itself.
 */

#include <linux/fuse.h>
#include <stdint.h>

/* The oldest minor that is served; what came before lacks what virtio-fs needs. */
#define FUSE_MINOR_OLDEST 31
/* What the server says it speaks. */
#define FUSE_MINOR_SPOKEN 41

#ifndef FUSE_CREATE_SUPP_GROUP
#define FUSE_CREATE_SUPP_GROUP (1ULL << 34)
#endif
#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif

#if FUSE_KERNEL_MINOR_VERSION < 39

#define FUSE_STATX      52
#define FUSE_EXT_GROUPS 32

/* Bit for bit as struct statx. */
struct fuse_sx_time {
    int64_t tv_sec;
    uint32_t tv_nsec;
    int32_t reserved;
};

struct fuse_statx {
    uint32_t mask;
    uint32_t blksize;
    uint64_t attributes;
    uint32_t nlink;
    uint32_t uid;
    uint32_t gid;
    uint16_t mode;
    uint16_t spare0;
    uint64_t ino;
    uint64_t size;
    uint64_t blocks;
    uint64_t attributes_mask;
    struct fuse_sx_time atime;
    struct fuse_sx_time btime;
    struct fuse_sx_time ctime;
    struct fuse_sx_time mtime;
    uint32_t rdev_major;
    uint32_t rdev_minor;
    uint32_t dev_major;
    uint32_t dev_minor;
    uint64_t spare2[14];
};

struct fuse_statx_in {
    uint32_t getattr_flags;
    uint32_t reserved;
    uint64_t fh;
    uint32_t sx_flags;
    uint32_t sx_mask;
};

struct fuse_statx_out {
    uint64_t attr_valid;
    uint32_t attr_valid_nsec;
    uint32_t flags;
    uint64_t spare[2];
    struct fuse_statx stat;
};

/* Behind a fuse_ext_header of type FUSE_EXT_GROUPS. */
struct fuse_supp_groups {
    uint32_t nr_groups;
    uint32_t groups[];
};

#endif

#endif
