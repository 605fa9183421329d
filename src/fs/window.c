/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See window.h.
 *
 * What a guest's access to a page behind the end of a file leads to is no fault that somebody gets to
 * see: KVM takes the page for one that has to be read yet, has it read in the background, and lets the
 * guest try again, for ever. (Only a processor whose interrupts are off gets the error: window_mend.)
 * So there is never such a page for long: ranges are cut to the file's size when they are mapped, and
 * inotify(7) says when it changes. Between a cut and our hearing of it the guest's processor waits.
 *
 * There must never be a hole: whatever this process mapped next might land in it, before the guest's
 * eyes. mmap(2) over a range first takes out what was there and may then fail for the file's sake. So a
 * file is mapped elsewhere first, and then moved (mremap(2)), which fails for want of kernel memory
 * alone; even then the range is covered again.
 *
 * The void is one small file in memory, of which ranges far from each other have the same part: it
 * costs no more than its size, however much of the window lies behind the end of some file. What a
 * guest has written to it may so be seen in another range's. It is emptied where a file becomes
 * shorter.
 *
 * A file that is mapped has a descriptor here, and a watch. A process may have fewer of those than
 * files: then files are mapped without, as they are, and nobody follows them.
 */
#include "fs/window.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/thread.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define PAGE UINT64_C(4096)

struct window_file {
    struct window_file *next; /* in its bucket */
    uint64_t nodeid;
    uint64_t bytes; /* the size that its ranges are cut to */
    int fd;
    int watch;
    bool writable;
    unsigned ranges; /* that are its */
};

struct window_range {
    struct window_file *file; /* NULL: nothing is mapped, or nobody follows it */
    uint64_t offset;
    uint32_t bytes; /* mapped, from the range's start; 0: nothing */
    uint32_t kept;  /* of these the file's; the void behind */
    bool writable;
};

/* -- address space ----------------------------------------------------------------------------------
 */

static int protection(bool writable)
{
    return PROT_READ | (writable ? PROT_WRITE : 0);
}

/* Reserve it, in place of what was there. */
static int cover(uint8_t *at, uint64_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return bytes > 0 && mmap(at, bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED ? -errno : 0;
}

/* In place of what was there. On failure there may be a hole. */
static int put_file(uint8_t *at, uint64_t bytes, int prot, int fd, uint64_t offset)
{
    if (bytes == 0)
        return 0;
    void *elsewhere = mmap(NULL, bytes, prot, MAP_SHARED, fd, (off_t)offset);
    if (elsewhere == MAP_FAILED)
        return -errno;
    /* Each page that a guest touches first costs an exit: read and map as many at once as can be. */
    madvise(elsewhere, bytes, MADV_HUGEPAGE);
    if (mremap(elsewhere, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) != MAP_FAILED)
        return 0;
    int rc = -errno;
    munmap(elsewhere, bytes);
    return rc;
}

static uint8_t *address(const struct window *w, const struct window_range *range)
{
    return w->hva + (uint64_t)(range - w->ranges) * WINDOW_RANGE;
}

/* Bytes [from, to) of a range; likewise. */
static int put_void(struct window *w, const struct window_range *range, uint64_t from, uint64_t to,
                    int prot)
{
    uint64_t offset = (uint64_t)(range - w->ranges) * WINDOW_RANGE % WINDOW_VOID_MAX + from;
    struct stat st;
    if (from == to)
        return 0;
    if (fstat(w->nowhere, &st) == 0 && st.st_blocks > 0)
        fallocate(w->nowhere, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                  (off_t)(to - from));
    return put_file(address(w, range) + from, to - from, prot, w->nowhere, offset);
}

/* -- files: with the lock held ----------------------------------------------------------------------
 */

static struct window_file **bucket(struct window *w, uint64_t nodeid)
{
    return &w->files[nodeid & (w->range_count - 1)];
}

static struct window_file *file_find(struct window *w, uint64_t nodeid)
{
    struct window_file *file = *bucket(w, nodeid);
    while (file && file->nodeid != nodeid)
        file = file->next;
    return file;
}

static bool is_watched(const struct window *w, int watch)
{
    for (unsigned i = 0; i < w->range_count && w->file_count > 0; i++)
        for (const struct window_file *file = w->files[i]; file; file = file->next)
            if (file->watch == watch)
                return true;
    return false;
}

/* NULL where there are too many: then nobody follows it. */
static struct window_file *file_new(struct window *w, uint64_t nodeid, int fd, bool writable)
{
    char name[FS_FD_PATH_BYTES];
    struct window_file **head = bucket(w, nodeid);
    _cleanup_close_ int own = w->file_count < w->files_max ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    _cleanup_free_ struct window_file *file = own < 0 ? NULL : calloc(1, sizeof(*file));
    if (!file || (file->watch = inotify_add_watch(w->events, fs_fd_path(own, name), IN_MODIFY)) < 0)
        return NULL;
    file->nodeid = nodeid;
    file->writable = writable;
    file->fd = steal_fd(&own);
    file->next = *head;
    w->file_count++;
    return *head = steal_ptr(&file);
}

/* One that has no range goes. NULL is legal. */
static void file_release(struct window *w, struct window_file *file)
{
    if (!file || file->ranges > 0)
        return;
    struct window_file **at = bucket(w, file->nodeid);
    while (*at != file)
        at = &(*at)->next;
    *at = file->next;
    w->file_count--;
    if (!is_watched(w, file->watch)) /* the same file may lie in two directories that are shared */
        inotify_rm_watch(w->events, file->watch);
    close(file->fd);
    free(file);
}

/* A descriptor for another mode, with which the ranges that are mapped have nothing to do. */
static int file_make_writable(struct window_file *file, int fd)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return -errno;
    close(file->fd);
    file->fd = own;
    file->writable = true;
    return 0;
}

