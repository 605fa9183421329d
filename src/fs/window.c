/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See window.h.
 *
 * There must never be a hole: whatever this process mapped next might land in it, before the guest's
 * eyes. mmap(2) over a range first takes out what was there and may then fail for the file's sake. So a
 * file is mapped elsewhere first, and then moved (mremap(2)), which fails for want of kernel memory
 * alone; even then the range is covered again.
 *
 * To compare a mapping with its file later a descriptor is needed: one for each file that is mapped,
 * not for each range. Many small files could need more than a process may have; beyond files_max they
 * are mapped without one, and are not mended.
 *
 * Mending looks at all files, since KVM does not say where the guest was. So it also puts zeroes behind
 * the end of files that merely never were as long as their range, which is harmless for the same reason
 * as elsewhere: the guest does not look there before it has learnt that the file grew.
 */
#include "fs/window.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/err.h"

#define PAGE UINT64_C(4096)

struct window_file {
    struct window_file *next; /* in its bucket */
    uint64_t nodeid;
    uint64_t bytes; /* its size, as window_mend saw it */
    int fd;
    bool writable;
    unsigned ranges; /* that are its */
    unsigned mended; /* of them */
};

struct window_range {
    struct window_file *file; /* NULL: nothing is mapped, or nobody follows it */
    uint64_t offset;
    uint32_t bytes; /* mapped, from the range's start; 0: nothing */
    uint32_t kept;  /* of these still the file's; zeroes behind */
    bool writable;
};

/* -- address space ----------------------------------------------------------------------------------
 */

