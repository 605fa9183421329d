/* SPDX-License-Identifier: Apache-2.0 */
#include "net/dns.h"

#include <ctype.h>
#include <string.h>

#include "util/arith.h"

#define HEADER_BYTES   12
#define LABEL_MAX      63
#define UDP_BYTES_MIN  512
#define UDP_BYTES_OURS 4096

#define FLAG_QR 0x8000
#define FLAG_AA 0x0400
#define FLAG_TC 0x0200
#define FLAG_RD 0x0100
#define FLAG_RA 0x0080
#define FLAG_AD 0x0020
#define FLAG_CD 0x0010
#define OPCODE  0x7800
#define RCODE   0x000f

#define TYPE_CNAME 5
#define TYPE_OPT   41
#define TYPE_IXFR  251
#define TYPE_AXFR  252
#define CLASS_IN   1
#define EDNS_DO    0x8000

/* Of one name: it has no more labels, and a pointer to a pointer says nothing. Without a bound the
 * thousands of names in a long message could each lead through thousands of pointers. */
#define POINTERS_MAX 127

/* An alias of an alias of ...; resolvers stop at about as many. */
#define CHAIN_MAX 16

struct reader {
    const uint8_t *message;
    size_t len, at;
};

struct name {
    uint8_t wire[DNS_WIRE_NAME_MAX];
    size_t bytes;
};

/* A resource record without its name. */
struct record {
    uint16_t type, class;
    uint32_t ttl;
    size_t data, data_len; /* in the message */
};

static bool read16(struct reader *r, uint16_t *out)
{
    if (r->len - r->at < 2)
        return false;
    *out = (uint16_t)(r->message[r->at] << 8 | r->message[r->at + 1]);
    r->at += 2;
    return true;
}

static bool read32(struct reader *r, uint32_t *out)
{
    uint16_t high, low;
    if (!read16(r, &high) || !read16(r, &low))
        return false;
    *out = (uint32_t)high << 16 | low;
    return true;
}

static bool append_label(struct name *name, const uint8_t *label, size_t len)
{
    if (name->bytes + 1 + len + 1 > sizeof(name->wire)) /* the root's byte must still fit */
        return false;
    name->wire[name->bytes++] = (uint8_t)len;
    memcpy(name->wire + name->bytes, label, len);
    name->bytes += len;
    return true;
}

/* The name at r->at, which moves behind it. */
static bool read_name(struct reader *r, struct name *out)
{
    size_t at = r->at, start = r->at, behind = 0;
    unsigned pointers = 0;
    out->bytes = 0;
    for (;;) {
        if (at >= r->len)
            return false;
        size_t length = r->message[at];
        if (length >= 0xc0) {
            if (r->len - at < 2)
                return false;
            size_t target = (length & 0x3f) << 8 | r->message[at + 1];
            if (target >= start || target < HEADER_BYTES || ++pointers > POINTERS_MAX)
                return false;
            behind = behind ? behind : at + 2;
            at = start = target;
            continue;
        }
        if (length > LABEL_MAX || r->len - at - 1 < length)
            return false;
        if (length == 0)
            break;
        if (!append_label(out, r->message + at + 1, length))
            return false;
        at += 1 + length;
    }
    out->wire[out->bytes++] = 0;
    r->at = behind ? behind : at + 1;
    return true;
}

static bool read_record(struct reader *r, struct name *owner, struct record *out)
{
    uint16_t data_len;
    if (!read_name(r, owner) || !read16(r, &out->type) || !read16(r, &out->class) ||
        !read32(r, &out->ttl) || !read16(r, &data_len) || r->len - r->at < data_len)
        return false;
    if (out->ttl > INT32_MAX) /* RFC 2181, 8 */
        out->ttl = 0;
    out->data = r->at;
    out->data_len = data_len;
    r->at += data_len;
    return true;
}

static bool same_name(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
    if (a_bytes != b_bytes)
        return false;
    for (size_t i = 0; i < a_bytes; i++) /* lengths are below 64, where no letter is */
        if (tolower(a[i]) != tolower(b[i]))
            return false;
    return true;
}

/* The text of a name. A label with other characters can be equal to no rule's. */
static void name_text(const struct name *name, char out[static NET_NAME_BYTES])
{
    size_t at = 0, to = 0;
    while (name->wire[at]) {
        size_t label = name->wire[at++];
        if (to)
            out[to++] = '.';
        for (; label; label--) {
            uint8_t c = name->wire[at++];
            bool plain = isascii(c) && (isalnum(c) || c == '-' || c == '_');
            out[to++] = plain ? (char)tolower(c) : '?';
        }
    }
    out[to] = '\0';
}

