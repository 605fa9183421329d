/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the writable layer of a job costs: to make and to take away, and to read and write through, on
 * the back ends themselves, without a machine. Run by bench/layer.
 *
 * Throughput is measured on files without a name in the given folder, through the page cache, so it is
 * the back ends' cost and not the drive's. Large requests are cut as Linux cuts them for a disk of
 * ours. The kinds take turns in rounds of some milliseconds, so that a slow moment of the host hits
 * all, and one without interruption is among them: each line has the best of ROUNDS, and of the ratios
 * in one round the median.
 *
 *     bench-layer FOLDER [LOAD]     LOAD: only those whose name has it
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "block/crypt.h"
#include "block/ephemeral.h"
#include "block/overlay.h"
#include "job/layer.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/nameless.h"
#include "util/tree.h"

#define GIB        (UINT64_C(1) << 30)
#define MIB        (UINT64_C(1) << 20)
#define MAKES      41
#define ROUNDS     101
#define DISK_BYTES (256 * MIB)
#define DEPTH_MAX  32
#define SEGMENT    (128 * 1024) /* the most that our disks take in one (virtio/block.c) */

static void __attribute__((noreturn)) fail(const char *what, const struct dayfly_err *err)
{
    fprintf(stderr, "bench-layer: %s: %s\n", what, err ? err->msg : strerror(errno));
    exit(1);
}

/* -- making and taking away ---------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void print_times(const char *what, uint64_t *ns)
{
    const uint64_t *median = ns + MAKES / 2, *worst = ns + MAKES - 1;
    qsort(ns, MAKES, sizeof(*ns), by_value);
    printf("  %-10s median %6.3f ms   worst %6.3f ms\n", what, (double)*median / 1e6,
           (double)*worst / 1e6);
}

static void make_and_destroy(int home_fd, const char *home, uint64_t bytes)
{
    uint64_t create[MAKES], destroy[MAKES];
    struct dayfly_err err;
    uint64_t begin = clock_ns();
    int fd = layer_open(home_fd, home, bytes, &err);
    if (fd < 0)
        fail("template", &err);
    close(fd);
    printf("a layer of %llu GiB (its template, once: %.1f ms)\n", (unsigned long long)(bytes / GIB),
           (double)(clock_ns() - begin) / 1e6);
    for (int i = 0; i < MAKES; i++) {
        struct block *block;
        begin = clock_ns();
        if ((fd = layer_open(home_fd, home, bytes, &err)) < 0 ||
            block_ephemeral_open(&block, &(struct block_ephemeral_options){.base_fd = fd, .dir = home},
                                 &err) < 0)
            fail("create", &err);
        create[i] = clock_ns() - begin;
        begin = clock_ns();
        block_destroy(block);
        destroy[i] = clock_ns() - begin;
    }
    print_times("create", create);
    print_times("destroy", destroy);
}

/* -- throughput ---------------------------------------------------------------------------------- */

enum kind { RAW, OVERLAY, ENCRYPTED, KINDS };

struct load {
    const char *name;
    enum block_op op;
    bool again; /* the disk was written to before */
    bool random;
    uint32_t bytes;
    unsigned depth, count;
};

/* fio's 1 MiB, four at once, arrive so: a guest of one processor has one or two of them begun. */
static const struct load loads[] = {
    {"4 KiB random write, new,   depth 1 ", BLOCK_WRITE, false, true, 4096, 1, 200},
    {"4 KiB random write, new,   depth 32", BLOCK_WRITE, false, true, 4096, 32, 200},
    {"4 KiB random write, again, depth 32", BLOCK_WRITE, true, true, 4096, 32, 400},
    {"4 KiB random read,         depth 1 ", BLOCK_READ, true, true, 4096, 1, 200},
    {"4 KiB random read,         depth 32", BLOCK_READ, true, true, 4096, 32, 400},
    {"1 MiB sequential write,    depth 1 ", BLOCK_WRITE, true, false, 1 << 20, 1, 4},
    {"1 MiB sequential write,    depth 4 ", BLOCK_WRITE, true, false, 1 << 20, 4, 4},
    {"1 MiB sequential read,     depth 1 ", BLOCK_READ, true, false, 1 << 20, 1, 4},
    {"1 MiB sequential read,     depth 4 ", BLOCK_READ, true, false, 1 << 20, 4, 4},
};

