/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the cases of posix_*.c and prints TAP.
 */
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sabotage.h"
#include "wipe.h"

#define CASE_SECONDS 60
#define EXIT_SKIP    77
#define SKIPS_MAX    8

#define SMALL_VARIABLE "SHARE_EXERCISE_SMALL"

static const struct posix_chapter *const CHAPTERS[] = {
    &posix_names,  &posix_data,  &posix_space,       &posix_attributes,
    &posix_owners, &posix_locks, &posix_directories,
};
#define CHAPTERS_COUNT (sizeof CHAPTERS / sizeof CHAPTERS[0])

/* -- checks ----------------------------------------------------------------------------------- */

static _Noreturn void fail(const char *file, int line)
{
    const char *base = strrchr(file, '/');

    printf(" (%s:%d)\n", base ? base + 1 : file, line);
    fflush(stdout);
    _exit(EXIT_DIFFERENCE);
}

long posix_ok(long result, const char *call, const char *file, int line)
{
    if (result >= 0)
        return result;
    printf("# %s: %s", call, strerror(errno));
    fail(file, line);
}

void posix_fails(long result, int error, const char *call, const char *file, int line)
{
    int got = errno;

    if (result == -1 && got == error)
        return;
    printf("# %s: not '%s' but ", call, strerror(error));
    if (result == -1)
        printf("'%s'", strerror(got));
    else
        printf("%ld", result);
    fail(file, line);
}

void posix_that(bool holds, const char *condition, const char *file, int line)
{
    if (holds)
        return;
    printf("# it is not true that %s", condition);
    fail(file, line);
}

void posix_equal(int64_t a, int64_t b, const char *a_text, const char *b_text, const char *file,
                 int line)
{
    if (a == b)
        return;
    printf("# %s is %lld (0%llo), not %s, %lld (0%llo)", a_text, (long long)a, (unsigned long long)a,
           b_text, (long long)b, (unsigned long long)b);
    fail(file, line);
}

void posix_skip(const char *why)
{
    printf("# skip: %s\n", why);
    fflush(stdout);
    _exit(EXIT_SKIP);
}

/* -- what most cases do ----------------------------------------------------------------------- */

void posix_make(const char *name, const char *text)
{
    int fd = (int)OK(open(name, O_WRONLY | O_CREAT | O_EXCL, 0644));

    EQUAL(OK(write(fd, text, strlen(text))), strlen(text));
    OK(close(fd));
}

void posix_make_for(const char *name, const char *text, mode_t mode, uid_t uid, gid_t gid)
{
    posix_make(name, text);
    OK(chown(name, uid, gid));
    OK(chmod(name, mode));
}

void posix_holds(const char *name, const char *text)
{
    char buf[256];
    int fd = (int)OK(open(name, O_RDONLY));

    EQUAL(OK(read(fd, buf, sizeof buf)), strlen(text));
    THAT(memcmp(buf, text, strlen(text)) == 0);
    OK(close(fd));
}

struct stat posix_stat(const char *name)
{
    struct stat st;

    OK(lstat(name, &st));
    return st;
}

struct stat posix_fstat(int fd)
{
    struct stat st;

    OK(fstat(fd, &st));
    return st;
}

bool posix_exists(const char *name)
{
    struct stat st;

    return lstat(name, &st) == 0;
}

