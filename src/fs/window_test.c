/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window by itself. What the guest would see is looked at with process_vm_readv(2), which fails
 * where a plain access would be a signal.
 */
#include "fs/window.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/testing.h"

#define RANGES 8u
#define PAGE   UINT64_C(4096)

static void make(struct window *w)
{
    struct dayfly_err err;
    if (window_init(w, RANGES * WINDOW_RANGE, &err) < 0)
        fail_msg("%s", err.msg);
}

/* A byte of the window, or -EFAULT. */
static int peek(struct window *w, uint64_t at)
{
    uint8_t byte;
    struct iovec here = {&byte, 1}, there = {w->hva + at, 1};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1 ? byte : -errno;
}

static int poke(struct window *w, uint64_t at, uint8_t byte)
{
    struct iovec here = {&byte, 1}, there = {w->hva + at, 1};
    return process_vm_writev(getpid(), &here, 1, &there, 1, 0) == 1 ? 0 : -errno;
}

/* A file whose pages each hold their number, from `first` on. */
static int file_of(unsigned pages, uint8_t first)
{
    /* Not a memfd: writing to one makes no event. */
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(pages * PAGE)), 0);
    for (unsigned i = 0; i < pages; i++) {
        uint8_t byte = (uint8_t)(first + i);
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)(i * PAGE)), 1);
    }
    return fd;
}

static int map(struct window *w, uint64_t nodeid, uint64_t offset, uint64_t bytes, uint64_t at,
               bool writable, int fd)
{
    return window_map(w, &(struct window_piece){nodeid, offset, bytes, at, writable}, fd);
}

static void sizes_are_checked(void **state)
{
    const uint64_t bad[] = {1, PAGE, WINDOW_RANGE - PAGE, 3 * WINDOW_RANGE, UINT64_C(1) << 63};
    struct window w;
    struct dayfly_err err;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(window_init(&w, bad[i], &err), -EINVAL);
        window_finish(&w);
    }
    assert_int_equal(window_init(&w, 0, &err), 0);
    assert_int_equal(map(&w, 1, 0, PAGE, 0, false, 0), -EINVAL);
    assert_int_equal(window_unmap(&w, 0, PAGE), -EINVAL);
    assert_false(window_mend(&w));
    window_told(&w, 1, PAGE);
    window_clear(&w);
    window_finish(&w);
    window_finish(&w);
}

static void what_is_mapped_is_the_file(void **state)
{
    struct window w;
    make(&w);
    int fd = file_of(1024, 0);
    assert_int_equal((uintptr_t)w.hva % WINDOW_RANGE, 0);
    assert_int_equal(peek(&w, 0), -EFAULT);
    assert_int_equal(map(&w, 7, WINDOW_RANGE, WINDOW_RANGE, 3 * WINDOW_RANGE, true, -1), -ENOENT);
    assert_int_equal(map(&w, 7, WINDOW_RANGE, WINDOW_RANGE, 3 * WINDOW_RANGE, true, fd), 0);
    assert_int_equal(atomic_load(&w.used), 1);
    assert_int_equal(peek(&w, 3 * WINDOW_RANGE - 1), -EFAULT);
    assert_int_equal(peek(&w, 3 * WINDOW_RANGE + 5 * PAGE), (512 + 5) % 256);
    assert_int_equal(peek(&w, 4 * WINDOW_RANGE), -EFAULT);
    assert_int_equal(poke(&w, 3 * WINDOW_RANGE + 1, 99), 0);
    uint8_t byte = 0;
    assert_int_equal(pread(fd, &byte, 1, (off_t)WINDOW_RANGE + 1), 1);
    assert_int_equal(byte, 99);

    /* Again, by the descriptor that is kept, over two ranges; and for reading alone. */
    assert_int_equal(map(&w, 7, 0, 2 * WINDOW_RANGE, 3 * WINDOW_RANGE, false, -1), 0);
    assert_int_equal(atomic_load(&w.used), 2);
    assert_int_equal(peek(&w, 3 * WINDOW_RANGE + 5 * PAGE), 5);
    assert_int_equal(peek(&w, 4 * WINDOW_RANGE + 1), 99);
    assert_int_equal(poke(&w, 3 * WINDOW_RANGE, 1), -EFAULT);

    /* A piece of a range: what is behind it is not what was there. */
    assert_int_equal(map(&w, 7, 0, PAGE, 3 * WINDOW_RANGE, false, -1), 0);
    assert_int_equal(peek(&w, 3 * WINDOW_RANGE), 0);
    assert_int_equal(peek(&w, 3 * WINDOW_RANGE + PAGE), -EFAULT);

    assert_int_equal(window_unmap(&w, 3 * WINDOW_RANGE, 2 * WINDOW_RANGE), 0);
    assert_int_equal(window_unmap(&w, 3 * WINDOW_RANGE, WINDOW_RANGE), 0); /* nothing there */
    assert_int_equal(atomic_load(&w.used), 0);
    assert_int_equal(peek(&w, 3 * WINDOW_RANGE), -EFAULT);
    assert_int_equal(map(&w, 7, 0, PAGE, 0, false, -1), -ENOENT); /* not kept any more */
    window_finish(&w);
    close(fd);
}