/* ---- queries ---- */

struct header {
    uint16_t id, flags, questions, answers, authorities, additionals;
};

static bool read_header(struct reader *r, struct header *h)
{
    return read16(r, &h->id) && read16(r, &h->flags) && read16(r, &h->questions) &&
           read16(r, &h->answers) && read16(r, &h->authorities) && read16(r, &h->additionals);
}

static bool read_question(struct reader *r, struct name *name, uint16_t *type, uint16_t *class)
{
    return read_name(r, name) && read16(r, type) && read16(r, class);
}

/* What may stand behind the question of a query: one OPT record. */
static bool read_options(struct reader *r, unsigned count, struct dns_query *out)
{
    struct name owner;
    struct record record;
    if (count > 1)
        return false;
    if (count == 0)
        return true;
    if (!read_record(r, &owner, &record) || record.type != TYPE_OPT || owner.bytes != 1)
        return false;
    out->edns = true;
    out->dnssec_ok = record.ttl & EDNS_DO;
    out->udp_bytes = MAX(record.class, UDP_BYTES_MIN);
    return true;
}

int dns_parse_query(const uint8_t *message, size_t len, struct dns_query *out)
{
    struct reader r = {message, len, 0};
    struct header h;
    struct name name;
    *out = (struct dns_query){.udp_bytes = UDP_BYTES_MIN, .wire_bytes = 1};
    if (!read_header(&r, &h) || h.flags & FLAG_QR)
        return -1;
    out->id = h.id;
    out->recursion_desired = h.flags & FLAG_RD;
    out->checking_disabled = h.flags & FLAG_CD;
    out->authentic_data = h.flags & FLAG_AD;
    if (h.flags & OPCODE)
        return DNS_NOTIMP;
    if (h.questions != 1 || h.answers || h.authorities ||
        !read_question(&r, &name, &out->type, &out->class))
        return DNS_FORMERR;
    memcpy(out->wire, name.wire, name.bytes);
    out->wire_bytes = name.bytes;
    name_text(&name, out->name);
    if (!read_options(&r, h.additionals, out) || r.at != len)
        return DNS_FORMERR;
    bool transfer = out->type == TYPE_AXFR || out->type == TYPE_IXFR;
    return out->class != CLASS_IN || transfer || out->type == TYPE_OPT ? DNS_NOTIMP : DNS_NOERROR;
}

static uint8_t *put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
    return p + 2;
}

static uint8_t *put_address(uint8_t *p, const struct net_addr *addr, uint32_t ttl_s)
{
    p = put16(put16(put16(p, 0xc000 | HEADER_BYTES), DNS_TYPE_A),
              CLASS_IN); /* the name that was asked */
    p = put16(put16(put16(p, ttl_s >> 16), ttl_s & 0xffff), 4);
    memcpy(p, addr->bytes + 12, 4);
    return p + 4;
}

/* Header and question, with an OPT record if the client had one. `addr`: an answer, or NULL. */
static size_t put_message(const struct dns_query *q, uint16_t id, unsigned flags,
                          const struct net_addr *addr, uint32_t ttl_s, uint8_t *out)
{
    uint8_t *p = put16(put16(out, id), flags);
    p = put16(put16(put16(put16(p, 1), addr ? 1 : 0), 0), q->edns ? 1 : 0);
    memcpy(p, q->wire, q->wire_bytes);
    p = put16(put16(p + q->wire_bytes, q->type), q->class);
    if (addr)
        p = put_address(p, addr, ttl_s);
    if (q->edns) {
        *p++ = 0;
        p = put16(put16(p, TYPE_OPT), UDP_BYTES_OURS);
        p = put16(put16(put16(p, 0), q->dnssec_ok ? EDNS_DO : 0), 0);
    }
    return (size_t)(p - out);
}

static unsigned answer_flags(const struct dns_query *q)
{
    return FLAG_QR | FLAG_RA | (q->recursion_desired ? FLAG_RD : 0) |
           (q->checking_disabled ? FLAG_CD : 0);
}

size_t dns_make_query(const struct dns_query *q, uint16_t id, uint8_t out[static DNS_QUERY_BYTES])
{
    return put_message(q, id,
                       (q->recursion_desired ? FLAG_RD : 0) | (q->checking_disabled ? FLAG_CD : 0) |
                           (q->authentic_data ? FLAG_AD : 0),
                       NULL, 0, out);
}

