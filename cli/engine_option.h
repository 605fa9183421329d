/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_ENGINE_OPTION_H
#define CLI_ENGINE_OPTION_H

/* The --engine option of every command that makes a machine. */

#include <string.h>

#include "command.h"
#include "dayfly/vm.h"
#include "job/job.h"

#define ENGINE_OPTION(type, member)                                                                    \
    {                                                                                                  \
        "engine", 0, "auto|kvm|tcg",                                                                   \
            "what runs the guest: our monitor on /dev/kvm, or QEMU's translator (default: auto)",      \
            OPTION_CHOICE(type, member)                                                                \
    }

/* The same for a job, which need not have a machine. */
#define JOB_ENGINE_OPTION(type, member)                                                                \
    {                                                                                                  \
        "engine", 0, "auto|kvm|tcg|user|none",                                                         \
            "what separates the command from the host: a machine (kvm, tcg), namespaces and a user "   \
            "of "                                                                                      \
            "its own, or nothing; auto, the default, takes a machine",                                 \
            OPTION_CHOICE(type, member)                                                                \
    }

#define JAIL_OPTION(type, member)                                                                      \
    {                                                                                                  \
        "jail", 0, "auto|required|off",                                                                \
            "how strictly the threads and processes that serve a machine are confined: as far as "     \
            "this host allows (the default), wholly or not started, or not at all, for debugging",     \
            OPTION_CHOICE(type, member)                                                                \
    }

/* The words of JAIL_OPTION. NULL is the default. */
static inline enum dayfly_jail jail_option(const char *word)
{
    return !word                           ? DAYFLY_JAIL_AUTO
           : strcmp(word, "required") == 0 ? DAYFLY_JAIL_REQUIRED
           : strcmp(word, "off") == 0      ? DAYFLY_JAIL_OFF
                                           : DAYFLY_JAIL_AUTO;
}

/* The words of JOB_ENGINE_OPTION. */
static inline enum job_wall wall_option(const char *word)
{
    return strcmp(word, "user") == 0   ? JOB_AS_USER
           : strcmp(word, "none") == 0 ? JOB_BARE
                                       : JOB_IN_MACHINE;
}

/* The words of ENGINE_OPTION; the parser has let no other through. */
static inline enum dayfly_engine engine_option(const char *word)
{
    return strcmp(word, "kvm") == 0   ? DAYFLY_ENGINE_KVM
           : strcmp(word, "tcg") == 0 ? DAYFLY_ENGINE_TCG
                                      : DAYFLY_ENGINE_AUTO;
}

#endif
