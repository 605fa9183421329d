#ifndef SIEVE_H
#define SIEVE_H

#include <stddef.h>

/* How many primes there are up to `limit`; 0 when memory runs out. */
size_t count_primes(size_t limit);

#endif
