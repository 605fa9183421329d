/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See memory.h. Three makers share the table: memory_create_private is the machine's, memory_create
 * cuts one memfd into regions that others can be shown, memory_add_fd maps what a vhost-user front end
 * sent. A file that could shrink under a mapping would turn a guest's access into SIGBUS in the host,
 * so a memfd of ours is sealed against shrinking, and a foreign one must be sealed or at least long
 * enough now.
 */
#include "machine/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/err.h"

#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

static bool overlaps(const struct memory *mem, uint64_t gpa, uint64_t size_bytes)
{
    for (unsigned i = 0; i < mem->count; i++) {
        const struct memory_region *r = &mem->regions[i];
        if (gpa < r->gpa + r->size_bytes && r->gpa < gpa + size_bytes)
            return true;
    }
    return false;
}

/* Regions are kept in ascending gpa, so that memory_read can walk from one to the next. */
static void insert(struct memory *mem, const struct memory_region *region)
{
    unsigned at = mem->count;
    while (at > 0 && mem->regions[at - 1].gpa > region->gpa) {
        mem->regions[at] = mem->regions[at - 1];
        at--;
    }
    mem->regions[at] = *region;
    mem->count++;
}

/* What a guest has in its memory is in no core file, and in no process that ours forks: a child would
 * keep it for as long as it lives, and until then make each page that the guest writes a copy. */
static void keep_here(void *map, size_t bytes)
{
    madvise(map, bytes, MADV_DONTDUMP);
    madvise(map, bytes, MADV_DONTFORK);
}

int memory_add_fd(struct memory *mem, uint64_t gpa, uint64_t size_bytes, int fd_taken,
                  uint64_t fd_offset, struct dayfly_err *err)
{
    _cleanup_close_ int fd = fd_taken;
    uint64_t gpa_end, file_end;
    struct stat st;

    if (mem->count == MEMORY_REGIONS_MAX)
        return err_set(err, ENOSPC, "more than %d memory regions", MEMORY_REGIONS_MAX);
    if (size_bytes == 0 || add_overflows(gpa, size_bytes, &gpa_end) ||
        add_overflows(fd_offset, size_bytes, &file_end) || file_end > INT64_MAX)
        return err_set(err, EINVAL, "memory region at %#llx: size %#llx does not fit",
                       (unsigned long long)gpa, (unsigned long long)size_bytes);
    if (overlaps(mem, gpa, size_bytes))
        return err_set(err, EEXIST, "memory region at %#llx overlaps another", (unsigned long long)gpa);
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "memory region at %#llx", (unsigned long long)gpa);
    if ((uint64_t)st.st_size < file_end)
        return err_set(err, EINVAL, "memory region at %#llx: its file ends at %lld, not at %llu",
                       (unsigned long long)gpa, (long long)st.st_size, (unsigned long long)file_end);

    /* mmap wants a page-aligned offset (a huge page's, on hugetlbfs). */
    uint64_t page = MAX((uint64_t)st.st_blksize, (uint64_t)sysconf(_SC_PAGESIZE));
    uint64_t map_offset = align_down(fd_offset, page);
    size_t map_bytes = (size_t)(file_end - map_offset);
    void *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                     (off_t)map_offset);
    if (map == MAP_FAILED)
        return err_errno(err, errno, "map %llu bytes of guest memory", (unsigned long long)size_bytes);
    keep_here(map, map_bytes);

    insert(mem, &(struct memory_region){
                    .gpa = gpa,
                    .size_bytes = size_bytes,
                    .hva = (uint8_t *)map + (fd_offset - map_offset),
                    .fd = steal_fd(&fd),
                    .fd_offset = fd_offset,
                    .map = map,
                    .map_bytes = map_bytes,
                });
    return 0;
}

int memory_create(struct memory *mem, const struct memory_layout *layout, unsigned count,
                  struct dayfly_err *err)
{
    uint64_t total = 0;
    *mem = (struct memory){0};
    for (unsigned i = 0; i < count; i++)
        if (add_overflows(total, layout[i].size_bytes, &total) || total > INT64_MAX)
            return err_set(err, EINVAL, "guest memory is too large");

