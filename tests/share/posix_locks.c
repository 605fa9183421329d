/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks between processes: POSIX's, those of open file descriptions, and flock's.
 *
 * A lock that is waited for is given by an event (a release, an end), never by time; a hang ends with
 * the case's time limit. Who waits must find, once it has the lock, that the holder had let go.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "posix.h"

static int lock(int fd, int command, short type, off_t start, off_t length)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};

    return fcntl(fd, command, &range);
}

static int open_file(void)
{
    return (int)OK(open("f", O_RDWR | O_CREAT, 0644));
}

/* A word that a case and its children share. */
static volatile int *shared_word(void)
{
    void *at = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    THAT(at != MAP_FAILED);
    return at;
}

/* Give the process the time to get into the kernel and wait there. That it does is not certain (it may
 * have ended instead), and no check depends on it. */
static void until_it_waits(pid_t pid, long call)
{
    char path[64], text[32];
    siginfo_t info = {0};
    long now = -1;

    snprintf(path, sizeof path, "/proc/%ld/syscall", (long)pid);
    while (now != call && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           !info.si_pid) {
        int fd = open(path, O_RDONLY);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

        if (fd >= 0)
            close(fd);
        if (n <= 0)
            return;
        text[n] = '\0';
        if (sscanf(text, "%ld", &now) != 1)
            now = -1;
        sched_yield();
    }
}

static void posix_locks_exclude(void)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 1};
    struct posix_gate locked = posix_gate(), checked = posix_gate();
    int fd = open_file(), blocked = F_SETLK;
    pid_t pid = posix_fork();

    if (pid == 0) {
        OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
        OK(lock(fd, F_SETLK, F_RDLCK, 20, 10));
        posix_open_gate(&locked);
        posix_pass_gate(&checked);
        posix_done();
    }
    posix_pass_gate(&locked);
    /* POSIX leaves the choice between the two; Linux says EAGAIN. */
    FAILS(lock(fd, blocked, F_RDLCK, 9, 1), EAGAIN);
    FAILS(lock(fd, blocked, F_WRLCK, 25, 100), EAGAIN);
    OK(lock(fd, blocked, F_WRLCK, 10, 10));
    OK(lock(fd, blocked, F_RDLCK, 20, 5));
    OK(lock(fd, blocked, F_WRLCK, 30, 0));
    OK(fcntl(fd, F_GETLK, &range));
    EQUAL(range.l_type, F_WRLCK);
    EQUAL(range.l_start, 0);
    EQUAL(range.l_len, 10);
    posix_open_gate(&checked);
    posix_join(pid);
    /* It has ended, and its locks with it. */
    OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    range.l_type = F_WRLCK;
    OK(fcntl(fd, F_GETLK, &range));
    EQUAL(range.l_type, F_UNLCK);
}

static void posix_locks_say_whose_they_are(void)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    struct posix_gate locked = posix_gate(), checked = posix_gate();
    int fd = open_file();
    pid_t pid = posix_fork();

    if (pid == 0) {
        OK(lock(fd, F_SETLK, F_WRLCK, 0, 10));
        posix_open_gate(&locked);
        posix_pass_gate(&checked);
        posix_done();
    }
    posix_pass_gate(&locked);
    OK(fcntl(fd, F_GETLK, &range));
    EQUAL(range.l_type, F_WRLCK);
    EQUAL(range.l_pid, pid);
    posix_open_gate(&checked);
    posix_join(pid);
}

static void posix_locks_go_with_any_close(void)
{
    int fd = open_file(), other = open_file();
    pid_t pid;

    OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    OK(close(other)); /* POSIX: any descriptor of the file */
    pid = posix_fork();
    if (pid == 0) {
        OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));
        posix_done();
    }
    posix_join(pid);
}

static void posix_locks_split_and_join(void)
{
    int fd = open_file();
    pid_t pid;

    OK(lock(fd, F_SETLK, F_WRLCK, 0, 100));
    OK(lock(fd, F_SETLK, F_UNLCK, 40, 20));
    OK(lock(fd, F_SETLK, F_RDLCK, 80, 20));
    pid = posix_fork();
    if (pid == 0) {
        FAILS(lock(fd, F_SETLK, F_RDLCK, 39, 1), EAGAIN);
        OK(lock(fd, F_SETLK, F_WRLCK, 40, 20));
        FAILS(lock(fd, F_SETLK, F_RDLCK, 60, 1), EAGAIN);
        OK(lock(fd, F_SETLK, F_RDLCK, 80, 20));
        FAILS(lock(fd, F_SETLK, F_WRLCK, 80, 20), EAGAIN);
        posix_done();
    }
    posix_join(pid);
    FAILS(lock(fd, F_SETLK, F_WRLCK, -1, 1), EINVAL);
    OK(close(fd));
    fd = (int)OK(open("f", O_RDONLY));
    FAILS(lock(fd, F_SETLK, F_WRLCK, 0, 1), EBADF);
}

