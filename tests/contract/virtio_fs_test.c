/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device in front of a server that does as it is told: what real files cannot show, or
 * not for certain (requests that wait, locks, threads that are not to be had). The device with the real
 * server is in the contract suite.
 *
 * The server here takes the place of src/fs/: it defines what fs/fs.h declares.
 */
#include "virtio/fs.h"

#include <endian.h>
#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "transport/fake.h"
#include "util/arith.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/iov.h"
#include "util/testing.h"
#include "virtio/driver.h"

#define RAM_GPA    UINT64_C(0x100000)
#define RAM_BYTES  UINT64_C(0x800000)
#define TIMEOUT_MS 20000
#define RING       32
#define QUEUES     4 /* hiprio and three */
#define DATA       8 /* bytes of a request, and of its answer */

/* -- the server --------------------------------------------------------------------------------- */

/* Opcodes of its own. */
enum {
    ECHO = 1000, /* the data comes back */
    WAIT,        /* ends when the gate is open; FS_WAITS where that is asked for */
    SLOW,        /* the same, and nothing tells */
    LOCK,        /* FS_LATER while the lock is held */
    UNLOCK,      /* lets go of the lock, and says so */
    SILENT,      /* wants no reply */
    FEED,        /* puts the next one into the same ring */
    BOAST,       /* claims to have written more than there is room for */
};

struct fs {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool gate_open;
    pthread_t first;     /* the thread that entered first: the loop's */
    bool slow_elsewhere; /* SLOW has been served by another */
    unsigned serving, waiting, most_waiting;
    unsigned threads, threads_max; /* that have entered, and may */
    unsigned resets;
    bool locked;
    unsigned tries;          /* of LOCK */
    struct driver_ring *fed; /* by FEED; NULL: no more */
    struct driver_buf food[2];
    atomic_uint_least64_t unlocked;
    bool shown; /* its window is */
    int window_events;
    unsigned heeds, mends;
};

#define WINDOW_BYTES (UINT64_C(4) << 20)

static char window; /* nobody looks at it */

static __thread struct fs *entered;

void fs_free(struct fs *fs)
{
    assert_int_equal(fs->threads, 0);
    pthread_cond_destroy(&fs->changed);
    pthread_mutex_destroy(&fs->lock);
    close(fs->window_events);
    free(fs);
}

void fs_reset(struct fs *fs)
{
    pthread_mutex_lock(&fs->lock);
    assert_int_equal(fs->serving, 0);
    fs->resets++;
    pthread_mutex_unlock(&fs->lock);
}

void *fs_window(const struct fs *fs, uint64_t *bytes)
{
    *bytes = WINDOW_BYTES;
    return &window;
}

void fs_show_window(struct fs *fs, bool shown)
{
    fs->shown = shown;
}

int fs_window_events(const struct fs *fs)
{
    return fs->window_events;
}

void fs_heed_window(struct fs *fs)
{
    eventfd_t count;
    eventfd_read(fs->window_events, &count);
    pthread_mutex_lock(&fs->lock);
    fs->heeds++;
    pthread_cond_broadcast(&fs->changed);
    pthread_mutex_unlock(&fs->lock);
}

bool fs_mend_window(struct fs *fs)
{
    return ++fs->mends == 1;
}

int fs_lock_up(struct fs *fs, struct jail *jail, const struct isolate_calls *more, size_t more_count,
               struct dayfly_err *err)
{
    return 0;
}

int fs_thread_enter(struct fs *fs, struct fs_thread *thread, struct dayfly_err *err)
{
    pthread_mutex_lock(&fs->lock);
    bool may = fs->threads < fs->threads_max;
    if (may && fs->threads++ == 0)
        fs->first = pthread_self();
    pthread_mutex_unlock(&fs->lock);
    entered = may ? fs : NULL;
    return may ? 0 : err_set(err, EPERM, "no more threads");
}

void fs_thread_leave(struct fs_thread *thread)
{
    assert_non_null(entered);
    pthread_mutex_lock(&entered->lock);
    entered->threads--;
    pthread_mutex_unlock(&entered->lock);
    entered = NULL;
}

