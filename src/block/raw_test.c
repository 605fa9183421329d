/* SPDX-License-Identifier: Apache-2.0 */
/* The same cases over both kinds of I/O and over several kinds of file. */
#include "block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/arith.h"
#include "util/cleanup.h"
#include "util/testing.h"

#define SIZE    (UINT64_C(8) << 20)
#define PATTERN 0xa7

/* -- files -------------------------------------------------------------------------------------------
 */

static int make_tmpfile(void)
{
    return open(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

static int make_named(void)
{
    char path[] = "/tmp/unit-raw-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    unlink(path);
    return fd;
}

static int make_shm(void)
{
    return memfd_create("disk", MFD_CLOEXEC); /* a tmpfs file: it has no FALLOC_FL_ZERO_RANGE */
}

struct variant {
    const char *name;
    int (*make)(void);
    enum block_io io;
    bool direct;
};

static const struct variant variants[] = {
    {"O_TMPFILE, io_uring", make_tmpfile, BLOCK_IO_URING},
    {"O_TMPFILE, threads", make_tmpfile, BLOCK_IO_THREADS},
    {"named, io_uring", make_named, BLOCK_IO_URING},
    {"named, threads", make_named, BLOCK_IO_THREADS},
    {"tmpfs, io_uring", make_shm, BLOCK_IO_URING},
    {"tmpfs, threads", make_shm, BLOCK_IO_THREADS},
    {"named, auto", make_named, BLOCK_IO_AUTO},
    {"tmpfs, auto", make_shm, BLOCK_IO_AUTO},
    {"named, direct, io_uring", make_named, BLOCK_IO_URING, .direct = true},
    {"named, direct, threads", make_named, BLOCK_IO_THREADS, .direct = true},
};

struct fixture {
    const struct variant *variant;
    struct block *block;
    int fd; /* the same open file: sees what the back end did */
};

/* A host may forbid io_uring; then those variants have nothing to test. */
static bool uring_forbidden(const struct variant *v, const struct dayfly_err *err)
{
    return v->io == BLOCK_IO_URING && (err->code == ENOSYS || err->code == EPERM);
}

static void open_variant(struct fixture *f, const struct variant *v)
{
    struct dayfly_err err;
    f->variant = v;
    f->fd = v->make();
    assert_true(f->fd >= 0);
    assert_int_equal(ftruncate(f->fd, (off_t)SIZE), 0);
    struct block_raw_options options = {
        .fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0), .io = v->io, .direct = v->direct};
    if (block_raw_open(&f->block, &options, &err) < 0) {
        if (uring_forbidden(v, &err) || (v->direct && err.code == EOPNOTSUPP))
            skip();
        fail_msg("%s: %s", v->name, err.msg);
    }
}

static void close_variant(struct fixture *f)
{
    block_destroy(f->block);
    close_fd(&f->fd);
}

/* -- requests ----------------------------------------------------------------------------------------
 */

struct waited {
    struct block_request request;
    struct iovec iov[4];
    unsigned done;
    int result;
};

static void on_done(struct block_request *request, int result)
{
    struct waited *w = container_of(request, struct waited, request);
    w->done++;
    w->result = result;
}

static struct waited make_request(enum block_op op, uint64_t offset, void *buf, uint64_t len)
{
    struct waited w = {
        .request = {.op = op, .offset_bytes = offset, .length_bytes = len, .done = on_done}};
    if (op == BLOCK_READ || op == BLOCK_WRITE) {
        w.iov[0] = (struct iovec){buf, len};
        w.request.iov_count = 1;
    }
    return w;
}

/* Wait by the event descriptor, as a device does. */
static void wait_done(struct block *block, struct waited *w)
{
    assert_int_equal(block_kick(block), 0);
    while (!w->done) {
        struct pollfd p = {.fd = block->event_fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, 20000), 1);
        block_reap(block);
    }
    assert_int_equal(w->done, 1);
}

/* Submit one and wait for it. Returns its result, or what submit said. */
static int run(struct block *block, struct waited *w)
{
    w->request.iov = w->iov;
    int rc = block_submit(block, &w->request);
    if (rc < 0) {
        assert_int_equal(w->done, 0);
        return rc;
    }
    wait_done(block, w);
    return w->result;
}

static int run_simple(struct block *block, enum block_op op, uint64_t offset, void *buf, uint64_t len)
{
    struct waited w = make_request(op, offset, buf, len);
    return run(block, &w);
}

