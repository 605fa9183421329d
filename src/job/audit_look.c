/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See audit.h: the looking half. A function a kind of thing; each reads what the kernel says in /proc,
 * /sys or a folder, and keeps what is a job's. Files of /proc are read line by line, and a line that is
 * not of the form that proc(5) describes is passed over.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/audit_list.h"
#include "util/arith.h"
#include "util/cleanup.h"
#include "util/nameless.h"

#define PROCESSES_MAX 65536 /* more are not looked at */

struct look {
    struct audit_list *list;
    const struct audit_options *options;
    pid_t self;
};

typedef void line_fn(struct look *look, const char *kind, char *line);

/* Call fn for each line of a file, without its newline. */
static void each_line(struct look *look, const char *path, const char *kind, line_fn *fn)
{
    FILE *file = fopen(path, "re");
    _cleanup_free_ char *line = NULL;
    size_t room = 0;
    ssize_t n;
    if (!file)
        return;
    while ((n = getline(&line, &room, file)) > 0) {
        if (line[n - 1] == '\n')
            line[n - 1] = '\0';
        fn(look, kind, line);
    }
    fclose(file);
}

/* The next entry of a folder but itself and its parent, or NULL. */
static struct dirent *next_entry(DIR *dir)
{
    struct dirent *entry;
    do
        entry = readdir(dir);
    while (entry && (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")));
    return entry;
}

static bool is_number(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

/* ---- whose is it? ---- */

static bool is_jobs_uid(const struct look *look, unsigned long uid)
{
    return look->options->uid && uid == look->options->uid;
}

/* Whether the text has dayfly or one of our folders in it. */
static bool names_us(const struct look *look, const char *text)
{
    if (strstr(text, "dayfly"))
        return true;
    for (const char *const *dir = look->options->ours; dir && *dir; dir++)
        if (strstr(text, *dir))
            return true;
    return false;
}

/* The name of a socket without one (util/nameless.h), which another process made: another run has it.
 */
static bool is_anothers_door(const struct look *look, const char *text)
{
    const char *door = strstr(text, NAMELESS_DOOR);
    return door && strtol(door + strlen(NAMELESS_DOOR), NULL, 10) != look->self;
}

/* Whether the number stands in the text by itself. */
static bool has_number(const char *text, unsigned long number)
{
    char digits[24];
    size_t len = (size_t)snprintf(digits, sizeof(digits), "%lu", number);
    for (const char *at = text; (at = strstr(at, digits)); at++)
        if ((at == text || !isdigit((unsigned char)at[-1])) && !isdigit((unsigned char)at[len]))
            return true;
    return false;
}

/* ---- processes ---- */

struct process {
    pid_t pid, parent;
    unsigned long uid;
    bool ours;
    char name[64];
};

static bool read_process(struct process *p, const char *pid)
{
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/%.20s/status", pid);
    FILE *file = fopen(path, "re");
    *p = (struct process){.pid = (pid_t)strtol(pid, NULL, 10), .parent = -1};
    if (!file)
        return false;
    while (fgets(line, sizeof(line), file)) {
        int parent;
        if (sscanf(line, "PPid: %d", &parent) == 1)
            p->parent = parent;
        else if (sscanf(line, "Uid: %lu", &p->uid) == 1)
            break; /* it stands behind the others */
        else
            sscanf(line, "Name: %63[^\n]", p->name);
    }
    fclose(file);
    return p->parent >= 0;
}

/* Descendants are found by passes: a child may have a lower number than its parent. */
static void mark_descendants(struct process *all, size_t count, pid_t self)
{
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < count; i++) {
            bool ours = all[i].parent == self;
            for (size_t j = 0; j < count && !ours && !all[i].ours; j++)
                ours = all[j].ours && all[j].pid == all[i].parent;
            more = more || (ours && !all[i].ours);
            all[i].ours = all[i].ours || ours;
        }
    }
}

static void look_at_processes(struct look *look)
{
    size_t count = 0, room = 0;
    _cleanup_free_ struct process *all = NULL;
    struct dirent *entry;
    DIR *dir = opendir("/proc");
    while (dir && count < PROCESSES_MAX && (entry = next_entry(dir))) {
        if (!is_number(entry->d_name))
            continue;
        if (count == room) {
            room = MAX(2 * room, (size_t)256);
            struct process *bigger = reallocarray(all, room, sizeof(*all));
            if (!bigger) {
                look->list->incomplete = true;
                break;
            }
            all = bigger;
        }
        count += read_process(&all[count], entry->d_name);
    }
    if (dir)
        closedir(dir);
    mark_descendants(all, count, look->self);
    for (size_t i = 0; i < count; i++)
        if (all[i].ours || is_jobs_uid(look, all[i].uid))
            audit_add(look->list, "process", "%d %s", (int)all[i].pid, all[i].name);
}

static void look_at_threads(struct look *look)
{
    struct dirent *entry;
    DIR *dir = opendir("/proc/self/task");
    while (dir && (entry = next_entry(dir)))
        audit_add(look->list, "thread", "%s", entry->d_name);
    if (dir)
        closedir(dir);
}

static void look_at_descriptors(struct look *look)
{
    char target[PATH_MAX];
    struct dirent *entry;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && (entry = next_entry(dir))) {
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
        if (n < 0 || atoi(entry->d_name) == dirfd(dir))
            continue;
        target[n] = '\0';
        audit_add(look->list, "descriptor", "%s %s", entry->d_name, target);
    }
    if (dir)
        closedir(dir);
}

