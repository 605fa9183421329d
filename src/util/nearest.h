/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_NEAREST_H
#define UTIL_NEAREST_H

/*
 * "Did you mean ...?": the known word nearest to one that is not known.
 *
 *     struct nearest near = nearest_to(word);
 *     for each known name: nearest_offer(&near, name);
 *     if (near.best) ...
 *
 * The distance counts insertions, deletions, replacements and swaps of neighbours. A word further
 * away than a third of its length (at least 1, at most 3) is no suggestion but noise: `best` stays
 * NULL. Words longer than NEAREST_MAX_LEN are never matched. Nothing is allocated; `word` and the
 * offered names are borrowed.
 */

#define NEAREST_MAX_LEN 64

struct nearest {
    const char *word;
    const char *best;  /* NULL: nothing was near */
    unsigned distance; /* of best; before there is one, the first distance that is too far */
};

struct nearest nearest_to(const char *word);
void nearest_offer(struct nearest *near, const char *known);

/* The distance of two words of at most NEAREST_MAX_LEN characters each; UINT_MAX for longer ones. */
unsigned nearest_distance(const char *a, const char *b);

#endif
