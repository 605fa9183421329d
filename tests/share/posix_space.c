/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File systems that are full, and what they say of themselves.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "posix.h"

#define CHUNK (64 << 10)

/* What a full file system, or one of limited use, says. */
static void is_full(long result)
{
    if (result == -1 && errno == EDQUOT)
        return;
    FAILS(result, ENOSPC);
}

/* Write until it says that it is full, at the write itself or, with a cache in between, at fsync. */
static off_t fill(int fd)
{
    char chunk[CHUNK];
    off_t at = 0;
    ssize_t n;

    memset(chunk, 'f', sizeof chunk);
    for (;;) {
        n = pwrite(fd, chunk, sizeof chunk, at);
        if (n < 0) {
            is_full(n);
            return at;
        }
        at += n;
        if (at % (16 * CHUNK) == 0 && fsync(fd) < 0) {
            is_full(-1);
            return at;
        }
        THAT(at < (off_t)1 << 30);
    }
}

static void a_full_file_system(void)
{
    char chunk[CHUNK];
    off_t filled;
    int fd, other;

    OK(chdir(posix_small_directory()));
    fd = (int)OK(open("fill", O_RDWR | O_CREAT, 0644));
    filled = fill(fd);
    THAT(filled > 0);
    /* It is full for the next one as well, says so, and what was there before is still there. */
    other = (int)OK(open("other", O_RDWR | O_CREAT, 0644));
    for (off_t at = 0;; at += CHUNK) {
        ssize_t n = pwrite(other, chunk, sizeof chunk, at);

        if (n < 0 || fsync(other) < 0) {
            is_full(-1);
            break;
        }
        THAT(at < 4 << 20);
    }
    EQUAL(OK(pread(fd, chunk, sizeof chunk, 0)), sizeof chunk);
    for (unsigned i = 0; i < sizeof chunk; i++)
        EQUAL(chunk[i], 'f');
    /* Room that is given back can be used again. */
    OK(close(fd));
    OK(close(other));
    OK(unlink("fill"));
    OK(unlink("other"));
    fd = (int)OK(open("again", O_RDWR | O_CREAT, 0644));
    for (unsigned i = 0; i < 8; i++)
        EQUAL(OK(pwrite(fd, chunk, sizeof chunk, (off_t)i * CHUNK)), sizeof chunk);
    OK(fsync(fd));
    OK(close(fd));
    OK(unlink("again"));
}

static void too_much_is_reserved(void)
{
    struct statvfs fs;
    int fd;

    OK(chdir(posix_small_directory()));
    OK(statvfs(".", &fs));
    fd = (int)OK(open("reserve", O_RDWR | O_CREAT, 0644));
    is_full(fallocate(fd, 0, 0, (off_t)(fs.f_blocks * fs.f_frsize) + (1 << 20)));
    OK(close(fd));
    OK(unlink("reserve"));
}

static void a_mapping_on_a_full_file_system(void)
{
    size_t length;
    char *at;
    int fd;

    OK(chdir(posix_small_directory()));
    fd = (int)OK(open("fill", O_RDWR | O_CREAT, 0644));
    /* Room was there when it was mapped: written through the mapping, it is there after msync. */
    length = 1 << 20;
    OK(fallocate(fd, 0, 0, (off_t)length));
    at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        posix_skip("no shared writable mappings here");
    memset(at, 'm', length);
    OK(msync(at, length, MS_SYNC));
    OK(munmap(at, length));
    OK(close(fd));
    OK(unlink("fill"));
}

static void what_statfs_says(void)
{
    struct statvfs fs;

    OK(statvfs(".", &fs));
    EQUAL(fs.f_namemax, 255);
    THAT(fs.f_bsize >= 512);
    THAT(fs.f_frsize >= 512);
    THAT(fs.f_blocks > 0);
    THAT(fs.f_bavail <= fs.f_blocks);
    posix_make("f", "");
    OK(fstatvfs((int)OK(open("f", O_RDONLY)), &fs));
    EQUAL(fs.f_namemax, 255);
}

static const struct posix_case CASES[] = {
    {"a full file system says so, and recovers", a_full_file_system, POSIX_SMALL},
    {"more is reserved than there is", too_much_is_reserved, POSIX_SMALL},
    {"reserved room can be written by a mapping", a_mapping_on_a_full_file_system, POSIX_SMALL},
    {"statfs", what_statfs_says, 0},
};

const struct posix_chapter posix_space = {CASES, sizeof CASES / sizeof CASES[0]};