static void fill(int fd, uint64_t offset, uint64_t len)
{
    _cleanup_free_ uint8_t *buf = malloc(len);
    memset(buf, PATTERN, len);
    assert_int_equal(pwrite(fd, buf, len, (off_t)offset), len);
}

static void assert_bytes(int fd, uint64_t offset, uint64_t len, uint8_t value)
{
    _cleanup_free_ uint8_t *buf = malloc(len);
    assert_int_equal(pread(fd, buf, len, (off_t)offset), len);
    for (uint64_t i = 0; i < len; i++)
        if (buf[i] != value)
            fail_msg("byte %llu is %#x", (unsigned long long)(offset + i), buf[i]);
}

static uint64_t allocated(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* -- cases -------------------------------------------------------------------------------------------
 */

static void test_geometry(struct fixture *f)
{
    assert_int_equal(f->block->size_bytes, SIZE);
    assert_false(f->block->read_only);
    assert_true(f->block->discard);
}

static void test_scattered_write_then_read(struct fixture *f)
{
    uint8_t a[512], b[1024], c[4096 - 512];
    memset(a, 1, sizeof(a));
    memset(b, 2, sizeof(b));
    memset(c, 3, sizeof(c));
    struct waited w = make_request(BLOCK_WRITE, 4096, NULL, 0);
    w.iov[0] = (struct iovec){a, sizeof(a)};
    w.iov[1] = (struct iovec){b, sizeof(b)};
    w.iov[2] = (struct iovec){c, sizeof(c)};
    w.request.iov_count = 3;
    w.request.length_bytes = sizeof(a) + sizeof(b) + sizeof(c);
    assert_int_equal(run(f->block, &w), 0);
    assert_bytes(f->fd, 4096, 512, 1);
    assert_bytes(f->fd, 4096 + 512, 1024, 2);
    assert_bytes(f->fd, 4096 + 512 + 1024, sizeof(c), 3);

    uint8_t back[2048];
    assert_int_equal(run_simple(f->block, BLOCK_READ, 4096, back, sizeof(back)), 0);
    assert_memory_equal(back, a, 512);
    assert_memory_equal(back + 512, b, 1024);
    assert_memory_equal(back + 1536, c, 512);
    assert_int_equal(run_simple(f->block, BLOCK_FLUSH, 0, NULL, 0), 0);
    /* The last sector, and nothing at all. */
    assert_int_equal(run_simple(f->block, BLOCK_WRITE, SIZE - 512, a, 512), 0);
    assert_int_equal(run_simple(f->block, BLOCK_READ, SIZE, a, 0), 0);
    assert_int_equal(run_simple(f->block, BLOCK_DISCARD, 0, NULL, 0), 0);
}

static void test_ranges_are_checked(struct fixture *f)
{
    uint8_t buf[1024];
    for (int op = BLOCK_READ; op <= BLOCK_WRITE_ZEROES; op++) {
        if (op == BLOCK_FLUSH)
            continue;
        assert_int_equal(run_simple(f->block, (enum block_op)op, SIZE, buf, 512), -EINVAL);
        assert_int_equal(run_simple(f->block, (enum block_op)op, SIZE - 512, buf, 1024), -EINVAL);
        assert_int_equal(run_simple(f->block, (enum block_op)op, UINT64_MAX - 511, buf, 1024), -EINVAL);
    }
    assert_int_equal(run_simple(f->block, (enum block_op)99, 0, buf, 512), -EINVAL);
    struct waited w = make_request(BLOCK_READ, 0, buf, 512);
    w.request.length_bytes = 1024; /* more than the segments hold */
    assert_int_equal(run(f->block, &w), -EINVAL);
    struct stat st;
    fstat(f->fd, &st);
    assert_int_equal(st.st_size, SIZE);
}

static void test_discard_gives_space_back(struct fixture *f)
{
    fill(f->fd, 0, 1 << 20);
    assert_int_equal(fsync(f->fd), 0);
    uint64_t before = allocated(f->fd);
    assert_int_equal(run_simple(f->block, BLOCK_DISCARD, 4096, NULL, 512 * 1024), 0);
    assert_bytes(f->fd, 0, 4096, PATTERN);
    assert_bytes(f->fd, 4096, 512 * 1024, 0);
    assert_bytes(f->fd, 4096 + 512 * 1024, 4096, PATTERN);
    assert_true(allocated(f->fd) + 512 * 1024 <= before);
}

static void test_write_zeroes(struct fixture *f)
{
    for (int unmap = 0; unmap < 2; unmap++) {
        fill(f->fd, 0, 1 << 20);
        struct waited w = make_request(BLOCK_WRITE_ZEROES, 512, NULL, 300 * 1024 + 512);
        w.request.unmap = unmap;
        assert_int_equal(run(f->block, &w), 0);
        assert_bytes(f->fd, 0, 512, PATTERN);
        assert_bytes(f->fd, 512, 300 * 1024 + 512, 0);
        assert_bytes(f->fd, 301 * 1024, 4096, PATTERN);
    }
    struct stat st;
    fstat(f->fd, &st);
    assert_int_equal(st.st_size, SIZE);
}

/* More than the back end takes at once: it says so, and takes more after a reap. */
static void test_many_at_once(struct fixture *f)
{
    enum { COUNT = 1000 };
    struct waited *all = calloc(COUNT, sizeof(*all));
    uint8_t *data = malloc(COUNT * 512);
    unsigned refused = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        memset(data + 512 * i, (int)(i % 251), 512);
        all[i] = make_request(BLOCK_WRITE, 512 * (uint64_t)i, data + 512 * i, 512);
        all[i].request.iov = all[i].iov;
        int rc;
        while ((rc = block_submit(f->block, &all[i].request)) == -EBUSY) {
            refused++;
            block_kick(f->block);
            struct pollfd p = {.fd = f->block->event_fd, .events = POLLIN};
            assert_int_equal(poll(&p, 1, 20000), 1);
            block_reap(f->block);
        }
        assert_int_equal(rc, 0);
    }
    assert_true(refused > 0);
    block_drain(f->block);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(all[i].done, 1);
        assert_int_equal(all[i].result, 0);
        assert_bytes(f->fd, 512 * (uint64_t)i, 512, (uint8_t)(i % 251));
    }
    assert_int_equal(block_reap(f->block), 0);
    free(all);
    free(data);
}

