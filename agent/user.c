/* SPDX-License-Identifier: Apache-2.0 */
#include "user.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define FIELDS_MAX 7

/* A slice of a line. */
struct field {
    const char *at;
    size_t len;
};

/* Split the line at *text into fields at ':' and step *text behind it. False at the end of the text. */
static bool next_line(const char **text, struct field fields[FIELDS_MAX], size_t *count)
{
    const char *p = *text;
    if (!*p)
        return false;
    const char *end = p + strcspn(p, "\n");
    *text = *end ? end + 1 : end;
    *count = 0;
    while (*count < FIELDS_MAX) {
        const char *colon = memchr(p, ':', (size_t)(end - p));
        const char *stop = colon ? colon : end;
        fields[(*count)++] = (struct field){p, (size_t)(stop - p)};
        if (!colon)
            break;
        p = colon + 1;
    }
    return true;
}

static bool same(struct field f, const char *s, size_t len)
{
    return f.len == len && memcmp(f.at, s, len) == 0;
}

/* A decimal id below 2^32 - 1 (that one means "none" to the kernel). */
static bool number(struct field f, uint32_t *out)
{
    uint64_t v = 0;
    if (f.len == 0 || f.len > 10)
        return false;
    for (size_t i = 0; i < f.len; i++) {
        if (f.at[i] < '0' || f.at[i] > '9')
            return false;
        v = v * 10 + (uint64_t)(f.at[i] - '0');
    }
    *out = (uint32_t)v;
    return v < UINT32_MAX;
}

static void copy(char *out, size_t size, struct field f)
{
    size_t n = f.len < size ? f.len : size - 1;
    memcpy(out, f.at, n);
    out[n] = '\0';
}

/* A name is looked for first, as a name of digits is one; then the number. */
static int find_user(struct field want, const char *passwd, struct user *out)
{
    struct field f[FIELDS_MAX];
    size_t n;
    uint32_t uid = 0, gid, id;
    bool numeric = number(want, &uid);
    for (int by_number = 0; by_number <= (int)numeric; by_number++) {
        const char *text = passwd;
        while (next_line(&text, f, &n)) {
            if (n < 6 || !number(f[2], &id) || !number(f[3], &gid))
                continue;
            if (by_number ? id != uid : !same(f[0], want.at, want.len))
                continue;
            out->uid = id;
            out->gid = gid;
            copy(out->name, sizeof(out->name), f[0]);
            copy(out->home, sizeof(out->home), f[5].len ? f[5] : (struct field){"/", 1});
            return 0;
        }
    }
    if (!numeric)
        return -ENOENT;
    out->uid = uid;
    out->gid = 0;
    snprintf(out->name, sizeof(out->name), "%u", uid);
    strcpy(out->home, "/");
    return 0;
}

static int find_group(struct field want, const char *group, gid_t *out)
{
    struct field f[FIELDS_MAX];
    size_t n;
    uint32_t gid;
    while (next_line(&group, f, &n)) {
        if (n >= 3 && same(f[0], want.at, want.len) && number(f[2], &gid)) {
            *out = gid;
            return 0;
        }
    }
    if (!number(want, &gid))
        return -ESRCH;
    *out = gid;
    return 0;
}

static bool lists(struct field members, const char *name)
{
    size_t len = strlen(name);
    while (members.len) {
        const char *comma = memchr(members.at, ',', members.len);
        size_t n = comma ? (size_t)(comma - members.at) : members.len;
        if (same((struct field){members.at, n}, name, len))
            return true;
        members.at += comma ? n + 1 : n;
        members.len -= comma ? n + 1 : n;
    }
    return false;
}

static void supplementary(const char *group, struct user *out)
{
    struct field f[FIELDS_MAX];
    size_t n;
    uint32_t gid;
    while (out->group_count < USER_GROUPS_MAX && next_line(&group, f, &n)) {
        if (n >= 4 && number(f[2], &gid) && gid != out->gid && lists(f[3], out->name))
            out->groups[out->group_count++] = gid;
    }
}

int user_resolve(const char *spec, const char *passwd, const char *group, struct user *out)
{
    *out = (struct user){0};
    const char *colon = strchr(spec, ':');
    struct field name = {spec, colon ? (size_t)(colon - spec) : strlen(spec)};
    if (name.len == 0)
        name = (struct field){"0", 1};
    int r = find_user(name, passwd, out);
    if (r < 0)
        return r;
    if (colon && colon[1])
        r = find_group((struct field){colon + 1, strlen(colon + 1)}, group, &out->gid);
    else
        supplementary(group, out);
    /* The primary group is a member of the list, as initgroups does it. */
    if (r == 0 && out->group_count < USER_GROUPS_MAX)
        out->groups[out->group_count++] = out->gid;
    return r;
}