static struct fuse_in_header header_of(const struct fs_request *r)
{
    struct fuse_in_header in = {0};
    iov_copy_out(r->in, r->in_count, 0, &in, sizeof(in));
    return in;
}

/* As a driver on another processor that never stops. With the server's lock held, as the next. */
static void feed(struct fs *fs)
{
    uint16_t head;
    uint32_t written;
    while (driver_used(fs->fed, &head, &written))
        ;
    assert_true(driver_add(fs->fed, fs->food, 2) >= 0);
    driver_publish(fs->fed);
}

static ssize_t act(struct fs *fs, uint32_t opcode, bool at_once)
{
    switch (opcode) {
    case WAIT:
    case SLOW:
        if (opcode == WAIT && at_once)
            return FS_WAITS;
        fs->slow_elsewhere = !pthread_equal(fs->first, pthread_self());
        fs->waiting++;
        fs->most_waiting = MAX(fs->most_waiting, fs->waiting);
        pthread_cond_broadcast(&fs->changed);
        while (!fs->gate_open)
            pthread_cond_wait(&fs->changed, &fs->lock);
        fs->waiting--;
        return 1;
    case LOCK:
        fs->tries++;
        pthread_cond_broadcast(&fs->changed);
        return fs->locked ? FS_LATER : 1;
    case UNLOCK:
        fs->locked = false;
        fs->unlocked++;
        return 1;
    case FEED:
        if (fs->fed)
            feed(fs);
        return 1;
    case SILENT:
        return 0;
    default:
        return 1;
    }
}

ssize_t fs_serve(struct fs *fs, struct fs_thread *thread, struct fs_request *r)
{
    uint8_t data[DATA] = {0};
    struct fuse_in_header in = header_of(r);
    assert_ptr_equal(entered, fs);
    if (r->in_bytes < sizeof(in))
        return FS_BROKEN;
    pthread_mutex_lock(&fs->lock);
    fs->serving++;
    ssize_t n = act(fs, in.opcode, r->at_once);
    fs->serving--;
    pthread_mutex_unlock(&fs->lock);
    if (n > 0 && r->out_bytes < sizeof(struct fuse_out_header))
        return FS_BROKEN;
    /* As a server may: cut the segments, also of one that is to be tried again. */
    r->in_count = iov_drop_front(&r->in, r->in_count, sizeof(in));
    if (n <= 0)
        return n;
    iov_copy_out(r->in, r->in_count, 0, data, DATA);
    struct fuse_out_header out = {.len = sizeof(out) + DATA, .unique = in.unique};
    n = (ssize_t)iov_copy_in(r->out, r->out_count, 0, &out, sizeof(out));
    n += (ssize_t)iov_copy_in(r->out, r->out_count, sizeof(out), data, DATA);
    return in.opcode == BOAST ? 1 << 30 : n;
}

uint64_t fs_unlocked(struct fs *fs)
{
    return fs->unlocked;
}

/* -- a driver ------------------------------------------------------------------------------------- */

struct env {
    struct fs *fs;
    struct virtio_device *dev;
    struct fake *fake;
    struct memory mem;
    struct driver_arena arena;
    struct driver_ring rings[QUEUES];
    uint64_t unique;
};

struct sent {
    unsigned queue;
    int head;
    uint64_t unique, out_gpa;
};

static struct fs *make_server(void)
{
    struct fs *fs = calloc(1, sizeof(*fs));
    assert_non_null(fs);
    pthread_mutex_init(&fs->lock, NULL);
    pthread_cond_init(&fs->changed, NULL);
    fs->threads_max = 1000;
    fs->window_events = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fs;
}

static void begin(struct env *env)
{
    assert_int_equal(fake_negotiate(env->fake, fake_offered(env->fake)), 0);
    env->arena = (struct driver_arena){&env->mem, RAM_GPA, RAM_GPA + RAM_BYTES};
    for (unsigned i = 0; i < QUEUES; i++) {
        driver_ring_init(&env->rings[i], &env->arena, RING, fake_offered(env->fake));
        assert_int_equal(fake_setup_queue(env->fake, i, &env->rings[i].setup), 0);
    }
    fake_driver_ok(env->fake);
}

