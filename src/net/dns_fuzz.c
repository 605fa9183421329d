/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DNS in both directions, and the texts that people write. The first byte chooses: a guest's query, a
 * server's answer to a question about www.example.org (type in the next byte), or a text.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "net/dns.h"
#include "net/resolv_conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void query(const uint8_t *data, size_t size)
{
    struct dns_query q, again;
    uint8_t message[DNS_QUERY_BYTES];
    int code = dns_parse_query(data, size, &q);
    if (code < 0)
        return;
    assert(strlen(q.name) < NET_NAME_BYTES - 1 && q.wire_bytes <= DNS_WIRE_NAME_MAX);
    size_t len = dns_make_error(&q, DNS_NXDOMAIN, true, message);
    assert(len <= sizeof(message));
    if (code != DNS_NOERROR)
        return;
    len = dns_make_query(&q, 99, message);
    assert(len <= sizeof(message));
    assert(dns_parse_query(message, len, &again) == DNS_NOERROR);
    assert(again.id == 99 && again.type == q.type && strcmp(again.name, q.name) == 0);
}

static void answer(uint8_t *data, size_t size)
{
    static const char name[] = "\3www\7example\3org";
    struct dns_query q = {.class = 1, .wire_bytes = sizeof(name)};
    struct dns_answer a;
    if (size < 3)
        return;
    memcpy(q.wire, name, sizeof(name));
    q.type = data[0];
    data[1] = data[2] = 0; /* the id */
    if (dns_parse_answer(data + 1, size - 1, &q, 0, &a))
        for (unsigned i = 0; i < a.count; i++)
            assert(i < DNS_ADDRS_MAX && a.addrs[i].ttl_s <= INT32_MAX);
}

static void text(char *data)
{
    struct sockaddr_storage servers[3];
    struct net_rule rule;
    struct net_publish publish;
    struct dayfly_err err;
    if (net_rule_parse(data, &rule, &err) == 0) {
        assert(rule.bits <= 128 && strlen(rule.name) <= 253);
        net_rule_covers_name(&rule, "www.example.org");
    }
    if (net_publish_parse(data, &publish, &err) == 0)
        assert(publish.host_port && publish.guest_port);
    assert(resolv_conf_parse(data, servers, 3) <= 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint8_t *copy = malloc(size); /* without the first byte, with a NUL */
    memcpy(copy, data + 1, size - 1);
    copy[size - 1] = '\0';
    if (data[0] % 3 == 0)
        query(copy, size - 1);
    else if (data[0] % 3 == 1)
        answer(copy, size - 1);
    else
        text((char *)copy);
    free(copy);
    return 0;
}