/* A callback that submits the next one. */
struct chained {
    struct block_request request;
    struct iovec iov;
    struct block *block;
    unsigned left;
    int result;
};

static void submit_next(struct block_request *request, int result)
{
    struct chained *c = container_of(request, struct chained, request);
    c->result = c->result ? c->result : result;
    if (--c->left > 0) {
        request->offset_bytes += 512;
        c->result = c->result ? c->result : block_submit(c->block, request);
        block_kick(c->block);
    }
}

static void test_a_callback_may_submit(struct fixture *f)
{
    uint8_t buf[512];
    memset(buf, PATTERN, sizeof(buf));
    struct chained c = {.block = f->block, .left = 500, .iov = {buf, 512}};
    c.request = (struct block_request){
        .op = BLOCK_WRITE, .length_bytes = 512, .iov = &c.iov, .iov_count = 1, .done = submit_next};
    assert_int_equal(block_submit(f->block, &c.request), 0);
    block_drain(f->block);
    assert_int_equal(c.left, 0);
    assert_int_equal(c.result, 0);
    assert_bytes(f->fd, 0, 500 * 512, PATTERN);
}

static void test_a_truncated_file_gives_eio(struct fixture *f)
{
    uint8_t buf[8192];
    fill(f->fd, 0, 8192);
    assert_int_equal(ftruncate(f->fd, 4096), 0);
    assert_int_equal(run_simple(f->block, BLOCK_READ, 65536, buf, 4096), -EIO);
    assert_int_equal(run_simple(f->block, BLOCK_READ, 0, buf, 8192), -EIO); /* half of it is there */
    assert_int_equal(run_simple(f->block, BLOCK_READ, 0, buf, 4096), 0);
}

static int transfer(struct block *block, enum block_op op, uint64_t offset, void *buf, uint64_t len)
{
    struct waited w = make_request(op, offset, buf, len);
    w.request.iov = w.iov;
    int rc = block_transfer(block, &w.request);
    assert_int_equal(w.done, 0);
    return rc;
}