static void open_env(struct env *env, unsigned workers_max)
{
    struct dayfly_err err;
    const struct memory_layout layout = {RAM_GPA, RAM_BYTES};
    const struct virtio_fs_options options = {
        .tag = "tag", .queues = QUEUES - 1, .workers_max = workers_max};
    *env = (struct env){.fs = make_server()};
    assert_int_equal(memory_create(&env->mem, &layout, 1, &err), 0);
    assert_int_equal(virtio_fs_new(&env->dev, env->fs, &options, NULL, &err), 0);
    assert_int_equal(fake_new(&env->fake, &(struct fake_options){.dev = env->dev, .mem = &env->mem}),
                     0);
    begin(env);
}

static void close_env(struct env *env)
{
    fake_free(env->fake);
    virtio_fs_free(env->dev);
    memory_finish(&env->mem);
}

static uint64_t put_request(struct env *env, uint32_t opcode, struct sent *sent)
{
    struct {
        struct fuse_in_header header;
        uint8_t data[DATA];
    } in = {.header = {.len = sizeof(in), .opcode = opcode, .unique = ++env->unique},
            .data = "01234567"};
    uint64_t gpa = driver_alloc(&env->arena, sizeof(in), 8);
    memcpy(driver_hva(&env->arena, gpa, sizeof(in)), &in, sizeof(in));
    sent->unique = in.header.unique;
    sent->out_gpa = driver_alloc(&env->arena, sizeof(struct fuse_out_header) + DATA, 8);
    return gpa;
}

/* Queue a request; publish and kick follow. */
static struct sent add(struct env *env, unsigned queue, uint32_t opcode)
{
    struct sent sent = {.queue = queue};
    uint64_t in = put_request(env, opcode, &sent);
    const struct driver_buf bufs[] = {
        {in, sizeof(struct fuse_in_header), false},
        {in + sizeof(struct fuse_in_header), DATA, false},
        {sent.out_gpa, sizeof(struct fuse_out_header), true},
        {sent.out_gpa + sizeof(struct fuse_out_header), DATA, true},
    };
    sent.head = driver_add_indirect(&env->rings[queue], bufs, ARRAY_SIZE(bufs));
    assert_true(sent.head >= 0);
    return sent;
}

static void publish(struct env *env, unsigned queue)
{
    if (driver_publish(&env->rings[queue]))
        fake_kick(env->fake, queue);
}

static struct sent send(struct env *env, unsigned queue, uint32_t opcode)
{
    struct sent sent = add(env, queue, opcode);
    publish(env, queue);
    return sent;
}

/* The next used chain of a queue. */
static uint32_t next_used(struct env *env, unsigned queue, uint16_t *head)
{
    uint32_t written;
    struct driver_ring *r = &env->rings[queue];
    while (!driver_used(r, head, &written)) {
        driver_interrupts(r, true);
        if (driver_used(r, head, &written))
            break;
        assert_true(fake_wait_interrupt(env->fake, queue, TIMEOUT_MS));
    }
    return written;
}

static void assert_answer(struct env *env, const struct sent *sent, uint32_t written, int error)
{
    struct fuse_out_header out;
    memcpy(&out, driver_hva(&env->arena, sent->out_gpa, sizeof(out)), sizeof(out));
    assert_int_equal(written, sizeof(out) + (error ? 0 : DATA));
    assert_int_equal(out.len, written);
    assert_int_equal(out.error, -error);
    assert_int_equal(out.unique, sent->unique);
    if (!error)
        assert_memory_equal(driver_hva(&env->arena, sent->out_gpa + sizeof(out), DATA), "01234567",
                            DATA);
}

