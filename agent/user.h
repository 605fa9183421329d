/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_USER_H
#define AGENT_USER_H

/* Who a command is to run as, looked up in the guest's own /etc/passwd and /etc/group (a job may have
 * written anything there: lines that are none are passed over). */

#include <stddef.h>
#include <sys/types.h>

#define USER_NAME_BYTES 33
#define USER_HOME_BYTES 256
#define USER_GROUPS_MAX 64

struct user {
    uid_t uid;
    gid_t gid;
    char name[USER_NAME_BYTES]; /* the number where it has no entry */
    char home[USER_HOME_BYTES]; /* "/" where it has none */
    gid_t groups[USER_GROUPS_MAX];
    size_t group_count;
};

/*
 * spec is "" (root), NAME, UID, or either with ":GROUP" or ":GID". A number without an entry stands for
 * itself, with group 0. A named user gets the supplementary groups that list it, unless spec names the
 * group. passwd and group are the files' texts. 0, -ENOENT: no such user; -ESRCH: no such group.
 */
int user_resolve(const char *spec, const char *passwd, const char *group, struct user *out);

#endif
