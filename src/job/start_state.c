/* SPDX-License-Identifier: Apache-2.0 */
#include "job/start_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "image/initramfs.h"
#include "util/cleanup.h"
#include "util/err.h"

/* What the guest finds, not what the world answers; a published port is the host's affair. NULL when
 * memory runs out. */
static json_t *net_json(const struct job_net *net)
{
    json_t *allow = json_array();
    for (size_t i = 0; net->allow[i]; i++)
        json_array_append_new(allow, json_string(net->allow[i]));
    return json_pack("{s:s, s:s, s:o}", "mode", config_net_words[net->mode], "options", net->options,
                     "allow", allow);
}

/* The digest of `parts` in canonical form. */
static bool digest_json(const json_t *parts, char out[DIGEST_STR_BYTES])
{
    _cleanup_free_ char *text = json_dumps(parts, JSON_SORT_KEYS | JSON_COMPACT);
    struct digest digest;
    if (!text)
        return false;
    digest_of(text, strlen(text), &digest);
    digest_str(&digest, out);
    return true;
}

/* NULL when memory runs out. */
static json_t *shares_json(const struct start_state *state)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < state->share_count; i++) {
        const struct job_share *share = &state->shares[i];
        json_t *item =
            json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:I, s:I, s:I}", "path", share->path, "mode",
                      config_mode_words[share->mode], "cache", config_cache_words[share->cache], "ids",
                      config_ids_words[share->ids], "writeback", share->writeback, "xattr",
                      share->xattr, "dax", (json_int_t)share->window_bytes, "shown_uid",
                      (json_int_t)share->shown_uid, "shown_gid", (json_int_t)share->shown_gid);
        if (json_array_append_new(list, item) < 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

json_t *start_state_json(const struct start_state *state)
{
    char agent[DIGEST_STR_BYTES], machine[DIGEST_STR_BYTES], whole[DIGEST_STR_BYTES];
    struct digest digest;
    const void *program;
    size_t len;
    initramfs_agent(&program, &len);
    digest_of(program, len, &digest);
    digest_str(&digest, agent);

    json_t *parts = json_pack("{s:I, s:I, s:I, s:s}", "cpus", (json_int_t)state->cpus, "memory_bytes",
                              (json_int_t)state->memory_bytes, "disk_bytes",
                              (json_int_t)state->disk_bytes, "command_line", state->command_line);
    /* A machine without shares or a network is described as it was before there were any. */
    bool ok =
        parts && (!state->share_count || json_object_set_new(parts, "shares", shares_json(state)) == 0);
    ok = ok && (!state->net || json_object_set_new(parts, "net", net_json(state->net)) == 0);
    ok = ok && digest_json(parts, machine);
    json_decref(parts);
    if (!ok)
        return NULL;
    json_t *result = json_pack("{s:s, s:s, s:s, s:s}", "kernel", state->kernel, "image", state->image,
                               "agent", agent, "machine", machine);
    if (result && state->caches && json_object_set(result, "caches", state->caches) < 0) {
        json_decref(result);
        return NULL;
    }
    if (!result || !digest_json(result, whole) ||
        json_object_set_new(result, "digest", json_string(whole)) < 0) {
        json_decref(result);
        return NULL;
    }
    return result;
}

int start_state_expect(const struct start_state *state, const char *digest, struct dayfly_err *err)
{
    struct digest wanted;
    char text[DIGEST_STR_BYTES];
    if (!digest_parse(digest, &wanted))
        return err_set(err, EINVAL,
                       "\"%.80s\" is no digest of a start state, which is sha256: and 64 "
                       "hexadecimal digits",
                       digest);
    json_t *json = start_state_json(state);
    if (!json)
        return err_set(err, ENOMEM, "out of memory");
    snprintf(text, sizeof(text), "%s", json_string_value(json_object_get(json, "digest")));
    json_decref(json);
    return strcmp(text, digest) == 0
               ? 0
               : err_set(err, ESTALE, "the start state is %s, and not %s as expected", text, digest);
}