/* It comes back next, with this error (0: with its data). */
static void answered(struct env *env, const struct sent *sent, int error)
{
    uint16_t head;
    uint32_t written = next_used(env, sent->queue, &head);
    assert_int_equal(head, sent->head);
    assert_answer(env, sent, written, error);
}

static void roundtrip(struct env *env, unsigned queue)
{
    struct sent sent = send(env, queue, ECHO);
    answered(env, &sent, 0);
}

static void set_gate(struct env *env, bool open)
{
    pthread_mutex_lock(&env->fs->lock);
    env->fs->gate_open = open;
    pthread_cond_broadcast(&env->fs->changed);
    pthread_mutex_unlock(&env->fs->lock);
}

static void wait_until_waiting(struct env *env, unsigned count)
{
    pthread_mutex_lock(&env->fs->lock);
    while (env->fs->waiting < count)
        pthread_cond_wait(&env->fs->changed, &env->fs->lock);
    pthread_mutex_unlock(&env->fs->lock);
}

static void set_locked(struct env *env, bool locked)
{
    pthread_mutex_lock(&env->fs->lock);
    env->fs->locked = locked;
    pthread_mutex_unlock(&env->fs->lock);
}

/* Until the lock was asked for so many times more. */
static void wait_for_tries(struct env *env, unsigned count)
{
    pthread_mutex_lock(&env->fs->lock);
    for (count += env->fs->tries; env->fs->tries < count;)
        pthread_cond_wait(&env->fs->changed, &env->fs->lock);
    pthread_mutex_unlock(&env->fs->lock);
}

/* -- cases ------------------------------------------------------------------------------------------
 */

static void options_are_checked(void **state)
{
    struct virtio_device *dev;
    struct dayfly_err err;
    char tag[VIRTIO_FS_TAG_BYTES + 2];
    memset(tag, 't', sizeof(tag));
    tag[sizeof(tag) - 1] = '\0';
    const struct virtio_fs_options bad[] = {
        {.tag = ""},
        {.tag = tag},
        {.tag = "a", .queues = VIRTIO_FS_QUEUES_MAX + 1},
        {.tag = "a", .workers_max = VIRTIO_FS_WORKERS_MAX + 1},
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(virtio_fs_new(&dev, make_server(), &bad[i], NULL, &err), -EINVAL);

    struct fs *fs = make_server();
    fs->threads_max = 0; /* not even the loop's */
    assert_int_equal(virtio_fs_new(&dev, fs, &(struct virtio_fs_options){.tag = "a"}, NULL, &err),
                     -EPERM);

    tag[VIRTIO_FS_TAG_BYTES] = '\0'; /* all the bytes there are, and no NUL */
    uint8_t config[VIRTIO_FS_TAG_BYTES + 4];
    const uint8_t queues[4] = {5};
    assert_int_equal(virtio_fs_new(&dev, make_server(),
                                   &(struct virtio_fs_options){.tag = tag, .queues = 5}, NULL, &err),
                     0);
    virtio_config_read(dev, 0, config, sizeof(config));
    assert_memory_equal(config, tag, VIRTIO_FS_TAG_BYTES);
    assert_memory_equal(config + VIRTIO_FS_TAG_BYTES, queues, 4);
    virtio_fs_free(dev);
    virtio_fs_free(NULL);
}

static void the_server_learns_who_sees_its_window(void **state)
{
    struct env env;
    open_env(&env, 0);
    assert_int_equal(env.dev->shared.id, 0);
    assert_int_equal(env.dev->shared.bytes, WINDOW_BYTES);
    assert_ptr_equal(env.dev->shared.hva, &window);
    assert_false(env.fs->shown);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(eventfd_write(env.fs->window_events, 1), 0);
        pthread_mutex_lock(&env.fs->lock);
        while (env.fs->heeds < i)
            pthread_cond_wait(&env.fs->changed, &env.fs->lock);
        pthread_mutex_unlock(&env.fs->lock);
    }
    assert_true(virtio_mend(env.dev));
    assert_false(virtio_mend(env.dev));

    fake_free(env.fake);
    const struct fake_options options = {.dev = env.dev, .mem = &env.mem, .show_shared = true};
    assert_int_equal(fake_new(&env.fake, &options), 0);
    begin(&env);
    assert_true(env.fs->shown);
    close_env(&env);
}

