/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Setting up machines and taking them down, with every call of ours that can fail failing in turn: the
 * linker puts __wrap_NAME in the place of NAME (meson.build has the list). However far a set-up got, it
 * either works or says why it does not, and leaves no descriptor, no thread and, as LeakSanitizer sees
 * it, no memory.
 *
 * What other libraries call by themselves is not struck here; every_call.py does that, from outside.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <liburing.h>

#include "arch/x86_64/testing_kernel.h"
#include "block/block.h"
#include "board/machine.h"
#include "dayfly/config.h"
#include "dayfly/vm.h"
#include "fs/fs.h"
#include "machine/testing_kvm.h"
#include "net/net.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/err.h"
#include "virtio/block.h"
#include "virtio/console.h"
#include "virtio/entropy.h"
#include "virtio/fs.h"
#include "virtio/net.h"
#include "virtio/vsock.h"

/* -- the injector ------------------------------------------------------------------------------ */

static atomic_ulong calls;
static atomic_ulong fails_at; /* 0: none does */
static atomic_bool struck;
static const char *struck_call;

static bool strikes(const char *name)
{
    if (fails_at == 0 || atomic_fetch_add(&calls, 1) + 1 != fails_at)
        return false;
    struck_call = name;
    struck = true;
    return true;
}

/* What the kernel keeps in memory alone (eventfd) is written and read without fail. */
static bool strikes_file(const char *name, int fd)
{
    struct stat st;
    unsigned long at = fails_at;
    fails_at = 0;
    bool real = fstat(fd, &st) == 0 && st.st_mode & S_IFMT;
    fails_at = at;
    return real && strikes(name);
}

/* The wrapper of a function that returns `failure` and sets errno. */
#define WRAP(type, name, failure, error, parameters, ...)                                              \
    type __real_##name parameters;                                                                     \
    type __wrap_##name parameters;                                                                     \
    type __wrap_##name parameters                                                                      \
    {                                                                                                  \
        if (strikes(#name)) {                                                                          \
            errno = error;                                                                             \
            return failure;                                                                            \
        }                                                                                              \
        return __real_##name(__VA_ARGS__);                                                             \
    }

WRAP(void *, malloc, NULL, ENOMEM, (size_t n), n)
WRAP(void *, calloc, NULL, ENOMEM, (size_t n, size_t m), n, m)
WRAP(void *, realloc, NULL, ENOMEM, (void *p, size_t n), p, n)
WRAP(void *, reallocarray, NULL, ENOMEM, (void *p, size_t n, size_t m), p, n, m)
WRAP(char *, strdup, NULL, ENOMEM, (const char *s), s)
WRAP(char *, strndup, NULL, ENOMEM, (const char *s, size_t n), s, n)
WRAP(void *, mmap64, MAP_FAILED, ENOMEM, (void *a, size_t n, int p, int f, int d, off_t o), a, n, p, f,
     d, o)
WRAP(int, open64, -1, EMFILE, (const char *path, int flags, mode_t mode), path, flags, mode)
WRAP(int, openat64, -1, EMFILE, (int at, const char *path, int flags, mode_t mode), at, path, flags,
     mode)
WRAP(FILE *, fopen64, NULL, EMFILE, (const char *path, const char *mode), path, mode)
WRAP(DIR *, fdopendir, NULL, ENOMEM, (int fd), fd)
WRAP(int, dup3, -1, EMFILE, (int from, int to, int flags), from, to, flags)
WRAP(int, pipe2, -1, EMFILE, (int fds[2], int flags), fds, flags)
WRAP(int, socket, -1, EMFILE, (int domain, int type, int protocol), domain, type, protocol)
WRAP(int, socketpair, -1, EMFILE, (int domain, int type, int protocol, int fds[2]), domain, type,
     protocol, fds)
WRAP(int, eventfd, -1, EMFILE, (unsigned count, int flags), count, flags)
WRAP(int, epoll_create1, -1, EMFILE, (int flags), flags)
WRAP(int, timerfd_create, -1, EMFILE, (int clock, int flags), clock, flags)
WRAP(int, memfd_create, -1, EMFILE, (const char *name, unsigned flags), name, flags)
WRAP(int, ftruncate64, -1, ENOSPC, (int fd, off_t bytes), fd, bytes)
WRAP(int, fstat64, -1, EIO, (int fd, struct stat *st), fd, st)
WRAP(ssize_t, pread64, -1, EIO, (int fd, void *to, size_t n, off_t at), fd, to, n, at)
WRAP(ssize_t, pwrite64, -1, EIO, (int fd, const void *from, size_t n, off_t at), fd, from, n, at)
WRAP(int, pthread_create, EAGAIN, EAGAIN,
     (pthread_t * thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg), thread, attr,
     start, arg)
WRAP(int, io_uring_queue_init, -ENOMEM, ENOMEM,
     (unsigned entries, struct io_uring *ring, unsigned flags), entries, ring, flags)
WRAP(int, io_uring_register_eventfd, -ENOMEM, ENOMEM, (struct io_uring * ring, int fd), ring, fd)
/* Their third argument, whatever it is, travels in one register. */
WRAP(int, fcntl64, -1, EMFILE, (int fd, int command, long arg), fd, command, arg)
WRAP(int, ioctl, -1, ENOMEM, (int fd, unsigned long request, long arg), fd, request, arg)

int __real_epoll_ctl(int at, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int at, int op, int fd, struct epoll_event *event);
ssize_t __real_read(int fd, void *to, size_t n);
ssize_t __wrap_read(int fd, void *to, size_t n);
ssize_t __real_write(int fd, const void *from, size_t n);
ssize_t __wrap_write(int fd, const void *from, size_t n);

int __wrap_epoll_ctl(int at, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD && strikes("epoll_ctl")) { /* the others need no memory */
        errno = ENOSPC;
        return -1;
    }
    return __real_epoll_ctl(at, op, fd, event);
}

