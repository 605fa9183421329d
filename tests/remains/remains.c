/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job that leaves things behind, and one that looks for them.
 *
 *   remains leave TOKEN [FOLDER...]   leave one thing of each kind, all of them called after TOKEN
 *   remains look TOKEN [FOLDER...]    print "found KIND" for each kind that is there, with a word on
 * where remains bomb TOKEN                a fork bomb of processes called after TOKEN, which goes off
 * behind the back of the caller
 *
 * Whoever looks in the place where things were left has to find every kind of them: then another who
 * finds nothing has shown something. A thing that could not be left is said ("not left KIND: why"), on
 * standard output like the rest.
 *
 * Kinds: file and setuid (in each folder where that is possible), process, daemon (deaf, of a session
 * of its own), sleeper (waits for a file FOLDER/go, of the first FOLDER, and then writes FOLDER/late),
 * memory, semaphore, queue (System V), posix-memory, posix-queue, key, user-key, tcp, abstract and path
 * (listening sockets), environment (TOKEN in somebody's).
 *
 * Static, since it runs in guests that have nothing else.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* <linux/keyctl.h> */
#define SESSION_KEYRING      (-3)
#define USER_KEYRING         (-4)
#define USER_SESSION_KEYRING (-5)
#define KEYCTL_SEARCH        10

#define SELF    "/proc/self/exe"
#define FOLDERS 32
#define POLL_US 20000

static const char *token;
static const char *folders[FOLDERS] = {"/",     "/tmp",          "/var/tmp", "/dev/shm", "/run",
                                       "/root", "/home/builder", "/etc",     "/opt",     "/var/lib"};
static int folder_count = 10;
static const char *own_folder = "/tmp"; /* the first that was said */

/* -- names ------------------------------------------------------------------------------------------
 */

static unsigned hash(void)
{
    unsigned h = 2166136261u;
    for (const char *p = token; *p; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    return h;
}

static key_t ipc_key(void)
{
    return (key_t)(hash() | 1);
}

static struct sockaddr_in tcp_address(uint32_t host)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)(20000 + hash() % 10000)),
                                .sin_addr.s_addr = htonl(host)};
}

static socklen_t unix_address(struct sockaddr_un *address, bool abstract)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    char *path = address->sun_path;
    int n = snprintf(path + abstract, sizeof(address->sun_path) - 1, "%s%s%s", abstract ? "" : "/tmp/",
                     token, abstract ? "" : ".sock");
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n + 1);
}

static void say(const char *kind, bool done)
{
    if (done)
        printf("left %s\n", kind);
    else
        printf("not left %s: %s\n", kind, strerror(errno));
}

/* -- leaving ----------------------------------------------------------------------------------------
 */

static bool copy_self(const char *path)
{
    char buffer[65536];
    int in = open(SELF, O_RDONLY), out = open(path, O_WRONLY | O_CREAT | O_EXCL, 0755);
    ssize_t n = 0;
    while (in >= 0 && out >= 0 && (n = read(in, buffer, sizeof(buffer))) > 0)
        if (write(out, buffer, (size_t)n) != n)
            break;
    bool done = in >= 0 && out >= 0 && n == 0 && fchmod(out, 04755) == 0;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return done;
}

static void leave_files(void)
{
    char path[4096];
    bool file = false, setuid = false;
    for (int i = 0; i < folder_count; i++) {
        snprintf(path, sizeof(path), "%s/%s", folders[i], token);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
        file |= fd >= 0;
        if (fd >= 0)
            close(fd);
        snprintf(path, sizeof(path), "%s/%s.setuid", folders[i], token);
        setuid |= copy_self(path);
    }
    say("file", file);
    say("setuid", setuid);
}

/* Become a program called after the token. */
static void become(const char *role)
{
    char name[128];
    int null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    snprintf(name, sizeof(name), "left-%s", token);
    execl(SELF, name, role, token, own_folder, (char *)NULL);
    _exit(1);
}

