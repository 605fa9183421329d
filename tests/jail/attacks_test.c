/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each kind of thread that serves a guest, locked up by the very code and tables that do it in a
 * machine, runs the payload instead of its work: nothing may get through. The same with the jail off
 * shows that the payload would tell.
 *
 * A payload runs in a child, whose parent (this process) is the other job that it goes for.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <linux/io_uring.h>
#include <unistd.h>

#include "block/block.h"
#include "block/workers.h"
#include "engine/engine.h"
#include "fs/fs.h"
#include "isolate/jail.h"
#include "machine/bus.h"
#include "machine/testing_kvm.h"
#include "machine/loop.h"
#include "machine/memory.h"
#include "machine/vcpu.h"
#include "net/nat_wire.h"
#include "net/net.h"
#include "payload.h"
#include "util/cleanup.h"
#include "util/testing.h"
#include "util/tree.h"
#include "virtio/block.h"
#include "virtio/fs.h"
#include "virtio/net.h"
#include "virtio/vsock.h"
#include "virtio/vsock_private.h"

/* In a child: a failed check ends it without a result. */
#define CHECK(condition)                                                                               \
    do {                                                                                               \
        if (!(condition)) {                                                                            \
            dprintf(2, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);       \
            _exit(1);                                                                                  \
        }                                                                                              \
    } while (0)

static void payload(void *arg)
{
    *(uint64_t *)arg = payload_run();
}

/* -- the kinds of threads: each makes one, in a child, and has it run the payload --------------------
 */

static int temporary_file(void)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
    return fd;
}

static struct virtio_device *make_disk(struct jail *jail)
{
    struct block *block;
    struct virtio_device *dev;
    const struct block_raw_options raw = {.fd = temporary_file()};
    const struct virtio_block_options options = {.jail = jail,
                                                 .carrier_calls = engine_tcg.carrier_calls};
    CHECK(block_raw_open(&block, &raw, NULL) == 0);
    CHECK(virtio_block_new(&dev, block, &options, NULL, NULL, NULL) == 0);
    return dev;
}

static uint64_t disk(struct jail *jail)
{
    uint64_t breaches = 0;
    struct virtio_device *dev = make_disk(jail);
    loop_call(dev->loop, payload, &breaches);
    virtio_block_free(dev);
    return breaches;
}

struct worked {
    struct work work;
    uint64_t breaches;
    sem_t done;
};

static void work(struct work *w)
{
    struct worked *worked = container_of(w, struct worked, work);
    worked->breaches = payload_run();
    sem_post(&worked->done);
}

static void submit(void *arg)
{
    static struct workers workers;
    struct worked *worked = arg;
    workers_init(&workers, 1, true);
    workers_submit(&workers, &worked->work);
    sem_wait(&worked->done);
    CHECK(workers.ready == 1); /* not in the submitter */
    workers_finish(&workers);
}

/* A worker of a disk's thread. */
static uint64_t worker(struct jail *jail)
{
    struct worked worked = {.work.run = work};
    struct virtio_device *dev = make_disk(jail);
    sem_init(&worked.done, 0, 0);
    loop_call(dev->loop, submit, &worked);
    virtio_block_free(dev);
    return worked.breaches;
}

/* The machine's own loop, with a device that has no thread of its own; by engine. */
static uint64_t machine_loop(struct jail *jail, const struct engine_ops *engine)
{
    uint64_t breaches = 0;
    struct loop *loop;
    struct virtio_device *dev;
    struct isolate_options isolate = {0};
    const struct virtio_vsock_options vsock = {.guest_cid = 3};
    CHECK(loop_new(&loop) == 0);
    CHECK(virtio_vsock_new(&dev, &vsock, loop, NULL, NULL) == 0);
    CHECK(loop_start(loop, "test io") == 0);
    CHECK(isolate_add_calls(&isolate, engine->loop_calls));
    CHECK(isolate_add_calls(&isolate, dev->ops->calls) && isolate_add_calls(&isolate, block_calls));
    CHECK(loop_lock_up(loop, jail, "test", &isolate, NULL) == 0);
    loop_call(loop, payload, &breaches);
    virtio_vsock_free(dev);
    loop_free(loop);
    return breaches;
}

static uint64_t tcg_loop(struct jail *jail)
{
    return machine_loop(jail, &engine_tcg);
}

static uint64_t kvm_loop(struct jail *jail)
{
    return machine_loop(jail, &engine_kvm);
}

