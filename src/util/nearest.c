/* SPDX-License-Identifier: Apache-2.0 */
#include "util/nearest.h"

#include <limits.h>
#include <string.h>

#include "util/arith.h"

/* Optimal string alignment: Levenshtein's rows, and one more behind them for swaps. */
unsigned nearest_distance(const char *a, const char *b)
{
    size_t a_len = strnlen(a, NEAREST_MAX_LEN + 1), b_len = strnlen(b, NEAREST_MAX_LEN + 1);
    unsigned rows[3][NEAREST_MAX_LEN + 1];
    unsigned *two_ago = rows[0], *last = rows[1], *row = rows[2];

    if (a_len > NEAREST_MAX_LEN || b_len > NEAREST_MAX_LEN)
        return UINT_MAX;
    for (size_t j = 0; j <= b_len; j++)
        last[j] = two_ago[j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned replace = last[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = MIN(replace, MIN(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = MIN(row[j], two_ago[j - 2] + 1);
        }
        unsigned *oldest = two_ago;
        two_ago = last;
        last = row;
        row = oldest;
    }
    return last[b_len];
}

struct nearest nearest_to(const char *word)
{
    size_t third = strnlen(word, NEAREST_MAX_LEN) / 3;
    unsigned limit = (unsigned)MIN(MAX(third, (size_t)1), (size_t)3);
    return (struct nearest){.word = word, .distance = limit + 1};
}

void nearest_offer(struct nearest *near, const char *known)
{
    unsigned distance = nearest_distance(near->word, known);
    if (distance < near->distance) {
        near->best = known;
        near->distance = distance;
    }
}