/* A process in its role. `detached`: in a session of its own, its parent gone. */
static void leave_process(const char *role, bool detached)
{
    int ready[2];
    char byte;
    bool child = pipe2(ready, O_CLOEXEC) == 0 && fork() == 0;
    if (child && (!detached || (setsid() >= 0 && fork() == 0))) {
        dup2(ready[1], 3); /* closed when the role is played */
        become(role);
    }
    if (child)
        _exit(0);
    close(ready[1]);
    say(role, read(ready[0], &byte, 1) == 1);
    close(ready[0]);
}

static bool add_key(int keyring)
{
    return syscall(SYS_add_key, "user", token, "x", 1, keyring) >= 0;
}

static void leave_kernel_objects(void)
{
    char name[128];
    snprintf(name, sizeof(name), "/%s", token);
    say("memory", shmget(ipc_key(), 4096, IPC_CREAT | 0666) >= 0);
    say("semaphore", semget(ipc_key(), 1, IPC_CREAT | 0666) >= 0);
    say("queue", msgget(ipc_key(), IPC_CREAT | 0666) >= 0);
    say("posix-memory", shm_open(name, O_CREAT | O_RDWR, 0666) >= 0);
    say("posix-queue", mq_open(name, O_CREAT | O_RDWR, 0666, NULL) >= 0);
    say("key", add_key(SESSION_KEYRING));
    say("user-key", add_key(USER_KEYRING));
}

static void leave(void)
{
    leave_files();
    leave_kernel_objects();
    leave_process("process", false);
    leave_process("daemon", true);
    leave_process("sleeper", true);
}

/* -- what is left -----------------------------------------------------------------------------------
 */

static void listen_at(int family, const void *address, socklen_t len)
{
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0 && bind(fd, address, len) == 0)
        listen(fd, 8);
}

static void ready(void)
{
    (void)!write(3, "x", 1);
    close(3);
}

static void be_deaf(void)
{
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_IGN);
}

static void process_role(void)
{
    ready();
    for (;;)
        pause();
}

static void daemon_role(void)
{
    const struct sockaddr_in tcp = tcp_address(INADDR_ANY);
    struct sockaddr_un path;
    be_deaf();
    listen_at(AF_INET, &tcp, sizeof(tcp));
    socklen_t len = unix_address(&path, true);
    listen_at(AF_UNIX, &path, len - 1);
    len = unix_address(&path, false);
    listen_at(AF_UNIX, &path, len);
    ready();
    for (;;)
        pause();
}

/* As somebody who was put off to a later hour: it looks at nothing but the clock, here a file. */
static void sleeper_role(void)
{
    char go[4096], late[4096];
    snprintf(go, sizeof(go), "%s/go", own_folder);
    snprintf(late, sizeof(late), "%s/late", own_folder);
    be_deaf();
    ready();
    while (access(go, F_OK) < 0)
        usleep(POLL_US);
    close(open(late, O_WRONLY | O_CREAT, 0666));
    for (;;)
        pause();
}

static void bomb_role(void)
{
    be_deaf();
    ready();
    for (;;)
        if (fork() < 0)
            sleep(1); /* thousands that try again and again would leave no time to whoever waits */
}

/* -- looking ----------------------------------------------------------------------------------------
 */

static void found(const char *kind, const char *where)
{
    printf("found %s %s\n", kind, where);
}

static void look_for_files(void)
{
    char path[4096];
    struct stat st;
    for (int i = 0; i < folder_count; i++) {
        snprintf(path, sizeof(path), "%s/%s", folders[i], token);
        if (lstat(path, &st) == 0)
            found("file", path);
        strcat(path, ".setuid");
        if (lstat(path, &st) == 0)
            found(st.st_mode & 06000 ? "setuid" : "file", path);
    }
}

static size_t read_all(const char *pid, const char *file, char *out, size_t size)
{
    char path[128];
    snprintf(path, sizeof(path), "/proc/%s/%s", pid, file);
    int fd = open(path, O_RDONLY);
    size_t len = 0;
    ssize_t n;
    while (fd >= 0 && len < size - 1 && (n = read(fd, out + len, size - 1 - len)) > 0)
        len += (size_t)n;
    if (fd >= 0)
        close(fd);
    out[len] = '\0';
    return len;
}

