/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_SECRET_H
#define AGENT_SECRET_H

/*
 * What the host has told for a job's eyes alone: files on a tmpfs at /run/secrets, mounted with the
 * first one, or variables, which are kept in the agent's memory until a command is made. A guest has no
 * swap, and commands leave no core dumps unless they ask for them.
 *
 * A secret that cannot be kept is remembered as a failure, and no command that counts on it runs.
 */

#include <sys/types.h>

#include "proto/message.h"

struct secret_entry {
    char name[PROTO_SECRET_NAME_BYTES];
    char *line; /* NAME=value, of memory that is not dumped; NULL: it is a file */
};

struct secrets {
    int files_fd; /* the directory that commands see; -1: not mounted yet */
    struct secret_entry entries[PROTO_SECRETS_MAX];
    size_t count;
    struct proto_exec_failed failed; /* code != 0: this one could not be kept */
};

/* Keep a secret, or do what else the message is for; or note why not. The caller wipes where it came from. */
void secrets_take(struct secrets *s, const struct proto_secret *m);

/* In a child that is to become this user's command: make the files the user's. 0 or -errno. */
int secrets_give(const struct secrets *s, uid_t uid, gid_t gid);

#endif