/* ---- lines of /proc ---- */

/* "12: OFDLCK ADVISORY WRITE -1 fe:00:1234 0 EOF": an open file's has no owner; those are descriptors'.
 */
static void take_lock(struct look *look, const char *kind, char *line)
{
    char type[16], file[64];
    int pid;
    if (sscanf(line, "%*s %15s %*s %*s %d %63s", type, &pid, file) == 3 && pid == (int)look->self)
        audit_add(look->list, kind, "%s %s", type, file);
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw" */
static void take_mount(struct look *look, const char *kind, char *line)
{
    char *point = line;
    for (int i = 0; i < 4 && point; i++)
        point = strchr(point + 1, ' ');
    if (point && names_us(look, point))
        audit_add(look->list, kind, "%.*s", (int)strcspn(point + 1, " "), point + 1);
}

/* "0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/x": a path or @abstract, if any */
static void take_unix_socket(struct look *look, const char *kind, char *line)
{
    char *path = line;
    for (int i = 0; i < 7 && path; i++)
        path = strchr(path + (i > 0), ' ');
    if (path && names_us(look, path) && !is_anothers_door(look, path))
        audit_add(look->list, kind, "%s", path + 1);
}

/* The owner is the fourth field of both tables' keys of interest: "key id perms ... uid gid cuid ...".
 */
static void take_shm(struct look *look, const char *kind, char *line)
{
    unsigned long id, uid;
    if (sscanf(line, "%*d %lu %*o %*u %*u %*u %*u %lu", &id, &uid) == 2 && is_jobs_uid(look, uid))
        audit_add(look->list, kind, "shared memory %lu", id);
}

static void take_sem(struct look *look, const char *kind, char *line)
{
    unsigned long id, uid;
    if (sscanf(line, "%*d %lu %*o %*u %lu", &id, &uid) == 2 && is_jobs_uid(look, uid))
        audit_add(look->list, kind, "semaphores %lu", id);
}

static void take_msg(struct look *look, const char *kind, char *line)
{
    unsigned long id, uid;
    if (sscanf(line, "%*d %lu %*o %*u %*u %*u %*u %lu", &id, &uid) == 2 && is_jobs_uid(look, uid))
        audit_add(look->list, kind, "message queue %lu", id);
}

/* " 1000:     2 2/2 2/200 30/20000": how many keys a user has. Which they are, /proc/keys shows to
 * their user alone, and not even to root. */
static void take_keys(struct look *look, const char *kind, char *line)
{
    unsigned long uid, keys;
    if (sscanf(line, "%lu: %*u %lu/", &uid, &keys) == 2 && keys > 0 && is_jobs_uid(look, uid))
        audit_add(look->list, kind, "of user %lu", uid);
}

/* "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 ..." */
static void take_port(struct look *look, const char *kind, char *line)
{
    char local[64];
    unsigned long uid;
    if (sscanf(line, "%*s %63s %*s %*s %*s %*s %*s %lu", local, &uid) == 2 && is_jobs_uid(look, uid))
        audit_add(look->list, kind, "%s", local);
}

/* ---- folders ---- */

/* Names that are ours in a folder of the kernel's. */
static void look_at_names(struct look *look, const char *folder, const char *kind)
{
    struct dirent *entry;
    DIR *dir = opendir(folder);
    while (dir && (entry = next_entry(dir)))
        if (names_us(look, entry->d_name) ||
            (look->options->uid && has_number(entry->d_name, look->options->uid)))
            audit_add(look->list, kind, "%s", entry->d_name);
    if (dir)
        closedir(dir);
}

/* Groups of jobs stand in dayfly/ of each hierarchy (sandbox/cgroup.h), other jobs' beside this one's.
 */
static void look_at_hierarchy(struct look *look, const char *top)
{
    char folder[300];
    struct dirent *entry;
    snprintf(folder, sizeof(folder), "%s/dayfly", top);
    DIR *dir = look->options->uid ? opendir(folder) : NULL;
    while (dir && (entry = next_entry(dir)))
        if (entry->d_type == DT_DIR && has_number(entry->d_name, look->options->uid))
            audit_add(look->list, "cgroup", "%s/%s", folder, entry->d_name);
    if (dir)
        closedir(dir);
}

/* Where the hierarchies usually are: version 2 alone, or each in a folder of its own. */
static void look_at_cgroups(struct look *look)
{
    static const char top[] = "/sys/fs/cgroup";
    char path[sizeof(top) + 1 + sizeof(((struct dirent *)0)->d_name)];
    struct dirent *entry;
    DIR *dir = opendir(top);
    look_at_hierarchy(look, top);
    while (dir && (entry = next_entry(dir)))
        if (entry->d_type == DT_DIR) {
            snprintf(path, sizeof(path), "%s/%s", top, entry->d_name);
            look_at_hierarchy(look, path);
        }
    if (dir)
        closedir(dir);
}

static void look_at_loop_devices(struct look *look)
{
    char path[300], file[PATH_MAX];
    struct dirent *entry;
    DIR *dir = opendir("/sys/block");
    while (dir && (entry = next_entry(dir))) {
        snprintf(path, sizeof(path), "/sys/block/%s/loop/backing_file", entry->d_name);
        FILE *f = strncmp(entry->d_name, "loop", 4) == 0 ? fopen(path, "re") : NULL;
        if (f && fgets(file, sizeof(file), f) && names_us(look, file))
            audit_add(look->list, "loop", "%s %.*s", entry->d_name, (int)strcspn(file, "\n"), file);
        if (f)
            fclose(f);
    }
    if (dir)
        closedir(dir);
}

/* What lies in a folder for temporary files and is called as ours are, or is the job's own. */
static void look_at_temporary(struct look *look, const char *folder)
{
    struct dirent *entry;
    struct stat st;
    DIR *dir = opendir(folder);
    while (dir && (entry = next_entry(dir)))
        if ((strncmp(entry->d_name, "dayfly-", 7) == 0 && !is_anothers_door(look, entry->d_name)) ||
            (look->options->uid && fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
             is_jobs_uid(look, st.st_uid)))
            audit_add(look->list, "file", "%s/%s", folder, entry->d_name);
    if (dir)
        closedir(dir);
}

/* Of our own folders what is called after this process or the job's user. Another job's is its own. */
static void look_at_ours(struct look *look, const char *folder)
{
    struct dirent *entry;
    DIR *dir = opendir(folder);
    while (dir && (entry = next_entry(dir)))
        if (has_number(entry->d_name, (unsigned long)look->self) ||
            (look->options->uid && has_number(entry->d_name, look->options->uid)))
            audit_add(look->list, "file", "%s/%s", folder, entry->d_name);
    if (dir)
        closedir(dir);
}

void audit_look(struct audit_list *list, const struct audit_options *options)
{
    static const struct {
        const char *path, *kind;
        line_fn *fn;
    } tables[] = {
        {"/proc/locks", "lock", take_lock},
        {"/proc/self/mountinfo", "mount", take_mount},
        {"/proc/net/unix", "socket", take_unix_socket},
        {"/proc/net/tcp", "socket", take_port},
        {"/proc/net/tcp6", "socket", take_port},
        {"/proc/net/udp", "socket", take_port},
        {"/proc/net/udp6", "socket", take_port},
        {"/proc/sysvipc/shm", "ipc", take_shm},
        {"/proc/sysvipc/sem", "ipc", take_sem},
        {"/proc/sysvipc/msg", "ipc", take_msg},
        {"/proc/key-users", "key", take_keys},
    };
    static const char *const temporary[] = {"/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock"};
    struct look look = {.list = list, .options = options, .self = getpid()};
    look_at_processes(&look);
    look_at_threads(&look);
    look_at_descriptors(&look);
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
        each_line(&look, tables[i].path, tables[i].kind, tables[i].fn);
    look_at_names(&look, "/sys/class/net", "network");
    look_at_cgroups(&look);
    look_at_loop_devices(&look);
    for (size_t i = 0; i < ARRAY_SIZE(temporary); i++)
        look_at_temporary(&look, temporary[i]);
    const char *tmpdir = getenv("TMPDIR");
    if (tmpdir && *tmpdir == '/')
        look_at_temporary(&look, tmpdir);
    for (const char *const *dir = options->ours; dir && *dir; dir++)
        look_at_ours(&look, *dir);
}