unsigned posix_entries(const char *name)
{
    DIR *dir = opendir(name);
    unsigned count = 0;

    THAT(dir != NULL);
    for (struct dirent *entry; (entry = readdir(dir));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(dir);
    return count;
}

pid_t posix_fork(void)
{
    pid_t pid, parent = getpid();

    fflush(stdout);
    pid = (pid_t)OK(fork());
    /* A case that fails in the parent ends without a word to its children. */
    if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
        _exit(EXIT_DIFFERENCE);
    return pid;
}

void posix_done(void)
{
    fflush(stdout);
    _exit(0);
}

void posix_join(pid_t pid)
{
    int status;

    OK(waitpid(pid, &status, 0));
    if (status == 0)
        return;
    if (WIFEXITED(status))
        _exit(WEXITSTATUS(status));
    printf("# a process of the case ended by signal %d\n", WTERMSIG(status));
    _exit(EXIT_DIFFERENCE);
}

struct posix_gate posix_gate(void)
{
    struct posix_gate gate;

    OK(pipe2(gate.fds, O_CLOEXEC));
    return gate;
}

void posix_open_gate(struct posix_gate *gate)
{
    EQUAL(OK(write(gate->fds[1], "", 1)), 1);
}

void posix_pass_gate(struct posix_gate *gate)
{
    char byte;

    EQUAL(OK(read(gate->fds[0], &byte, 1)), 1);
}

void posix_become(uid_t uid, gid_t gid)
{
    OK(setgroups(0, NULL));
    OK(setresgid(gid, gid, gid));
    OK(setresuid(uid, uid, uid));
}

const char *posix_small_directory(void)
{
    return getenv(SMALL_VARIABLE);
}

/* -- what there is to test with --------------------------------------------------------------- */

static const struct {
    enum posix_need need;
    const char *name, *why_not;
} NEEDS[] = {
    {POSIX_ROOT, "root", "needs root"},
    {POSIX_OWNERS, "owners", "files have one owner here"},
    {POSIX_XATTR, "xattr", "no extended attributes here"},
    {POSIX_ACL, "acl", "no access control lists here"},
    {POSIX_MMAP, "mmap", "no shared writable mappings here"},
    {POSIX_PUNCH, "punch", "no holes can be punched here"},
    {POSIX_ZERO, "zero", "no ranges can be zeroed here"},
    {POSIX_TMPFILE, "tmpfile", "no O_TMPFILE here"},
    {POSIX_EXCHANGE, "exchange", "no RENAME_EXCHANGE here"},
    {POSIX_SMALL, "small", "no file system that may be filled (--small)"},
    {POSIX_NLINK, "nlink", "link counts of directories do not count here"},
    {POSIX_HOLES, "holes", "holes are not told from data here"},
};
#define NEEDS_COUNT (sizeof NEEDS / sizeof NEEDS[0])

/* Try out, in a directory of its own, what the file system can do. */
static unsigned find_abilities(int dir, const char *small)
{
    static const unsigned char acl[] = {2,
                                        0,
                                        0,
                                        0,
                                        /* ACL_USER_OBJ rw */ 1,
                                        0,
                                        6,
                                        0,
                                        255,
                                        255,
                                        255,
                                        255,
                                        /* ACL_GROUP_OBJ r */ 4,
                                        0,
                                        4,
                                        0,
                                        255,
                                        255,
                                        255,
                                        255,
                                        /* ACL_OTHER r */ 32,
                                        0,
                                        4,
                                        0,
                                        255,
                                        255,
                                        255,
                                        255};
    unsigned have = geteuid() == 0 ? POSIX_ROOT : 0;
    struct stat st;
    void *at;
    int fd, other;

    fd = openat(dir, "probe", O_RDWR | O_CREAT | O_EXCL, 0644);
    if (fd < 0 || ftruncate(fd, 8192) < 0)
        unable_errno("cannot make a file");
    if ((have & POSIX_ROOT) && fchown(fd, 4321, 4321) == 0 && fstat(fd, &st) == 0 && st.st_uid == 4321)
        have |= POSIX_OWNERS;
    if (fsetxattr(fd, "user.probe", "x", 1, 0) == 0)
        have |= POSIX_XATTR;
    if ((have & POSIX_OWNERS) && fsetxattr(fd, "system.posix_acl_access", acl, sizeof acl, 0) == 0)
        have |= POSIX_ACL;
    at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) {
        munmap(at, 4096);
        have |= POSIX_MMAP;
    }
    if (fallocate(fd, 1 /* KEEP_SIZE */ | 2 /* PUNCH_HOLE */, 0, 4096) == 0)
        have |= POSIX_PUNCH;
    if (fallocate(fd, 16 /* ZERO_RANGE */, 0, 4096) == 0)
        have |= POSIX_ZERO;
    if (ftruncate(fd, 1 << 20) == 0 && lseek(fd, 0, SEEK_HOLE) < 1 << 20)
        have |= POSIX_HOLES;
    other = openat(dir, ".", O_TMPFILE | O_RDWR, 0600);
    if (other >= 0) {
        close(other);
        have |= POSIX_TMPFILE;
    }
    close(fd);
    if (mkdirat(dir, "directory", 0755) < 0)
        unable_errno("cannot make a directory");
    if (fstatat(dir, "directory", &st, 0) == 0 && st.st_nlink == 2)
        have |= POSIX_NLINK;
    if (rename_flags(dir, "probe", dir, "directory", RENAME_SWAP) == 0)
        have |= POSIX_EXCHANGE;
    if (small)
        have |= POSIX_SMALL;
    return have;
}

static unsigned parse_must(const char *text)
{
    unsigned must = 0;
    char *copy = strdup(text), *rest = copy;

    for (char *word; (word = strsep(&rest, ","));) {
        unsigned found = strcmp(word, "all") == 0 ? ~0u : 0;

        for (unsigned i = 0; i < NEEDS_COUNT; i++)
            if (strcmp(NEEDS[i].name, word) == 0)
                found = NEEDS[i].need;
        if (!found)
            unable("--must: no '%s'", word);
        must |= found;
    }
    free(copy);
    return must;
}

/* -- running ---------------------------------------------------------------------------------- */

struct run {
    int root; /* the directory that the cases' directories are made in */
    const char *small, *broken, *skips[SKIPS_MAX];
    unsigned have, must;
    unsigned number, failed;
};

static void result(struct run *run, bool ok, const struct posix_case *c, const char *skip)
{
    run->number++;
    run->failed += !ok;
    printf("%s %u - %s%s%s\n", ok ? "ok" : "not ok", run->number, c->name, skip ? " # skip " : "",
           skip ? skip : "");
}

