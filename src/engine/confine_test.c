/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that was taken over, in QEMU's place: Python, which can make any system call, tries what
 * should not be, and says on stderr what it got through. Without being confined it gets through.
 */
#include "engine/confine.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/command_line.h"
#include "util/cleanup.h"
#include "util/io.h"
#include "util/program.h"
#include "util/testing.h"

#define SAID_BYTES 4096

static const char script[] =
    "import ctypes, os, socket, sys\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "parent, file, memory = os.getppid(), sys.argv[1], sys.argv[2]\n"
    "def opens(path, flags=os.O_RDONLY): os.close(os.open(path, flags, 0o600))\n"
    "def call(number, *args):\n"
    "    if libc.syscall(number, *args) < 0 and ctypes.get_errno() in (1, 13, 38): raise OSError\n"
    "def clear(): os.kill(parent, 0)\n"
    "def connect(): socket.socket(socket.AF_INET).close()\n"
    "def user():\n"
    "    if os.geteuid() != 0: raise OSError\n"
    "def caps():\n"
    "    status = open('/proc/self/status').read()\n"
    "    if 'CapEff:\\t0000000000000000' in status: raise OSError\n"
    "tries = {\n"
    "    'etc': lambda: opens('/etc/passwd'),\n"
    "    'home': lambda: os.listdir('/root'),\n"
    "    'tmp': lambda: opens('/tmp/dayfly-breach', os.O_WRONLY | os.O_CREAT),\n"
    "    'memory': lambda: opens('/proc/%d/mem' % parent),\n"
    "    'write': lambda: opens(file, os.O_RDWR),\n"
    "    'signal': clear, 'thread': lambda: call(234, parent, parent, 0),\n"
    "    'pair': lambda: call(53, 16, 3, 0, ctypes.byref(ctypes.c_int64())),\n"
    "    'inet': connect, 'user': user, 'capabilities': caps,\n"
    "    'ptrace': lambda: call(101, 0x4206, parent, 0, 0),\n"
    "    'vm_read': lambda: call(310, parent, 0, 0, 0, 0, 0),\n"
    "    'mount': lambda: call(165, b'none', b'/nonexistent', b'tmpfs', 0, 0),\n"
    "    'unshare': lambda: call(272, 0x10000000),\n"
    "    'io_uring': lambda: call(425, 1, 0),\n"
    "    'bpf': lambda: call(321, 0, 0, 0),\n"
    "}\n"
    "through = []\n"
    "for name, attempt in tries.items():\n"
    "    try: attempt(); through.append(name)\n"
    "    except OSError: pass\n"
    "for name, path in (('given', file), ('given', memory)):\n"
    "    try: opens(path); through.append(name)\n"
    "    except OSError: pass\n"
    "sys.stderr.write(' '.join(through) + '.')\n";

struct said {
    char text[SAID_BYTES];
    unsigned applied, wanted;
};

static int file_to_pass(struct command_line *line, const char *dir, mode_t mode)
{
    int file = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
    assert_true(file >= 0);
    return command_line_pass(line, file);
}

static void run(bool confined, mode_t mode, struct said *said)
{
    struct command_line line = {0};
    struct confine confine = CONFINE_NONE;
    struct dayfly_err err = {0};
    int out[2];
    memset(said, 0, sizeof(*said));
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    command_line_add(&line, "python3");
    command_line_add(&line, "-I");
    command_line_add(&line, "-c");
    command_line_add(&line, script);
    command_line_addf(&line, "/proc/self/fd/%d", file_to_pass(&line, "/tmp", mode));
    command_line_addf(&line, "/proc/self/fd/%d",
                      command_line_pass(&line, memfd_create("test", MFD_CLOEXEC)));
    assert_int_equal(confine_prepare(&confine, line.fds, line.fd_count, &err), 0);
    said->wanted = confine_wanted(&confine);
    pid_t pid = command_line_spawn(&line, out[1], confined ? &confine : NULL, &said->applied, &err);
    if (pid < 0)
        fail_msg("%s", err.msg);
    close(out[1]);
    ssize_t n = io_read_full(out[0], said->text, sizeof(said->text) - 1);
    assert_true(n > 0);
    close(out[0]);
    waitpid(pid, NULL, 0);
    command_line_finish(&line);
    confine_finish(&confine);
}

static void need_python(void)
{
    _cleanup_free_ char *python = program_find("python3");
    if (!python) {
        fprintf(stderr, "skipped: there is no python3 in /usr/bin\n");
        skip();
    }
}

static void a_program_is_held(void **state)
{
    (void)state;
    struct said said;
    need_python();
    run(true, 0644, &said);
    assert_string_equal(said.text, "given given.");
    if (geteuid() == 0)
        assert_int_equal(said.applied, said.wanted);
}

/* Then root reads it, which nobody is not: held all the same, but for that, and it is accounted. */
static void a_file_for_root_alone(void **state)
{
    (void)state;
    struct said said;
    need_python();
    if (geteuid() != 0)
        skip();
    run(true, 0600, &said);
    assert_string_equal(said.text, "user given given.");
    assert_int_equal(said.wanted & ~said.applied, ISOLATE_USER);
}

static void without_it_would_get_through(void **state)
{
    (void)state;
    struct said said;
    need_python();
    run(false, 0644, &said);
    const char *const all[] = {"etc",  "tmp",     "signal",  "thread", "pair",
                               "inet", "vm_read", "unshare", "given"};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        assert_non_null(strstr(said.text, all[i]));
    unlink("/tmp/dayfly-breach");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_is_held),
        cmocka_unit_test(a_file_for_root_alone),
        cmocka_unit_test(without_it_would_get_through),
    };
    setenv("PATH", "/usr/bin:/bin", 1); /* what /usr does not have is not to be seen */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
