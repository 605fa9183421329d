/* SPDX-License-Identifier: Apache-2.0 */
/* What --net says, and what machine and agent are told. */
#include "job/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/arith.h"
#include "util/mac.h"
#include "util/testing.h"

/* As the option --net alone. */
static int parse(const char *word, struct job_net *net, struct dayfly_err *err)
{
    const struct job_net_words words = {.net = word};
    return job_net_parse(&words, net, err);
}

static void none_is_nothing(void **state)
{
    struct proto_setup *setup = calloc(1, sizeof(*setup));
    struct dayfly_config *config;
    struct job_net net;
    struct dayfly_err err;
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(parse("none", &net, &err), 0);
    assert_false(net.present);
    assert_int_equal(job_net_describe(&net, NULL, 0, config), 0);
    assert_int_equal(job_net_setup(&net, NULL, setup, &err), 0);
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
    assert_int_equal(parse(word, &net, &err), 0);
    assert_string_equal(net.options, strchr(word, ',') + 1);
    assert_int_equal(job_net_describe(&net, NULL, 0, config), 0);
    assert_int_equal(config->networks[0].mode, DAYFLY_NET_TAP);
    assert_string_equal(config->networks[0].interface, "tap0");
    assert_string_equal(config->networks[0].mac, "02:00:00:00:00:01");
    assert_int_equal(config->networks[0].mtu, 9000);
    assert_int_equal(job_net_setup(&net, NULL, setup, &err), 0);
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
    assert_int_equal(parse("socket:/run/a:b.sock", &a, &err), 0);
    assert_int_equal(parse("socket:/run/a:b.sock", &b, &err), 0);
    assert_string_equal(a.cable, "/run/a:b.sock");
    assert_int_equal(a.mode, DAYFLY_NET_SOCKET);
    assert_true(mac_is_one(a.guest.mac));
    assert_memory_not_equal(a.guest.mac, b.guest.mac, sizeof(a.guest.mac));
}

static void a_network_of_its_own(void **state)
{
    static const char *const allow[] = {"example.org", "198.51.100.0/24:443"};
    static const char *const publish[] = {"8080:80"};
    const struct job_net_words words = {
        .allow = allow, .allow_count = 2, .publish = publish, .publish_count = 1};
    struct dayfly_config *config;
    struct job_net net, again;
    struct dayfly_err err;
    assert_int_equal(job_net_parse(&words, &net, &err), 0);
    assert_true(net.present);
    assert_int_equal(net.mode, DAYFLY_NET_NAT);
    assert_int_equal(dayfly_config_new(&config), 0);
    assert_int_equal(job_net_describe(&net, NULL, 0, config), 0);
    assert_int_equal(config->networks[0].mode, DAYFLY_NET_NAT);
    assert_int_equal(config->networks[0].allow_count, 2);
    assert_string_equal(config->networks[0].allow[1].text, allow[1]);
    assert_int_equal(config->networks[0].publish_count, 1);
    assert_string_equal(config->networks[0].publish[0].text, publish[0]);
    dayfly_config_free(config);
    /* Two jobs have the same address: it is a part of what they start from. */
    assert_int_equal(parse("nat,mtu=1500", &again, &err), 0);
    assert_memory_equal(net.guest.mac, again.guest.mac, sizeof(net.guest.mac));
    assert_int_equal(again.guest.mtu, 1500);
}

static void rules_that_are_refused(void **state)
{
    static const char *const text[] = {"no such name!"}, *const rule[] = {"example.org"};
    const struct {
        struct job_net_words words;
        const char *says;
    } cases[] = {
        {{.allow = text, .allow_count = 1}, "--allow: "},
        {{.publish = text, .publish_count = 1}, "--publish: "},
        {{.net = "none", .allow = rule, .allow_count = 1}, "--allow counts"},
        {{.net = "tap:t", .publish = rule, .publish_count = 1}, "--publish counts"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct job_net net;
        struct dayfly_err err = {0};
        assert_int_equal(job_net_parse(&cases[i].words, &net, &err), -EINVAL);
        assert_int_equal(strncmp(err.msg, cases[i].says, strlen(cases[i].says)), 0);
    }
}

static void what_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "tap",
        "tap:",
        "tap:,mtu=1500",
        "nat:x",
        "nat,",
        "nat,address=10.0.2.15/24",
        "natural",
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
        assert_true(parse(bad[i], &net, &err) < 0);
        assert_int_equal(strncmp(err.msg, "--net ", 6), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_is_nothing),
        cmocka_unit_test(all_of_it),
        cmocka_unit_test(an_address_that_nobody_said),
        cmocka_unit_test(a_network_of_its_own),
        cmocka_unit_test(rules_that_are_refused),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