static uint64_t file_server(struct jail *jail)
{
    char path[] = "/tmp/unit-jail.XXXXXX";
    uint64_t breaches = 0;
    struct fs *fs;
    struct virtio_device *dev;
    CHECK(mkdtemp(path));
    const struct fs_directory dir = {
        .fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .idmap = {.kind = FS_IDMAP_SQUASH, .host_uid = geteuid(), .host_gid = getegid()}};
    const struct fs_options options = {.directories = &dir, .directory_count = 1};
    const struct virtio_fs_options device = {
        .tag = "test", .jail = jail, .carrier_calls = engine_tcg.carrier_calls};
    rmdir(path);
    CHECK(dir.fd >= 0 && fs_new(&fs, &options, NULL) == 0);
    CHECK(virtio_fs_new(&dev, fs, &device, NULL, NULL) == 0);
    loop_call(dev->loop, payload, &breaches);
    virtio_fs_free(dev);
    return breaches;
}

static uint64_t network(struct jail *jail)
{
    int pair[2];
    uint64_t breaches = 0;
    struct net *net;
    struct virtio_device *dev;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    const struct net_socket_options options = {.fd = pair[0]};
    const struct virtio_net_options device = {
        .mac = {2, 0, 0, 0, 0, 1}, .jail = jail, .carrier_calls = engine_tcg.carrier_calls};
    CHECK(net_socket_open(&net, &options, NULL) == 0);
    CHECK(virtio_net_new(&dev, net, &device, NULL, NULL) == 0);
    loop_call(dev->loop, payload, &breaches);
    virtio_net_free(dev);
    return breaches;
}

/* -- a processor: its guest's first access to a register is what takes it over ------------------------
 */

#define CODE 0x1000

struct machine {
    uint64_t breaches;
    sem_t stopped;
};

static void written(void *opaque, uint64_t offset, const void *data, unsigned size)
{
    (void)offset, (void)data, (void)size;
    struct machine *m = opaque;
    m->breaches = payload_run();
}

static void ended(void *opaque, enum vcpu_end end, const char *text)
{
    (void)opaque, (void)end, (void)text;
}

static void all_stopped(void *opaque)
{
    struct machine *m = opaque;
    sem_post(&m->stopped);
}

static uint64_t processor(struct jail *jail)
{
    static const uint8_t guest[] = {0xe6, 0xe1, 0xf4}; /* out 0xe1, al; hlt */
    static const struct bus_ops port = {.write = written};
    const struct memory_layout layout = {.gpa = 0, .size_bytes = 65536};
    struct machine m = {0};
    struct isolate_options isolate = {0};
    struct kvm_vm vm;
    struct memory mem;
    struct bus pio, mmio;
    struct vcpus *cpus;
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = CODE, .rflags = 2};
    sem_init(&m.stopped, 0, 0);
    bus_init(&pio);
    bus_init(&mmio);
    CHECK(bus_add(&pio, 0xe1, 1, &port, &m) == 0);
    CHECK(kvm_vm_new(&vm, KVM_PATH, false, NULL) == 0);
    CHECK(memory_create(&mem, &layout, 1, NULL) == 0 && kvm_vm_add_memory(&vm, &mem, NULL) == 0);
    memory_write(&mem, CODE, guest, sizeof(guest));
    CHECK(isolate_add_calls(&isolate, block_calls)); /* as with a disk on the bus */
    const struct vcpus_options options = {.vm = &vm,
                                          .count = 1,
                                          .pio = &pio,
                                          .mmio = &mmio,
                                          .ended = ended,
                                          .all_stopped = all_stopped,
                                          .opaque = &m,
                                          .jail = jail,
                                          .isolate = &isolate};
    CHECK(vcpus_new(&cpus, &options, NULL) == 0);
    int fd = vcpus_fd(cpus, 0);
    CHECK(kvm_ioctl(fd, KVM_GET_SREGS, &sregs) == 0);
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    CHECK(kvm_ioctl(fd, KVM_SET_SREGS, &sregs) == 0 && kvm_ioctl(fd, KVM_SET_REGS, &regs) == 0);
    CHECK(vcpus_start(cpus, NULL) == 0);
    sem_wait(&m.stopped); /* the hlt, without an irqchip, is its end */
    vcpus_free(cpus);
    kvm_vm_finish(&vm);
    memory_finish(&mem);
    bus_finish(&pio);
    bus_finish(&mmio);
    return m.breaches;
}

/* -- in children -------------------------------------------------------------------------------------
 */

static uint64_t run(uint64_t (*kind)(struct jail *), enum jail_mode mode)
{
    int out[2];
    uint64_t breaches = UINT64_MAX;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct jail *jail;
        alarm(60);
        CHECK(jail_new(&jail, mode, NULL, NULL) == 0);
        uint64_t found = kind(jail);
        jail_free(jail);
        CHECK(write(out[1], &found, sizeof(found)) == sizeof(found));
        _exit(0);
    }
    close(out[1]);
    ssize_t n = read(out[0], &breaches, sizeof(breaches));
    close(out[0]);
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(n, sizeof(breaches));
    assert_int_equal(status, 0);
    return breaches;
}