static void every_queue_serves(void **state)
{
    struct env env;
    open_env(&env, 0);
    for (int round = 0; round < 100; round++)
        for (unsigned i = 0; i < QUEUES; i++)
            roundtrip(&env, i);
    uint16_t head;
    struct sent forget = send(&env, 0, SILENT);
    assert_int_equal(next_used(&env, 0, &head), 0);
    assert_int_equal(head, forget.head);
    close_env(&env);
}

/* More than a worker's share stands in the rings: all is served, once, whoever does it. */
static void full_rings_are_served(void **state)
{
    struct env env;
    open_env(&env, 0);
    uint64_t mark = env.arena.next_gpa;
    for (int round = 0; round < 50; round++) {
        struct sent sent[QUEUES][RING];
        env.arena.next_gpa = mark;
        for (unsigned i = 0; i < QUEUES; i++) {
            for (unsigned j = 0; j < RING; j++) {
                struct sent s = add(&env, i, ECHO);
                sent[i][s.head] = s;
            }
            publish(&env, i);
        }
        for (unsigned i = 0; i < QUEUES; i++) {
            for (unsigned j = 0; j < RING; j++) {
                uint16_t head;
                uint32_t written = next_used(&env, i, &head);
                assert_answer(&env, &sent[i][head], written, 0);
                sent[i][head].unique = 0; /* not twice */
            }
        }
    }
    close_env(&env);
}

static void a_batch_interrupts_once(void **state)
{
    struct env env;
    uint16_t head;
    open_env(&env, 0);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 8; i++)
            add(&env, 1, ECHO);
        driver_used_event(&env.rings[1], env.rings[1].last_used);
        publish(&env, 1);
        assert_true(fake_wait_interrupt(env.fake, 1, TIMEOUT_MS));
        assert_int_equal((uint16_t)(driver_used_idx(&env.rings[1]) - env.rings[1].last_used), 8);
        for (int i = 0; i < 8; i++)
            next_used(&env, 1, &head);
        assert_false(fake_wait_interrupt(env.fake, 1, 0));
    }
    close_env(&env);
}

static void a_chain_may_have_a_thousand_segments(void **state)
{
    struct env env;
    struct driver_buf bufs[RING_SIZE_MAX];
    struct sent sent = {.queue = 2};
    open_env(&env, 0);
    for (int opcode = ECHO; opcode <= WAIT; opcode++) {
        /* Cut into single bytes, with empty space behind. */
        uint64_t in = put_request(&env, (uint32_t)opcode, &sent);
        unsigned n = 0, in_bytes = sizeof(struct fuse_in_header) + DATA;
        for (unsigned i = 0; i < in_bytes; i++)
            bufs[n++] = (struct driver_buf){in + i, 1, false};
        for (unsigned i = 0; i < sizeof(struct fuse_out_header) + DATA; i++)
            bufs[n++] = (struct driver_buf){sent.out_gpa + i, 1, true};
        while (n < RING_SIZE_MAX - 1) /* the descriptor of the table counts as well */
            bufs[n++] = (struct driver_buf){driver_alloc(&env.arena, 16, 16), 16, true};
        sent.head = driver_add_indirect(&env.rings[2], bufs, n);
        assert_true(sent.head >= 0);
        set_gate(&env, true);
        publish(&env, 2);
        answered(&env, &sent, 0);
    }
    close_env(&env);
}

