/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IMAGE_SKOPEO_H
#define IMAGE_SKOPEO_H

/*
 * Images on their way from and to elsewhere: skopeo(1) carries them, with the credentials, mirrors and
 * policies that its users have set up. Here is how people name a place, what is said to skopeo, and
 * what its failures mean.
 */

#include <stdbool.h>
#include <stddef.h>

#include "dayfly/error.h"
#include "image/oci.h"

#define SKOPEO_PLACE_BYTES 1024

/* Where an image is, elsewhere. */
struct skopeo_place {
    char text[SKOPEO_PLACE_BYTES]; /* as skopeo wants it, "docker://debian:12" */
    char name[OCI_REF_BYTES]; /* what to call it here, with a tag; "" when the place does not say */
};

/* Read TRANSPORT:DETAILS, or a bare reference, which is a registry's ("debian:12",
 * "localhost:5000/x"). -EINVAL for what is neither. */
int skopeo_place_parse(const char *text, struct skopeo_place *out, struct dayfly_err *err);

/* How to reach a registry, in the words of skopeo's options. A NULL: skopeo's default. */
struct skopeo_access {
    const char *creds;      /* USER[:PASSWORD] */
    const char *authfile;   /* a file as `skopeo login` writes it */
    const char *cert_dir;   /* certificates and keys */
    const char *tls_verify; /* "true" or "false" */
};

struct skopeo_copy {
    const char *from, *to;       /* as skopeo wants them */
    const char *shared_blobs;    /* the directory that holds our side's blobs */
    const char *temp_dir;        /* for its large temporary files */
    const char *digest_file;     /* a pushed manifest's digest is written there; NULL: nowhere */
    bool ours_is_source;         /* a push */
    bool decompress;             /* store layers as plain tar; for dir: alone */
    struct skopeo_access access; /* to the other side */
    const char *shown;           /* what messages call the other side */
    int progress_fd;             /* its progress goes there; -1: nowhere */
};

/*
 * Run it to its end. The message of a failure has the cause in skopeo's words and a remedy where one is
 * known.
 *   -ENOENT   no such image; or no skopeo: then the message names the package
 *   -EACCES   credentials are wanted, or others
 *   -ENOTSUP  not for this machine's architecture
 *   -ENOSPC   the disk is full
 *   -ECONNRESET  a pull from a registry was broken off, or it did not answer in time: worth another try
 *   -EIO      anything else: no connection, a wrong digest
 */
int skopeo_run(const struct skopeo_copy *copy, struct dayfly_err *err);

/* The message of skopeo's last fatal line in `log`, without what `shown` says already. For tests. */
void skopeo_fatal_message(const char *log, char *out, size_t size);

#endif
