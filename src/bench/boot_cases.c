/* SPDX-License-Identifier: Apache-2.0 */
/* See boot.h: the cases of the table, and room for what each round measures. */
#include "bench/boot.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "util/err.h"

static double *make_row(unsigned rounds)
{
    double *row = calloc(rounds, sizeof(*row));
    for (unsigned i = 0; row && i < rounds; i++)
        row[i] = NAN;
    return row;
}

int boot_add_case(struct boot *boot, unsigned cpus, uint64_t memory_bytes, struct dayfly_err *err)
{
    struct boot_case *c = &boot->cases[boot->case_count++];
    bool whole = true;
    *c = (struct boot_case){.cpus = cpus, .memory_bytes = memory_bytes};
    for (size_t i = 0; i < BOOT_MOMENTS; i++) {
        c->phases[i] = make_row(boot->options->rounds);
        c->since[i] = make_row(boot->options->rounds);
        whole &= c->phases[i] && c->since[i];
    }
    for (size_t i = 0; i < BOOT_SUMS; i++)
        whole &= (c->sums[i] = make_row(boot->options->rounds)) != NULL;
    return whole ? 0 : err_set(err, ENOMEM, "out of memory");
}

int boot_make_cases(struct boot *boot, struct dayfly_err *err)
{
    const struct boot_options *o = boot->options;
    if (o->cpus_count + o->memory_count - 1 > BOOT_MAX_CASES)
        return err_set(err, EINVAL, "more than %d cases", BOOT_MAX_CASES);
    int r = boot_add_case(boot, o->cpus[0], o->memory_bytes[0], err);
    for (size_t i = 1; i < o->memory_count && r == 0; i++)
        r = boot_add_case(boot, o->cpus[0], o->memory_bytes[i], err);
    for (size_t i = 1; i < o->cpus_count && r == 0; i++)
        r = boot_add_case(boot, o->cpus[i], o->memory_bytes[0], err);
    return r;
}

void boot_finish(struct boot *boot)
{
    for (size_t i = 0; i < boot->case_count; i++) {
        for (size_t m = 0; m < BOOT_MOMENTS; m++) {
            free(boot->cases[i].phases[m]);
            free(boot->cases[i].since[m]);
        }
        for (size_t s = 0; s < BOOT_SUMS; s++)
            free(boot->cases[i].sums[s]);
    }
    boot->case_count = 0;
}
