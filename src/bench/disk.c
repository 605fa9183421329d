/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exerciser of a job's disk, where there is no fio: 4 KiB at random places of a file, by four
 * threads that each wait for their answer, first reading and then writing.
 *
 *     disk MIB SECONDS
 *
 * A static program, since it runs in images that have nothing else. Requests are direct where the file
 * system takes that, so that what answers is the disk of the place and not the page cache in front of
 * it; else it says "buffered". The file is written whole before, and the time of the writes includes
 * the fdatasync behind them.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, THREADS = 4, CHUNK = 1 << 20 };

struct load {
    int fd;
    uint64_t blocks, seed, done;
    double until_s;
    bool writes;
    pthread_t thread;
};

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    fprintf(stderr, "disk: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* xorshift64*: any seed but 0. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static void *aligned(size_t bytes)
{
    void *memory = NULL;
    if ((errno = posix_memalign(&memory, BLOCK, bytes)))
        fail("memory");
    memset(memory, 0x5a, bytes);
    return memory;
}

static void *work(void *opaque)
{
    struct load *load = opaque;
    char *block = aligned(BLOCK);
    while (now_s() < load->until_s) {
        off_t at = (off_t)(next_random(&load->seed) % load->blocks) * BLOCK;
        ssize_t n =
            load->writes ? pwrite(load->fd, block, BLOCK, at) : pread(load->fd, block, BLOCK, at);
        if (n != BLOCK)
            fail(load->writes ? "write" : "read");
        load->done++;
    }
    free(block);
    return NULL;
}

static void measure(int fd, uint64_t blocks, double seconds, bool writes)
{
    struct load loads[THREADS];
    uint64_t done = 0;
    double start_s = now_s();
    for (int i = 0; i < THREADS; i++) {
        loads[i] = (struct load){.fd = fd,
                                 .blocks = blocks,
                                 .seed = 7 + (uint64_t)i,
                                 .until_s = start_s + seconds,
                                 .writes = writes};
        if ((errno = pthread_create(&loads[i].thread, NULL, work, &loads[i])))
            fail("thread");
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(loads[i].thread, NULL);
        done += loads[i].done;
    }
    if (writes && fdatasync(fd) < 0)
        fail("sync");
    printf("@dayfly %s %.1f\n", writes ? "write" : "read", (double)done / (now_s() - start_s));
    fflush(stdout);
}

static void fill(const char *name, uint64_t bytes)
{
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        fail("file");
    char *chunk = aligned(CHUNK);
    for (uint64_t at = 0; at < bytes; at += CHUNK)
        if (write(fd, chunk, CHUNK) != CHUNK)
            fail("fill");
    if (fsync(fd) < 0)
        fail("sync");
    free(chunk);
    close(fd);
}

int main(int argc, char **argv)
{
    long mib = argc == 3 ? atol(argv[1]) : 0, seconds = argc == 3 ? atol(argv[2]) : 0;
    if (mib < 1 || mib > 1 << 20 || seconds < 1 || seconds > 3600) {
        fputs("usage: disk MIB SECONDS\n", stderr);
        return 2;
    }
    uint64_t bytes = (uint64_t)mib << 20;
    fill("file", bytes);
    int fd = open("file", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0) {
        puts("@dayfly buffered");
        fd = open("file", O_RDWR | O_CLOEXEC);
    }
    if (fd < 0)
        fail("file");
    puts("@dayfly begin");
    fflush(stdout);
    measure(fd, bytes / BLOCK, (double)seconds, false);
    measure(fd, bytes / BLOCK, (double)seconds, true);
    puts("@dayfly end");
    return 0;
}
