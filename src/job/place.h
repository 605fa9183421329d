/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_PLACE_H
#define JOB_PLACE_H

/*
 * Where a job runs: what is made for it, how the agent in there is reached, and how all of it goes away
 * again. job.c has the order of things and the conversation with the agent, which is the same in every
 * place; a place is one file.
 *
 * A place is used by one thread. Its calls come in the order in which they stand in place_ops, each at
 * most once but for `ended`; `free` may come after any of them. Waiting follows guest.h: a wait ends
 * with -ECANCELED when cancel_fd becomes readable, and may then be begun again.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "config/config.h"
#include "dayfly/net.h"
#include "image/image.h"
#include "image/store.h"
#include "job/guest.h"
#include "job/job.h"
#include "job/report.h"
#include "job/start_state.h"

/* What every place has. Embedded, first. */
struct place {
    const struct place_ops *ops;
    const struct job_options *options;
    struct store store;
    struct image image;               /* its root_fd is -1 where there is none */
    int share_fds[CONFIG_MAX_SHARES]; /* of options->shares, as many as are open */
    size_t share_fd_count;
    uid_t uid;        /* made for the job, since then; 0: none */
    bool has_created; /* since then `engine` and `why` are there to ask for */
};

struct place_ops {
    /* Half-built, with nothing open; NULL when memory runs out. */
    struct place *(*alloc)(void);

    /* Find all that is to be there: shares, image, kernel. Nothing is made yet. */
    int (*open)(struct place *place, struct dayfly_err *err);

    /* Make it. Nothing runs in it yet. */
    int (*create)(struct place *place, struct dayfly_err *err);
    const char *(*engine)(const struct place *place);
    const char *(*why)(const struct place *place); /* how the engine was chosen */

    /* Start it. `call`: wait for its agent; a connected stream, the caller's. */
    int (*start)(struct place *place, struct dayfly_err *err);
    int (*call)(struct place *place, const struct guest_wait *wait, struct dayfly_err *err);

    /* What SETUP has to say about this place: disks, shares, network. */
    int (*set_up)(struct place *place, struct proto_setup *setup, struct dayfly_err *err);

    /* Change what the person asked for, where the place has the last word: who runs it. NULL: nothing.
     */
    void (*adapt)(const struct place *place, struct guest_command *command);

    /* The command has ended: what the report says of the place, as long as it is there. facts->stat is
     * what the agent says; a place that knows better changes it. */
    void (*measure)(struct place *place, struct report_facts *facts);

    /* What the job wrote to its shares is not in them before the agent has said its last word. */
    bool writes_back;

    /* 0 as long as it is alive, else -errno and why. */
    int (*ended)(struct place *place, struct dayfly_err *err);

    /* What its kernel said, for a place that failed; NULL when it was silent or is none of its own. The
     * caller frees it. NULL op: never. */
    char *(*console)(struct place *place);

    /* Its network as it is now (dayfly/net.h), for the caller to free. NULL op: secrets for hosts are
     * not to be had in such a place. */
    int (*net_report)(const struct place *place, struct dayfly_net_report **out,
                      struct dayfly_err *err);

    /* What became of its network, for the report (job_net_report). */
    json_t *(*network)(const struct place *place);

    /* What the job started from. Strings live as long as the place. */
    void (*state)(const struct place *place, struct start_state *state);

    /* End what runs there and leave nothing. */
    void (*free)(struct place *place);
};

/* A virtual machine: engines kvm and tcg. */
extern const struct place_ops place_machine;
/* A sandbox of namespaces, and nothing at all. */
extern const struct place_ops place_user;
extern const struct place_ops place_none;

/* The name in an image's place of the host's own system, for those that can run on it. */
#define PLACE_HOST "host"

/* For the files of places: open the shares and the image, and close what of both is open. */
int place_open_shares(struct place *place, struct dayfly_err *err);
int place_open_image(struct place *place, struct dayfly_err *err);
void place_close(struct place *place);

static inline bool place_is_host(const struct place *place)
{
    return strcmp(place->options->image, PLACE_HOST) == 0;
}

static inline bool place_has_net(const struct place *place)
{
    return place->options->net && place->options->net->present;
}

static inline bool place_has_nat(const struct place *place)
{
    return place_has_net(place) && place->options->net->mode == DAYFLY_NET_NAT;
}

#endif
