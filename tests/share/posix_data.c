/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in a file: reading, writing, appending, mapping, holes, copies.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "posix.h"

#define PAGE 4096

static void read_and_write(void)
{
    char one[] = "one", two[] = "two", buf[16];
    struct iovec parts[3] = {{one, 3}, {one, 0}, {two, 3}};
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644)), ro;

    EQUAL(OK(writev(fd, parts, 3)), 6);
    EQUAL(OK(lseek(fd, 0, SEEK_CUR)), 6);
    EQUAL(OK(read(fd, buf, sizeof buf)), 0);
    EQUAL(OK(pread(fd, buf, sizeof buf, 2)), 4);
    THAT(memcmp(buf, "etwo", 4) == 0);
    EQUAL(OK(pread(fd, buf, sizeof buf, 100)), 0);
    EQUAL(OK(pwrite(fd, "x", 1, 9)), 1);
    EQUAL(OK(pread(fd, buf, sizeof buf, 0)), 10);
    THAT(memcmp(buf, "onetwo\0\0\0x", 10) == 0);
    FAILS(pread(fd, buf, 1, -1), EINVAL);
    ro = (int)OK(open("f", O_RDONLY));
    FAILS(write(ro, "x", 1), EBADF);
    FAILS(ftruncate(ro, 0), EINVAL);
    OK(close(fd));
    fd = (int)OK(open("f", O_WRONLY));
    FAILS(read(fd, buf, 1), EBADF);
}

static void truncation(void)
{
    char buf[64];
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644));

    EQUAL(OK(write(fd, "0123456789", 10)), 10);
    OK(ftruncate(fd, 4));
    OK(ftruncate(fd, 8));
    EQUAL(OK(pread(fd, buf, sizeof buf, 0)), 8);
    THAT(memcmp(buf, "0123\0\0\0\0", 8) == 0);
    OK(truncate("f", 2));
    EQUAL(posix_fstat(fd).st_size, 2);
    FAILS(truncate("f", -1), EINVAL);
    FAILS(truncate(".", 0), EISDIR);
    /* What was behind the end must not come back, not in the same page either. */
    OK(ftruncate(fd, PAGE + 10));
    EQUAL(OK(pwrite(fd, "tail", 4, PAGE + 6)), 4);
    OK(ftruncate(fd, PAGE + 7));
    OK(ftruncate(fd, PAGE + 10));
    EQUAL(OK(pread(fd, buf, 4, PAGE + 6)), 4);
    THAT(memcmp(buf, "t\0\0\0", 4) == 0);
    fd = (int)OK(open("f", O_RDWR | O_TRUNC));
    EQUAL(posix_fstat(fd).st_size, 0);
    EQUAL(OK(read(fd, buf, sizeof buf)), 0);
}

#define APPENDS     200
#define APPEND_SIZE 100

static void append_from_two_writers(void)
{
    char line[APPEND_SIZE], all[2 * APPENDS * APPEND_SIZE + 1];
    unsigned count[2] = {0};
    pid_t pids[2];
    int fd;

    posix_make("log", "");
    for (int who = 0; who < 2; who++) {
        pids[who] = posix_fork();
        if (pids[who] == 0) {
            fd = (int)OK(open("log", O_WRONLY | O_APPEND));
            memset(line, 'A' + who, sizeof line);
            for (unsigned i = 0; i < APPENDS; i++)
                EQUAL(OK(write(fd, line, sizeof line)), sizeof line);
            posix_done();
        }
    }
    posix_join(pids[0]);
    posix_join(pids[1]);
    fd = (int)OK(open("log", O_RDONLY));
    EQUAL(OK(read(fd, all, sizeof all)), 2 * APPENDS * APPEND_SIZE);
    for (unsigned i = 0; i < 2 * APPENDS; i++) {
        char who = all[i * APPEND_SIZE];

        THAT(who == 'A' || who == 'B');
        memset(line, who, sizeof line);
        THAT(memcmp(all + i * APPEND_SIZE, line, sizeof line) == 0);
        count[who - 'A']++;
    }
    EQUAL(count[0], APPENDS);
}

static void append_ignores_the_offset(void)
{
    int fd, other;

    posix_make("f", "start");
    fd = (int)OK(open("f", O_RDWR | O_APPEND));
    OK(lseek(fd, 0, SEEK_SET));
    EQUAL(OK(write(fd, "1", 1)), 1);
    EQUAL(OK(lseek(fd, 0, SEEK_CUR)), 6);
    EQUAL(OK(pwrite(fd, "2", 1, 0)), 1); /* as Linux has it: pwrite(2), bugs */
    posix_holds("f", "start12");
    /* The end is where others have put it. */
    other = (int)OK(open("f", O_WRONLY));
    OK(ftruncate(other, 2));
    EQUAL(OK(write(fd, "3", 1)), 1);
    posix_holds("f", "st3");
}