struct runner;

struct slot {
    struct block_request request;
    struct iovec iov[MIB / SEGMENT];
    struct runner *runner;
};

struct runner {
    struct block *block;
    const struct load *load;
    uint64_t *seed, *place;
    unsigned begun, ended;
    struct slot slots[DEPTH_MAX];
};

static uint64_t next_offset(struct runner *r)
{
    uint64_t places = r->block->size_bytes / r->load->bytes;
    if (!r->load->random)
        return (*r->place)++ % places * r->load->bytes;
    *r->seed = *r->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (*r->seed >> 33) % places * r->load->bytes;
}

static void begin_one(struct slot *slot)
{
    struct runner *r = slot->runner;
    if (r->begun == r->load->count)
        return;
    slot->request.offset_bytes = next_offset(r);
    r->begun++;
    if (block_submit(r->block, &slot->request) < 0)
        fail("submit", NULL);
}

static void ended_one(struct block_request *request, int result)
{
    struct slot *slot = container_of(request, struct slot, request);
    if (result < 0) {
        errno = -result;
        fail("request", NULL);
    }
    slot->runner->ended++;
    begin_one(slot);
}

struct disk {
    struct block *block;
    uint64_t seed, place;
    double rates[ROUNDS];
};

/* Requests a second. */
static double run(struct disk *disk, const struct load *load, uint8_t *memory)
{
    struct block *block = disk->block;
    struct runner r = {.block = block, .load = load, .seed = &disk->seed, .place = &disk->place};
    uint64_t begin = clock_ns();
    for (unsigned i = 0; i < load->depth; i++) {
        struct slot *slot = &r.slots[i];
        slot->runner = &r;
        slot->request = (struct block_request){
            .op = load->op, .length_bytes = load->bytes, .iov = slot->iov, .done = ended_one};
        for (uint32_t at = 0; at < load->bytes; at += SEGMENT)
            slot->iov[slot->request.iov_count++] =
                (struct iovec){memory + (size_t)i * load->bytes + at, MIN(SEGMENT, load->bytes - at)};
        begin_one(slot);
    }
    while (r.ended < load->count) {
        block_kick(block);
        if (block_reap(block) > 0)
            continue;
        struct pollfd p = {.fd = block->event_fd, .events = POLLIN};
        poll(&p, 1, -1);
    }
    return load->count * 1e9 / (double)(clock_ns() - begin);
}

static int file_of(const char *dir, uint64_t bytes)
{
    struct dayfly_err err;
    int fd = nameless_file_open(dir, "a disk to measure", &err);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
        fail("file", fd < 0 ? &err : NULL);
    return fd;
}

static struct block *raw_of(int fd, bool read_only)
{
    struct block *block;
    struct dayfly_err err;
    if (block_raw_open(&block, &(struct block_raw_options){.fd = fd, .read_only = read_only}, &err) < 0)
        fail("raw", &err);
    return block;
}

static struct block *open_kind(enum kind kind, const char *dir, uint32_t cluster_bytes)
{
    struct dayfly_err err;
    struct block *block = raw_of(file_of(dir, DISK_BYTES), false);
    if (kind == ENCRYPTED &&
        block_crypt_open(&block, &(struct block_crypt_options){.lower = block}, &err) < 0)
        fail("crypt", &err);
    if (kind == RAW)
        return block;
    const struct block_overlay_options options = {
        .base = raw_of(file_of(dir, DISK_BYTES), true), .delta = block, .cluster_bytes = cluster_bytes};
    if (block_overlay_open(&block, &options, &err) < 0)
        fail("overlay", &err);
    return block;
}