/* What waits is with workers, no more of them than were asked for, and the quick ones go past it. */
static void what_waits_holds_up_nobody(void **state)
{
    enum { WORKERS = 3, REQUESTS = 7 };
    struct env env;
    bool seen[RING] = {false};
    open_env(&env, WORKERS);
    for (unsigned round = 0; round < 10; round++) {
        struct sent sent[RING];
        set_gate(&env, false);
        for (int i = 0; i < REQUESTS; i++) {
            struct sent s = send(&env, 1, WAIT);
            sent[s.head] = s;
            seen[s.head] = false;
        }
        wait_until_waiting(&env, WORKERS);
        for (unsigned i = 0; i < QUEUES; i++)
            roundtrip(&env, i);
        set_gate(&env, true);
        for (int i = 0; i < REQUESTS; i++) {
            uint16_t head;
            uint32_t written = next_used(&env, 1, &head);
            assert_false(seen[head]);
            seen[head] = true;
            assert_answer(&env, &sent[head], written, 0);
        }
    }
    assert_int_equal(env.fs->most_waiting, WORKERS);
    assert_int_equal(env.fs->threads, 1 + WORKERS);
    close_env(&env);
}

static void without_workers_the_loop_serves(void **state)
{
    struct env env;
    open_env(&env, 0);
    env.fs->threads_max = 1;
    set_gate(&env, true);
    for (uint32_t opcode = WAIT; opcode <= SLOW; opcode++) {
        struct sent sent = send(&env, 1, opcode);
        answered(&env, &sent, 0);
    }
    close_env(&env);
}

/* A request that made the loop wait is followed by ones that workers serve. */
static void after_a_slow_one_the_loop_is_careful(void **state)
{
    struct env env;
    open_env(&env, 0);
    /* For a while only: on a busy host it may be over each time we look. */
    for (int i = 0; i < 1000 && !env.fs->slow_elsewhere; i++) {
        set_gate(&env, false);
        struct sent sent = send(&env, 1, SLOW);
        wait_until_waiting(&env, 1);
        for (uint64_t began = clock_ns(); clock_ns() < began + 2 * NS_PER_MS;)
            sched_yield();
        if (env.fs->slow_elsewhere)
            roundtrip(&env, 1);
        set_gate(&env, true);
        answered(&env, &sent, 0);
    }
    assert_true(env.fs->slow_elsewhere);
    close_env(&env);
}

static void an_unlock_wakes_who_waits(void **state)
{
    struct env env;
    open_env(&env, 0);
    for (int round = 0; round < 20; round++) {
        set_locked(&env, true);
        struct sent lock = send(&env, 1, LOCK);
        roundtrip(&env, 1);
        struct sent unlock = send(&env, 2, UNLOCK);
        answered(&env, &unlock, 0);
        answered(&env, &lock, 0);
    }
    close_env(&env);
}

/* Nobody tells us when a lock on the host is let go of. */
static void a_lock_is_asked_for_again(void **state)
{
    struct env env;
    open_env(&env, 0);
    set_locked(&env, true);
    struct sent lock = send(&env, 1, LOCK);
    wait_for_tries(&env, 3);
    roundtrip(&env, 1);
    set_locked(&env, false);
    answered(&env, &lock, 0);
    close_env(&env);
}

/* So that the unlock finds room in the ring. */
static void waiting_locks_leave_room(void **state)
{
    struct env env;
    struct sent locks[RING], sent;
    open_env(&env, 0);
    set_locked(&env, true);
    for (int i = 0; i < RING / 2; i++) {
        sent = send(&env, 1, LOCK);
        locks[sent.head] = sent;
        roundtrip(&env, 1); /* so that these are the ones that wait */
    }
    sent = send(&env, 1, LOCK);
    answered(&env, &sent, ENOLCK);
    sent = send(&env, 2, LOCK); /* another ring */
    roundtrip(&env, 2);
    set_locked(&env, false);
    answered(&env, &sent, 0);
    for (int i = 0; i < RING / 2; i++) { /* in any order */
        uint16_t head;
        uint32_t written = next_used(&env, 1, &head);
        assert_answer(&env, &locks[head], written, 0);
    }
    close_env(&env);
}