static void hostile_places_are_refused(void **state)
{
    static const struct {
        uint64_t offset, bytes, at;
    } bad[] = {
        {0, 0, 0},
        {0, PAGE - 1, 0},
        {0, PAGE, PAGE},
        {PAGE, PAGE, 0},
        {0, PAGE, RANGES * WINDOW_RANGE},
        {0, WINDOW_RANGE, UINT64_MAX & ~(WINDOW_RANGE - 1)},
        {0, (RANGES + 1) * WINDOW_RANGE, 0},
        {0, 2 * WINDOW_RANGE, (RANGES - 1) * WINDOW_RANGE},
        {0, UINT64_MAX & ~(PAGE - 1), WINDOW_RANGE},
        {UINT64_C(1) << 63, PAGE, 0},
        {INT64_MAX & ~(WINDOW_RANGE - 1), WINDOW_RANGE, 0},
        {UINT64_MAX & ~(WINDOW_RANGE - 1), WINDOW_RANGE, 0},
    };
    struct window w;
    make(&w);
    int fd = file_of(1, 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(map(&w, 1, bad[i].offset, bad[i].bytes, bad[i].at, false, fd), -EINVAL);
        if (bad[i].offset == 0)
            assert_int_equal(window_unmap(&w, bad[i].at, bad[i].bytes), -EINVAL);
    }
    assert_int_equal(atomic_load(&w.used), 0);
    for (unsigned i = 0; i < RANGES; i++)
        assert_int_equal(peek(&w, i * WINDOW_RANGE), -EFAULT);
    window_finish(&w);
    close(fd);
}

static void what_cannot_be_mapped_leaves_nothing(void **state)
{
    struct window w;
    make(&w);
    int fd = file_of(1, 42);
    char path[32];
    snprintf(path, sizeof(path), "%d", fd);
    for (int write = 0; write < 2; write++) {
        int other = open(path, (write ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
        assert_true(other >= 0);
        assert_int_equal(map(&w, 1, 0, PAGE, 0, false, fd), 0);
        assert_int_equal(map(&w, 2, 0, PAGE, 0, write, other), -EACCES);
        assert_int_equal(peek(&w, 0), -EFAULT);
        assert_int_equal(atomic_load(&w.used), 0);
        assert_int_equal(w.file_count, 0);
        close(other);
    }
    window_finish(&w);
    close(fd);
}

/* The host has cut a file, or written to it: as the device's loop does. */
static void heed(struct window *w)
{
    struct pollfd p = {.fd = w->events, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 0), 1);
    while (poll(&p, 1, 0) == 1)
        window_heed(w);
}

static void behind_the_end_there_are_zeroes(void **state)
{
    struct window w;
    make(&w);
    int fd = file_of(3, 1);
    assert_int_equal(map(&w, 7, 0, WINDOW_RANGE, 0, true, fd), 0);
    assert_int_equal(map(&w, 7, WINDOW_RANGE, WINDOW_RANGE, WINDOW_RANGE, false, -1), 0);
    assert_int_equal(peek(&w, 2 * PAGE), 3);
    assert_int_equal(peek(&w, 3 * PAGE), 0);
    assert_int_equal(peek(&w, WINDOW_RANGE - 1), 0);
    assert_int_equal(peek(&w, WINDOW_RANGE + PAGE), 0);
    assert_int_equal(poke(&w, 3 * PAGE, 5), 0); /* into the void */
    assert_int_equal(poke(&w, WINDOW_RANGE + PAGE, 5), -EFAULT);
    assert_int_equal(lseek(fd, 0, SEEK_END), 3 * PAGE);

    /* It grows, by a byte and into the next range. What the guest is told of is the file. */
    uint8_t byte = 77;
    assert_int_equal(pwrite(fd, &byte, 1, 3 * PAGE), 1);
    window_told(&w, 8, 4 * PAGE); /* another file */
    assert_int_equal(peek(&w, 3 * PAGE), 5);
    window_told(&w, 7, 3 * PAGE + 1);
    assert_int_equal(peek(&w, 3 * PAGE), 77);
    assert_int_equal(peek(&w, 4 * PAGE), 0);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)(WINDOW_RANGE + PAGE)), 1);
    window_told(&w, 7, WINDOW_RANGE + PAGE + 1);
    assert_int_equal(peek(&w, WINDOW_RANGE + PAGE), 77);
    assert_int_equal(poke(&w, WINDOW_RANGE - PAGE, 78), 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)(WINDOW_RANGE - PAGE)), 1);
    assert_int_equal(byte, 78);
    window_finish(&w);
    close(fd);
}