/* A transfer is a copy, or says that it is none. tmpfs knows only since Linux 6.6 whether it is. */
static void test_transfers(struct fixture *f)
{
    uint8_t buf[8192];
    bool copies = f->variant->io == BLOCK_IO_AUTO && !f->variant->direct;
    fill(f->fd, 4096, sizeof(buf));
    memset(buf, 0, sizeof(buf));
    int rc = transfer(f->block, BLOCK_READ, 4096 + 512, buf, 4096);
    assert_true(rc == -EAGAIN || (copies && rc == 0));
    assert_true(rc == 0 || !copies || f->variant->make == make_shm);
    for (unsigned i = 0; i < sizeof(buf); i++)
        assert_int_equal(buf[i], rc == 0 && i < 4096 ? PATTERN : 0);

    memset(buf, PATTERN ^ 1, sizeof(buf));
    assert_int_equal(transfer(f->block, BLOCK_WRITE, 65536, buf, sizeof(buf)), copies ? 0 : -EAGAIN);
    assert_bytes(f->fd, 65536, sizeof(buf), copies ? PATTERN ^ 1 : 0);

    assert_int_equal(transfer(f->block, BLOCK_FLUSH, 0, NULL, 0), -EAGAIN);
    assert_int_equal(transfer(f->block, BLOCK_DISCARD, 0, NULL, 4096), -EAGAIN);
    /* Where it has an op, the range is checked. */
    rc = transfer(f->block, BLOCK_READ, SIZE - 4096, buf, sizeof(buf));
    assert_int_equal(rc, f->variant->direct ? -EAGAIN : -EINVAL);
    /* What is wrong is said to who submits. */
    assert_int_equal(ftruncate(f->fd, 4096), 0);
    assert_int_equal(transfer(f->block, BLOCK_READ, 0, buf, sizeof(buf)), -EAGAIN);
}

static void test_a_full_vector(struct fixture *f)
{
    enum { SEGMENTS = 1024 };
    struct iovec *iov = calloc(SEGMENTS + 1, sizeof(*iov));
    uint8_t *data = malloc(SEGMENTS * 512);
    memset(data, PATTERN, SEGMENTS * 512);
    for (unsigned i = 0; i < SEGMENTS; i++)
        iov[i] = (struct iovec){data + 512 * i, 512};
    struct waited w = make_request(BLOCK_WRITE, 0, NULL, 0);
    w.request.iov = iov;
    w.request.iov_count = SEGMENTS;
    w.request.length_bytes = SEGMENTS * 512;
    assert_int_equal(block_submit(f->block, &w.request), 0);
    wait_done(f->block, &w);
    assert_int_equal(w.result, 0);
    assert_bytes(f->fd, 0, SEGMENTS * 512, PATTERN);
    w.request.iov_count = SEGMENTS + 1;
    assert_int_equal(block_submit(f->block, &w.request), -EINVAL);
    free(iov);
    free(data);
}

static void test_destroy_delivers_what_is_in_flight(struct fixture *f)
{
    uint8_t buf[512] = {0};
    struct waited w[3];
    for (int i = 0; i < 3; i++) {
        w[i] = make_request(BLOCK_WRITE, 512 * (uint64_t)i, buf, 512);
        w[i].request.iov = w[i].iov;
        assert_int_equal(block_submit(f->block, &w[i].request), 0);
    }
    block_destroy(f->block); /* not even kicked */
    f->block = NULL;
    for (int i = 0; i < 3; i++)
        assert_int_equal(w[i].done, 1);
}

/* -- opening: alike for every kind of I/O -------------------------------------------------------------
 */

static struct block *must_open(int fd, bool read_only)
{
    struct block *block = NULL;
    struct dayfly_err err;
    struct block_raw_options options = {.fd = fd, .read_only = read_only};
    if (block_raw_open(&block, &options, &err) < 0)
        fail_msg("%s", err.msg);
    return block;
}

static void must_refuse(int fd, bool read_only, int code, const char *says)
{
    struct block *block = NULL;
    struct dayfly_err err = {0};
    struct block_raw_options options = {.fd = fd, .read_only = read_only};
    assert_int_equal(block_raw_open(&block, &options, &err), -code);
    assert_null(block);
    if (!strstr(err.msg, says))
        fail_msg("the message reads: %s", err.msg);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* taken, even on failure */
}

static void test_open_refuses_what_is_no_disk(void **state)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    must_refuse(fds[0], true, EINVAL, "neither");
    close(fds[1]);
    must_refuse(open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC), true, EINVAL, "neither");
    must_refuse(make_named(), false, EINVAL, "0 bytes");
    int fd = make_named();
    assert_int_equal(ftruncate(fd, 1000), 0);
    must_refuse(fd, false, EINVAL, "1000 bytes");
    fd = make_named();
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
    must_refuse(fd, false, EINVAL, "appending");
}