    _cleanup_close_ int fd = memfd_create("dayfly-guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_errno(err, errno, "make a memfd for guest memory");
    if (ftruncate(fd, (off_t)total) < 0)
        return err_errno(err, errno, "size guest memory to %llu bytes", (unsigned long long)total);
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return err_errno(err, errno, "seal the size of guest memory");

    uint64_t offset = 0;
    for (unsigned i = 0; i < count; i++) {
        int part = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        int r = part < 0 ? err_errno(err, errno, "guest memory")
                         : memory_add_fd(mem, layout[i].gpa, layout[i].size_bytes, part, offset, err);
        if (r < 0) {
            memory_finish(mem);
            return r;
        }
        offset += layout[i].size_bytes;
    }
    return 0;
}

static int add_private(struct memory *mem, const struct memory_layout *layout, struct dayfly_err *err)
{
    uint64_t gpa_end, map_bytes;
    if (mem->count == MEMORY_REGIONS_MAX)
        return err_set(err, ENOSPC, "more than %d memory regions", MEMORY_REGIONS_MAX);
    if (layout->size_bytes == 0 || add_overflows(layout->gpa, layout->size_bytes, &gpa_end) ||
        add_overflows(layout->size_bytes, HUGE_PAGE_BYTES, &map_bytes))
        return err_set(err, EINVAL, "memory region at %#llx: size %#llx does not fit",
                       (unsigned long long)layout->gpa, (unsigned long long)layout->size_bytes);
    if (overlaps(mem, layout->gpa, layout->size_bytes))
        return err_set(err, EEXIST, "memory region at %#llx overlaps another",
                       (unsigned long long)layout->gpa);
    void *map = mmap(NULL, map_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return err_errno(err, errno, "map %llu bytes of guest memory",
                         (unsigned long long)layout->size_bytes);
    /* A huge page of ours must be one of the guest's: both addresses the same within it. */
    uint64_t shift = (layout->gpa - (uintptr_t)map) & (HUGE_PAGE_BYTES - 1);
    keep_here(map, map_bytes);
    madvise(map, map_bytes, MADV_HUGEPAGE); /* refused where the kernel has none */
    insert(mem, &(struct memory_region){
                    .gpa = layout->gpa,
                    .size_bytes = layout->size_bytes,
                    .hva = (uint8_t *)map + shift,
                    .fd = -1,
                    .map = map,
                    .map_bytes = map_bytes,
                });
    return 0;
}

int memory_create_private(struct memory *mem, const struct memory_layout *layout, unsigned count,
                          struct dayfly_err *err)
{
    *mem = (struct memory){0};
    for (unsigned i = 0; i < count; i++) {
        int rc = add_private(mem, &layout[i], err);
        if (rc < 0) {
            memory_finish(mem);
            return rc;
        }
    }
    return 0;
}

void memory_finish(struct memory *mem)
{
    for (unsigned i = 0; i < mem->count; i++) {
        struct memory_region *r = &mem->regions[i];
        if (r->map)
            munmap(r->map, r->map_bytes);
        close_fd(&r->fd);
    }
    *mem = (struct memory){0};
}

uint64_t memory_contiguous(const struct memory *mem, uint64_t gpa, uint8_t **hva)
{
    for (unsigned i = 0; i < mem->count; i++) {
        const struct memory_region *r = &mem->regions[i];
        if (gpa >= r->gpa && gpa - r->gpa < r->size_bytes) {
            *hva = r->hva + (gpa - r->gpa);
            return r->size_bytes - (gpa - r->gpa);
        }
    }
    return 0;
}

void *memory_span(const struct memory *mem, uint64_t gpa, uint64_t len)
{
    uint8_t *hva;
    return len && memory_contiguous(mem, gpa, &hva) >= len ? hva : NULL;
}

/* True when every byte of [gpa, gpa + len) is RAM. */
static bool all_ram(const struct memory *mem, uint64_t gpa, uint64_t len)
{
    while (len) {
        uint8_t *hva;
        uint64_t here = memory_contiguous(mem, gpa, &hva);
        if (here == 0)
            return false;
        if (here >= len)
            return true;
        gpa += here;
        len -= here;
    }
    return true;
}

int memory_read(const struct memory *mem, uint64_t gpa, void *buf, size_t len)
{
    if (!all_ram(mem, gpa, len))
        return -EFAULT;
    for (uint8_t *to = buf; len;) {
        uint8_t *hva;
        size_t n = (size_t)MIN(memory_contiguous(mem, gpa, &hva), (uint64_t)len);
        memcpy(to, hva, n);
        to += n;
        gpa += n;
        len -= n;
    }
    return 0;
}

int memory_write(const struct memory *mem, uint64_t gpa, const void *buf, size_t len)
{
    if (!all_ram(mem, gpa, len))
        return -EFAULT;
    for (const uint8_t *from = buf; len;) {
        uint8_t *hva;
        size_t n = (size_t)MIN(memory_contiguous(mem, gpa, &hva), (uint64_t)len);
        memcpy(hva, from, n);
        from += n;
        gpa += n;
        len -= n;
    }
    return 0;
}