static void run_case(struct run *run, const struct posix_case *c)
{
    char dir[32];
    int status;
    pid_t pid;

    for (unsigned i = 0; i < SKIPS_MAX && run->skips[i]; i++) {
        if (fnmatch(run->skips[i], c->name, 0) == 0) {
            result(run, true, c, "by --skip");
            return;
        }
    }
    for (unsigned i = 0; i < NEEDS_COUNT; i++) {
        unsigned need = NEEDS[i].need & c->needs & ~run->have;

        if (need) {
            result(run, !(run->must & need), c, NEEDS[i].why_not);
            return;
        }
    }
    snprintf(dir, sizeof dir, "case-%u", run->number);
    fflush(stdout);
    pid = fork();
    if (pid < 0)
        unable_errno("fork");
    if (pid == 0) {
        umask(0);
        alarm(CASE_SECONDS);
        if (mkdirat(run->root, dir, 0777) < 0 || fchdir(run->root) < 0 || chdir(dir) < 0)
            unable_errno("%s", dir);
        if (run->broken)
            sabotage(run->broken, SABOTAGE_ANYWHERE);
        c->run();
        posix_done();
    }
    if (waitpid(pid, &status, 0) < 0)
        unable_errno("wait");
    if (WIFSIGNALED(status))
        printf("# ended by signal %d%s\n", WTERMSIG(status),
               WTERMSIG(status) == SIGALRM ? ": it took too long" : "");
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP)
        result(run, run->must != ~0u, c, "see above");
    else
        result(run, status == 0, c, NULL);
}

static void help(void)
{
    char names[256];

    printf("Usage: share-exercise posix [OPTION...] DIRECTORY\n\n"
           "Check POSIX behaviour case by case in a new directory below DIRECTORY, which is removed\n"
           "afterwards. Prints TAP. The cases have no random part, hence no seed.\n\n"
           "  --only GLOB     cases whose name matches\n"
           "  --skip GLOB     not these of them; may be given again\n"
           "  --list          print the names of the cases\n"
           "  --small DIR     a directory on a file system of some MiB, to be filled\n"
           "  --must LIST     fail, rather than skip, what needs these (or all):\n                  ");
    for (unsigned i = 0; i < NEEDS_COUNT; i++)
        printf("%s%s", i ? "," : "", NEEDS[i].name);
    printf(
        "\n  --break CALL    make a system call lie, to see that a case fails:\n                  %s\n",
        sabotage_names(names, sizeof names));
}

int posix_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"only", required_argument, NULL, 'o'}, {"skip", required_argument, NULL, 'k'},
        {"list", no_argument, NULL, 'l'},       {"small", required_argument, NULL, 's'},
        {"must", required_argument, NULL, 'm'}, {"break", required_argument, NULL, 'b'},
        {"help", no_argument, NULL, 'h'},       {0}};
    struct run run = {.root = -1};
    const char *only = "*";
    char name[32];
    unsigned planned = 0, skips = 0;
    int top;
    bool list = false;

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'o':
            only = optarg;
            break;
        case 'k':
            if (skips == SKIPS_MAX)
                unable("--skip: at most %d times", SKIPS_MAX);
            run.skips[skips++] = optarg;
            break;
        case 'l':
            list = true;
            break;
        case 's':
            run.small = optarg;
            break;
        case 'm':
            run.must |= parse_must(optarg);
            break;
        case 'b':
            run.broken = optarg;
            break;
        case 'h':
            help();
            return 0;
        default:
            return EXIT_UNABLE;
        }
    }
    for (unsigned i = 0; i < CHAPTERS_COUNT; i++) {
        for (unsigned j = 0; j < CHAPTERS[i]->count; j++) {
            if (fnmatch(only, CHAPTERS[i]->cases[j].name, 0) != 0)
                continue;
            planned++;
            if (list)
                puts(CHAPTERS[i]->cases[j].name);
        }
    }
    if (list)
        return 0;
    if (optind != argc - 1)
        unable("posix: give one directory; see --help");
    if (planned == 0)
        unable("--only: no case matches '%s'", only);
    if (run.small && setenv(SMALL_VARIABLE, run.small, 1) < 0)
        unable_errno("setenv");

    top = open(argv[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(name, sizeof name, "posix-%ld", (long)getpid());
    if (top < 0 || mkdirat(top, name, 0777) < 0)
        unable_errno("%s", argv[optind]);
    run.root = openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run.root < 0)
        unable_errno("%s/%s", argv[optind], name);
    /* A default ACL or umask of whoever called must not decide what the cases see. */
    umask(0);
    run.have = find_abilities(run.root, run.small);
    printf("1..%u\n", planned);
    for (unsigned i = 0; i < CHAPTERS_COUNT; i++)
        for (unsigned j = 0; j < CHAPTERS[i]->count; j++)
            if (fnmatch(only, CHAPTERS[i]->cases[j].name, 0) == 0)
                run_case(&run, &CHAPTERS[i]->cases[j]);
    close(run.root);
    if (wipe(top, name) < 0)
        unable_errno("remove %s/%s", argv[optind], name);
    close(top);
    return run.failed ? EXIT_DIFFERENCE : 0;
}