static uint64_t file_size(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_size : INT64_MAX;
}

/* -- ranges: with the lock held ---------------------------------------------------------------------
 */

/* Of `bytes` from `offset` on those that a file of this size has pages for. */
static uint32_t cut(uint64_t size, uint64_t offset, uint32_t bytes)
{
    return size <= offset ? 0 : (uint32_t)MIN(align_up(size - offset, PAGE), bytes);
}

/* Nothing is mapped here now. */
static void forget(struct window *w, struct window_range *range)
{
    struct window_file *file = range->file;
    if (range->bytes == 0)
        return;
    if (file)
        file->ranges--;
    *range = (struct window_range){0};
    atomic_fetch_sub(&w->used, 1);
    file_release(w, file);
}

static int take_out(struct window *w, struct window_range *range)
{
    int rc = cover(address(w, range), WINDOW_RANGE);
    if (rc == 0)
        forget(w, range);
    return rc;
}

/* file may be NULL. On failure the range is empty. */
static int put_in(struct window *w, struct window_range *range, struct window_file *file, int fd,
                  const struct window_range *what)
{
    uint8_t *at = address(w, range);
    int prot = protection(what->writable);
    uint32_t kept = file ? cut(file->bytes, what->offset, what->bytes) : what->bytes;
    int rc = put_file(at, kept, prot, fd, what->offset);
    if (rc == 0)
        rc = put_void(w, range, kept, what->bytes, prot);
    if (rc == 0)
        rc = cover(at + what->bytes, WINDOW_RANGE - what->bytes);
    if (rc < 0) {
        take_out(w, range);
        return rc;
    }
    if (file)
        file->ranges++; /* first, since it may be what is here already */
    forget(w, range);
    *range = *what;
    range->file = file;
    range->kept = kept;
    atomic_fetch_add(&w->used, 1);
    return 0;
}

/* Cut a range to its file's size. Returns whether it became shorter. */
static bool fit_range(struct window *w, struct window_range *range)
{
    const struct window_file *file = range->file;
    int prot = protection(range->writable);
    uint32_t kept = range->kept, wanted = cut(file->bytes, range->offset, range->bytes);
    int rc = wanted < kept ? put_void(w, range, wanted, kept, prot)
                           : put_file(address(w, range) + kept, wanted - kept, prot, file->fd,
                                      range->offset + kept);
    if (rc < 0)
        cover(address(w, range), WINDOW_RANGE); /* better its machine ends than it sees what is ours */
    range->kept = wanted;
    return wanted < kept;
}