static void a_file_that_becomes_shorter_is_cut(void **state)
{
    struct window w;
    make(&w);
    int fd = file_of(512, 1);
    assert_int_equal(map(&w, 7, 0, WINDOW_RANGE, 0, true, fd), 0);
    assert_false(window_mend(&w));
    assert_int_equal(ftruncate(fd, 3 * PAGE - 1), 0);
    assert_int_equal(peek(&w, 2 * PAGE), 3);
    assert_int_equal(peek(&w, 3 * PAGE), -EFAULT);
    heed(&w);
    assert_int_equal(peek(&w, 2 * PAGE), 3);
    assert_int_equal(peek(&w, 3 * PAGE), 0);
    assert_int_equal(peek(&w, WINDOW_RANGE - 1), 0);
    assert_false(window_mend(&w));

    /* A processor may be quicker than the loop. Down to nothing. */
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(peek(&w, 0), -EFAULT);
    assert_true(window_mend(&w));
    assert_int_equal(peek(&w, 0), 0);
    heed(&w);
    assert_int_equal(peek(&w, 0), 0);

    /* What the host lets grow again comes back with no word of the guest's. */
    uint8_t byte = 77;
    assert_int_equal(pwrite(fd, &byte, 1, 3 * PAGE), 1);
    heed(&w);
    assert_int_equal(peek(&w, 3 * PAGE), 77);

    /* Cut and grown unnoticed: nothing is to be done. */
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, &byte, 1, 3 * PAGE), 1);
    heed(&w);
    assert_int_equal(peek(&w, 3 * PAGE), 77);
    assert_int_equal(peek(&w, 2 * PAGE), 0);

    /* Cut while nothing of it is mapped, and mapped with the descriptor of a larger time. */
    assert_int_equal(window_unmap(&w, 0, WINDOW_RANGE), 0);
    assert_int_equal(ftruncate(fd, PAGE), 0);
    assert_int_equal(map(&w, 7, 0, WINDOW_RANGE, 0, true, fd), 0);
    assert_int_equal(peek(&w, PAGE), 0);
    window_finish(&w);
    close(fd);
}

/* Once for reading, then for writing: one descriptor, and the first mapping stays. */
static void a_file_is_followed_once(void **state)
{
    struct window w;
    char path[32];
    make(&w);
    int fd = file_of(512, 1), only_read;
    snprintf(path, sizeof(path), "%d", fd);
    assert_true((only_read = open(path, O_RDONLY | O_CLOEXEC)) >= 0);
    assert_int_equal(map(&w, 7, 0, WINDOW_RANGE, 0, false, only_read), 0);
    assert_int_equal(map(&w, 7, 0, WINDOW_RANGE, WINDOW_RANGE, true, -1), -ENOENT);
    assert_int_equal(map(&w, 7, 0, WINDOW_RANGE, WINDOW_RANGE, true, fd), 0);
    assert_int_equal(map(&w, 7, 0, WINDOW_RANGE, 2 * WINDOW_RANGE, true, -1), 0);
    assert_int_equal(w.file_count, 1);
    assert_int_equal(ftruncate(fd, PAGE), 0);
    heed(&w);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(peek(&w, i * WINDOW_RANGE), 1);
        assert_int_equal(peek(&w, i * WINDOW_RANGE + PAGE), 0);
        assert_int_equal(poke(&w, i * WINDOW_RANGE, 1), i ? 0 : -EFAULT);
    }

    /* The same file by another name of the guest's has the same watch, which must outlive the first. */
    assert_int_equal(map(&w, 8, 0, WINDOW_RANGE, 3 * WINDOW_RANGE, true, fd), 0);
    assert_int_equal(window_unmap(&w, 0, 3 * WINDOW_RANGE), 0);
    assert_int_equal(w.file_count, 1);
    assert_int_equal(ftruncate(fd, 0), 0);
    heed(&w);
    assert_int_equal(peek(&w, 3 * WINDOW_RANGE), 0);
    window_clear(&w);
    assert_int_equal(w.file_count, 0);
    assert_int_equal(atomic_load(&w.used), 0);
    assert_int_equal(peek(&w, 3 * WINDOW_RANGE), -EFAULT);
    window_finish(&w);
    close(only_read);
    close(fd);
}