static int by_rate(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* A disk that was written to was so in requests of 64 KiB, the most that crypt makes: Linux keeps what
 * a write of more brought in larger folios, and ext4 then takes several times as long for 4 KiB in one.
 */
static void open_disk(struct disk *disk, enum kind kind, const struct load *load, const char *dir,
                      uint32_t cluster_bytes, uint8_t *memory)
{
    static const struct load fill = {"", BLOCK_WRITE, false, false, 65536, 4, DISK_BYTES / 65536};
    *disk = (struct disk){.block = open_kind(kind, dir, cluster_bytes), .seed = 1};
    if (load->again)
        run(disk, &fill, memory);
}

/* Ends with the rates of each disk in order. Returns the median of the rounds' ratios of the last two.
 */
static double compare(struct disk *disks, unsigned count, const struct load *load, uint8_t *memory)
{
    double ratios[ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < count; i++) {
            nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
            disks[i].rates[round] = run(&disks[i], load, memory);
        }
        ratios[round] = disks[count - 1].rates[round] / disks[count - 2].rates[round];
    }
    qsort(ratios, ROUNDS, sizeof(*ratios), by_rate);
    for (unsigned i = 0; i < count; i++) {
        qsort(disks[i].rates, ROUNDS, sizeof(*disks[i].rates), by_rate);
        block_destroy(disks[i].block);
    }
    return ratios[ROUNDS / 2];
}

static void throughput(const char *dir, const char *only, uint8_t *memory)
{
    printf("\n%-38s %14s %14s %14s   encrypted/overlay: best, median\n", "through the page cache",
           "raw", "overlay", "encrypted");
    for (size_t i = 0; i < ARRAY_SIZE(loads); i++) {
        const struct load *load = &loads[i];
        struct disk disks[KINDS];
        if (only && !strstr(load->name, only))
            continue;
        for (enum kind k = 0; k < KINDS; k++)
            open_disk(&disks[k], k, load, dir, 0, memory);
        double ratio = compare(disks, KINDS, load, memory);
        bool large = load->bytes >= MIB;
        double unit = large ? (double)load->bytes / 1e6 : 1e-3;
        printf("%-38s", load->name);
        for (enum kind k = 0; k < KINDS; k++)
            printf(" %7.0f %-6s", disks[k].rates[ROUNDS - 1] * unit, large ? "MB/s" : "k/s");
        printf("   %.2f %.2f\n", disks[ENCRYPTED].rates[ROUNDS - 1] / disks[OVERLAY].rates[ROUNDS - 1],
               ratio);
        fflush(stdout);
    }
}

static void granularity(const char *dir, uint8_t *memory)
{
    enum { SIZES = 5 };
    struct disk disks[SIZES];
    printf("\nencrypted, 4 KiB random write to new places, depth 32, by cluster\n");
    for (unsigned i = 0; i < SIZES; i++)
        open_disk(&disks[i], ENCRYPTED, &loads[1], dir, 4096u << i, memory);
    compare(disks, SIZES, &loads[1], memory);
    for (unsigned i = 0; i < SIZES; i++)
        printf("  %2u KiB  %7.0f k/s\n", 4u << i, disks[i].rates[ROUNDS - 1] / 1e3);
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: bench-layer FOLDER [LOAD]\n");
        return 2;
    }
    char home[4096];
    snprintf(home, sizeof(home), "%s/bench-layer-XXXXXX", argv[1]);
    if (!mkdtemp(home))
        fail(argv[1], NULL);
    int home_fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    uint8_t *memory = aligned_alloc(4096, DEPTH_MAX * MIB);
    if (home_fd < 0 || !memory)
        fail("prepare", NULL);
    memset(memory, 0x5a, DEPTH_MAX * MIB);

    const char *only = argc == 3 ? argv[2] : NULL;
    if (!only) {
        make_and_destroy(home_fd, home, 8 * GIB);
        make_and_destroy(home_fd, home, 512 * GIB);
    }
    throughput(home, only, memory);
    if (!only)
        granularity(home, memory);

    free(memory);
    close(home_fd);
    return tree_remove(AT_FDCWD, home) < 0;
}
