/* SPDX-License-Identifier: Apache-2.0 */
#include "net/rule.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "net/resolv_conf.h"
#include "util/arith.h"
#include "util/testing.h"

static void test_rules(void **state)
{
    static const struct {
        const char *text;
        enum net_rule_kind kind;
        uint16_t port;
        uint8_t bits;
        const char *name;
    } rows[] = {
        {"example.org", NET_RULE_NAME, 0, 0, "example.org"},
        {"Example.ORG.:443", NET_RULE_NAME, 443, 0, "example.org"},
        {"*.example.org", NET_RULE_BELOW, 0, 0, "example.org"},
        {"localhost", NET_RULE_NAME, 0, 0, "localhost"},
        {"_srv.x-1.example", NET_RULE_NAME, 0, 0, "_srv.x-1.example"},
        {"10.0.0.0/8", NET_RULE_NETWORK, 0, 104, ""},
        {"10.1.2.3", NET_RULE_NETWORK, 0, 128, ""},
        {"10.1.2.3:65535", NET_RULE_NETWORK, 65535, 128, ""},
        {"0.0.0.0/0:443", NET_RULE_NETWORK, 443, 96, ""},
        {"2001:db8::/32", NET_RULE_NETWORK, 0, 32, ""},
        {"[2001:db8::/32]:443", NET_RULE_NETWORK, 443, 32, ""},
        {"[::1]", NET_RULE_NETWORK, 0, 128, ""},
        {"::/0", NET_RULE_NETWORK, 0, 0, ""},
        {"host:22", NET_RULE_HOST, 22, 0, ""},
        {"*", NET_RULE_ANY, 0, 0, ""},
        {"*:443", NET_RULE_ANY, 443, 0, ""},
    };
    struct net_rule rule;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(net_rule_parse(rows[i].text, &rule, NULL), 0);
        assert_int_equal(rule.kind, rows[i].kind);
        assert_int_equal(rule.port, rows[i].port);
        assert_int_equal(rule.bits, rows[i].bits);
        assert_string_equal(rule.name, rows[i].name);
    }
}

static void test_what_is_no_rule(void **state)
{
    static const char *const texts[] = {"",
                                        ".",
                                        "a..b",
                                        "-.:x",
                                        "example.org:",
                                        "example.org:0",
                                        "a b",
                                        "a:65536",
                                        "10.0.0.1/8",
                                        "10.0.0.0/33",
                                        "300.1.1.1",
                                        "1.2.3",
                                        "1.2.3.4.5",
                                        "host",
                                        "[::1",
                                        "[::1]x",
                                        "::ffff:1.2.3.4",
                                        "2001:db8::/129",
                                        "*.",
                                        "*.*.org",
                                        "x.*",
                                        "ex\xc3\xa4mple.org",
                                        "10.0.0.0/",
                                        "10.0.0.0/8:0",
                                        "*.1.2.3.4",
                                        "example.123"};
    char label[80];
    struct net_rule rule;
    struct dayfly_err err;
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        print_message("'%s'\n", texts[i]);
        assert_int_equal(net_rule_parse(texts[i], &rule, &err), -EINVAL);
        assert_non_null(strstr(err.msg, texts[i]));
    }
    memset(label, 'a', 64);
    label[64] = '\0';
    assert_int_equal(net_rule_parse(label, &rule, &err), -EINVAL);
    label[63] = '\0';
    assert_int_equal(net_rule_parse(label, &rule, &err), 0);
}

static void test_ports_to_publish(void **state)
{
    char text[NET_ENDPOINT_TEXT_BYTES];
    struct net_publish p;
    assert_int_equal(net_publish_parse("8080:80", &p, NULL), 0);
    net_endpoint_text(&p.host, p.host_port, text);
    assert_string_equal(text, "127.0.0.1:8080");
    assert_int_equal(p.guest_port, 80);
    assert_false(p.udp);
    assert_int_equal(net_publish_parse("[::1]:8080:80/udp", &p, NULL), 0);
    net_endpoint_text(&p.host, p.host_port, text);
    assert_string_equal(text, "[::1]:8080");
    assert_true(p.udp);
    assert_int_equal(net_publish_parse("0.0.0.0:1:2/tcp", &p, NULL), 0);
    static const char *const wrong[] = {"",      "80",       "80:",       ":80",    "a:80",
                                        "0:80",  "80:0",     "1:2:3",     "1:2/x",  "1.2.3.4:80",
                                        "[:1:2", "[]:80:80", "1.2.3:1:2", "80:80/", "70000:80"};
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        print_message("'%s'\n", wrong[i]);
        assert_int_equal(net_publish_parse(wrong[i], &p, NULL), -EINVAL);
    }
}

static void test_resolv_conf(void **state)
{
    struct sockaddr_storage servers[3];
    char text[] =
        "# nameserver 192.0.2.9\nsearch example.org\n nameserver\t192.0.2.1 \r\nnameserver\n"
        "nameserver nonsense\nnameserver 2001:db8::1\nnameserver fe80::1%lo\nnameserver 192.0.2.2";
    assert_int_equal(resolv_conf_parse(text, servers, 3), 3);
    assert_int_equal(servers[0].ss_family, AF_INET);
    assert_int_equal(((struct sockaddr_in *)&servers[0])->sin_port, htons(53));
    assert_int_equal(servers[1].ss_family, AF_INET6);
    assert_int_equal(((struct sockaddr_in6 *)&servers[2])->sin6_scope_id, 1);
    char none[] = "search example.org\n";
    assert_int_equal(resolv_conf_parse(none, servers, 3), 1);
    assert_int_equal(((struct sockaddr_in *)&servers[0])->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(resolv_conf_read("/nonexistent", servers, 3), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_what_is_no_rule),
        cmocka_unit_test(test_ports_to_publish),
        cmocka_unit_test(test_resolv_conf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
