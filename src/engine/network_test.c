/* SPDX-License-Identifier: Apache-2.0 */
/* From a description's network to its back end and its report. What the NAT itself does is the business
 * of src/net's tests. */
#include "engine/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/net_report.h"
#include "util/testing.h"

static const struct log silent = {0};

static void test_a_nat_and_its_report(void **state)
{
    (void)state;
    struct config_text allow[] = {{.text = (char[]){"example.org:443"}}};
    const struct config_network config = {.allow = allow, .allow_count = 1, .fd = -1, .mtu = 9000};
    struct dayfly_net_report *report;
    uint8_t mac[MAC_BYTES];
    struct network *network;
    struct dayfly_err err;
    struct loop *loop;
    struct net *net;
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(network_open(&network, &net, &config, 2, mac, loop, &silent, &err), 0);
    assert_int_equal(net->mtu, 9000);
    assert_true(mac_is_one(mac));
    assert_int_equal(net_report_make(network_nat(network), network_border(network), &report), 0);
    assert_int_equal(report->size, sizeof(*report));
    assert_string_equal(report->guest4, "10.0.2.15/24");
    assert_string_equal(report->gateway4, "10.0.2.2");
    assert_string_equal(report->resolver4, "10.0.2.3");
    assert_true((report->guest6 == NULL) == (report->gateway6 == NULL));
    assert_int_equal(report->mtu, 9000);
    assert_int_equal(report->name_count + report->address_count + report->refusal_count, 0);
    dayfly_net_report_free(report);
    net_destroy(net);
    network_close(network);
    loop_free(loop);
}

/* A copy of the values goes to the border; placeholders and authority come back. */
static void test_secrets(void **state)
{
    (void)state;
    static const char *const hosts[] = {"API.example.org", "www.example.org", NULL};
    struct dayfly_net_secret secrets[2] = {DAYFLY_NET_SECRET_INIT, DAYFLY_NET_SECRET_INIT};
    struct dayfly_net options = DAYFLY_NET_INIT;
    struct dayfly_config *description;
    struct dayfly_net_report *report;
    uint8_t mac[MAC_BYTES];
    char value[] = "value-of-a-token";
    struct network *network;
    struct dayfly_err err = {0};
    struct loop *loop;
    struct net *net;
    assert_int_equal(dayfly_config_new(&description), 0);
    for (int i = 0; i < 2; i++) {
        secrets[i].name = i ? "TWO" : "ONE";
        secrets[i].value = value;
        secrets[i].value_bytes = strlen(value);
        secrets[i].hosts = hosts + i;
    }
    options.secrets = secrets;
    options.secret_count = 2;
    assert_int_equal(dayfly_config_add_net(description, &options), 0);
    memset(value, 0, sizeof(value));
    assert_int_equal(loop_new(&loop), 0);
    const struct config_network *config = &description->networks[0];
    if (network_open(&network, &net, config, 1, mac, loop, &silent, &err) < 0 && err.code == ENOENT)
        skip(); /* a host without certificates to trust */
    assert_int_equal(err.code, 0);
    dayfly_config_free(description);
    assert_int_equal(net_report_make(network_nat(network), network_border(network), &report), 0);
    assert_int_equal(strncmp(report->authority, "-----BEGIN CERTIFICATE-----", 27), 0);
    assert_int_equal(report->secret_count, 2);
    assert_string_equal(report->secrets[1].name, "TWO");
    assert_int_equal(strncmp(report->secrets[1].placeholder, "dayfly-secret-", 14), 0);
    assert_string_not_equal(report->secrets[0].placeholder, report->secrets[1].placeholder);
    assert_int_equal(report->host_count, 2);
    assert_string_equal(report->hosts[0].name, "api.example.org");
    assert_int_equal(report->hosts[0].requests, 0);
    dayfly_net_report_free(report);
    net_destroy(net);
    network_close(network);
    loop_free(loop);
}

static void test_a_port_in_use(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    char text[32];
    snprintf(text, sizeof(text), "%u:80", ntohs(address.sin_port));
    struct config_text publish[] = {{.text = text}};
    const struct config_network config = {.publish = publish, .publish_count = 1, .fd = -1};
    uint8_t mac[MAC_BYTES];
    struct network *network;
    struct dayfly_err err;
    struct loop *loop;
    struct net *net;
    assert_int_equal(loop_new(&loop), 0);
    assert_int_equal(network_open(&network, &net, &config, 1, mac, loop, &silent, &err), -EADDRINUSE);
    snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(address.sin_port));
    assert_non_null(strstr(err.msg, text));
    loop_free(loop);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_nat_and_its_report),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_a_port_in_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
