/* SPDX-License-Identifier: Apache-2.0 */
/* dayfly image pull|push */
#include "image.h"

#include <stdio.h>
#include <unistd.h>

#include "image/transfer.h"
#include "util/err.h"

struct transfer_options {
    const char *name;
    const char *creds, *authfile, *cert_dir, *tls_verify;
    bool quiet;
};

/* clang-format off */
#define ACCESS_ROWS \
    {"creds", 0, "USER[:PASSWORD]", "credentials for the registry", \
     OPTION_STRING(struct transfer_options, creds)}, \
    {"authfile", 0, "FILE", "credentials as `skopeo login` keeps them", \
     OPTION_STRING(struct transfer_options, authfile)}, \
    {"tls-verify", 0, "true|false", "insist on TLS with a certificate that is known", \
     OPTION_CHOICE(struct transfer_options, tls_verify)}, \
    {"cert-dir", 0, "DIR", "certificates and keys for the registry (*.crt, *.cert, *.key)", \
     OPTION_STRING(struct transfer_options, cert_dir)}, \
    {"quiet", 'q', NULL, "show no progress", OPTION_FLAG(struct transfer_options, quiet)}
/* clang-format on */

static const struct option_row pull_rows[] = {
    {"name", 'n', "NAME", "what to call the image here (default: as it is called there)",
     OPTION_STRING(struct transfer_options, name)},
    ACCESS_ROWS,
    {0},
};

static const struct option_row push_rows[] = {ACCESS_ROWS, {0}};

#define PLACES                                                                                         \
    "REF is a reference to a registry, as debian:12 or localhost:5000/tools, or one of skopeo's "      \
    "transports with what skopeo(1) expects behind it: docker://, oci:, oci-archive:, "                \
    "docker-archive:, containers-storage:, dir:. Mirrors, policies and stored credentials are those "  \
    "that skopeo and podman use."

static struct skopeo_access access_of(const struct transfer_options *options)
{
    return (struct skopeo_access){.creds = options->creds,
                                  .authfile = options->authfile,
                                  .cert_dir = options->cert_dir,
                                  .tls_verify = options->tls_verify};
}

/* ---- pull ---- */

static int pull_run(const struct call *call)
{
    const struct transfer_options *options = call->options;
    struct store store;
    struct dayfly_err err = {0};
    char digest[DIGEST_STR_BYTES];
    if (store_open(&store, NULL, STORE_WRITE, &err))
        return command_fail(call, &err);
    const struct pull_options pull = {.source = call->operands[0],
                                      .name = options->name,
                                      .access = access_of(options),
                                      .progress_fd = options->quiet ? -1 : STDERR_FILENO};
    int rc = image_pull(&store, &pull, digest, options->quiet ? NULL : &image_progress, &err);
    store_close(&store);
    if (rc)
        return command_fail(call, &err);
    printf("%s\n", digest);
    return 0;
}

static const struct example pull_examples[] = {
    {"dayfly image pull debian:12", "from Docker Hub"},
    {"dayfly image pull --tls-verify=false localhost:5000/tools --name tools",
     "from a registry of one's own"},
    {"dayfly image pull containers-storage:localhost/build:latest --name build",
     "what podman build made"},
    {0},
};

const struct command image_pull_command = {
    .name = "pull",
    .summary = "fetch an image from a registry or another store",
    .description =
        "Fetches an image, for this machine's architecture where there are several, makes its root "
        "file "
        "system and prints its digest. Layers that are here already are not fetched again. A pull that "
        "is broken off leaves the image that had the name as it was; the next one goes on behind the "
        "last whole layer.\n\n" PLACES,
    .operands = "REF",
    .min_operands = 1,
    .max_operands = 1,
    .rows = pull_rows,
    .options_size = sizeof(struct transfer_options),
    .examples = pull_examples,
    .run = pull_run,
};

/* ---- push ---- */

static int push_run(const struct call *call)
{
    const struct transfer_options *options = call->options;
    struct store store;
    struct dayfly_err err = {0};
    char digest[DIGEST_STR_BYTES];
    if (store_open(&store, NULL, STORE_WRITE, &err))
        return command_fail(call, &err);
    const struct push_options push = {.name = call->operands[0],
                                      .target = call->operands[1],
                                      .access = access_of(options),
                                      .progress_fd = options->quiet ? -1 : STDERR_FILENO};
    int rc = image_push(&store, &push, digest, &err);
    store_close(&store);
    if (rc)
        return command_fail(call, &err);
    printf("%s\n", digest);
    return 0;
}

static const struct example push_examples[] = {
    {"dayfly image push tools registry.example.org/team/tools:1.0", "to a registry"},
    {"dayfly image push tools docker-archive:tools.tar:tools:1.0", "for docker load"},
    {"dayfly image push tools containers-storage:localhost/tools:latest", "for podman"},
    {0},
};

const struct command image_push_command = {
    .name = "push",
    .summary = "push an image to a registry or another store",
    .description =
        "Prints the digest that the image has there: its own, unless another format was asked "
        "for.\n\n" PLACES,
    .operands = "IMAGE REF",
    .min_operands = 2,
    .max_operands = 2,
    .rows = push_rows,
    .options_size = sizeof(struct transfer_options),
    .examples = push_examples,
    .run = push_run,
};