ssize_t __wrap_read(int fd, void *to, size_t n)
{
    if (strikes_file("read", fd)) {
        errno = EIO;
        return -1;
    }
    return __real_read(fd, to, n);
}

ssize_t __wrap_write(int fd, const void *from, size_t n)
{
    if (strikes_file("write", fd)) {
        errno = EIO;
        return -1;
    }
    return __real_write(fd, from, n);
}

int __real_vasprintf(char **out, const char *format, va_list args);
int __wrap_vasprintf(char **out, const char *format, va_list args);
int __wrap_asprintf(char **out, const char *format, ...);
int __wrap___vasprintf_chk(char **out, int flag, const char *format, va_list args);
int __wrap___asprintf_chk(char **out, int flag, const char *format, ...);

int __wrap_vasprintf(char **out, const char *format, va_list args)
{
    if (strikes("asprintf")) {
        *out = (char *)1; /* which is what may stand there then */
        errno = ENOMEM;
        return -1;
    }
    return __real_vasprintf(out, format, args);
}

int __wrap___vasprintf_chk(char **out, int flag, const char *format, va_list args)
{
    return __wrap_vasprintf(out, format, args);
}

int __wrap_asprintf(char **out, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = __wrap_vasprintf(out, format, args);
    va_end(args);
    return n;
}

int __wrap___asprintf_chk(char **out, int flag, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = __wrap_vasprintf(out, format, args);
    va_end(args);
    return n;
}

/* -- what a process has ------------------------------------------------------------------------ */

