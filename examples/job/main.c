/* What `make demo` builds and runs inside a sandbox: a small program of several files. */
#include <stdio.h>

#include "host.h"
#include "sieve.h"

int main(void)
{
    const size_t limit = 10 * 1000 * 1000;
    print_host();
    printf("%zu primes up to %zu\n", count_primes(limit), limit);
    return 0;
}
