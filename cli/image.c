/* SPDX-License-Identifier: Apache-2.0 */
/* dayfly image ls|build|import|inspect|rm, and the table of all its subcommands */
#include "image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "image/debian.h"
#include "image/image.h"
#include "listing.h"
#include "util/err.h"

const struct log image_progress = {.write = log_to_stderr, .level = LOG_INFO};

/* ---- ls, rm ---- */

static void fill_table(struct table *table, const json_t *images)
{
    json_t *image;
    size_t i;
    table_row(table, "NAME", "DIGEST", "CREATED", "OWN", "SHARED", NULL);
    json_array_foreach (images, i, image) {
        char own[TABLE_SIZE_BYTES], shared[TABLE_SIZE_BYTES], digest[TABLE_DIGEST_BYTES],
            minute[TABLE_MINUTE_BYTES];
        const json_t *created = json_object_get(image, "created");
        table_row(table, json_string_value(json_object_get(image, "name")),
                  table_digest(json_object_get(image, "digest"), digest),
                  json_is_true(json_object_get(image, "damaged")) ? "(damaged)"
                                                                  : table_minute(created, minute),
                  table_size(json_object_get(image, "own_bytes"), own),
                  table_size(json_object_get(image, "shared_bytes"), shared), NULL);
    }
}

static int remove_image(struct store *store, const char *name, struct dayfly_err *err)
{
    struct oci_ref ref;
    int rc = oci_ref_parse(name, &ref, err);
    return rc ? rc : store_remove(store, &ref, err);
}

static const struct listing images = {
    .list = image_list,
    .fill = fill_table,
    .remove = remove_image,
};

static int ls_run(const struct call *call)
{
    return listing_print(call, &images);
}

static const struct command ls_command = {
    .name = "ls",
    .summary = "list the images",
    .description = "OWN is what would be free without the name, SHARED what other names need as well: "
                   "layers that images have in common, or all of an image that has two names.",
    .rows = listing_rows,
    .options_size = sizeof(struct listing_options),
    .run = ls_run,
};

static int rm_run(const struct call *call)
{
    return listing_remove(call, &images);
}

static const struct command rm_command = {
    .name = "rm",
    .summary = "remove images",
    .description = "Removes names, and with the last name of an image its content. An image that a "
                   "running sandbox uses is not removed.",
    .operands = "IMAGE...",
    .min_operands = 1,
    .max_operands = OPERANDS_ANY,
    .run = rm_run,
};

/* ---- build ---- */

struct build_options {
    const char *debian, *include;
};

static const struct option_row build_rows[] = {
    {"debian", 0, "SUITE", "the Debian release to install: bookworm, trixie, sid",
     OPTION_STRING(struct build_options, debian)},
    {"include", 0, "PKG,...", "packages to install besides the minimal system",
     OPTION_STRING(struct build_options, include)},
    {0},
};

static const struct example build_examples[] = {
    {"dayfly image build --debian bookworm --include gcc,libc6-dev,make debian",
     "a system with a C compiler, called debian"},
    {0},
};

static int build_run(const struct call *call)
{
    const struct build_options *options = call->options;
    struct store store;
    struct dayfly_err err = {0};
    char digest[DIGEST_STR_BYTES];
    if (!options->debian) {
        err_set(&err, EINVAL, "say what to build: --debian SUITE");
        return command_fail(call, &err);
    }
    if (store_open(&store, NULL, STORE_WRITE, &err))
        return command_fail(call, &err);
    const struct debian_options debian = {.name = call->operands[0],
                                          .suite = options->debian,
                                          .include = options->include,
                                          .show_progress = isatty(STDERR_FILENO)};
    int rc = debian_build(&store, &debian, digest, &image_progress, &err);
    store_close(&store);
    if (rc)
        return command_fail(call, &err);
    printf("%s\n", digest);
    return 0;
}

static const struct command build_command = {
    .name = "build",
    .summary = "make an image from Debian's packages",
    .description =
        "Installs a minimal Debian system and the named packages by mmdebstrap, from the mirrors that "
        "this host's apt uses, and stores the result under NAME, in place of an image of that name. "
        "Prints the image's digest.\n\n"
        "With $SOURCE_DATE_EPOCH set, the same packages give the same digest; without it, times are "
        "cut "
        "at the beginning of the day.",
    .operands = "NAME",
    .min_operands = 1,
    .max_operands = 1,
    .rows = build_rows,
    .options_size = sizeof(struct build_options),
    .examples = build_examples,
    .run = build_run,
};

/* ---- import ---- */

static const struct example import_examples[] = {
    {"dayfly image import tools ./rootfs", "from a directory"},
    {"docker export web | dayfly image import web -", "from a tar stream"},
    {0},
};

static int import_run(const struct call *call)
{
    const char *path = call->operands[1];
    struct image_config config = {.comment = "dayfly image import"};
    struct store store;
    struct dayfly_err err = {0};
    char digest[DIGEST_STR_BYTES];
    if (image_epoch(0, &config.epoch, &err) || store_open(&store, NULL, STORE_WRITE, &err))
        return command_fail(call, &err);
    bool from_stdin = !strcmp(path, "-");
    int rc = image_import(&store, call->operands[0], from_stdin ? "standard input" : path,
                          from_stdin ? STDIN_FILENO : -1, &config, digest, &image_progress, &err);
    store_close(&store);
    if (rc)
        return command_fail(call, &err);
    printf("%s\n", digest);
    return 0;
}

static const struct command import_command = {
    .name = "import",
    .summary = "make an image from a directory or a tar archive",
    .description =
        "DIR is the root directory of a system; TAR an archive of one, compressed by gzip, bzip2, xz, "
        "zstd, lz4 or not at all; - reads the archive from standard input. Owners, modes, hard links, "
        "devices, extended attributes and ACLs are kept. Stores the result under NAME, in place of an "
        "image of that name, and prints its digest. The same tree gives the same digest.",
    .operands = "NAME DIR|TAR|-",
    .min_operands = 2,
    .max_operands = 2,
    .examples = import_examples,
    .run = import_run,
};

/* ---- inspect ---- */

static int inspect_run(const struct call *call)
{
    struct store store;
    struct dayfly_err err = {0};
    if (store_open(&store, NULL, STORE_READ, &err))
        return command_fail(call, &err);
    json_t *image = image_describe(&store, call->operands[0], &err);
    store_close(&store);
    if (!image)
        return command_fail(call, &err);
    table_json(image, stdout);
    json_decref(image);
    return 0;
}

static const struct command inspect_command = {
    .name = "inspect",
    .summary = "print what is known of an image, as JSON",
    .description =
        "Its digest, its manifest and config as they came, and the file that is its root file "
        "system.",
    .operands = "IMAGE",
    .min_operands = 1,
    .max_operands = 1,
    .run = inspect_run,
};

static const struct command *const children[] = {&ls_command,
                                                 &build_command,
                                                 &import_command,
                                                 &image_pull_command,
                                                 &image_push_command,
                                                 &image_tag_command,
                                                 &inspect_command,
                                                 &image_verify_command,
                                                 &rm_command,
                                                 &image_prune_command,
                                                 NULL};

const struct command image_command = {
    .name = "image",
    .summary = "build, import, pull, push and remove images",
    .description =
        "An image is the root file system that sandboxes start from, with what to run in it. "
        "IMAGE is NAME, NAME:TAG or sha256:DIGEST; without a tag, latest is meant.",
    .children = children,
};
