#include "host.h"

#include <stdio.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

void print_host(void)
{
    struct utsname name;
    struct sysinfo info;
    struct timespec up;
    uname(&name);
    sysinfo(&info);
    clock_gettime(CLOCK_BOOTTIME, &up);
    printf("%s %s on %ld processors with %lu MiB, %.1f seconds old\n", name.sysname, name.release,
           sysconf(_SC_NPROCESSORS_ONLN), info.totalram * info.mem_unit >> 20,
           (double)up.tv_sec + (double)up.tv_nsec / 1e9);
}