static bool fit_file(struct window *w, struct window_file *file)
{
    uint64_t size = file_size(file->fd);
    bool shorter = false;
    if (size == file->bytes)
        return false;
    file->bytes = size;
    for (unsigned i = 0; i < w->range_count; i++)
        if (w->ranges[i].file == file)
            shorter |= fit_range(w, &w->ranges[i]);
    return shorter;
}

/* All files with this watch; -1: all there are. */
static bool fit_files(struct window *w, int watch)
{
    bool shorter = false;
    for (unsigned i = 0; i < w->range_count && w->file_count > 0; i++)
        for (struct window_file *file = w->files[i]; file; file = file->next)
            if (watch < 0 || file->watch == watch)
                shorter |= fit_file(w, file);
    return shorter;
}

/* -- what the guest asks for ------------------------------------------------------------------------
 */

static bool legal(const struct window *w, uint64_t at, uint64_t bytes)
{
    return bytes > 0 && is_aligned(at, WINDOW_RANGE) && is_aligned(bytes, PAGE) &&
           range_within(at, bytes, w->bytes);
}

/* The file, which may be NULL, and a descriptor to map from: *fd, or one that is kept. */
static int get_file(struct window *w, const struct window_piece *piece, int *fd,
                    struct window_file **out)
{
    struct window_file *file = file_find(w, piece->nodeid);
    bool suits = file && (file->writable || !piece->writable);
    int rc = suits || *fd >= 0 ? 0 : -ENOENT;
    if (rc == 0 && file && !suits)
        rc = file_make_writable(file, *fd);
    else if (rc == 0 && !file)
        file = file_new(w, piece->nodeid, *fd, piece->writable);
    if (rc == 0 && file)
        *fd = file->fd;
    *out = rc == 0 ? file : NULL;
    return rc;
}

int window_map(struct window *w, const struct window_piece *piece, int fd)
{
    struct window_file *file = NULL;
    if (!legal(w, piece->at, piece->bytes) || !is_aligned(piece->offset, WINDOW_RANGE) ||
        !range_within(piece->offset, piece->bytes, INT64_MAX))
        return -EINVAL;
    pthread_mutex_lock(&w->lock);
    /* Before the size is looked at: who makes the file larger after that will wait for us
     * (window_told). */
    atomic_fetch_add(&w->used, 1);
    int rc = get_file(w, piece, &fd, &file);
    if (file) {
        file->ranges++; /* stays until we are through */
        fit_file(w, file);
    }
    for (uint64_t done = 0; done < piece->bytes && rc == 0; done += WINDOW_RANGE) {
        const struct window_range what = {
            .offset = piece->offset + done,
            .bytes = (uint32_t)MIN(piece->bytes - done, WINDOW_RANGE),
            .writable = piece->writable,
        };
        rc = put_in(w, &w->ranges[(piece->at + done) >> WINDOW_RANGE_SHIFT], file, fd, &what);
    }
    if (file)
        file->ranges--;
    file_release(w, file);
    atomic_fetch_sub(&w->used, 1);
    pthread_mutex_unlock(&w->lock);
    return rc;
}

int window_unmap(struct window *w, uint64_t at, uint64_t bytes)
{
    int rc = 0;
    if (!legal(w, at, bytes))
        return -EINVAL;
    pthread_mutex_lock(&w->lock);
    for (uint64_t done = 0; done < bytes && rc == 0; done += WINDOW_RANGE) {
        struct window_range *range = &w->ranges[(at + done) >> WINDOW_RANGE_SHIFT];
        if (range->bytes > 0)
            rc = take_out(w, range);
    }
    pthread_mutex_unlock(&w->lock);
    return rc;
}