static void append_moves_no_mapped_page(void)
{
    int append = (int)OK(open("f", O_RDWR | O_CREAT | O_APPEND, 0644));
    char *at;

    /* Pages may be written back by any descriptor that can write, one that appends among them. */
    EQUAL(OK(write(append, "0123456789", 10)), 10);
    at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, append, 0);
    THAT(at != MAP_FAILED);
    memcpy(at, "ABC", 3);
    OK(msync(at, PAGE, MS_SYNC));
    OK(munmap(at, PAGE));
    OK(fsync(append));
    posix_holds("f", "ABC3456789");
    /* And O_APPEND can be taken away again. */
    OK(fcntl(append, F_SETFL, 0));
    EQUAL(OK(pwrite(append, "x", 1, 4)), 1);
    OK(fcntl(append, F_SETFL, O_APPEND));
    EQUAL(OK(write(append, "y", 1)), 1);
    posix_holds("f", "ABC3x56789y");
}

static void mappings_and_reads_agree(void)
{
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644)), second;
    char *one, *two, buf[8];
    pid_t pid;

    OK(ftruncate(fd, (off_t)2 * PAGE));
    second = (int)OK(open("f", O_RDWR));
    one = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, second, 0);
    THAT(one != MAP_FAILED && two != MAP_FAILED);
    memcpy(one + PAGE - 2, "abcd", 4);
    THAT(memcmp(two + PAGE - 2, "abcd", 4) == 0);
    EQUAL(OK(pread(second, buf, 4, PAGE - 2)), 4);
    THAT(memcmp(buf, "abcd", 4) == 0);
    EQUAL(OK(pwrite(second, "XY", 2, PAGE - 1)), 2);
    THAT(memcmp(one + PAGE - 2, "aXYd", 4) == 0);
    pid = posix_fork();
    if (pid == 0) {
        int third = (int)OK(open("f", O_RDWR));
        char *other = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, third, 0);

        THAT(other != MAP_FAILED);
        other[0] = 'c';
        one[1] = 'd';
        OK(msync(other, PAGE, MS_SYNC));
        posix_done();
    }
    posix_join(pid);
    THAT(memcmp(two, "cd", 2) == 0);
    OK(munmap(one, (size_t)2 * PAGE));
    OK(munmap(two, (size_t)2 * PAGE));
    OK(close(fd));
    OK(close(second));
    fd = (int)OK(open("f", O_RDONLY));
    EQUAL(OK(pread(fd, buf, 2, 0)), 2);
    THAT(memcmp(buf, "cd", 2) == 0);
}

static void a_mapping_outlives_its_file(void)
{
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644));
    char *at;

    OK(ftruncate(fd, PAGE));
    at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    THAT(at != MAP_FAILED);
    OK(close(fd));
    OK(unlink("f"));
    memcpy(at, "still", 5);
    OK(msync(at, PAGE, MS_SYNC));
    THAT(memcmp(at, "still", 5) == 0);
    OK(munmap(at, PAGE));
}

static void private_mappings_stay_private(void)
{
    char *at;
    int fd;

    posix_make("f", "shared");
    fd = (int)OK(open("f", O_RDONLY));
    at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    THAT(at != MAP_FAILED);
    THAT(memcmp(at, "shared", 6) == 0);
    EQUAL(at[6], 0);
    memcpy(at, "SHARED", 6);
    OK(munmap(at, PAGE));
    posix_holds("f", "shared");
    FAILS(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0, EACCES);
}