static unsigned entries(const char *path)
{
    unsigned n = 0;
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

/* One that was joined may be in the list for a moment more. */
static bool has_threads(unsigned count)
{
    uint64_t deadline = clock_ns() + 5 * NS_PER_S;
    while (entries("/proc/self/task") != count)
        if (clock_ns() > deadline)
            return false;
    return true;
}

/* -- scenes: each sets something up and takes it down again -------------------------------------- */

struct scene_place {
    int kernel, disk, dir;
    char path[64]; /* dir's */
};

typedef int scene_fn(const struct scene_place *place, struct dayfly_err *err);

static int copy_of(int fd)
{
    /* The test's own, which must not fail. */
    unsigned long at = fails_at;
    fails_at = 0;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    fails_at = at;
    return copy;
}

static int a_description(const struct scene_place *place, struct dayfly_err *err)
{
    char text[1024];
    struct dayfly_config *config = NULL;
    snprintf(text, sizeof(text),
             "cpus: 2\nmemory: 128MiB\nlinux: {kernel: /proc/self/fd/%d, command_line: quiet}\n"
             "disks: [{path: /proc/self/fd/%d, read_only: true}]\nshares: [{path: %s, tag: x}]\n"
             "vsock: {}\nserial: {output: stdio}\nconsoles: [{name: log}]\n",
             place->kernel, place->disk, place->path);
    int r = dayfly_config_new(&config);
    if (r < 0)
        return err_set(err, -r, "out of memory");
    r = dayfly_config_parse_yaml(config, "test", text, strlen(text), NULL, NULL, NULL, err);
    if (r == 0)
        r = dayfly_config_validate(config, NULL, NULL, err);
    dayfly_config_free(config);
    return r;
}

struct devices {
    struct virtio_device *block, *console, *entropy, *vsock, *net, *fs;
};

static void devices_finish(struct devices *d)
{
    virtio_block_free(d->block);
    virtio_console_free(d->console);
    virtio_entropy_free(d->entropy);
    virtio_vsock_free(d->vsock);
    virtio_net_free(d->net);
    virtio_fs_free(d->fs);
}

static int make_block(struct devices *d, const struct scene_place *place, struct loop *loop,
                      struct dayfly_err *err)
{
    struct block *block = NULL;
    const struct block_raw_options raw = {.fd = copy_of(place->disk), .io = BLOCK_IO_AUTO};
    int r = block_raw_open(&block, &raw, err);
    return r < 0 ? r : virtio_block_new(&d->block, block, NULL, loop, NULL, err);
}

static int make_console(struct devices *d, struct loop *loop, struct dayfly_err *err)
{
    const struct virtio_console_port ports[] = {
        {.console = true, .in_fd = -1, .out_fd = copy_of(STDERR_FILENO)},
        {.name = "port", .in_fd = -1, .out_fd = -1},
    };
    const struct virtio_console_options options = {
        .ports = ports, .port_count = ARRAY_SIZE(ports), .columns = 80, .rows = 25};
    return virtio_console_new(&d->console, &options, loop, NULL, err);
}

static int make_net(struct devices *d, struct loop *loop, struct dayfly_err *err)
{
    int pair[2];
    struct net *net = NULL;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return err_errno(err, errno, "socket pair");
    int r = net_socket_open(&net, &(struct net_socket_options){.fd = pair[0]}, err);
    if (r == 0)
        r = virtio_net_new(&d->net, net, &(struct virtio_net_options){.mac = {2}, .loop = loop}, NULL,
                           err);
    close(pair[1]);
    return r;
}

static int make_fs(struct devices *d, const struct scene_place *place, struct dayfly_err *err)
{
    struct fs *fs = NULL;
    const struct fs_directory directory = {
        .fd = place->dir,
        .idmap = {.kind = FS_IDMAP_SQUASH, .host_uid = geteuid(), .host_gid = getegid()}};
    int r = fs_new(&fs, &(struct fs_options){.directories = &directory, .directory_count = 1}, err);
    return r < 0 ? r : virtio_fs_new(&d->fs, fs, &(struct virtio_fs_options){.tag = "x"}, NULL, err);
}

static int devices_make(struct devices *d, const struct scene_place *place, struct loop *loop,
                        struct dayfly_err *err)
{
    int r = make_block(d, place, loop, err);
    if (r == 0)
        r = make_console(d, loop, err);
    if (r == 0)
        r = virtio_entropy_new(&d->entropy, loop, NULL, err);
    if (r == 0)
        r = virtio_vsock_new(&d->vsock, &(struct virtio_vsock_options){.guest_cid = 3}, loop, NULL,
                             err);
    if (r == 0)
        r = make_net(d, loop, err);
    return r < 0 ? r : make_fs(d, place, err);
}

static int all_devices(const struct scene_place *place, struct dayfly_err *err)
{
    struct devices d = {0};
    struct loop *loop = NULL;
    int r = loop_new(&loop);
    if (r < 0)
        return err_errno(err, -r, "a loop");
    r = devices_make(&d, place, loop, err);
    devices_finish(&d);
    loop_free(loop);
    return r;
}

static int a_machine(const struct scene_place *place, struct dayfly_err *err)
{
    struct devices d = {0};
    struct loop *loop = NULL;
    struct machine *machine = NULL;
    int r = loop_new(&loop);
    if (r < 0)
        return err_errno(err, -r, "a loop");
    r = devices_make(&d, place, loop, err);
    struct virtio_device *const all[] = {d.block, d.console, d.entropy, d.vsock, d.net, d.fs};
    const struct machine_options options = {
        .cpus = 2,
        .memory_bytes = MACHINE_MEMORY_MIN,
        .kernel_fd = place->kernel,
        .initrd_fd = -1,
        .cmdline = "quiet",
        .serial_in = -1,
        .serial_out = STDERR_FILENO,
        .devices = all,
        .device_count = ARRAY_SIZE(all),
        .loop = loop,
    };
    if (r == 0)
        r = machine_new(&machine, &options, err);
    if (r == 0 && (r = loop_start(loop, "devices")) < 0)
        err_errno(err, -r, "start the loop");
    if (r == 0)
        r = machine_start(machine, err);
    machine_free(machine);
    loop_stop(loop);
    devices_finish(&d);
    loop_free(loop);
    return r;
}

/* -- every call in turn ------------------------------------------------------------------------ */

static void make_place(struct scene_place *place)
{
    static struct test_kernel kernel;
    test_kernel_init(&kernel);
    strcpy(place->path, "/tmp/unit-set-up-XXXXXX");
    assert_non_null(mkdtemp(place->path));
    place->kernel = memfd_create("kernel", MFD_CLOEXEC);
    place->disk = memfd_create("disk", MFD_CLOEXEC);
    place->dir = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(place->dir >= 0);
    assert_int_equal(io_write_full(place->kernel, &kernel, sizeof(kernel)), 0);
    assert_int_equal(ftruncate(place->disk, 1 << 20), 0);
}

static void finish_place(struct scene_place *place)
{
    close(place->kernel);
    close(place->disk);
    close(place->dir);
    rmdir(place->path);
}

static void every_call(scene_fn *scene)
{
    struct scene_place place;
    struct dayfly_err err = {0};
    unsigned long n = 0, refused = 0;
    make_place(&place);
    unsigned running = entries("/proc/self/task");
    /* What libraries make once. */
    fails_at = 0;
    if (scene(&place, &err) < 0)
        fail_msg("without a fault: %s", err.msg);
    unsigned fds = entries("/proc/self/fd");
    do {
        err = (struct dayfly_err){0};
        struck = false;
        calls = 0;
        fails_at = ++n;
        int r = scene(&place, &err);
        fails_at = 0;
        const char *name = struck ? struck_call : "nothing";
        if (r < 0 && (err.code <= 0 || strlen(err.msg) < 4))
            fail_msg("call %lu, %s: %d without a message", n, name, r);
        if (!struck && r < 0)
            fail_msg("call %lu: %s, without a fault", n, err.msg);
        if (entries("/proc/self/fd") != fds)
            fail_msg("call %lu, %s: a descriptor was left (%s)", n, name, err.msg);
        if (!has_threads(running))
            fail_msg("call %lu, %s: a thread was left (%s)", n, name, err.msg);
        refused += r < 0;
    } while (struck);
    print_message("%lu calls, %lu of them refused\n", n - 1, refused);
    assert_true(refused > 0);
    finish_place(&place);
}

static void test_descriptions(void **state)
{
    every_call(a_description);
}

static void test_devices(void **state)
{
    every_call(all_devices);
}

static void test_machines(void **state)
{
    need_kvm();
    every_call(a_machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptions),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_machines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
