/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See program.h. A program of classic BPF jumps forward only, and not far: by 255 at most where it
 * depends on a comparison. So it is laid out in the order in which it runs: the architecture, a binary
 * search for the number, and at each of its ends the rows for that number, one after the other:
 *
 *     load a half of an argument; mask it; compare: not so? to the next row
 *     ...
 *     return what the row says
 *
 * A number whose rows look at no argument costs nothing at run time: the kernel (5.11) finds out once,
 * and then does not run the program for it.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>

#include "isolate/program.h"

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "seccomp filters: which architecture is this?"
#endif

#define HEAD_LEN    6 /* before the search */
#define SEARCH_LEN  5 /* for each number, beside its rows */
#define CHECK_LEN   6
#define ROW_LEN     (ISOLATE_CHECKS_MAX * CHECK_LEN + 1)
#define TO_NEXT_ROW 255 /* a jump whose length is not known yet; no row is as long */

struct program {
    struct sock_filter *at;
    size_t len;
    const struct isolate_call **rows; /* by number; those for one number in their order */
    const struct program_verdicts *verdicts;
};

static void put_jump(struct program *p, unsigned code, uint32_t k, uint8_t yes, uint8_t no)
{
    p->at[p->len++] = (struct sock_filter){.code = (uint16_t)code, .jt = yes, .jf = no, .k = k};
}

static void put(struct program *p, unsigned code, uint32_t k)
{
    put_jump(p, code, k, 0, 0);
}

static void put_return(struct program *p, uint32_t verdict)
{
    put(p, BPF_RET | BPF_K, verdict);
}

static void load_half(struct program *p, unsigned arg, bool high)
{
    static const union {
        uint32_t word;
        uint8_t bytes[4];
    } one = {.word = 1};
    bool little_endian = one.bytes[0];
    size_t half = high == little_endian ? sizeof(uint32_t) : 0;
    put(p, BPF_LD | BPF_W | BPF_ABS,
        (uint32_t)(offsetof(struct seccomp_data, args) + arg * sizeof(uint64_t) + half));
}

static void put_masked_half(struct program *p, const struct isolate_check *check, bool high)
{
    uint32_t mask = (uint32_t)(check->mask >> (high ? 32 : 0));
    if (!mask && !(uint32_t)(check->value >> (high ? 32 : 0)))
        return;
    load_half(p, check->arg, high);
    if (mask != UINT32_MAX)
        put(p, BPF_ALU | BPF_AND | BPF_K, mask);
    put_jump(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(check->value >> (high ? 32 : 0)), 0, TO_NEXT_ROW);
}

static void put_from(struct program *p, const struct isolate_check *check)
{
    uint32_t high = (uint32_t)(check->value >> 32);
    load_half(p, check->arg, true);
    put_jump(p, BPF_JMP | BPF_JGT | BPF_K, high, 3, 0);
    put_jump(p, BPF_JMP | BPF_JEQ | BPF_K, high, 0, TO_NEXT_ROW);
    load_half(p, check->arg, false);
    put_jump(p, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)check->value, 0, TO_NEXT_ROW);
}

static void put_row(struct program *p, const struct isolate_call *call)
{
    size_t begin = p->len;
    for (unsigned i = 0; i < call->check_count; i++) {
        if (call->checks[i].from) {
            put_from(p, &call->checks[i]);
        } else {
            put_masked_half(p, &call->checks[i], true);
            put_masked_half(p, &call->checks[i], false);
        }
    }
    put_return(p, call->code ? SECCOMP_RET_ERRNO | (uint32_t)call->code : p->verdicts->listed);
    for (size_t i = begin; i < p->len; i++)
        if (p->at[i].jf == TO_NEXT_ROW)
            p->at[i].jf = (uint8_t)(p->len - i - 1);
}

/* All rows of one number, from `first` to before `end`. */
static void put_number(struct program *p, size_t first, size_t end)
{
    bool decided = false;
    put_jump(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)p->rows[first]->number, 1, 0);
    put_return(p, p->verdicts->other);
    for (size_t i = first; i < end && !decided; i++) {
        put_row(p, p->rows[i]);
        decided = !p->rows[i]->check_count;
    }
    if (!decided)
        put_return(p, p->verdicts->other);
}

/* Where the rows of this row's number begin. */
static size_t begin_of(const struct program *p, size_t first, size_t i)
{
    while (i > first && p->rows[i - 1]->number == p->rows[i]->number)
        i--;
    return i;
}

static void put_search(struct program *p, size_t first, size_t end)
{
    size_t middle = begin_of(p, first, first + (end - first) / 2);
    if (middle == first) /* the first number reaches beyond the middle: to where it ends */
        while (middle < end && p->rows[middle]->number == p->rows[first]->number)
            middle++;
    if (middle == end) {
        put_number(p, first, end);
        return;
    }
    put_jump(p, BPF_JMP | BPF_JGE | BPF_K, (uint32_t)p->rows[middle]->number, 0, 1);
    size_t far = p->len;
    put(p, BPF_JMP | BPF_JA, 0);
    put_search(p, first, middle);
    p->at[far].k = (uint32_t)(p->len - far - 1);
    put_search(p, middle, end);
}

static void put_head(struct program *p)
{
    uint32_t other = p->verdicts->other, no_such_call = SECCOMP_RET_ERRNO | ENOSYS;
    put(p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    put_jump(p, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
    put_return(p, other == SECCOMP_RET_ALLOW ? no_such_call : other);
    put(p, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    if (p->verdicts->newest) {
        put_jump(p, BPF_JMP | BPF_JGT | BPF_K, p->verdicts->newest, 0, 1);
        put_return(p, no_such_call);
    }
}

/* By number, and by insertion: what is equal stays in its order, and tables are short. */
static size_t sort_rows(const struct isolate_calls *tables, size_t count,
                        const struct isolate_call **rows)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < tables[i].count; j++) {
            const struct isolate_call *call = &tables[i].calls[j];
            size_t at = len++;
            for (; at > 0 && rows[at - 1]->number > call->number; at--)
                rows[at] = rows[at - 1];
            rows[at] = call;
        }
    return len;
}

int program_compile(const struct isolate_calls *tables, size_t count,
                    const struct program_verdicts *verdicts, struct sock_fprog *out)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += tables[i].count;
    struct program p = {
        .at = calloc(HEAD_LEN + total * (SEARCH_LEN + ROW_LEN) + 1, sizeof(*p.at)),
        .rows = calloc(total + 1, sizeof(struct isolate_call *)),
        .verdicts = verdicts,
    };
    if (p.at && p.rows) {
        put_head(&p);
        if (sort_rows(tables, count, p.rows) > 0)
            put_search(&p, 0, total);
        else
            put_return(&p, verdicts->other);
    }
    int r = !p.at || !p.rows ? -ENOMEM : p.len > BPF_MAXINSNS ? -E2BIG : 0;
    free(p.rows);
    if (r < 0)
        free(p.at);
    else
        *out = (struct sock_fprog){.len = (unsigned short)p.len, .filter = p.at};
    return r;
}