static void a_mapping_behind_the_end(void)
{
    pid_t pid;
    int status;

    posix_make("f", "x");
    pid = posix_fork();
    if (pid == 0) {
        int fd = (int)OK(open("f", O_RDONLY));
        volatile char *at = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);

        THAT(at != MAP_FAILED);
        signal(SIGBUS, SIG_DFL); /* a sanitizer has a handler */
        EQUAL(at[PAGE - 1], 0);
        (void)at[PAGE];
        posix_done();
    }
    OK(waitpid(pid, &status, 0));
    THAT(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

static void sparse_files(void)
{
    struct stat st;
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644));
    char buf[16];
    off_t data, hole;

    OK(ftruncate(fd, 64 << 20));
    EQUAL(OK(pwrite(fd, "island", 6, 32 << 20)), 6);
    OK(fsync(fd));
    st = posix_fstat(fd);
    EQUAL(st.st_size, 64 << 20);
    THAT((off_t)st.st_blocks * 512 < 8 << 20);
    data = OK(lseek(fd, 0, SEEK_DATA));
    THAT(data > 0 && data <= 32 << 20);
    hole = OK(lseek(fd, 32 << 20, SEEK_HOLE));
    THAT(hole > 32 << 20 && hole < 40 << 20);
    EQUAL(OK(lseek(fd, 0, SEEK_HOLE)), 0);
    FAILS(lseek(fd, hole, SEEK_DATA), ENXIO);
    FAILS(lseek(fd, 64 << 20, SEEK_DATA), ENXIO);
    FAILS(lseek(fd, 64 << 20, SEEK_HOLE), ENXIO);
    EQUAL(OK(pread(fd, buf, 8, (32 << 20) - 1)), 8);
    THAT(memcmp(buf, "\0island\0", 8) == 0);
}

static void data_not_yet_written_back_is_data(void)
{
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644));

    OK(ftruncate(fd, 1 << 20));
    EQUAL(OK(pwrite(fd, "x", 1, 512 << 10)), 1);
    THAT(OK(lseek(fd, 0, SEEK_DATA)) <= 512 << 10);
    THAT(OK(lseek(fd, 512 << 10, SEEK_HOLE)) > 512 << 10);
    EQUAL(OK(lseek(fd, 0, SEEK_END)), 1 << 20);
}

static void beyond_4_gib(void)
{
    const off_t gib4 = (off_t)4 << 30;
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644));
    char buf[8];

    EQUAL(OK(pwrite(fd, "edge", 4, gib4 - 2)), 4);
    EQUAL(posix_stat("f").st_size, gib4 + 2);
    EQUAL(OK(pwrite(fd, "far", 3, gib4 + (5 << 20))), 3);
    EQUAL(OK(pread(fd, buf, 4, gib4 - 2)), 4);
    THAT(memcmp(buf, "edge", 4) == 0);
    EQUAL(OK(pread(fd, buf, 3, 0)), 3);
    THAT(memcmp(buf, "\0\0\0", 3) == 0);
    EQUAL(OK(pread(fd, buf, 8, 5 << 20)), 8);
    THAT(memcmp(buf, "\0\0\0\0\0\0\0\0", 8) == 0);
    OK(fsync(fd));
    EQUAL(posix_stat("f").st_size, gib4 + (5 << 20) + 3);
    OK(ftruncate(fd, gib4 + 1));
    EQUAL(OK(pread(fd, buf, 8, gib4 - 2)), 3);
    EQUAL(OK(lseek(fd, 0, SEEK_END)), gib4 + 1);
}

static void punched_holes(void)
{
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    char page[PAGE], zeros[PAGE] = {0};
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644));

    memset(page, 'p', sizeof page);
    for (unsigned i = 0; i < 16; i++)
        EQUAL(OK(pwrite(fd, page, PAGE, (off_t)i * PAGE)), PAGE);
    OK(fallocate(fd, punch, 4 * PAGE, 4 * PAGE));
    EQUAL(OK(pread(fd, page, PAGE, 5 * PAGE)), PAGE);
    THAT(memcmp(page, zeros, PAGE) == 0);
    if (OK(lseek(fd, 0, SEEK_HOLE)) != 16 * PAGE) { /* where holes are told from data */
        EQUAL(OK(lseek(fd, 0, SEEK_HOLE)), 4 * PAGE);
        EQUAL(OK(lseek(fd, 4 * PAGE, SEEK_DATA)), 8 * PAGE);
    }
    OK(fallocate(fd, punch, 10 * PAGE + 100, 200));
    EQUAL(OK(pread(fd, page, PAGE, 10 * PAGE)), PAGE);
    THAT(page[99] == 'p' && page[100] == 0 && page[299] == 0 && page[300] == 'p');
    OK(fallocate(fd, punch, 15 * PAGE, 100 * PAGE));
    EQUAL(posix_fstat(fd).st_size, 16 * PAGE);
    FAILS(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, PAGE), EOPNOTSUPP);
}