/* One holds a lock, another waits for it; then the holder lets go, in one of several ways. */
enum release { BY_UNLOCK, BY_CLOSE, BY_END, BY_KILL };

static void wait_for_release(int command, enum release release)
{
    volatile int *released = shared_word();
    struct posix_gate locked = posix_gate(), go = posix_gate();
    bool whole = command == LOCK_EX;
    pid_t holder, waiter;
    int fd, status;

    posix_make("f", "");
    holder = posix_fork();
    if (holder == 0) {
        fd = open_file();
        OK(whole ? flock(fd, LOCK_EX) : lock(fd, command, F_WRLCK, 0, 0));
        posix_open_gate(&locked);
        posix_pass_gate(&go);
        if (release == BY_UNLOCK)
            OK(whole ? flock(fd, LOCK_UN) : lock(fd, command, F_UNLCK, 0, 0));
        else if (release == BY_CLOSE)
            OK(close(fd));
        else if (release == BY_KILL)
            kill(getpid(), SIGKILL);
        if (release != BY_END)
            posix_pass_gate(&go); /* so that its end is not what releases */
        posix_done();
    }
    posix_pass_gate(&locked);
    waiter = posix_fork();
    if (waiter == 0) {
        fd = open_file();
        OK(whole ? flock(fd, LOCK_EX) : lock(fd, command, F_WRLCK, 0, 0));
        EQUAL(*released, 1);
        posix_done();
    }
    until_it_waits(waiter, whole ? SYS_flock : SYS_fcntl);
    *released = 1;
    posix_open_gate(&go);
    posix_join(waiter);
    if (release == BY_UNLOCK || release == BY_CLOSE)
        posix_open_gate(&go);
    OK(waitpid(holder, &status, 0));
    EQUAL(status, release == BY_KILL ? SIGKILL : 0);
}

static void posix_lock_waits_for_unlock(void)
{
    wait_for_release(F_SETLKW, BY_UNLOCK);
}

static void posix_lock_waits_for_close(void)
{
    wait_for_release(F_SETLKW, BY_CLOSE);
}

static void posix_lock_waits_for_exit(void)
{
    wait_for_release(F_SETLKW, BY_END);
}

static void posix_lock_waits_for_kill(void)
{
    wait_for_release(F_SETLKW, BY_KILL);
}

static void ofd_lock_waits_for_unlock(void)
{
    wait_for_release(F_OFD_SETLKW, BY_UNLOCK);
}

static void ofd_lock_waits_for_close(void)
{
    wait_for_release(F_OFD_SETLKW, BY_CLOSE);
}

static void ofd_lock_waits_for_kill(void)
{
    wait_for_release(F_OFD_SETLKW, BY_KILL);
}

static void flock_waits_for_unlock(void)
{
    wait_for_release(LOCK_EX, BY_UNLOCK);
}

static void flock_waits_for_close(void)
{
    wait_for_release(LOCK_EX, BY_CLOSE);
}

static void flock_waits_for_kill(void)
{
    wait_for_release(LOCK_EX, BY_KILL);
}

static void on_signal(int number)
{
}

static void a_waiting_lock_is_interrupted(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    int fd = open_file(), status;
    pid_t pid;

    OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    OK(sigaction(SIGUSR1, &action, NULL));
    pid = posix_fork();
    if (pid == 0) {
        FAILS(lock(fd, F_SETLKW, F_WRLCK, 0, 0), EINTR);
        posix_done();
    }
    /* A signal that comes too early changes nothing: more of them, until one hits. */
    until_it_waits(pid, SYS_fcntl);
    while (OK(waitpid(pid, &status, WNOHANG)) == 0) {
        kill(pid, SIGUSR1);
        sched_yield();
    }
    EQUAL(status, 0);
    /* The attempt left nothing behind: once we let go, the lock is free. */
    OK(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    pid = posix_fork();
    if (pid == 0) {
        OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));
        posix_done();
    }
    posix_join(pid);
}

static void a_waiting_lock_ends_with_its_process(void)
{
    int fd = open_file(), status;
    pid_t pid;

    OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));
    pid = posix_fork();
    if (pid == 0) {
        lock(fd, F_SETLKW, F_WRLCK, 0, 0);
        posix_done();
    }
    until_it_waits(pid, SYS_fcntl);
    OK(kill(pid, SIGKILL));
    OK(waitpid(pid, &status, 0));
    EQUAL(status, SIGKILL);
    OK(lock(fd, F_SETLK, F_UNLCK, 0, 0));
    pid = posix_fork();
    if (pid == 0) {
        OK(lock(fd, F_SETLK, F_WRLCK, 0, 0));
        posix_done();
    }
    posix_join(pid);
}

