/* SPDX-License-Identifier: Apache-2.0 */
#include "util/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "util/arith.h"
#include "util/clock.h"
#include "util/err.h"

#define SIZE_FORMS                                                                                     \
    "whole bytes, or a whole number with K, M, G, T, KiB, MiB, GiB or TiB behind it, as 512MiB"
#define DURATION_FORMS "a number with ms, s, m, h or d behind it, as 90s or 1h30m"

/* As much of a person's text as an error message quotes. */
#define QUOTE "%.40s"

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1},
    {"K", UINT64_C(1) << 10},
    {"KiB", UINT64_C(1) << 10},
    {"M", UINT64_C(1) << 20},
    {"MiB", UINT64_C(1) << 20},
    {"G", UINT64_C(1) << 30},
    {"GiB", UINT64_C(1) << 30},
    {"T", UINT64_C(1) << 40},
    {"TiB", UINT64_C(1) << 40},
};

/* The largest first: a duration names its units in this order. */
static const struct unit duration_units[] = {
    {"d", 86400 * NS_PER_S}, {"h", 3600 * NS_PER_S}, {"m", 60 * NS_PER_S},
    {"s", NS_PER_S},         {"ms", NS_PER_MS},
};

/* Read decimal digits at *text and move past them. -EINVAL without a digit, -ERANGE on overflow. */
static int take_digits(const char **text, uint64_t *out)
{
    const char *p = *text;
    uint64_t value = 0;
    bool too_large = false;
    if (*p < '0' || *p > '9')
        return -EINVAL;
    for (; *p >= '0' && *p <= '9'; p++)
        too_large |=
            mul_overflows(value, 10, &value) || add_overflows(value, (uint64_t)(*p - '0'), &value);
    *text = p;
    *out = value;
    return too_large ? -ERANGE : 0;
}

int units_parse_size(const char *text, uint64_t *bytes, struct dayfly_err *err)
{
    const char *p = text;
    uint64_t value = 0;
    int rc = take_digits(&p, &value);
    const struct unit *unit = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(size_units) && !unit; i++) {
        if (!strcmp(p, size_units[i].name))
            unit = &size_units[i];
    }
    if (rc == -EINVAL || !unit)
        return err_set(err, EINVAL, "\"" QUOTE "\" is not a size: write " SIZE_FORMS, text);
    if (rc || mul_overflows(value, unit->factor, &value))
        return err_set(err, ERANGE, "\"" QUOTE "\" is too large: a size fits into 64 bits", text);
    *bytes = value;
    return 0;
}

int units_parse_duration(const char *text, uint64_t *ns, struct dayfly_err *err)
{
    const char *p = text;
    uint64_t total = 0;
    size_t next_unit = 0; /* units before it may not come any more */
    bool too_large = false;
    do {
        uint64_t value;
        int rc = take_digits(&p, &value);
        size_t len = strspn(p, "abcdefghijklmnopqrstuvwxyz");
        size_t i = next_unit;
        while (i < ARRAY_SIZE(duration_units) &&
               (strlen(duration_units[i].name) != len || memcmp(p, duration_units[i].name, len) != 0))
            i++;
        if (rc == -EINVAL || i == ARRAY_SIZE(duration_units))
            return err_set(err, EINVAL, "\"" QUOTE "\" is not a duration: write " DURATION_FORMS, text);
        too_large |= rc || mul_overflows(value, duration_units[i].factor, &value) ||
                     add_overflows(total, value, &total);
        next_unit = i + 1;
        p += len;
    } while (*p);
    if (too_large)
        return err_set(err, ERANGE, "\"" QUOTE "\" is too large: a duration is at most 584 years",
                       text);
    *ns = total;
    return 0;
}

int units_parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out,
                       struct dayfly_err *err)
{
    const char *p = text;
    uint64_t value;
    int rc = take_digits(&p, &value);
    if (rc == -EINVAL || *p)
        return err_set(err, EINVAL, "\"" QUOTE "\" is not a whole number", text);
    if (rc || value < min || value > max)
        return err_set(err, ERANGE, QUOTE " is out of range: it must be from %" PRIu64 " to %" PRIu64,
                       text, min, max);
    *out = value;
    return 0;
}

const char *units_format_size(uint64_t bytes, char out[UNITS_FORMAT_BYTES])
{
    static const char *const names[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    while (bytes && bytes % 1024 == 0 && i + 1 < ARRAY_SIZE(names)) {
        bytes /= 1024;
        i++;
    }
    snprintf(out, UNITS_FORMAT_BYTES, "%" PRIu64 "%s", bytes, names[i]);
    return out;
}