static void an_interrupt_ends_the_wait(void **state)
{
    struct env env;
    open_env(&env, 0);
    set_locked(&env, true);
    struct sent other = send(&env, 1, LOCK), lock = send(&env, 1, LOCK);
    roundtrip(&env, 1);

    struct {
        struct fuse_in_header header;
        struct fuse_interrupt_in interrupt;
    } in = {.header = {.len = sizeof(in), .opcode = FUSE_INTERRUPT, .unique = lock.unique | 1u << 31},
            .interrupt = {.unique = lock.unique}};
    uint64_t gpa = driver_alloc(&env.arena, sizeof(in) + 64, 8);
    memcpy(driver_hva(&env.arena, gpa, sizeof(in)), &in, sizeof(in));
    const struct driver_buf bufs[] = {{gpa, sizeof(in), false}, {gpa + sizeof(in), 64, true}};
    assert_true(driver_add(&env.rings[0], bufs, 2) >= 0);
    publish(&env, 0);
    answered(&env, &lock, EINTR);
    set_locked(&env, false);
    answered(&env, &other, 0);
    close_env(&env);
}

static bool is_active(struct virtio_device *dev)
{
    pthread_mutex_lock(&dev->lock);
    bool active = dev->active;
    pthread_mutex_unlock(&dev->lock);
    return active;
}

static void *reset_it(void *arg)
{
    fake_reset(arg);
    return NULL;
}

/* The server asserts that nobody is in it when it is reset. */
static void a_reset_waits_for_what_was_begun(void **state)
{
    enum { WORKERS = 2 };
    struct env env;
    open_env(&env, WORKERS);
    for (int round = 0; round < 10; round++) {
        pthread_t thread;
        unsigned resets = env.fs->resets;
        set_gate(&env, false);
        set_locked(&env, true);
        for (int i = 0; i < 5; i++) {
            send(&env, 1, WAIT);
            send(&env, 2, LOCK);
        }
        wait_until_waiting(&env, WORKERS);
        assert_int_equal(pthread_create(&thread, NULL, reset_it, env.fake), 0);
        while (is_active(env.dev))
            sched_yield();
        assert_int_equal(env.fs->resets, resets);
        set_gate(&env, true);
        pthread_join(thread, NULL);
        assert_int_equal(env.fs->resets, resets + 1);
        assert_int_equal(env.fs->waiting, 0);
        set_locked(&env, false);
        for (unsigned i = 0; i < QUEUES; i++)
            assert_false(fake_wait_interrupt(env.fake, i, 0));
        begin(&env);
        for (unsigned i = 0; i < QUEUES; i++)
            roundtrip(&env, i);
    }
    close_env(&env);
}

struct stop {
    struct env *env;
    uint16_t next;
};

static void *stop_queue(void *arg)
{
    struct stop *stop = arg;
    stop->next = virtio_queue_stop(stop->env->dev, 1);
    return NULL;
}

static bool is_draining(struct env *env)
{
    /* The parked one is answered first. */
    return driver_used_idx(&env->rings[1]) > 0;
}

/* As vhost-user's GET_VRING_BASE: what was taken comes back, the other queues go on. */
static void a_queue_is_drained(void **state)
{
    struct env env;
    pthread_t thread;
    open_env(&env, 0);
    set_locked(&env, true);
    struct sent lock = send(&env, 1, LOCK), wait = send(&env, 1, WAIT);
    struct sent elsewhere = send(&env, 2, LOCK);
    wait_until_waiting(&env, 1);
    roundtrip(&env, 2);
    struct stop stop = {.env = &env};
    assert_int_equal(pthread_create(&thread, NULL, stop_queue, &stop), 0);
    while (!is_draining(&env))
        sched_yield();
    roundtrip(&env, 3);
    set_gate(&env, true);
    pthread_join(thread, NULL);
    assert_int_equal(stop.next, 2);
    answered(&env, &lock, EINTR);
    answered(&env, &wait, 0);
    set_locked(&env, false);
    answered(&env, &elsewhere, 0);

    struct ring_setup again = env.rings[1].setup;
    again.next_avail = stop.next;
    assert_int_equal(virtio_queue_start(env.dev, 1, &env.mem, &again), 0);
    roundtrip(&env, 1);
    close_env(&env);
}