/* Reserve it, whatever was there. */
static int cover(void *at, uint64_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return mmap(at, bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED ? -errno : 0;
}

static int protection(bool writable)
{
    return PROT_READ | (writable ? PROT_WRITE : 0);
}

/* On failure there may be a hole, and the range is to be covered. */
static int place(uint8_t *at, int fd, uint64_t offset, uint32_t bytes, bool writable)
{
    void *elsewhere = mmap(NULL, bytes, protection(writable), MAP_SHARED, fd, (off_t)offset);
    if (elsewhere == MAP_FAILED)
        return -errno;
    int rc = bytes < WINDOW_RANGE ? cover(at + bytes, WINDOW_RANGE - bytes) : 0;
    if (rc == 0 && mremap(elsewhere, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED)
        rc = -errno;
    if (rc < 0)
        munmap(elsewhere, bytes);
    return rc;
}

static uint8_t *address(const struct window *w, const struct window_range *range)
{
    return w->hva + (uint64_t)(range - w->ranges) * WINDOW_RANGE;
}

/* -- files: with the lock held ----------------------------------------------------------------------
 */

static struct window_file **bucket(struct window *w, uint64_t nodeid)
{
    return &w->files[nodeid & (w->range_count - 1)];
}

/* One that can be mapped this way. */
static struct window_file *file_find(struct window *w, uint64_t nodeid, bool writable)
{
    struct window_file *file = *bucket(w, nodeid);
    while (file && (file->nodeid != nodeid || (writable && !file->writable)))
        file = file->next;
    return file;
}

/* NULL where there are too many: then nobody follows it. */
static struct window_file *file_new(struct window *w, uint64_t nodeid, bool writable, int fd)
{
    struct window_file **head = bucket(w, nodeid);
    struct window_file *file = w->file_count < w->files_max ? malloc(sizeof(*file)) : NULL;
    if (!file)
        return NULL;
    *file = (struct window_file){.next = *head, .nodeid = nodeid, .writable = writable};
    file->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (file->fd < 0) {
        free(file);
        return NULL;
    }
    *head = file;
    w->file_count++;
    return file;
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
    close(file->fd);
    free(file);
}

/* -- ranges: with the lock held ---------------------------------------------------------------------
 */

static void set_kept(struct window *w, struct window_range *range, uint32_t kept)
{
    bool before = range->kept < range->bytes, after = kept < range->bytes;
    w->zeroes_bytes += range->kept;
    w->zeroes_bytes -= kept;
    range->kept = kept;
    if (before == after)
        return;
    range->file->mended += after ? 1 : -1u;
    atomic_fetch_add(&w->mended, after ? 1 : -1u);
}

/* Nothing is mapped here now. */
static void forget(struct window *w, struct window_range *range)
{
    struct window_file *file = range->file;
    if (range->bytes == 0)
        return;
    if (file) {
        set_kept(w, range, range->bytes);
        file->ranges--;
    }
    *range = (struct window_range){0};
    w->used--;
    file_release(w, file);
}

static int take_out(struct window *w, struct window_range *range)
{
    int rc = range->bytes > 0 ? cover(address(w, range), WINDOW_RANGE) : 0;
    if (rc == 0)
        forget(w, range);
    return rc;
}

/* file may be NULL. On failure the range is empty. */
static int put_in(struct window *w, struct window_range *range, struct window_file *file, int fd,
                  const struct window_range *what)
{
    int rc = place(address(w, range), fd, what->offset, what->bytes, what->writable);
    if (rc < 0) {
        if (cover(address(w, range), WINDOW_RANGE) == 0)
            forget(w, range);
        return rc;
    }
    if (file)
        file->ranges++; /* first, since it may be what is here already */
    forget(w, range);
    *range = *what;
    range->file = file;
    range->kept = range->bytes;
    w->used++;
    return 0;
}

/* -- what the guest asks for ------------------------------------------------------------------------
 */

static bool legal(const struct window *w, uint64_t at, uint64_t bytes)
{
    return bytes > 0 && is_aligned(at, WINDOW_RANGE) && is_aligned(bytes, PAGE) &&
           range_within(at, bytes, w->bytes);
}

int window_map(struct window *w, const struct window_piece *piece, int fd)
{
    if (!legal(w, piece->at, piece->bytes) || !is_aligned(piece->offset, WINDOW_RANGE) ||
        !range_within(piece->offset, piece->bytes, INT64_MAX))
        return -EINVAL;
    pthread_mutex_lock(&w->lock);
    struct window_file *file = file_find(w, piece->nodeid, piece->writable);
    int rc = file || fd >= 0 ? 0 : -ENOENT;
    if (!file && fd >= 0)
        file = file_new(w, piece->nodeid, piece->writable, fd);
    /* What is replaced may be the last of its ranges. */
    if (file)
        file->ranges++;
    for (uint64_t done = 0; done < piece->bytes && rc == 0; done += WINDOW_RANGE) {
        const struct window_range what = {
            .offset = piece->offset + done,
            .bytes = (uint32_t)MIN(piece->bytes - done, WINDOW_RANGE),
            .writable = piece->writable,
        };
        struct window_range *range = &w->ranges[(piece->at + done) >> WINDOW_RANGE_SHIFT];
        rc = put_in(w, range, file, file ? file->fd : fd, &what);
    }
    if (file)
        file->ranges--;
    file_release(w, file); /* unless it was put in */
    pthread_mutex_unlock(&w->lock);
    return rc;
}

int window_unmap(struct window *w, uint64_t at, uint64_t bytes)
{
    int rc = 0;
    if (!legal(w, at, bytes))
        return -EINVAL;
    pthread_mutex_lock(&w->lock);
    for (uint64_t done = 0; done < bytes && rc == 0; done += WINDOW_RANGE)
        rc = take_out(w, &w->ranges[(at + done) >> WINDOW_RANGE_SHIFT]);
    pthread_mutex_unlock(&w->lock);
    return rc;
}

/* Where the kernel has no memory even to take something away, it stays, and is in `used`. */
void window_clear(struct window *w)
{
    if (w->bytes == 0)
        return;
    pthread_mutex_lock(&w->lock);
    bool all = w->used > 0 && cover(w->hva, w->bytes) == 0;
    for (unsigned i = 0; i < w->range_count && w->used > 0; i++) {
        if (all)
            forget(w, &w->ranges[i]);
        else
            take_out(w, &w->ranges[i]);
    }
    pthread_mutex_unlock(&w->lock);
}

unsigned window_used(struct window *w)
{
    if (w->bytes == 0)
        return 0;
    pthread_mutex_lock(&w->lock);
    unsigned used = w->used;
    pthread_mutex_unlock(&w->lock);
    return used;
}

/* -- files that change their size -------------------------------------------------------------------
 */

/* Zeroes behind the file's end. The guest may write to them, and what it writes is memory of the host
 * besides its own: hence the bound. */
static bool mend_range(struct window *w, struct window_range *range)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    uint64_t size = range->file->bytes;
    uint64_t left = size > range->offset ? align_up(size - range->offset, PAGE) : 0;
    if (left >= range->kept || range->kept - left > WINDOW_ZEROES_MAX - w->zeroes_bytes)
        return false;
    if (mmap(address(w, range) + left, range->kept - left, protection(range->writable), flags, -1, 0) ==
        MAP_FAILED)
        return false;
    set_kept(w, range, (uint32_t)left);
    return true;
}

/*
 * A file that grows at the same moment: whoever made it grow, or tells the guest so, looks at `mended`
 * afterwards (window_told). It is not 0 from before we look at the sizes on, so either we see the file
 * grown, or the other waits for the lock and heals.
 */
bool window_mend(struct window *w)
{
    bool mended = false;
    if (w->bytes == 0)
        return false;
    pthread_mutex_lock(&w->lock);
    atomic_fetch_add(&w->mended, 1);
    for (unsigned i = 0; i < w->range_count; i++) {
        for (struct window_file *file = w->files[i]; file; file = file->next) {
            struct stat st;
            file->bytes = fstat(file->fd, &st) == 0 ? (uint64_t)st.st_size : UINT64_MAX - PAGE;
        }
    }
    for (unsigned i = 0; i < w->range_count; i++)
        if (w->ranges[i].file)
            mended |= mend_range(w, &w->ranges[i]);
    atomic_fetch_sub(&w->mended, 1);
    pthread_mutex_unlock(&w->lock);
    return mended;
}

/* What is still behind the end is mended again, should the guest go there. */
void window_heal(struct window *w, uint64_t nodeid)
{
    if (w->bytes == 0)
        return;
    pthread_mutex_lock(&w->lock);
    unsigned mended = 0;
    for (struct window_file *file = *bucket(w, nodeid); file; file = file->next)
        mended += file->nodeid == nodeid ? file->mended : 0;
    for (unsigned i = 0; i < w->range_count && mended > 0; i++) {
        struct window_range *range = &w->ranges[i];
        if (!range->file || range->file->nodeid != nodeid || range->kept == range->bytes)
            continue;
        const struct window_range what = *range;
        put_in(w, range, what.file, what.file->fd, &what);
        mended--;
    }
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
    *w = (struct window){0};
    if (bytes == 0)
        return 0;
    if (bytes < WINDOW_RANGE || (bytes & (bytes - 1)) != 0 || bytes > UINT64_C(1) << 40)
        return err_set(err, EINVAL, "a DAX window has a power of two of MiB, 2 MiB at least");
    w->range_count = (unsigned)(bytes >> WINDOW_RANGE_SHIFT);
    w->files_max = files_max(w->range_count);
    w->ranges = calloc(w->range_count, sizeof(*w->ranges));
    w->files = calloc(w->range_count, sizeof(struct window_file *));
    int rc = w->ranges && w->files ? reserve(w, bytes) : -ENOMEM;
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
    free(w->ranges);
    free(w->files);
    *w = (struct window){0};
}
