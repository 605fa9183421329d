/* SPDX-License-Identifier: Apache-2.0 */
/* What --net says, and what machine and agent are told. */
#include "job/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/mac.h"
#include "util/testing.h"

static void none_is_nothing(void **state)
{
    struct proto_setup *setup = calloc(1, sizeof(*setup));
    struct dayfly_config *config;
    struct job_net net;
    struct dayfly_err err;
    assert_int_equal(dayfly_config_new(&config), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(job_net_parse(i ? "none" : NULL, &net, &err), 0);
        assert_false(net.present);
        assert_int_equal(job_net_describe(&net, config), 0);
        job_net_setup(&net, setup);
    }
    assert_int_equal(config->network_count, 0);
    assert_int_equal(setup->net_count, 0);
    dayfly_config_free(config);
    free(setup);
}

static void all_of_it(void **state)
{
    const char *word =
        "tap:tap0,address=10.0.0.2/24,address=fd00::2/64,gateway=fd00::1,gateway=10.0.0.1,"
        "dns=10.0.0.1,search=a.example,search=b.example,mtu=9000,mac=02:00:00:00:00:01";
    const uint8_t mac[] = {2, 0, 0, 0, 0, 1}, ip[] = {10, 0, 0, 2}, gateway[] = {10, 0, 0, 1};
    struct proto_setup *setup = calloc(1, sizeof(*setup));
    struct dayfly_config *config;
    struct job_net net;
    struct dayfly_err err;
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(job_net_parse(word, &net, &err), 0);
    assert_string_equal(net.options, strchr(word, ',') + 1);
    assert_int_equal(job_net_describe(&net, config), 0);
    assert_int_equal(config->networks[0].mode, DAYFLY_NET_TAP);
    assert_string_equal(config->networks[0].interface, "tap0");
    assert_string_equal(config->networks[0].mac, "02:00:00:00:00:01");
    assert_int_equal(config->networks[0].mtu, 9000);
    job_net_setup(&net, setup);
    const struct proto_net *n = &setup->nets[0];
    assert_int_equal(setup->net_count, 1);
    assert_memory_equal(n->mac, mac, sizeof(mac));
    assert_int_equal(n->address_count, 2);
    assert_int_equal(n->addresses[0].prefix, 24);
    assert_memory_equal(n->addresses[0].bytes, ip, sizeof(ip));
    assert_int_equal(n->addresses[1].family, 6);
    assert_int_equal(n->gateway_count, 2);
    assert_memory_equal(n->gateways[1].bytes, gateway, sizeof(gateway));
    assert_int_equal(setup->server_count, 1);
    assert_string_equal(setup->search, "a.example b.example");
    dayfly_config_free(config);
    free(setup);
}

static void an_address_that_nobody_said(void **state)
{
    struct job_net a, b;
    struct dayfly_err err;
    assert_int_equal(job_net_parse("socket:/run/a:b.sock", &a, &err), 0);
    assert_int_equal(job_net_parse("socket:/run/a:b.sock", &b, &err), 0);
    assert_string_equal(a.cable, "/run/a:b.sock");
    assert_int_equal(a.mode, DAYFLY_NET_SOCKET);
    assert_true(mac_is_one(a.guest.mac));
    assert_memory_not_equal(a.guest.mac, b.guest.mac, sizeof(a.guest.mac));
}

static void what_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "tap",
        "tap:",
        "tap:,mtu=1500",
        "nat:x",
        "bridge:br0",
        "tap:t,",
        "tap:t,what=1",
        "tap:t,address=10.0.0.2",
        "tap:t,address=10.0.0.2/33",
        "tap:t,address=10.0.0/24",
        "tap:t,address=fd00::2/129",
        "tap:t,address=/24",
        "tap:t,gateway=10.0.0.1/24",
        "tap:t,gateway=10.0.0.1,gateway=10.0.0.2",
        "tap:t,dns=name",
        "tap:t,dns=1.1.1.1,dns=1.1.1.1,dns=1.1.1.1,dns=1.1.1.1",
        "tap:t,search=",
        "tap:t,search=a b",
        "tap:t,mtu=67",
        "tap:t,mtu=65536",
        "tap:t,mac=01:00:00:00:00:01",
        "tap:t,mac=1",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct job_net net;
        struct dayfly_err err = {0};
        assert_true(job_net_parse(bad[i], &net, &err) < 0);
        assert_int_equal(strncmp(err.msg, "--net ", 6), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_is_nothing),
        cmocka_unit_test(all_of_it),
        cmocka_unit_test(an_address_that_nobody_said),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
