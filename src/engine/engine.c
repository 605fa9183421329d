/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/engine.h"

#include <errno.h>
#include <stdio.h>

#include "util/err.h"

const struct engine_ops *const engine_all[ENGINE_COUNT] = {&engine_kvm, &engine_tcg};

static const struct engine_ops *choose_first(char why[ENGINE_WHY_BYTES], struct dayfly_err *err)
{
    struct dayfly_err reasons[ENGINE_COUNT];
    for (unsigned i = 0; i < ENGINE_COUNT; i++) {
        const struct engine_ops *engine = engine_all[i];
        if (engine->probe(&reasons[i]) < 0)
            continue;
        if (i == 0)
            snprintf(why, ENGINE_WHY_BYTES, "auto: /dev/kvm runs guests");
        else
            snprintf(why, ENGINE_WHY_BYTES, "auto: %s, so QEMU translates, slowly", reasons[0].msg);
        return engine;
    }
    err_set(err, ENOTSUP, "no engine runs here: kvm: %.100s; tcg: %.100s", reasons[0].msg,
            reasons[1].msg);
    return NULL;
}

const struct engine_ops *engine_choose(enum dayfly_engine wanted, char why[ENGINE_WHY_BYTES],
                                       struct dayfly_err *err)
{
    if (wanted == DAYFLY_ENGINE_AUTO)
        return choose_first(why, err);
    for (unsigned i = 0; i < ENGINE_COUNT; i++) {
        const struct engine_ops *engine = engine_all[i];
        if (engine->id != wanted)
            continue;
        if (engine->probe(err) < 0) {
            err_wrap(err, "engine %s", engine->name);
            return NULL;
        }
        snprintf(why, ENGINE_WHY_BYTES, "asked for");
        return engine;
    }
    err_set(err, EINVAL, "no such engine");
    return NULL;
}