/* What even an ordinary user's thread can do where nothing holds it. */
static const uint64_t everybody = ATTACK(READ_FILES) | ATTACK(READ_UPWARD) | ATTACK(READ_MEMORY) |
                                  ATTACK(WRITE_FILES) | ATTACK(EXEC) | ATTACK(FORK) |
                                  ATTACK(SOCKET_INET) | ATTACK(SOCKET_UNIX) | ATTACK(DATAGRAM) |
                                  ATTACK(TERMINAL) | ATTACK(SIGNAL) | ATTACK(PIDFD) |
                                  ATTACK(USER_NAMESPACE) | ATTACK(CODE) | ATTACK(FILTER_OTHERS);
/* And what root's can, of what no container's host is likely to forbid. */
static const uint64_t root = ATTACK(CHROOT) | ATTACK(CAPABILITIES);

/* `never`: what this thread gives up by itself, jail or not. */
static void hold(uint64_t (*kind)(struct jail *), uint64_t never)
{
    char text[PAYLOAD_TEXT_BYTES];
    uint64_t breaches = run(kind, JAIL_AUTO);
    if (breaches)
        fail_msg("it got through: %s", payload_names(breaches, text));
    /* The same payload, in the same thread, without a jail. */
    uint64_t expected = (everybody | (geteuid() == 0 ? root : 0)) & ~never;
    uint64_t missing = expected & ~run(kind, JAIL_OFF);
    if (missing)
        fail_msg("without a jail it did not notice: %s", payload_names(missing, text));
}

#define HOLDS(kind, never)                                                                             \
    static void kind##_is_held(void **state)                                                           \
    {                                                                                                  \
        (void)state;                                                                                   \
        hold(kind, never);                                                                             \
    }

HOLDS(disk, 0)
HOLDS(worker, 0)
HOLDS(tcg_loop, 0)
HOLDS(kvm_loop, 0)
HOLDS(file_server, root)
HOLDS(network, 0)

static void processor_is_held(void **state)
{
    (void)state;
    need_kvm();
    hold(processor, 0);
}

/* -- what goes on working -----------------------------------------------------------------------------
 */

struct connecting {
    struct vsock *vs;
    int inside, outside;
};

static void connect_both(void *arg)
{
    struct connecting *c = arg;
    struct sockaddr_un up = {.sun_family = AF_UNIX, .sun_path = "../up_1"};
    _cleanup_close_ int in = vsock_unix_connect(c->vs, 1234);
    _cleanup_close_ int out = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->inside = in < 0 ? in : 0;
    c->outside = connect(out, (struct sockaddr *)&up, sizeof(up)) < 0 ? -errno : 0;
}