/* Where the kernel has no memory even to take something away, it stays, and is in `used`. */
void window_clear(struct window *w)
{
    if (atomic_load(&w->used) == 0)
        return;
    pthread_mutex_lock(&w->lock);
    bool all = cover(w->hva, w->bytes) == 0;
    for (unsigned i = 0; i < w->range_count; i++) {
        if (all)
            forget(w, &w->ranges[i]);
        else if (w->ranges[i].bytes > 0)
            take_out(w, &w->ranges[i]);
    }
    pthread_mutex_unlock(&w->lock);
}

/* -- files that change their size -------------------------------------------------------------------
 */

void window_heed(struct window *w)
{
    char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t n = read(w->events, buf, sizeof(buf));
    pthread_mutex_lock(&w->lock);
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const struct inotify_event *)(const void *)(buf + at);
        fit_files(w, event->wd); /* -1 after too many events */
        at += (ssize_t)(sizeof(*event) + event->len);
    }
    pthread_mutex_unlock(&w->lock);
}

bool window_mend(struct window *w)
{
    if (atomic_load(&w->used) == 0)
        return false;
    pthread_mutex_lock(&w->lock);
    bool shorter = fit_files(w, -1);
    pthread_mutex_unlock(&w->lock);
    return shorter;
}

void window_grown(struct window *w, uint64_t nodeid, uint64_t size)
{
    pthread_mutex_lock(&w->lock);
    struct window_file *file = file_find(w, nodeid);
    if (file && size > file->bytes)
        fit_file(w, file);
    pthread_mutex_unlock(&w->lock);
}

/* -- life -------------------------------------------------------------------------------------------
 */

static unsigned files_max(unsigned ranges)
{
    struct rlimit limit = {.rlim_cur = 1024};
    getrlimit(RLIMIT_NOFILE, &limit);
    return (unsigned)MIN(limit.rlim_cur / 8, ranges);
}

/* Aligned to ranges, so that the host can use huge pages where a file has some. */
static int reserve(struct window *w, uint64_t bytes)
{
    w->reserved_bytes = bytes + WINDOW_RANGE;
    w->reserved =
        mmap(NULL, w->reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w->reserved == MAP_FAILED) {
        w->reserved = NULL;
        return -errno;
    }
    w->hva = (uint8_t *)align_up((uintptr_t)w->reserved, WINDOW_RANGE);
    return 0;
}

int window_init(struct window *w, uint64_t bytes, struct dayfly_err *err)
{
    *w = (struct window){.events = -1, .nowhere = -1};
    if (bytes == 0)
        return 0;
    if (bytes < WINDOW_RANGE || (bytes & (bytes - 1)) != 0 || bytes > UINT64_C(1) << 40)
        return err_set(err, EINVAL, "a DAX window has a power of two of MiB, 2 MiB at least");
    w->range_count = (unsigned)(bytes >> WINDOW_RANGE_SHIFT);
    w->files_max = files_max(w->range_count);
    w->ranges = calloc(w->range_count, sizeof(*w->ranges));
    w->files = calloc(w->range_count, sizeof(struct window_file *));
    int rc = w->ranges && w->files ? reserve(w, bytes) : -ENOMEM;
    if (rc == 0 && ((w->events = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) < 0 ||
                    (w->nowhere = memfd_create("dayfly-window", MFD_CLOEXEC)) < 0 ||
                    ftruncate(w->nowhere, (off_t)WINDOW_VOID_MAX) < 0))
        rc = -errno;
    if (rc < 0) {
        window_finish(w);
        return err_errno(err, -rc, "a DAX window of %llu MiB", (unsigned long long)(bytes >> 20));
    }
    pthread_mutex_init(&w->lock, NULL);
    w->bytes = bytes;
    return 0;
}

void window_finish(struct window *w)
{
    window_clear(w);
    if (w->reserved)
        munmap(w->reserved, w->reserved_bytes);
    if (w->bytes > 0)
        pthread_mutex_destroy(&w->lock);
    if (w->reserved_bytes > 0) { /* not a zeroed one */
        close_fd(&w->events);
        close_fd(&w->nowhere);
    }
    free(w->ranges);
    free(w->files);
    *w = (struct window){.events = -1, .nowhere = -1};
}
