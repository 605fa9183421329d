/* SPDX-License-Identifier: Apache-2.0 */
/* dayfly image tag|prune|verify */
#include "image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "image/prune.h"
#include "image/store.h"
#include "image/verify.h"
#include "util/err.h"
#include "util/text.h"

/* ---- tag ---- */

static int tag(const struct call *call, struct dayfly_err *err)
{
    struct oci_ref source, name;
    struct store store;
    int rc = oci_ref_parse(call->operands[0], &source, err);
    if (!rc)
        rc = oci_ref_parse(call->operands[1], &name, err);
    if (!rc && name.by_digest)
        rc = err_set(err, EINVAL, "\"%.80s\" is a digest: write NAME or NAME:TAG", call->operands[1]);
    if (!rc)
        rc = store_open(&store, NULL, STORE_WRITE, err);
    if (rc)
        return rc;
    rc = store_tag(&store, &source, name.name, err);
    store_close(&store);
    return rc;
}

static int tag_run(const struct call *call)
{
    struct dayfly_err err = {0};
    return tag(call, &err) ? command_fail(call, &err) : 0;
}

static const struct example tag_examples[] = {
    {"dayfly image tag debian debian:before", "keep the image that is to be built anew"},
    {0},
};

const struct command image_tag_command = {
    .name = "tag",
    .summary = "add a name to an image",
    .description = "NAME then stands for the same image, in place of one that had the name.",
    .operands = "IMAGE NAME",
    .min_operands = 2,
    .max_operands = 2,
    .examples = tag_examples,
    .run = tag_run,
};

/* ---- prune ---- */

struct prune_cli {
    uint64_t older_than, keep_size;
    bool dry_run;
};

/* No option stands for "not given". */
static const struct prune_cli prune_defaults = {.older_than = UINT64_MAX, .keep_size = UINT64_MAX};

static const struct option_row prune_rows[] = {
    {"older-than", 0, "DURATION", "remove images that were not used for so long, such as 30d",
     OPTION_DURATION(struct prune_cli, older_than)},
    {"keep-size", 0, "SIZE", "remove what was not used longest until the images take no more than this",
     OPTION_SIZE(struct prune_cli, keep_size)},
    {"dry-run", 0, NULL, "only say what would be removed", OPTION_FLAG(struct prune_cli, dry_run)},
    {0},
};

static void say_pruned(void *opaque, const char *name, uint64_t freed)
{
    (void)opaque;
    printf("%s\t%" PRIu64 "\n", name, freed);
}

static int prune_run(const struct call *call)
{
    const struct prune_cli *options = call->options;
    const struct prune_options prune = {.by_age = options->older_than != UINT64_MAX,
                                        .by_size = options->keep_size != UINT64_MAX,
                                        .older_than_ns = options->older_than,
                                        .keep_bytes = options->keep_size,
                                        .dry_run = options->dry_run,
                                        .tell = say_pruned};
    struct prune_result result;
    struct store store;
    struct dayfly_err err = {0};
    if (store_open(&store, NULL, options->dry_run ? STORE_READ : STORE_WRITE, &err))
        return command_fail(call, &err);
    int rc = image_prune(&store, &prune, &result, &err);
    store_close(&store);
    if (rc)
        return command_fail(call, &err);
    fprintf(stderr, "%s %.1f MiB; images take %.1f MiB\n", options->dry_run ? "would free" : "freed",
            (double)result.freed_bytes / (1 << 20), (double)result.kept_bytes / (1 << 20));
    if (result.staging)
        fprintf(stderr, "removed what %u broken-off pulls had fetched\n", result.staging);
    return 0;
}

static const struct example prune_examples[] = {
    {"dayfly image prune --older-than 30d --keep-size 20GiB", "for a timer"},
    {"dayfly image prune --keep-size 0 --dry-run", "what could go"},
    {0},
};

const struct command image_prune_command = {
    .name = "prune",
    .summary = "remove images that are not used",
    .description =
        "Removes what broken-off pulls have fetched, and images by age and by size, the one that was "
        "used longest ago first. An image is used when it is made, pulled, or a sandbox starts from "
        "it; "
        "one that a running sandbox uses stays. Of each image it prints a name, a tab, and how many "
        "bytes its going makes free: layers that others share stay.",
    .rows = prune_rows,
    .options_size = sizeof(struct prune_cli),
    .defaults = &prune_defaults,
    .examples = prune_examples,
    .run = prune_run,
};

/* ---- verify ---- */

static void say_verified(void *opaque, const char *name, const struct dayfly_err *fault)
{
    struct dayfly_err shown = fault ? *fault : (struct dayfly_err){.msg = "ok"};
    (void)opaque;
    text_make_printable(shown.msg);
    printf("%s: %s\n", name, shown.msg);
    fflush(stdout);
}

static int verify_run(const struct call *call)
{
    struct store store;
    struct dayfly_err err = {0};
    size_t damaged;
    if (store_open(&store, NULL, STORE_READ, &err))
        return command_fail(call, &err);
    int rc = image_verify(&store, call->operand_count ? call->operands[0] : NULL, say_verified, NULL,
                          &damaged, &err);
    store_close(&store);
    if (!rc && damaged)
        err_set(&err, EBADMSG, "%zu damaged", damaged);
    return rc || damaged ? command_fail(call, &err) : 0;
}

const struct command image_verify_command = {
    .name = "verify",
    .summary = "compare images with their digests",
    .description =
        "Reads every byte of one image, or of all. A root file system that is damaged is removed, and "
        "made anew when it is needed; a damaged layer is a reason to build, import or pull the image "
        "again under the same name, which repairs it. Fails when anything was damaged.",
    .operands = "[IMAGE]",
    .max_operands = 1,
    .run = verify_run,
};
