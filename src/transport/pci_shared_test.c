/* SPDX-License-Identifier: Apache-2.0 */
/* A device's shared memory over PCI: the capability, the BAR, and what the hypervisor is asked for. */
#include "util/testing.h"

#include <errno.h>
#include <string.h>

#include "transport/pci.h"

#define LOW    UINT64_C(0xd0000000)
#define HIGH   UINT64_C(0x200000000)
#define WINDOW UINT64_C(0x100000000) /* 4 GiB: more than 32 bits of length */
#define DEVICE (UINT64_C(1) << 15)   /* device 1, function 0 in the ECAM */

struct env {
    struct bus mmio;
    struct pci_host host;
    struct virtio_pci pci;
    struct virtio_device dev;
    struct loop *loop;
    struct hypervisor hv;

    uint64_t shown_at; /* 0: nowhere */
    unsigned shows;
    int refusal;
};

static char window; /* nobody looks at it */

static int show_memory(void *opaque, uint64_t gpa, void *hva, uint64_t bytes, bool on)
{
    struct env *env = opaque;
    assert_ptr_equal(hva, &window);
    assert_int_equal(bytes, WINDOW);
    assert_int_equal(env->shown_at, on ? 0 : gpa);
    if (on && env->refusal)
        return env->refusal;
    env->shown_at = on ? gpa : 0;
    env->shows += on;
    return 0;
}

static const struct hypervisor_ops can = {.show_memory = show_memory};
static const struct hypervisor_ops cannot = {0};

static bool mend(struct virtio_device *dev)
{
    return dev->shared_shown;
}

static void reset(struct virtio_device *dev)
{
}

static void make(struct env *env, const struct hypervisor_ops *hv)
{
    static const struct virtio_ops ops = {
        .name = "test", .id = VIRTIO_ID_FS, .reset = reset, .mend = mend};
    const struct pci_window windows[2] = {{LOW, 0x100000}, {HIGH, 2 * WINDOW}};
    memset(env, 0, sizeof(*env));
    env->hv = (struct hypervisor){.ops = hv, .opaque = env};
    bus_init(&env->mmio);
    pci_host_init(&env->host, &env->mmio, windows, NULL);
    assert_int_equal(loop_new(&env->loop), 0);
    assert_int_equal(loop_start(env->loop, "test"), 0);
    virtio_init(&env->dev, &(struct virtio_init){.ops = &ops,
                                                 .queue_count = 1,
                                                 .queue_size = 8,
                                                 .shared = {.id = 5, .bytes = WINDOW, .hva = &window},
                                                 .loop = env->loop});
    assert_int_equal(virtio_pci_init(&env->pci, &env->dev, NULL, &env->hv, NULL), 0);
}

static void unmake(struct env *env)
{
    pci_host_finish(&env->host);
    assert_int_equal(env->shown_at, 0);
    virtio_pci_finish(&env->pci);
    assert_false(env->dev.shared_shown);
    virtio_finish(&env->dev);
    loop_free(env->loop);
    bus_finish(&env->mmio);
}

static uint32_t get(struct env *env, unsigned reg, unsigned len)
{
    uint32_t v = 0;
    pci_host_ecam_ops.read(&env->host, DEVICE + reg, &v, len);
    return v;
}

static void put(struct env *env, unsigned reg, unsigned len, uint32_t v)
{
    pci_host_ecam_ops.write(&env->host, DEVICE + reg, &v, len);
}

/* The capability of shared memory; 0: none. */
static unsigned find(struct env *env)
{
    unsigned at = get(env, 0x34, 1);
    while (at && (get(env, at, 1) != 0x09 || get(env, at + 3, 1) != 8))
        at = get(env, at + 1, 1);
    return at;
}

static void the_capability_says_where_it_is(void **state)
{
    struct env env;
    make(&env, &can);
    assert_false(env.dev.shared_shown);
    assert_true(virtio_pci_show_shared(&env.pci));
    assert_true(env.dev.shared_shown);
    assert_int_equal(pci_host_add(&env.host, &env.pci.fn, NULL), 0);
    unsigned at = find(&env);
    assert_int_not_equal(at, 0);
    assert_int_equal(get(&env, at + 2, 1), 24); /* struct virtio_pci_cap64 */
    assert_int_equal(get(&env, at + 4, 1), 2);  /* BAR */
    assert_int_equal(get(&env, at + 5, 1), 5);  /* id */
    assert_int_equal(get(&env, at + 8, 4), 0);
    assert_int_equal(get(&env, at + 16, 4), 0);
    assert_int_equal(get(&env, at + 12, 4), 0);
    assert_int_equal(get(&env, at + 20, 4), 1);
    put(&env, 0x18, 4, UINT32_MAX);
    put(&env, 0x1c, 4, UINT32_MAX);
    assert_int_equal(get(&env, 0x18, 4), 0xc);
    assert_int_equal(get(&env, 0x1c, 4), UINT32_MAX);
    unmake(&env);
}

static void it_follows_its_bar(void **state)
{
    struct env env;
    make(&env, &can);
    assert_true(virtio_pci_show_shared(&env.pci));
    assert_int_equal(pci_host_add(&env.host, &env.pci.fn, NULL), 0);
    assert_int_equal(env.shown_at, 0);
    put(&env, 4, 2, 2);
    assert_int_equal(env.shown_at, HIGH);
    put(&env, 0x1c, 4, (uint32_t)((HIGH + WINDOW) >> 32));
    assert_int_equal(env.shown_at, HIGH + WINDOW);
    assert_int_equal(env.shows, 2);
    put(&env, 0x1c, 4, 0); /* where RAM may be */
    assert_int_equal(env.shown_at, 0);
    put(&env, 0x1c, 4, (uint32_t)(HIGH >> 32));
    put(&env, 4, 2, 0);
    assert_int_equal(env.shown_at, 0);
    put(&env, 4, 2, 2);
    assert_int_equal(env.shown_at, HIGH);
    assert_true(virtio_mend(&env.dev));
    unmake(&env);
}

static void a_refusal_is_survived(void **state)
{
    struct env env;
    make(&env, &can);
    env.refusal = -ENOSPC;
    assert_true(virtio_pci_show_shared(&env.pci));
    assert_int_equal(pci_host_add(&env.host, &env.pci.fn, NULL), 0);
    put(&env, 4, 2, 2);
    uint8_t byte = 0;
    assert_true(bus_read(&env.mmio, HIGH, &byte, 1));
    assert_int_equal(byte, 0xff);
    put(&env, 4, 2, 0); /* nothing to take away */
    env.refusal = 0;
    put(&env, 4, 2, 2);
    assert_int_equal(env.shown_at, HIGH);
    unmake(&env);
}

static void without_the_means_there_is_none(void **state)
{
    struct env env;
    make(&env, &cannot);
    assert_false(virtio_pci_show_shared(&env.pci));
    assert_false(env.dev.shared_shown);
    assert_int_equal(pci_host_add(&env.host, &env.pci.fn, NULL), 0);
    assert_int_equal(find(&env), 0);
    put(&env, 0x18, 4, UINT32_MAX);
    assert_int_equal(get(&env, 0x18, 4), 0);
    unmake(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_capability_says_where_it_is),
        cmocka_unit_test(it_follows_its_bar),
        cmocka_unit_test(a_refusal_is_survived),
        cmocka_unit_test(without_the_means_there_is_none),
    };
    return cmocka_run_group_tests_name("transport-pci-shared", tests, NULL, NULL);
}