static void fallocate_modes(void)
{
    char buf[PAGE];
    struct stat st;
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644)), ro;

    OK(fallocate(fd, 0, 0, 1 << 20));
    st = posix_fstat(fd);
    EQUAL(st.st_size, 1 << 20);
    THAT(st.st_blocks * 512 >= 1 << 20);
    OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 20));
    EQUAL(posix_fstat(fd).st_size, 1 << 20);
    EQUAL(OK(pread(fd, buf, PAGE, 0)), PAGE);
    for (unsigned i = 0; i < PAGE; i++)
        EQUAL(buf[i], 0);
    FAILS(fallocate(fd, 0, -1, 1), EINVAL);
    FAILS(fallocate(fd, 0, 0, 0), EINVAL);
    ro = (int)OK(open("f", O_RDONLY));
    FAILS(fallocate(ro, 0, 0, 1), EBADF);
}

static void zeroed_ranges(void)
{
    char buf[PAGE];
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644));

    memset(buf, 'z', sizeof buf);
    EQUAL(OK(pwrite(fd, buf, PAGE, 0)), PAGE);
    OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, 10, 20));
    EQUAL(OK(pread(fd, buf, PAGE, 0)), PAGE);
    THAT(buf[9] == 'z' && buf[10] == 0 && buf[29] == 0 && buf[30] == 'z');
    OK(fallocate(fd, FALLOC_FL_ZERO_RANGE, PAGE - 10, 20));
    EQUAL(posix_fstat(fd).st_size, PAGE + 10);
    OK(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE));
    EQUAL(posix_fstat(fd).st_size, PAGE + 10);
}

static void copies_between_files(void)
{
    char page[PAGE], got[PAGE];
    int from, to, out;
    off_t in_at = 100, out_at = 50;

    from = (int)OK(open("from", O_RDWR | O_CREAT, 0644));
    to = (int)OK(open("to", O_RDWR | O_CREAT, 0644));
    pattern_fill(page, sizeof page, 1, 0);
    EQUAL(OK(write(from, page, sizeof page)), sizeof page);
    EQUAL(OK(copy_file_range(from, &in_at, to, &out_at, 1000, 0)), 1000);
    EQUAL(in_at, 1100);
    EQUAL(out_at, 1050);
    EQUAL(posix_fstat(to).st_size, 1050);
    EQUAL(OK(pread(to, got, sizeof got, 50)), 1000);
    THAT(memcmp(got, page + 100, 1000) == 0);
    in_at = PAGE - 10;
    EQUAL(OK(copy_file_range(from, &in_at, to, &out_at, 1000, 0)), 10);
    EQUAL(OK(copy_file_range(from, &in_at, to, &out_at, 1000, 0)), 0);
    in_at = 0;
    out_at = 10;
    FAILS(copy_file_range(from, &in_at, from, &out_at, 100, 0), EINVAL);
    FAILS(copy_file_range(from, &in_at, to, &out_at, 100, 1), EINVAL);
    out = (int)OK(open("to", O_RDONLY));
    FAILS(copy_file_range(from, &in_at, out, &out_at, 100, 0), EBADF);
    /* sendfile takes the other way: through the page cache and a pipe. */
    in_at = 0;
    OK(lseek(to, 0, SEEK_SET));
    EQUAL(OK(sendfile(to, from, &in_at, 2000)), 2000);
    EQUAL(OK(pread(to, got, 2000, 0)), 2000);
    THAT(memcmp(got, page, 2000) == 0);
}

static void a_copy_sees_what_was_just_written(void)
{
    off_t in_at = 0, out_at = 0;
    char buf[8];
    int from = (int)OK(open("from", O_RDWR | O_CREAT, 0644)), to;

    EQUAL(OK(write(from, "first", 5)), 5);
    to = (int)OK(open("to", O_RDWR | O_CREAT, 0644));
    EQUAL(OK(write(to, "SECOND", 6)), 6);
    EQUAL(OK(copy_file_range(from, &in_at, to, &out_at, 5, 0)), 5);
    EQUAL(OK(pread(to, buf, sizeof buf, 0)), 6);
    THAT(memcmp(buf, "firstD", 6) == 0);
}

static void direct_io(void)
{
    char *page = aligned_alloc(PAGE, PAGE), byte;
    int fd = open("f", O_RDWR | O_CREAT | O_DIRECT, 0644), cached;

    if (fd < 0)
        posix_skip("no O_DIRECT here");
    THAT(page != NULL);
    memset(page, 'd', PAGE);
    EQUAL(OK(pwrite(fd, page, PAGE, 0)), PAGE);
    cached = (int)OK(open("f", O_RDWR));
    EQUAL(OK(pread(cached, &byte, 1, 10)), 1);
    EQUAL(byte, 'd');
    /* What the page cache holds, and has not written, is seen by direct reads and survives. */
    EQUAL(OK(pwrite(cached, "c", 1, 10)), 1);
    EQUAL(OK(pread(fd, page, PAGE, 0)), PAGE);
    EQUAL(page[10], 'c');
    page[11] = 'e';
    EQUAL(OK(pwrite(fd, page, PAGE, 0)), PAGE);
    EQUAL(OK(pread(cached, &byte, 1, 11)), 1);
    EQUAL(byte, 'e');
    free(page);
}

