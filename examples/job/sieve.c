#include "sieve.h"

#include <stdlib.h>

size_t count_primes(size_t limit)
{
    char *composite = calloc(limit + 1, 1);
    size_t count = 0;
    if (!composite)
        return 0;
    for (size_t n = 2; n <= limit; n++) {
        if (composite[n])
            continue;
        count++;
        for (size_t m = n * n; m <= limit; m += n)
            composite[m] = 1;
    }
    free(composite);
    return count;
}
