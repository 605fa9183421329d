/* SPDX-License-Identifier: Apache-2.0 */
/* `dayfly doctor`: what works on this host, and what would make the rest work. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "engine/engine.h"
#include "image/kernel.h"
#include "image/scratch.h"
#include "image/store.h"
#include "isolate/jail.h"
#include "sandbox/sandbox.h"
#include "util/arith.h"
#include "util/err.h"
#include "util/program.h"

struct doctor_options {
    bool json;
};

static const struct option_row rows[] = {
    {"json", 'j', NULL, "print the findings as JSON", OPTION_FLAG(struct doctor_options, json)},
    {0},
};

static const struct example examples[] = {
    {"dayfly doctor", "everything"},
    {"dayfly doctor kvm && echo fast", "one thing, for scripts: exit status 0 when it works"},
    {0},
};

/* One thing that can work or not: 0, or -errno with the cause and the remedy in *why. A remark on one
 * that works may stand there too. */
struct check {
    const char *name, *what;
    int (*probe)(struct dayfly_err *why);
};

static int probe_kvm_engine(struct dayfly_err *why)
{
    return engine_kvm.probe(why);
}

static int probe_tcg_engine(struct dayfly_err *why)
{
    return engine_tcg.probe(why);
}

static int probe_user_engine(struct dayfly_err *why)
{
    return sandbox_probe(why);
}

static int probe_mkfs(struct dayfly_err *why)
{
    int r = program_probe("mkfs.erofs", "erofs-utils", why);
    return r < 0 ? r : program_probe("mke2fs", "e2fsprogs", why);
}

static int probe_mmdebstrap(struct dayfly_err *why)
{
    return program_probe("mmdebstrap", "mmdebstrap", why);
}

static int probe_skopeo(struct dayfly_err *why)
{
    return program_probe("skopeo", "skopeo", why);
}

static int probe_kernel(struct dayfly_err *why)
{
    struct store store;
    struct kernel kernel;
    int r = store_open(&store, NULL, STORE_READ, why);
    if (r < 0)
        return r;
    r = kernel_open(&store, NULL, &kernel, why);
    if (r == 0) {
        err_set(why, 0, "%s", kernel.name);
        kernel_finish(&kernel);
    }
    store_close(&store);
    return r;
}

/* As a thread of a machine's would be locked up, for this user. */
static int probe_jail(struct dayfly_err *why)
{
    char names[ISOLATE_STAGES_BYTES];
    int lacks = jail_lacks_here(why);
    if (lacks <= 0)
        return lacks;
    isolate_stage_names((unsigned)lacks, names);
    return err_set(why, EPERM, "a machine goes without %s: %s", names, jail_remedy((unsigned)lacks));
}

static const struct check checks[] = {
    {"kvm", "engine kvm: /dev/kvm runs guests", probe_kvm_engine},
    {"tcg", "engine tcg: QEMU is there", probe_tcg_engine},
    {"user", "engine user: namespaces and a user of the job's own", probe_user_engine},
    {"jail", "locking up what serves a machine, wholly (--jail required)", probe_jail},
    {"kernel", "a kernel to boot", probe_kernel},
    {"mkfs", "making file systems", probe_mkfs},
    {"ids", "making images with files of any owner, as this user", scratch_probe_ids},
    {"debian", "dayfly image build --debian", probe_mmdebstrap},
    {"pull", "dayfly image pull and push", probe_skopeo},
};

static int doctor(const struct call *call)
{
    const struct doctor_options *options = call->options;
    const char *only = call->operands[0];
    json_t *findings = json_array();
    bool found = false, all = true, engine = false;

    for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
        const struct check *check = &checks[i];
        struct dayfly_err why = {0};
        if (only && strcmp(only, check->name) != 0)
            continue;
        found = true;
        bool works = check->probe(&why) == 0;
        all &= works;
        /* A machine's: auto takes no other. */
        engine |= works && (strcmp(check->name, "kvm") == 0 || strcmp(check->name, "tcg") == 0);
        if (options->json)
            json_array_append_new(findings, json_pack("{s:s, s:b, s:s}", "name", check->name, "works",
                                                      works, "why", why.msg));
        else
            fprintf(stderr, "%-4s %-7s %s%s%s\n", works ? "ok" : "no", check->name, check->what,
                    why.msg[0] ? ": " : "", why.msg);
    }
    if (options->json) {
        json_dumpf(findings, stdout, JSON_INDENT(2));
        fputc('\n', stdout);
    }
    json_decref(findings);
    if (only && !found) {
        struct dayfly_err err;
        err_set(&err, EINVAL, "there is no check '%s'; 'dayfly doctor' lists them", only);
        return command_fail(call, &err);
    }
    return (only ? all : engine) ? 0 : EXIT_DAYFLY;
}

const struct command doctor_command = {
    .name = "doctor",
    .summary = "say what works on this host, and what would make the rest work",
    .description = "Tries each thing that Dayfly needs rather than looking for its name: /dev/kvm, for "
                   "instance, is opened and made to run the instructions that a kernel needs.\n\n"
                   "CHECK is one of kvm, tcg, user, jail, kernel, mkfs, ids, debian and pull.\n\n"
                   "Exit status: 0 when some engine has a machine for a job (with CHECK: when that "
                   "works), else 125.",
    .operands = "[CHECK]",
    .max_operands = 1,
    .rows = rows,
    .options_size = sizeof(struct doctor_options),
    .examples = examples,
    .run = doctor,
};