static void one_file_open_many_times(void)
{
    enum { COUNT = 200 };
    int fds[COUNT];
    char byte;

    posix_make("f", "");
    for (int i = 0; i < COUNT; i++)
        fds[i] = (int)OK(open("f", O_RDWR));
    for (int i = 0; i < COUNT; i++)
        EQUAL(OK(pwrite(fds[i], &(char){(char)i}, 1, i)), 1);
    for (int i = 0; i < COUNT; i++) {
        EQUAL(OK(pread(fds[i], &byte, 1, COUNT - 1 - i)), 1);
        EQUAL(byte, (char)(COUNT - 1 - i));
    }
}

static void big_reads_and_writes(void)
{
    enum { BIG = 5 << 20 };
    char *out = malloc(BIG), *in = malloc(BIG);
    int fd = (int)OK(open("f", O_RDWR | O_CREAT, 0644));

    THAT(out && in);
    pattern_fill(out, BIG, 2, 0);
    EQUAL(OK(pwrite(fd, out, BIG, 1)), BIG);
    EQUAL(OK(pread(fd, in, BIG, 1)), BIG);
    THAT(memcmp(in, out, BIG) == 0);
    OK(close(fd));
    fd = (int)OK(open("f", O_RDONLY));
    EQUAL(OK(read(fd, in, BIG)), BIG);
    EQUAL(in[0], 0);
    THAT(memcmp(in + 1, out, BIG - 1) == 0);
    EQUAL(OK(read(fd, in, BIG)), 1);
    free(out);
    free(in);
}

static void a_program_runs(void)
{
    char buf[65536];
    int from = (int)OK(open("/proc/self/exe", O_RDONLY)), to, status;
    ssize_t n;
    pid_t pid;

    to = (int)OK(open("program", O_WRONLY | O_CREAT, 0755));
    while ((n = OK(read(from, buf, sizeof buf))) > 0)
        EQUAL(OK(write(to, buf, (size_t)n)), n);
    FAILS(execl("program", "program", "--help", NULL), ETXTBSY);
    OK(close(to));
    pid = posix_fork();
    if (pid == 0) {
        int null = (int)OK(open("/dev/null", O_WRONLY));

        OK(dup2(null, 1));
        execl("program", "program", "--help", NULL);
        _exit(99);
    }
    OK(waitpid(pid, &status, 0));
    EQUAL(status, 0);
    OK(chmod("program", 0644));
    FAILS(execl("program", "program", "--help", NULL), EACCES);
}

static const struct posix_case CASES[] = {
    {"read and write", read_and_write, 0},
    {"truncation", truncation, 0},
    {"O_APPEND from two writers", append_from_two_writers, 0},
    {"O_APPEND ignores the offset", append_ignores_the_offset, 0},
    {"O_APPEND moves no mapped page", append_moves_no_mapped_page, POSIX_MMAP},
    {"mappings and reads agree", mappings_and_reads_agree, POSIX_MMAP},
    {"a mapping outlives its file", a_mapping_outlives_its_file, POSIX_MMAP},
    {"private mappings stay private", private_mappings_stay_private, POSIX_MMAP},
    {"a mapping behind the end", a_mapping_behind_the_end, POSIX_MMAP},
    {"sparse files: SEEK_DATA and SEEK_HOLE", sparse_files, POSIX_HOLES},
    {"data not yet written back is data", data_not_yet_written_back_is_data, 0},
    {"offsets beyond 4 GiB", beyond_4_gib, 0},
    {"fallocate: holes are punched", punched_holes, POSIX_PUNCH},
    {"fallocate: space is reserved", fallocate_modes, 0},
    {"fallocate: ranges are zeroed", zeroed_ranges, POSIX_ZERO},
    {"copy_file_range and sendfile", copies_between_files, 0},
    {"a copy sees what was just written", a_copy_sees_what_was_just_written, 0},
    {"O_DIRECT beside the page cache", direct_io, 0},
    {"one file open many times", one_file_open_many_times, 0},
    {"big reads and writes", big_reads_and_writes, 0},
    {"a program runs, and is busy while written", a_program_runs, 0},
};

const struct posix_chapter posix_data = {CASES, sizeof CASES / sizeof CASES[0]};
