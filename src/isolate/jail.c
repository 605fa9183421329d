/* SPDX-License-Identifier: Apache-2.0 */
#include "isolate/jail.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "util/err.h"

struct jail {
    enum jail_mode mode;
    const struct log *log;
    atomic_uint lacks;

    pthread_mutex_t lock; /* guards what follows */
    bool has_maker;       /* until somebody waited for it */
    pthread_t maker;
    int made; /* what it says, then */
    struct dayfly_err made_err;
    struct isolate_namespaces namespaces;
};

static int start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

static void *make_namespaces(void *arg)
{
    struct jail *jail = arg;
    jail->made = isolate_namespaces_make(&jail->namespaces, &jail->made_err);
    return NULL;
}

/* Locked. */
static void wait_for_maker(struct jail *jail)
{
    if (jail->has_maker)
        pthread_join(jail->maker, NULL);
    jail->has_maker = false;
}

int jail_new(struct jail **out, enum jail_mode mode, const struct log *log, struct dayfly_err *err)
{
    struct jail *jail = calloc(1, sizeof(*jail));
    if (!jail)
        return err_set(err, ENOMEM, "out of memory");
    jail->mode = mode;
    jail->log = log;
    jail->namespaces = (struct isolate_namespaces)ISOLATE_NO_NAMESPACES;
    pthread_mutex_init(&jail->lock, NULL);
    if (mode != JAIL_OFF) {
        int r = start(&jail->maker, make_namespaces, jail);
        if (r < 0) {
            jail_free(jail);
            return err_errno(err, -r, "make a thread for namespaces");
        }
        jail->has_maker = true;
    }
    *out = jail;
    return 0;
}

void jail_free(struct jail *jail)
{
    if (!jail)
        return;
    wait_for_maker(jail);
    isolate_namespaces_close(&jail->namespaces);
    pthread_mutex_destroy(&jail->lock);
    free(jail);
}

bool jail_is_on(const struct jail *jail)
{
    return !jail || jail->mode != JAIL_OFF;
}

unsigned jail_lacks(const struct jail *jail)
{
    return atomic_load(&((struct jail *)(uintptr_t)jail)->lacks);
}

const char *jail_remedy(unsigned lacks)
{
    if (lacks & ISOLATE_SECCOMP)
        return "the host's kernel has to have seccomp filters";
    if (lacks & ISOLATE_NAMESPACES)
        return "only root may make namespaces for a thread";
    if (lacks & ISOLATE_LANDLOCK)
        return "the host's kernel has to have landlock (Linux 5.19, and lsm= with it), and shares with "
               "ids other than squash go without";
    if (lacks & ISOLATE_USER)
        return "kernel and initrd have to be readable by everybody (chmod a+r), so that QEMU can be "
               "nobody";
    return "";
}

int jail_account(struct jail *jail, const char *who, unsigned lacks, struct dayfly_err *err)
{
    char names[ISOLATE_STAGES_BYTES];
    if (!lacks)
        return 0;
    atomic_fetch_or(&jail->lacks, lacks);
    isolate_stage_names(lacks, names);
    if (jail->mode == JAIL_REQUIRED)
        return err_set(err, EPERM, "the jail is required, but what serves the guest (%s) lacks %s: %s",
                       who, names, jail_remedy(lacks));
    log_line(jail->log, LOG_DEBUG, "jail: what serves the guest (%s) goes without %s", who, names);
    return 0;
}

int jail_enter(struct jail *jail, const char *who, const struct isolate_options *options,
               struct dayfly_err *err)
{
    struct isolate_options joined = *options;
    unsigned applied;
    if (!jail)
        return isolate_thread(options, &applied, err);
    if (jail->mode == JAIL_OFF)
        return 0;
    pthread_mutex_lock(&jail->lock);
    wait_for_maker(jail);
    int r = jail->made;
    pthread_mutex_unlock(&jail->lock);
    if (r < 0)
        return err_set(err, -r, "%s", jail->made_err.msg);
    joined.join = &jail->namespaces;
    r = isolate_thread(&joined, &applied, err);
    return r < 0 ? r : jail_account(jail, who, isolate_wanted(options) & ~applied, err);
}

/* -- what there is to be had ---------------------------------------------------------------------- */

struct look {
    int result;
    struct dayfly_err err;
};

static void *try(void *arg)
{
    const struct isolate_options options = {.calls = {isolate_base_calls}};
    struct look *look = arg;
    unsigned applied;
    int r = isolate_thread(&options, &applied, &look->err);
    look->result = r < 0 ? r : (int)(isolate_wanted(&options) & ~applied);
    return NULL;
}

int jail_lacks_here(struct dayfly_err *err)
{
    struct look look = {0};
    pthread_t thread;
    int r = start(&thread, try, &look);
    if (r < 0)
        return err_errno(err, -r, "make a thread");
    pthread_join(thread, NULL);
    return look.result < 0 ? err_set(err, -look.result, "%s", look.err.msg) : look.result;
}