/* However much a guest writes behind the ends of files. */
static void the_void_is_bounded(void **state)
{
    struct window w;
    struct dayfly_err err;
    struct stat st;
    const uint64_t bytes = 2 * WINDOW_VOID_MAX;
    assert_int_equal(window_init(&w, bytes, &err), 0);
    int fd = file_of(1, 1);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    assert_int_equal(map(&w, 7, 0, bytes, 0, true, fd), 0);
    assert_int_equal(ftruncate(fd, PAGE), 0);
    heed(&w);
    for (uint64_t at = PAGE; at < bytes; at += PAGE)
        assert_int_equal(poke(&w, at, 9), 0);
    assert_int_equal(fstat(w.nowhere, &st), 0);
    assert_in_range(st.st_blocks * 512, WINDOW_VOID_MAX - PAGE, WINDOW_VOID_MAX);

    /* What is cut next begins empty nevertheless. */
    assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
    heed(&w);
    assert_int_equal(peek(&w, PAGE), 0);
    assert_int_equal(poke(&w, PAGE, 8), 0);
    assert_int_equal(ftruncate(fd, PAGE), 0);
    heed(&w);
    assert_int_equal(peek(&w, PAGE), 0);
    window_finish(&w);
    close(fd);
}

/* Without a descriptor it is mapped, and not followed. */
static void descriptors_are_bounded(void **state)
{
    struct window w;
    make(&w);
    w.files_max = 1;
    int a = file_of(1, 1), b = file_of(1, 2);
    assert_int_equal(map(&w, 1, 0, PAGE, 0, false, a), 0);
    assert_int_equal(map(&w, 2, 0, PAGE, WINDOW_RANGE, false, b), 0);
    assert_int_equal(w.file_count, 1);
    assert_int_equal(map(&w, 2, 0, PAGE, 2 * WINDOW_RANGE, false, -1), -ENOENT);
    assert_int_equal(peek(&w, WINDOW_RANGE), 2);
    assert_int_equal(ftruncate(b, 0), 0);
    assert_false(window_mend(&w));
    assert_int_equal(window_unmap(&w, 0, PAGE), 0);
    assert_int_equal(map(&w, 2, 0, PAGE, WINDOW_RANGE, false, b), 0);
    assert_int_equal(peek(&w, WINDOW_RANGE), 0);
    window_finish(&w);
    close(a);
    close(b);
}

struct race {
    struct window w;
    int fd;
    atomic_bool stop;
};

/* A guest: what it may touch comes back, sooner or later. */
static void *look(void *arg)
{
    struct race *race = arg;
    while (!atomic_load(&race->stop))
        peek(&race->w, 2 * PAGE);
    return NULL;
}

/* The loop, and a processor. */
static void *follow(void *arg)
{
    struct race *race = arg;
    struct pollfd p = {.fd = race->w.events, .events = POLLIN};
    while (!atomic_load(&race->stop)) {
        if (poll(&p, 1, 1) == 1)
            window_heed(&race->w);
        window_mend(&race->w);
    }
    return NULL;
}

/* The host cuts the file and the server lets it grow, in turn. */
static void growing_and_cutting_at_once(void **state)
{
    struct race race = {.fd = file_of(512, 0)};
    pthread_t threads[3];
    make(&race.w);
    assert_int_equal(map(&race.w, 7, 0, WINDOW_RANGE, 0, true, race.fd), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, i ? follow : look, &race), 0);
    for (unsigned i = 0; i < 2000; i++) {
        uint8_t byte = (uint8_t)(1 + i % 255);
        assert_int_equal(ftruncate(race.fd, PAGE), 0);
        assert_int_equal(pwrite(race.fd, &byte, 1, 2 * PAGE), 1);
        window_told(&race.w, 7, 2 * PAGE + 1);
        assert_int_equal(peek(&race.w, 2 * PAGE), byte);
    }
    assert_int_equal(ftruncate(race.fd, PAGE), 0);
    while (peek(&race.w, 2 * PAGE) != 0) /* somebody hears of it */
        sched_yield();
    atomic_store(&race.stop, true);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    window_finish(&race.w);
    close(race.fd);
}

int main(void)
{
    if (chdir("/proc/self/fd") < 0) /* as a serving thread */
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(what_is_mapped_is_the_file),
        cmocka_unit_test(hostile_places_are_refused),
        cmocka_unit_test(what_cannot_be_mapped_leaves_nothing),
        cmocka_unit_test(behind_the_end_there_are_zeroes),
        cmocka_unit_test(a_file_that_becomes_shorter_is_cut),
        cmocka_unit_test(a_file_is_followed_once),
        cmocka_unit_test(the_void_is_bounded),
        cmocka_unit_test(descriptors_are_bounded),
        cmocka_unit_test(growing_and_cutting_at_once),
    };
    return cmocka_run_group_tests_name("fs-window", tests, NULL, NULL);
}
