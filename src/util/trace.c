/* SPDX-License-Identifier: Apache-2.0 */
#include "util/trace.h"

#include <assert.h>
#include <errno.h>

#include "util/arith.h"

static const char *const names[] = {
    [TRACE_MAIN] = "main",       [TRACE_OPENED] = "opened",   [TRACE_ENGINE] = "engine",
    [TRACE_DEVICES] = "devices", [TRACE_VM] = "vm",           [TRACE_LOADED] = "loaded",
    [TRACE_CREATED] = "created", [TRACE_ENTERED] = "entered", [TRACE_KERNEL] = "kernel",
    [TRACE_AGENT] = "agent",     [TRACE_HELLO] = "hello",     [TRACE_READY] = "ready",
    [TRACE_STARTED] = "started", [TRACE_ENDED] = "ended",     [TRACE_DESTROYED] = "destroyed",
};
static_assert(ARRAY_SIZE(names) == TRACE_POINTS, "a name for each");

const char *trace_name(enum trace_point point)
{
    return names[point];
}

static json_t *exits_json(const struct trace_exits *exits)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "port", (json_int_t)exits->port, "memory",
                     (json_int_t)exits->memory, "kick", (json_int_t)exits->kick, "other",
                     (json_int_t)exits->other);
}

json_t *trace_json(const struct trace *trace)
{
    json_t *points = json_object();
    int r = points ? 0 : -1;
    for (size_t i = 0; i < TRACE_POINTS; i++) {
        uint64_t ns = atomic_load(&trace->at_ns[i]);
        if (ns)
            r |= json_object_set_new(points, names[i], json_integer((json_int_t)ns));
    }
    json_t *all = json_pack("{s:o}", "points_ns", points);
    if (all && trace->has_exits)
        r |= json_object_set_new(all, "exits",
                                 json_pack("{s:o, s:o}", "boot", exits_json(&trace->booted), "all",
                                           exits_json(&trace->ended)));
    if (all && r == 0)
        return all;
    json_decref(all);
    return NULL;
}

static int take_number(const json_t *object, const char *name, uint64_t *out)
{
    const json_t *value = json_object_get(object, name);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return -EPROTO;
    *out = (uint64_t)json_integer_value(value);
    return 0;
}

static int take_exits(const json_t *object, struct trace_exits *out)
{
    int r;
    if ((r = take_number(object, "port", &out->port)) < 0 ||
        (r = take_number(object, "memory", &out->memory)) < 0 ||
        (r = take_number(object, "kick", &out->kick)) < 0)
        return r;
    return take_number(object, "other", &out->other);
}

int trace_from_json(const json_t *json, struct trace *out)
{
    const json_t *points = json_object_get(json, "points_ns"), *exits = json_object_get(json, "exits");
    int r = json_is_object(points) ? 0 : -EPROTO;
    *out = (struct trace){.has_exits = exits};
    for (size_t i = 0; i < TRACE_POINTS && r == 0; i++) {
        uint64_t ns;
        if (!json_object_get(points, names[i]))
            continue;
        r = take_number(points, names[i], &ns);
        if (r == 0)
            atomic_store(&out->at_ns[i], ns);
    }
    if (r == 0 && exits && (r = take_exits(json_object_get(exits, "boot"), &out->booted)) == 0)
        r = take_exits(json_object_get(exits, "all"), &out->ended);
    return r;
}