static void broken_requests_need_a_reset(void **state)
{
    struct env env;
    struct sent sent = {0};
    open_env(&env, 0);
    for (int i = 0; i < 5; i++) {
        uint64_t in = put_request(&env, ECHO, &sent);
        const struct driver_buf bufs[][2] = {
            {{in, sizeof(struct fuse_in_header) - 1, false}, {sent.out_gpa, 16, true}}, /* cut off */
            {{sent.out_gpa, 16, true}, {sent.out_gpa, 8, true}},                        /* nothing */
            {{in, sizeof(struct fuse_in_header) + DATA, false}, {in, 0, false}},        /* no room */
            {{in, sizeof(struct fuse_in_header) + DATA, false}, {sent.out_gpa, 15, true}},
            {{in, 0, false}, {sent.out_gpa, 0, true}},
        };
        unsigned queue = (unsigned)i % QUEUES;
        assert_true(driver_add(&env.rings[queue], bufs[i], 2) >= 0);
        publish(&env, queue);
        while (!(fake_status(env.fake) & VIRTIO_STATUS_NEEDS_RESET))
            assert_true(fake_wait_config(env.fake, TIMEOUT_MS));
        assert_int_equal(driver_used_idx(&env.rings[queue]), 0);
        fake_reset(env.fake);
        begin(&env);
        roundtrip(&env, 1);
        fake_reset(env.fake);
        begin(&env);
    }
    close_env(&env);
}

static void a_ring_that_never_empties_holds_up_nobody(void **state)
{
    struct env env;
    struct sent sent = {0};
    open_env(&env, 0);
    env.fs->threads_max = 1; /* the loop's */
    uint64_t in = put_request(&env, FEED, &sent);
    env.fs->food[0] = (struct driver_buf){in, sizeof(struct fuse_in_header) + DATA, false};
    env.fs->food[1] = (struct driver_buf){sent.out_gpa, sizeof(struct fuse_out_header) + DATA, true};
    env.fs->fed = &env.rings[1];
    pthread_mutex_lock(&env.fs->lock); /* the ring is the server's from here on */
    assert_true(driver_add(&env.rings[1], env.fs->food, 2) >= 0);
    publish(&env, 1);
    pthread_mutex_unlock(&env.fs->lock);
    for (int i = 0; i < 100; i++)
        for (unsigned queue = 0; queue < QUEUES; queue++)
            if (queue != 1)
                roundtrip(&env, queue);
    pthread_mutex_lock(&env.fs->lock);
    env.fs->fed = NULL;
    pthread_mutex_unlock(&env.fs->lock);
    close_env(&env);
}

static void no_more_is_reported_than_there_is_room(void **state)
{
    struct env env;
    uint16_t head;
    open_env(&env, 0);
    send(&env, 1, BOAST);
    assert_int_equal(next_used(&env, 1, &head), sizeof(struct fuse_out_header) + DATA);
    close_env(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(the_server_learns_who_sees_its_window),
        cmocka_unit_test(every_queue_serves),
        cmocka_unit_test(full_rings_are_served),
        cmocka_unit_test(a_batch_interrupts_once),
        cmocka_unit_test(a_chain_may_have_a_thousand_segments),
        cmocka_unit_test(what_waits_holds_up_nobody),
        cmocka_unit_test(without_workers_the_loop_serves),
        cmocka_unit_test(after_a_slow_one_the_loop_is_careful),
        cmocka_unit_test(an_unlock_wakes_who_waits),
        cmocka_unit_test(a_lock_is_asked_for_again),
        cmocka_unit_test(waiting_locks_leave_room),
        cmocka_unit_test(an_interrupt_ends_the_wait),
        cmocka_unit_test(a_reset_waits_for_what_was_begun),
        cmocka_unit_test(a_queue_is_drained),
        cmocka_unit_test(broken_requests_need_a_reset),
        cmocka_unit_test(a_ring_that_never_empties_holds_up_nobody),
        cmocka_unit_test(no_more_is_reported_than_there_is_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
