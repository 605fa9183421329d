/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FS_FS_H
#define FS_FS_H

/*
 * The file server behind a virtio-fs device: FUSE (linux/fuse.h, 7.31 and up) on one side, directories
 * of the host on the other. It knows no ring and no transport: the device hands it requests as segments
 * of guest memory, and gets back the number of bytes that it wrote.
 *
 * One `struct fs` serves one tag, to one guest kernel at a time. It shows either one directory, or
 * several under a root that is made up (fs_options.directory_count, names).
 *
 * Everything in a request is hostile: headers and arguments are copied once, names are checked, file
 * data moves between guest memory and files without a copy. Nothing a guest says chooses a path: a name
 * is one component, resolved in a directory whose descriptor we hold (path_resolution(7), openat2(2)).
 *
 * Threads: fs_serve may run in several at once, each with a `struct fs_thread` of its own that was
 * entered in that thread. new, free and reset: no thread is serving.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "dayfly/error.h"
#include "fs/idmap.h"
#include "isolate/jail.h"
#include "util/log.h"

struct fs;

/*
 * How long the guest may believe what it was told, hence when it sees what the host changed:
 *   none    names and attributes are asked for at each use, data bypasses the guest's page cache
 *   auto    names (also missing ones) and attributes for FS_AUTO_SECONDS; what was cached of a file is
 *           dropped when its size or mtime changed
 *   always  until the guest forgets by itself: for directories that nobody else changes
 */
enum fs_cache { FS_CACHE_AUTO, FS_CACHE_NONE, FS_CACHE_ALWAYS };

#define FS_AUTO_SECONDS   1
#define FS_ALWAYS_SECONDS 86400

#define FS_DIRECTORIES_MAX 16
#define FS_NAME_MAX        255        /* bytes of one component */
#define FS_XATTR_BYTES_MAX 65536      /* XATTR_SIZE_MAX and XATTR_LIST_MAX */
#define FS_TRANSFER_MAX    (1u << 20) /* bytes of one READ or WRITE: max_pages 256 */
#define FS_WINDOW_MIN      (UINT64_C(2) << 20)

/* One shared directory. */
struct fs_directory {
    const char *name; /* its entry under the made-up root; NULL when it is the only one and the root */
    int fd;           /* the directory, any open mode; borrowed until fs_free */
    bool read_only;   /* EROFS for whatever would change it: here, not only in the guest's mount */
    struct fs_idmap idmap;
};

struct fs_options {
    const struct fs_directory *directories;
    unsigned directory_count; /* 1 to FS_DIRECTORIES_MAX */
    enum fs_cache cache;
    bool writeback;   /* the guest's page cache gathers writes; not with FS_CACHE_NONE */
    bool no_xattr;    /* extended attributes and ACLs answer ENOSYS */
    unsigned fds_max; /* descriptors kept for inodes that are not open; 0: a quarter of RLIMIT_NOFILE */
    unsigned open_max;     /* files and directories open at once; 0: a half of RLIMIT_NOFILE */
    uint32_t inodes_max;   /* inodes known to the guest at once; 0: 4 million. Above it: ENOMEM */
    const struct log *log; /* borrowed */
    uint64_t window_bytes; /* of the DAX window (window.h): a power of two, 2 MiB at least; 0: none */
};

/* From here on the guest is told to map a file instead of reading and writing it. */
#define FS_WINDOW_FILE_MIN 65536

/* Descriptors must be directories. Returns 0 or -errno. */
int fs_new(struct fs **out, const struct fs_options *options, struct dayfly_err *err);

/* NULL is legal. */
void fs_free(struct fs *fs);

/* The guest is gone, or begins anew: close its files, drop its locks, forget its inodes. FUSE_INIT
 * does the same first. */
void fs_reset(struct fs *fs);

/*
 * The DAX window: address space that the device shows its guest, if the transport can. It stays until
 * fs_free, whatever is mapped there. *bytes is 0 where there is none: it was not asked for, or all
 * directories lie on file systems whose files do not bear it.
 */
