/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISOLATE_JAIL_H
#define ISOLATE_JAIL_H

/*
 * What the threads of one machine are locked up in: one set of empty namespaces, which all of them
 * enter, since to make one for each would take longer than to boot some guests; and the account of what
 * this host could not give.
 *
 * Each kind of thread says what it needs in a struct isolate_options, beside its own code. Threads of
 * the program that the library is in are never touched: a jail is entered by the thread that calls.
 *
 * Threads: jail_enter, jail_lacks and jail_lacks_here are for any; new and free are the owner's.
 */

#include <stdbool.h>

#include "isolate/isolate.h"
#include "util/log.h"

enum jail_mode {
    JAIL_AUTO,     /* as much as this host allows */
    JAIL_REQUIRED, /* all of it, or an error */
    JAIL_OFF,      /* nothing: for debugging */
};

struct jail;

/* The namespaces are being made when it returns, in a thread that then ends. Borrows log. */
int jail_new(struct jail **out, enum jail_mode mode, const struct log *log, struct dayfly_err *err);
/* After the last jail_enter; who is inside stays there. NULL is legal. */
void jail_free(struct jail *jail);

/*
 * Lock up the calling thread, of the kind `who` ("processor"). options->join is the jail's to fill in.
 * NULL for a jail: in namespaces of its own, as JAIL_AUTO. Returns 0, or -errno, and then the thread
 * must end without touching anything of a guest's: -EPERM where JAIL_REQUIRED lacks a stage.
 */
int jail_enter(struct jail *jail, const char *who, const struct isolate_options *options,
               struct dayfly_err *err);

/* Say that something else of the machine (`who`) goes without these stages. -EPERM where all of them
 * are required. */
int jail_account(struct jail *jail, const char *who, unsigned lacks, struct dayfly_err *err);

/* Whether threads are to be locked up at all. */
bool jail_is_on(const struct jail *jail);

/* The stages that some thread went without, as a mask of enum isolate_stage. */
unsigned jail_lacks(const struct jail *jail);

/* What this host and user lack, found by locking up a thread that then ends. -errno or a mask. */
int jail_lacks_here(struct dayfly_err *err);

/* For people: what it takes to have these stages. */
const char *jail_remedy(unsigned lacks);

#endif