size_t dns_make_error(const struct dns_query *q, int code, bool truncated,
                      uint8_t out[static DNS_QUERY_BYTES])
{
    return put_message(q, q->id, answer_flags(q) | (truncated ? FLAG_TC : 0) | ((unsigned)code & RCODE),
                       NULL, 0, out);
}

size_t dns_make_address(const struct dns_query *q, const struct net_addr *addr, uint32_t ttl_s,
                        uint8_t out[static DNS_ADDRESS_BYTES])
{
    return put_message(q, q->id, answer_flags(q), addr, ttl_s, out);
}

bool dns_question(const char *name, uint16_t type, struct dns_query *out)
{
    size_t len = strlen(name);
    *out = (struct dns_query){
        .type = type, .class = CLASS_IN, .recursion_desired = true, .udp_bytes = UDP_BYTES_MIN};
    if (!len || len > DNS_WIRE_NAME_MAX - 2)
        return false;
    memcpy(out->name, name, len + 1);
    for (const char *label = name;;) {
        size_t n = strcspn(label, ".");
        if (!n || n > LABEL_MAX)
            return false;
        out->wire[out->wire_bytes++] = (uint8_t)n;
        memcpy(out->wire + out->wire_bytes, label, n);
        out->wire_bytes += n;
        if (!label[n])
            break;
        label += n + 1;
    }
    out->wire[out->wire_bytes++] = 0;
    return true;
}

/* ---- answers ---- */

/* The records of one section must be well-formed, whoever reads them later. */
static bool skip_section(struct reader *r, unsigned count)
{
    struct name owner;
    struct record record;
    while (count--)
        if (!read_record(r, &owner, &record))
            return false;
    return true;
}

static void take_address(const struct reader *r, const struct record *record, struct dns_answer *out)
{
    const uint8_t *data = r->message + record->data;
    struct net_addr addr;
    if (out->count == DNS_ADDRS_MAX || record->class != CLASS_IN)
        return;
    if (record->type == DNS_TYPE_A && record->data_len == 4)
        addr = net_addr_v4(data);
    else if (record->type == DNS_TYPE_AAAA && record->data_len == 16)
        addr = net_addr_v6(data);
    else
        return;
    if (record->type == DNS_TYPE_AAAA && net_addr_is_v4(&addr))
        return;
    out->addrs[out->count].addr = addr;
    out->addrs[out->count++].ttl_s = record->ttl;
}

/* One walk over the answer section, which is known to be well-formed: addresses of `name` into `out`,
 * if there is one, and the name that it is an alias of into `target`. Whether it is an alias. */
static bool look_up(struct reader r, unsigned count, const struct name *name, struct name *target,
                    struct dns_answer *out)
{
    struct name owner;
    struct record record;
    bool alias = false;
    while (count-- && read_record(&r, &owner, &record)) {
        if (!same_name(owner.wire, owner.bytes, name->wire, name->bytes))
            continue;
        take_address(&r, &record, out);
        if (record.type == TYPE_CNAME && record.class == CLASS_IN && !alias) {
            struct reader data = {r.message, record.data + record.data_len, record.data};
            alias = read_name(&data, target);
        }
    }
    return alias;
}

bool dns_parse_answer(const uint8_t *message, size_t len, const struct dns_query *asked, uint16_t id,
                      struct dns_answer *out)
{
    struct reader r = {message, len, 0};
    struct header h;
    struct name name, target;
    uint16_t type, class;
    *out = (struct dns_answer){0};
    if (!read_header(&r, &h) || h.id != id || !(h.flags & FLAG_QR) || h.flags & OPCODE ||
        h.questions != 1 || !read_question(&r, &name, &type, &class))
        return false;
    if (type != asked->type || class != asked->class ||
        !same_name(name.wire, name.bytes, asked->wire, asked->wire_bytes))
        return false;
    out->truncated = h.flags & FLAG_TC;
    out->code = h.flags & RCODE;
    if (out->truncated) /* what came is not used */
        return true;
    struct reader answers = r;
    if (!skip_section(&r, h.answers) || !skip_section(&r, h.authorities) ||
        !skip_section(&r, h.additionals))
        return false;
    for (int i = 0; i < CHAIN_MAX && look_up(answers, h.answers, &name, &target, out); i++)
        name = target;
    return true;
}