void *fs_window(const struct fs *fs, uint64_t *bytes);
/* Whether the guest sees it; until then it does not. Nobody is serving. */
void fs_show_window(struct fs *fs, bool shown);
/* A descriptor, -1 without a window: when it is readable, files that are mapped have changed their
 * sizes, and fs_heed_window cuts the mappings to them. In any thread, at any time, but soon: a guest's
 * processor may wait for it. */
int fs_window_events(const struct fs *fs);
void fs_heed_window(struct fs *fs);
/* The guest touched what is not there, in this window or elsewhere. True when something of this one was
 * mended, and the access may succeed now. Any thread, at any time. */
bool fs_mend_window(struct fs *fs);

/*
 * A serving thread. fs_thread_enter makes the thread's working directory and umask its own
 * (unshare(CLONE_FS)), drops its supplementary groups and all capabilities but those over files, which
 * cannot be undone: a thread that has entered serves, and ends, also where entering failed. Directories
 * with an identity that the process's own user cannot take are refused by fs_new already.
 * fs_thread_leave is safe on a zeroed struct.
 */
struct fs_thread {
    uid_t fsuid; /* what the thread runs as now; changed only where a request needs another */
    gid_t fsgid;
    gid_t group;        /* the only supplementary one; UINT32_MAX: none */
    uint64_t permitted; /* capabilities, by bit */
    uint64_t effective;
    mode_t umask;
    bool privileged; /* may take other identities */
    bool plain;      /* acts without capabilities, as the owner of what it works on has no id */
};

int fs_thread_enter(struct fs *fs, struct fs_thread *thread, struct dayfly_err *err);
void fs_thread_leave(struct fs_thread *thread);

/*
 * Lock the calling thread up (isolate/isolate.h) for serving this fs, and with it the threads that it
 * makes from here on: an empty root, the user that all directories are squashed to, files only below
 * the directories, the system calls of the server and those in `more`. Once, before any
 * fs_thread_enter; the thread lives for as long as any thread serves. NULL for `jail`: in namespaces of
 * its own. After an error the thread must end.
 */
int fs_lock_up(struct fs *fs, struct jail *jail, const struct isolate_calls *more, size_t more_count,
               struct dayfly_err *err);

/* One request. iov entries are the caller's and may be changed by fs_serve (cut at the front). */
struct fs_request {
    struct iovec *in; /* what the device reads: fuse_in_header, arguments, data */
    unsigned in_count;
    uint64_t in_bytes;
    struct iovec *out; /* what the device writes: fuse_out_header, reply */
    unsigned out_count;
    uint64_t out_bytes;
    bool at_once; /* rather FS_WAITS than to wait for a disk or to work for long, where that can be told
                     beforehand */
    bool unawaited; /* answered by fs_serve: nobody in the guest waits for its end */
};

/*
 * fs_serve's answers other than a number of bytes:
 *   FS_LATER   a lock is held elsewhere: call again, with the same request, after an unlock in this fs
 *              (fs_unlocked) or some ms. Nothing was written.
 *   FS_WAITS   of a request with at_once: call again, with the same one and without at_once. Nothing
 * was written but data that the second call writes as well. FS_BROKEN  no valid fuse_in_header, or no
 * room for a fuse_out_header: a violation
 */
enum { FS_LATER = -1, FS_BROKEN = -2, FS_WAITS = -3 };

/*
 * Serve one request. Returns the bytes written into `out` (0: the request wants no reply), or one of
 * the above. Failures of the host become the reply's errno.
 */
ssize_t fs_serve(struct fs *fs, struct fs_thread *thread, struct fs_request *request);

/* Goes up with each unlock and each close of a file that held locks: FS_LATER may now succeed. */
uint64_t fs_unlocked(struct fs *fs);

struct fs_stats {
    uint64_t requests;
    uint32_t inodes; /* known to the guest, the root included */
    uint32_t inode_fds;
    uint32_t open_files; /* directories included */
    uint32_t mapped;     /* ranges of the window in use, 2 MiB each */
};

void fs_get_stats(struct fs *fs, struct fs_stats *stats);

#endif
