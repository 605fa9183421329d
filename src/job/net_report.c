/* SPDX-License-Identifier: Apache-2.0 */
/* A job's network in its report. */
#include "job/net.h"

/* The addresses that a name was answered with. */
static json_t *addresses_json(const struct dayfly_net_report *report, const char *name)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->address_count; i++)
        if (report->addresses[i].name == name && report->addresses[i].open)
            json_array_append_new(list, json_string(report->addresses[i].address));
    return list;
}

static json_t *names_json(const struct dayfly_net_report *report)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->name_count; i++) {
        const struct dayfly_net_name *n = &report->names[i];
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:o}", "name", n->name, "asked",
                                              (json_int_t)n->asked, "refused", (json_int_t)n->refused,
                                              "opened", addresses_json(report, n->name)));
    }
    return list;
}

static json_t *refused_json(const struct dayfly_net_report *report)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->refusal_count; i++) {
        const struct dayfly_net_refusal *r = &report->refusals[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:i, s:s, s:I}", "protocol", r->protocol,
                                              "address", r->address, "port", (int)r->port, "reason",
                                              r->reason, "packets", (json_int_t)r->packets));
    }
    return list;
}

static json_t *texts_json(const char *const *texts)
{
    json_t *list = json_array();
    for (; *texts; texts++)
        json_array_append_new(list, json_string(*texts));
    return list;
}

static json_t *nat_json(const struct job_net *net, const struct dayfly_net_report *report)
{
    json_t *unlisted = json_pack("{s:I, s:I, s:I}", "names", (json_int_t)report->names_unlisted,
                                 "addresses", (json_int_t)report->addresses_unlisted, "refused",
                                 (json_int_t)report->refusals_unlisted);
    return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "mode", "nat",
                     "ipv6", report->guest6 != NULL, "allow", texts_json(net->allow), "publish",
                     texts_json(net->publish), "names", names_json(report), "refused",
                     refused_json(report), "unlisted", unlisted, "packets_refused",
                     (json_int_t)report->packets_refused, "frames_invalid",
                     (json_int_t)report->frames_invalid, "names_unanswered",
                     (json_int_t)report->names_unanswered, "bytes_sent", (json_int_t)report->bytes_sent,
                     "bytes_received", (json_int_t)report->bytes_received);
}

static json_t *hosts_json(const struct dayfly_net_report *report)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->host_count; i++) {
        const struct dayfly_net_host *h = &report->hosts[i];
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "name", h->name, "requests",
                                        (json_int_t)h->requests, "replaced", (json_int_t)h->replaced,
                                        "masked", (json_int_t)h->masked, "refused",
                                        (json_int_t)h->refused, "failed", (json_int_t)h->failed));
    }
    return list;
}

json_t *job_net_report(const struct job_net *net, const struct dayfly_net_report *nat)
{
    if (!net || !net->present)
        return json_pack("{s:s}", "mode", "none");
    if (net->mode != DAYFLY_NET_NAT)
        return json_pack("{s:s}", "mode", config_net_words[net->mode]);
    json_t *json = nat ? nat_json(net, nat) : NULL;
    if (json && nat->authority)
        json_object_set_new(json, "secret_hosts", hosts_json(nat));
    return json;
}