static void look_at_process(const char *pid)
{
    static char text[1 << 20];
    char name[128], kind[16] = "";
    int n = snprintf(name, sizeof(name), "left-%s", token);
    size_t len = read_all(pid, "cmdline", text, sizeof(text));
    if (len > (size_t)n && strcmp(text, name) == 0) {
        snprintf(kind, sizeof(kind), "%s", text + n + 1);
        found(kind, pid);
    }
    len = read_all(pid, "environ", text, sizeof(text));
    if (len && memmem(text, len, token, strlen(token)))
        found("environment", pid);
}

static void look_for_processes(void)
{
    struct dirent *entry;
    DIR *dir = opendir("/proc");
    while (dir && (entry = readdir(dir)))
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && atoi(entry->d_name) != getpid())
            look_at_process(entry->d_name);
    if (dir)
        closedir(dir);
    for (char **v = environ; *v; v++)
        if (strstr(*v, token))
            found("environment", "my own");
}

static void look_for_kernel_objects(void)
{
    static const int keyrings[] = {SESSION_KEYRING, USER_KEYRING, USER_SESSION_KEYRING};
    static char text[1 << 20];
    char name[128];
    snprintf(name, sizeof(name), "/%s", token);
    if (shmget(ipc_key(), 0, 0) >= 0 || errno == EACCES)
        found("memory", "");
    if (semget(ipc_key(), 0, 0) >= 0 || errno == EACCES)
        found("semaphore", "");
    if (msgget(ipc_key(), 0) >= 0 || errno == EACCES)
        found("queue", "");
    if (shm_open(name, O_RDONLY, 0) >= 0 || errno == EACCES)
        found("posix-memory", "");
    if (mq_open(name, O_RDONLY) >= 0 || errno == EACCES)
        found("posix-queue", "");
    for (int i = 0; i < 3; i++)
        if (syscall(SYS_keyctl, KEYCTL_SEARCH, keyrings[i], "user", token, 0) >= 0)
            found(i == 0 ? "key" : "user-key", "");
    if (read_all("self/..", "keys", text, sizeof(text)) && strstr(text, token))
        found("key", "/proc/keys");
}

static void look_for_socket(int family, const void *address, socklen_t len, const char *kind)
{
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, address, len) == 0)
        found(kind, "");
    if (fd >= 0)
        close(fd);
}

static void look_for_sockets(void)
{
    const struct sockaddr_in tcp = tcp_address(INADDR_LOOPBACK);
    struct sockaddr_un path;
    look_for_socket(AF_INET, &tcp, sizeof(tcp), "tcp");
    socklen_t len = unix_address(&path, true);
    look_for_socket(AF_UNIX, &path, len - 1, "abstract");
    len = unix_address(&path, false);
    look_for_socket(AF_UNIX, &path, len, "path");
}

/* ---- */

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fn)(void);
    } roles[] = {{"process", process_role},
                 {"daemon", daemon_role},
                 {"sleeper", sleeper_role},
                 {"bomb", bomb_role}};
    if (argc < 3) {
        fputs("usage: remains leave|look|bomb TOKEN [FOLDER...]\n", stderr);
        return 2;
    }
    const char *what = argv[1];
    bool left = strncmp(argv[0], "left-", 5) == 0;
    token = argv[2];
    if (argc > 3)
        own_folder = argv[3];
    for (int i = 3; i < argc && folder_count < FOLDERS - 1; i++)
        folders[folder_count++] = argv[i];
    if (getenv("HOME"))
        folders[folder_count++] = getenv("HOME");
    setvbuf(stdout, NULL, _IONBF, 0);

    for (size_t i = 0; left && i < sizeof(roles) / sizeof(roles[0]); i++)
        if (strcmp(what, roles[i].name) == 0)
            roles[i].fn();
    if (strcmp(what, "leave") == 0) {
        leave();
    } else if (strcmp(what, "bomb") == 0) {
        leave_process("bomb", true);
    } else {
        look_for_files();
        look_for_processes();
        look_for_kernel_objects();
        look_for_sockets();
    }
    return 0;
}
