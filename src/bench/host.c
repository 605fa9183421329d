/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/host.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/io.h"
#include "util/program.h"
#include "util/text.h"

static void set(char out[HOST_TEXT_BYTES], const char *text)
{
    snprintf(out, HOST_TEXT_BYTES, "%.*s", (int)strcspn(text, "\n"), text);
    text_make_printable(out);
}

static void read_line(const char *path, char out[HOST_TEXT_BYTES])
{
    char line[HOST_TEXT_BYTES] = "";
    _cleanup_fclose_ FILE *f = fopen(path, "re");
    if (f && fgets(line, sizeof(line), f))
        set(out, line);
}

static void look_at_processor(struct bench_host *out)
{
    char line[4096];
    _cleanup_fclose_ FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof(line), f) && line[0] != '\n') {
        char *value = strstr(line, ": ");
        if (value && strncmp(line, "model name", 10) == 0)
            set(out->processor, value + 2);
        if (value && strncmp(line, "flags", 5) == 0)
            out->virtual = strstr(value, " hypervisor") != NULL;
    }
}

static void look_at_system(struct bench_host *out)
{
    char line[512];
    _cleanup_fclose_ FILE *f = fopen("/etc/os-release", "re");
    while (f && fgets(line, sizeof(line), f)) {
        static const char key[] = "PRETTY_NAME=\"";
        if (strncmp(line, key, strlen(key)) == 0) {
            line[strcspn(line + strlen(key), "\"") + strlen(key)] = '\0';
            set(out->system, line + strlen(key));
        }
    }
}

/* The first line of what `PROGRAM --version` prints; nothing where there is none. */
static void ask_version(const char *name, char out[HOST_TEXT_BYTES])
{
    const char *const argv[] = {name, "--version", NULL};
    char text[HOST_TEXT_BYTES] = "";
    _cleanup_close_ int fd = memfd_create("version", MFD_CLOEXEC);
    const struct program program = {
        .argv = argv, .package = name, .stdin_fd = -1, .stdout_fd = fd, .stderr_fd = -1};
    if (fd < 0 || program_run(&program, NULL) < 0)
        return;
    ssize_t n = io_pread_full(fd, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    set(out, text);
}

void bench_host_look(struct bench_host *out)
{
    struct utsname name;
    struct sysinfo info;
    time_t now = time(NULL);
    struct tm utc;
    *out = (struct bench_host){0};
    look_at_processor(out);
    look_at_system(out);
    if (uname(&name) == 0)
        set(out->kernel, name.release);
    read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", out->governor);
    strftime(out->when, sizeof(out->when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    out->processors = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    if (sysinfo(&info) == 0)
        out->memory_bytes = (uint64_t)info.totalram * info.mem_unit;
    ask_version("qemu-system-x86_64", out->qemu);
    ask_version("podman", out->podman);
    ask_version("docker", out->docker);
}

double bench_host_busy_s(void)
{
    /* See proc(5): a guest's time is among the user's already. */
    unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
    _cleanup_fclose_ FILE *f = fopen("/proc/stat", "re");
    if (!f || fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle,
                     &iowait, &irq, &softirq, &steal) != 8)
        return NAN;
    return (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
}

void bench_host_load(char out[HOST_TEXT_BYTES])
{
    double one, five, fifteen;
    _cleanup_fclose_ FILE *f = fopen("/proc/loadavg", "re");
    out[0] = '\0';
    if (f && fscanf(f, "%lf %lf %lf", &one, &five, &fifteen) == 3)
        snprintf(out, HOST_TEXT_BYTES, "%.2f %.2f %.2f", one, five, fifteen);
}
