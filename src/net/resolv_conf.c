/* SPDX-License-Identifier: Apache-2.0 */
#include "net/resolv_conf.h"

#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "net/addr.h"
#include "util/cleanup.h"
#include "util/io.h"

#define PORT           53
#define FILE_BYTES_MAX 65536

/* ADDRESS or ADDRESS%LINK */
static bool parse_server(char *text, struct sockaddr_storage *out)
{
    struct net_addr addr;
    char *link = strchr(text, '%');
    unsigned scope = 0;
    if (link) {
        *link++ = '\0';
        scope = if_nametoindex(link);
        if (!scope)
            scope = (unsigned)strtoul(link, NULL, 10);
    }
    if (!net_addr_parse(text, &addr))
        return false;
    net_addr_sockaddr(&addr, PORT, out);
    if (out->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)out)->sin6_scope_id = scope;
    return true;
}

unsigned resolv_conf_parse(char *text, struct sockaddr_storage *out, unsigned max)
{
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    unsigned count = 0;
    char *line, *rest = text;
    while (count < max && (line = strsep(&rest, "\n"))) {
        const char *blank = " \t\r";
        char *word = strtok_r(line, blank, &line);
        if (!word || strcmp(word, "nameserver") != 0)
            continue;
        word = strtok_r(NULL, blank, &line);
        if (word && parse_server(word, &out[count]))
            count++;
    }
    if (count == 0 && max) {
        const struct net_addr own = net_addr_v4(loopback);
        net_addr_sockaddr(&own, PORT, &out[count++]);
    }
    return count;
}

unsigned resolv_conf_read(const char *path, struct sockaddr_storage *out, unsigned max)
{
    _cleanup_free_ char *text = NULL;
    char none[] = "";
    size_t len;
    if (io_read_file(AT_FDCWD, path, FILE_BYTES_MAX, &text, &len) < 0)
        return resolv_conf_parse(none, out, max);
    return resolv_conf_parse(text, out, max);
}