static void ofd_locks(void)
{
    int one = open_file(), two = open_file(), copy;
    pid_t pid;

    OK(lock(one, F_OFD_SETLK, F_WRLCK, 0, 10));
    FAILS(lock(two, F_OFD_SETLK, F_WRLCK, 5, 1), EAGAIN); /* within one process as well */
    OK(lock(two, F_OFD_SETLK, F_WRLCK, 10, 10));
    FAILS(lock(one, F_SETLK, F_WRLCK, 0, 1), EAGAIN); /* and against POSIX's */
    pid = posix_fork();
    if (pid == 0) {
        OK(lock(one, F_OFD_SETLK, F_WRLCK, 0, 5)); /* the same open file: already its own */
        FAILS(lock(two, F_OFD_SETLK, F_WRLCK, 0, 5), EAGAIN);
        posix_done();
    }
    posix_join(pid);
    copy = (int)OK(dup(one));
    OK(close(one));
    FAILS(lock(two, F_OFD_SETLK, F_WRLCK, 0, 5), EAGAIN); /* held by the copy */
    OK(close(copy));
    OK(lock(two, F_OFD_SETLK, F_WRLCK, 0, 5));
}

static void flock_locks(void)
{
    int one = open_file(), two = open_file(), ro;
    pid_t pid;

    OK(flock(one, LOCK_SH));
    OK(flock(two, LOCK_SH | LOCK_NB));
    FAILS(flock(one, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    OK(flock(two, LOCK_UN));
    OK(flock(one, LOCK_EX | LOCK_NB));
    FAILS(flock(two, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    pid = posix_fork();
    if (pid == 0) {
        OK(flock(one, LOCK_EX | LOCK_NB)); /* inherited: the same lock */
        FAILS(flock(two, LOCK_SH | LOCK_NB), EWOULDBLOCK);
        posix_done();
    }
    posix_join(pid);
    OK(close(one));
    ro = (int)OK(open("f", O_RDONLY));
    OK(flock(ro, LOCK_EX | LOCK_NB)); /* any descriptor will do */
    FAILS(flock(two, LOCK_SH | LOCK_NB), EWOULDBLOCK);
    OK(mkdir("d", 0755));
    OK(flock((int)OK(open("d", O_RDONLY)), LOCK_EX | LOCK_NB));
}

static void locks_of_removed_files(void)
{
    int fd = open_file(), other;

    other = open_file();
    OK(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0));
    OK(unlink("f"));
    FAILS(lock(other, F_OFD_SETLK, F_WRLCK, 0, 0), EAGAIN);
    OK(lock(open_file(), F_OFD_SETLK, F_WRLCK, 0, 0)); /* another file of that name */
    OK(lock(fd, F_OFD_SETLK, F_UNLCK, 0, 0));
    OK(lock(other, F_OFD_SETLK, F_WRLCK, 0, 0));
}

static const struct posix_case CASES[] = {
    {"POSIX locks exclude, and end with their process", posix_locks_exclude, 0},
    {"POSIX locks say whose they are", posix_locks_say_whose_they_are, 0},
    {"POSIX locks go with any close", posix_locks_go_with_any_close, 0},
    {"POSIX locks split and join", posix_locks_split_and_join, 0},
    {"a POSIX lock waits for an unlock", posix_lock_waits_for_unlock, 0},
    {"a POSIX lock waits for a close", posix_lock_waits_for_close, 0},
    {"a POSIX lock waits for an exit", posix_lock_waits_for_exit, 0},
    {"a POSIX lock waits for a killed holder", posix_lock_waits_for_kill, 0},
    {"a waiting lock is interrupted", a_waiting_lock_is_interrupted, 0},
    {"a waiting lock ends with its process", a_waiting_lock_ends_with_its_process, 0},
    {"OFD locks", ofd_locks, 0},
    {"an OFD lock waits for an unlock", ofd_lock_waits_for_unlock, 0},
    {"an OFD lock waits for a close", ofd_lock_waits_for_close, 0},
    {"an OFD lock waits for a killed holder", ofd_lock_waits_for_kill, 0},
    {"flock", flock_locks, 0},
    {"flock waits for an unlock", flock_waits_for_unlock, 0},
    {"flock waits for a close", flock_waits_for_close, 0},
    {"flock waits for a killed holder", flock_waits_for_kill, 0},
    {"locks of removed files", locks_of_removed_files, 0},
};

const struct posix_chapter posix_locks = {CASES, sizeof CASES / sizeof CASES[0]};