static int listen_at(const char *dir, const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(at.sun_path, sizeof(at.sun_path), "%.60s/%s", dir, name);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

/* A guest's way to Unix sockets beside the machine's own, and to no others. */
static void sockets_with_names_are_reached(void **state)
{
    (void)state;
    char top[] = "/tmp/unit-jail.XXXXXX", dir[64], path[80];
    struct jail *jail;
    struct loop *loop;
    struct virtio_device *dev;
    struct isolate_options isolate = {0};
    assert_non_null(mkdtemp(top));
    snprintf(dir, sizeof(dir), "%s/sockets", top);
    snprintf(path, sizeof(path), "%s/vm", dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    _cleanup_close_ int beside = listen_at(dir, "vm_1234"), up = listen_at(top, "up_1");
    const struct virtio_vsock_options options = {.guest_cid = 3, .path = path};
    assert_int_equal(jail_new(&jail, JAIL_AUTO, NULL, NULL), 0);
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(virtio_vsock_new(&dev, &options, loop, NULL, NULL), 0);
    assert_int_equal(loop_start(loop, "test io"), 0);
    assert_true(isolate_add_calls(&isolate, dev->ops->calls) && virtio_vsock_isolate(dev, &isolate));
    assert_int_equal(loop_lock_up(loop, jail, "test", &isolate, NULL), 0);
    struct connecting c = {.vs = container_of(dev, struct vsock, dev)};
    loop_call(loop, connect_both, &c);
    loop_stop(loop);
    virtio_vsock_free(dev);
    loop_free(loop);
    assert_int_equal(c.inside, 0);
    if (!(jail_lacks(jail) & ISOLATE_NAMESPACES))
        assert_int_equal(c.outside, -ENOENT);
    jail_free(jail);
    tree_remove(AT_FDCWD, top);
}

/* -- the network's helper, a process ------------------------------------------------------------------
 */

static void note_line(void *opaque, enum log_level level, const char *line)
{
    (void)level;
    unsigned long long breaches;
    if (sscanf(line, "breaches %llx", &breaches) == 1)
        *(uint64_t *)opaque = breaches;
}

static struct helper_program compromised = {
    .name = "dayfly-nat", .what = "the helper", .needs = "libslirp"};

/* The program that meson built beside this one, in memory: the ordinary user may be kept from here. */
static void read_program(void)
{
    char path[PATH_MAX];
    struct stat st;
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    CHECK(n > 0);
    path[n] = '\0';
    char *end = strrchr(path, '/');
    snprintf(end, (size_t)(path + sizeof(path) - end), "/tests/jail/nat-compromised");
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0 && fstat(fd, &st) == 0);
    uint8_t *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(at != MAP_FAILED);
    compromised.start = at;
    compromised.end = at + st.st_size;
}

static void the_networks_helper_is_held(void **state)
{
    (void)state;
    struct helper helper = HELPER_NONE;
    struct dayfly_err err = {0};
    uint64_t breaches = UINT64_MAX;
    const struct log log = {.write = note_line, .opaque = &breaches, .level = LOG_ERROR};
    char text[PAYLOAD_TEXT_BYTES];
    int frames[2];
    assert_int_equal(helper_share(&helper, sizeof(struct nat_shared), &err), 0);
    struct nat_setup *setup = &((struct nat_shared *)helper.shared)->setup;
    nat_addresses_default(&setup->addresses);
    assert_int_equal(helper_pair(frames, SOCK_NONBLOCK, &err), 0);
    if (helper_start(&helper, &compromised, &frames[1], 1, &err) < 0 ||
        helper_wait(&helper, &log, &err) < 0)
        fail_msg("%s", err.msg);
    struct pollfd speaks = {.fd = helper.control, .events = POLLIN};
    while (helper_handle_events(&helper, &log) == 0)
        poll(&speaks, 1, 60000);
    helper_stop(&helper);
    close(frames[0]);
    close(frames[1]);
    /* To reach others for the guest is its work. */
    breaches &= ~ATTACK(SOCKET_INET);
    if (breaches)
        fail_msg("it got through: %s", payload_names(breaches, text));
}

/* -- io_uring -----------------------------------------------------------------------------------------
 */

/* A ring without restrictions, in a thread that has the disk's filter: that is the way round. */
static uint64_t open_ring(struct jail *jail)
{
    struct io_uring_params params = {0};
    int fd = (int)syscall(SYS_io_uring_setup, 128, &params);
    CHECK(fd >= 0 || errno == EPERM || errno == ENOSYS);
    return fd < 0 ? ATTACK(FOREIGN_RING) : disk(jail);
}

static void only_the_restrictions_hold_a_ring(void **state)
{
    (void)state;
    uint64_t breaches = run(open_ring, JAIL_OFF);
    assert_true(breaches & ATTACK(FOREIGN_RING)); /* the payload knows how */
    assert_false(run(disk, JAIL_OFF) & ATTACK(FOREIGN_RING));
}

#define NOBODY 65534

/* The same for an ordinary user, who has fewer stages and loses none of what they hold. */
static int as_nobody(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disk_is_held),
        cmocka_unit_test(worker_is_held),
        cmocka_unit_test(tcg_loop_is_held),
        cmocka_unit_test(kvm_loop_is_held),
        cmocka_unit_test(file_server_is_held),
        cmocka_unit_test(network_is_held),
        cmocka_unit_test(the_networks_helper_is_held),
    };
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
            setresuid(NOBODY, NOBODY, NOBODY) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
            _exit(1);
        _exit(cmocka_run_group_tests_name("as nobody", tests, NULL, NULL));
    }
    return waitpid(pid, &status, 0) == pid && status == 0 ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disk_is_held),
        cmocka_unit_test(worker_is_held),
        cmocka_unit_test(tcg_loop_is_held),
        cmocka_unit_test(kvm_loop_is_held),
        cmocka_unit_test(file_server_is_held),
        cmocka_unit_test(network_is_held),
        cmocka_unit_test(processor_is_held),
        cmocka_unit_test(the_networks_helper_is_held),
        cmocka_unit_test(sockets_with_names_are_reached),
        cmocka_unit_test(only_the_restrictions_hold_a_ring),
    };
    payload_learn_rings();
    read_program();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed + (geteuid() == 0 ? as_nobody() : 0);
}