static void test_open_needs_the_right_mode(void **state)
{
    char path[] = "/tmp/unit-raw-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 4096), 0);
    close(fd);
    must_refuse(open(path, O_RDONLY | O_CLOEXEC), false, EBADF, path);
    must_refuse(open(path, O_WRONLY | O_CLOEXEC), false, EBADF, path);
    must_refuse(open(path, O_PATH | O_CLOEXEC), true, EBADF, path);
    unlink(path);
}

static void test_a_disk_has_one_writer(void **state)
{
    char path[] = "/tmp/unit-raw-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 4096), 0);

    struct block *writer = must_open(fd, false);
    must_refuse(open(path, O_RDWR | O_CLOEXEC), false, EBUSY, path);
    must_refuse(open(path, O_RDONLY | O_CLOEXEC), true, EBUSY, path);
    block_destroy(writer);

    struct block *reader = must_open(open(path, O_RDONLY | O_CLOEXEC), true);
    struct block *second = must_open(open(path, O_RDONLY | O_CLOEXEC), true);
    must_refuse(open(path, O_RDWR | O_CLOEXEC), false, EBUSY, "in use");
    assert_true(reader->read_only);
    assert_false(reader->discard);
    uint8_t buf[512];
    assert_int_equal(run_simple(reader, BLOCK_WRITE, 0, buf, 512), -EROFS);
    assert_int_equal(run_simple(reader, BLOCK_DISCARD, 0, NULL, 512), -EROFS);
    assert_int_equal(run_simple(reader, BLOCK_WRITE_ZEROES, 0, NULL, 512), -EROFS);
    assert_int_equal(run_simple(reader, BLOCK_READ, 0, buf, 512), 0);
    assert_int_equal(run_simple(reader, BLOCK_FLUSH, 0, NULL, 0), 0);
    block_destroy(reader);
    block_destroy(second);

    block_destroy(must_open(open(path, O_RDWR | O_CLOEXEC), false));
    unlink(path);
}

static void test_a_nonblocking_descriptor_is_made_to_wait(void **state)
{
    int fd = make_named();
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    struct block *block = must_open(fd, false);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    block_destroy(block);
}

static void test_destroying_nothing_is_legal(void **state)
{
    block_destroy(NULL);
}

/* -- the matrix --------------------------------------------------------------------------------------
 */

struct planned {
    const struct variant *variant;
    void (*run)(struct fixture *f);
    char name[96];
};

static void run_planned(void **state)
{
    const struct planned *p = *state;
    struct fixture f = {.fd = -1};
    open_variant(&f, p->variant);
    p->run(&f);
    close_variant(&f);
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(struct fixture *f);
    } cases[] = {
        {"geometry", test_geometry},
        {"scattered write, then read", test_scattered_write_then_read},
        {"ranges are checked", test_ranges_are_checked},
        {"discard gives space back", test_discard_gives_space_back},
        {"write zeroes", test_write_zeroes},
        {"many at once", test_many_at_once},
        {"a callback may submit", test_a_callback_may_submit},
        {"a truncated file gives EIO", test_a_truncated_file_gives_eio},
        {"transfers", test_transfers},
        {"a full vector", test_a_full_vector},
        {"destroy delivers what is in flight", test_destroy_delivers_what_is_in_flight},
    };
    struct planned plans[ARRAY_SIZE(cases) * ARRAY_SIZE(variants)];
    struct CMUnitTest matrix[ARRAY_SIZE(plans)];
    size_t n = 0;
    for (size_t v = 0; v < ARRAY_SIZE(variants); v++) {
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++, n++) {
            plans[n] = (struct planned){&variants[v], cases[i].run, ""};
            snprintf(plans[n].name, sizeof(plans[n].name), "%s: %s", variants[v].name, cases[i].name);
            matrix[n] = (struct CMUnitTest){plans[n].name, run_planned, NULL, NULL, &plans[n]};
        }
    }
    const struct CMUnitTest opening[] = {
        cmocka_unit_test(test_open_refuses_what_is_no_disk),
        cmocka_unit_test(test_open_needs_the_right_mode),
        cmocka_unit_test(test_a_disk_has_one_writer),
        cmocka_unit_test(test_a_nonblocking_descriptor_is_made_to_wait),
        cmocka_unit_test(test_destroying_nothing_is_legal),
    };
    int failed = _cmocka_run_group_tests("block-raw", matrix, n, NULL, NULL);
    return failed + cmocka_run_group_tests(opening, NULL, NULL);
}
