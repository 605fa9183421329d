#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A whole run of dayfly, with a fault at every call in turn.

    every_call.py FAULT_AT NO_MEMORY DAYFLY [--engine ENGINE] [--kind KIND]... [--step N] [--first N] [--only N]
                  [--verbose]

For every kind of fault that fault-at knows, and for allocations (no_memory.c), or for those named, a job `true` is
run once without one, to count the calls, and then with the fault at call 1, 1 + N, 1 + 2N, ... (N = 1 unless --step
says otherwise; --first says where to begin). Each run has to end in time, with the job's own status or with 125 and a
message; a fault that a program has to get over (EINTR, a short count) must not be noticed at all. What a run left is
named by a look at the host that shares no code with Dayfly. Only what the fault kept from being removed may be left,
and the next run takes that away.

The data is in $DAYFLY_HOME, with an image `tests`. Needs root; prints TAP, a test a kind.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

KINDS = ["malloc", "EMFILE", "ENOMEM", "EIO", "ENOSPC", "EINTR", "short", "kill-other", "kill"]
TRANSPARENT = ("EINTR", "short")
LIMIT = {"user": 20, "tcg": 120, "kvm": 60}  # seconds
# Calls without which a thing stays until somebody sweeps: they remove it, or are on the way to that.
REMOVALS = {"unlink", "unlinkat", "rmdir", "umount2", "rename", "renameat", "renameat2", "openat", "openat2",
            "getdents64", "newfstatat", "fstat", "statx", "flock", "write"}
FIRST_ID = 1810000000 + os.getpid() % 10000 * 1000


def walk(top, skip=()):
    """The names below a directory, but for what is below `skip`."""
    found = []
    for path, dirs, files in os.walk(top):
        dirs[:] = [d for d in dirs if os.path.join(path, d) not in skip]
        found += [os.path.join(path, name) for name in dirs + files]
    return found


def read_words(path, column):
    with open(path, encoding="utf-8", errors="replace") as f:
        return [words[column] for words in (line.split() for line in f) if len(words) > column]


class Host:
    """Where the runs are, and what of them can be seen there."""

    def __init__(self, where):
        self.home = os.environ["DAYFLY_HOME"]
        self.tmp = where
        self.ids = f"{FIRST_ID}-{FIRST_ID + 999}"
        self.env = dict(os.environ, TMPDIR=where, DAYFLY_USER_RANGE=self.ids)
        self.cgroups = self.find_cgroups()

    @staticmethod
    def find_cgroups():
        """Where jobs' cgroups stand, once one has run: the folders named dayfly."""
        try:
            tops = ["/sys/fs/cgroup"] + [os.path.join("/sys/fs/cgroup", d) for d in os.listdir("/sys/fs/cgroup")]
        except OSError:
            return []
        return [path for top in tops if os.path.isdir(top) for path, dirs, _ in os.walk(top)
                if os.path.basename(path) == "dayfly"]

    def look(self):
        seen = walk(self.home, (os.path.join(self.home, "templates"),)) + walk(self.tmp)
        mine = re.compile(rf"job-{FIRST_ID // 1000}\d\d\d")
        for top in self.cgroups:
            seen += [path for path in walk(top) if mine.search(path) and os.path.isdir(path)]
        seen += [name for name in read_words("/proc/self/mountinfo", 4)
                 if name.startswith((self.home, self.tmp)) or "dayfly" in name]
        seen += [name for name in read_words("/proc/net/unix", 7) if self.tmp in name]
        if os.path.isdir("/run/dayfly"):
            seen += [f"/run/dayfly/{name}" for name in os.listdir("/run/dayfly") if str(FIRST_ID // 1000) in name]
        return set(seen)


class Kind:
    """One kind of fault, and what its runs showed."""

    def __init__(self, host, args, name):
        self.host, self.args, self.name = host, args, name
        self.log = os.path.join(host.tmp, "..", f"log-{name}")
        self.wrong = []
        self.counts = {"runs": 0, "hits": 0, "failed": 0, "left": 0}
        self.clean = None

    def run(self, at):
        """Status, stderr, and fault-at's words: a dict of what it said first."""
        not_those = [word for name in ("true", "qemu-system-x86") for word in ("--not", name)]
        env, word = self.host.env, self.name
        if self.name == "malloc":  # fault-at is the supervisor alone
            env = dict(env, DAYFLY_FAULT_AT=str(at), DAYFLY_FAULT_LOG=self.log + ".malloc")
            word, at = "EIO", 0
            not_those = ["env", f"LD_PRELOAD={self.args.no_memory}"]
            with open(self.log + ".malloc", "w", encoding="utf-8"):
                pass
        command = [self.args.fault_at, word, str(at), self.log, "--limit", str(LIMIT[self.args.engine]),
                   *not_those, self.args.dayfly, "run", "--engine", self.args.engine, "--net", "none",
                   "--cpus", "1", "--memory", "128MiB", "--disk", "16MiB", "tests", "--", "true"]
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, check=False)
        with open(self.log, encoding="utf-8", errors="replace") as f:
            said = dict(line.rstrip("\n").partition(" ")[::2] for line in f)
        if self.name == "malloc":
            del said["count"]
            with open(self.log + ".malloc", encoding="utf-8", errors="replace") as f:
                said.update(line.rstrip("\n").partition(" ")[::2] for line in f)
        return done.returncode, done.stderr.decode("utf-8", "replace").strip(), said

    def judge(self, status, words, said):
        """What is wrong with how a run ended, or nothing."""
        if "hang" in said:
            return "did not end: " + said["hang"]
        if "broken" in said:
            return "fault-at: " + said["broken"]
        if "hit" not in said and status != 0:
            return f"status {status} without a fault"
        if "Sanitizer" in words or "Assertion" in words or "runtime error" in words:
            return "broke a rule of its own"
        if self.name in ("kill", "kill-other") and status == 137:
            return ""  # the command itself, or what was about to become the job
        if status == 0:
            return ""
        if self.name in TRANSPARENT:
            return f"status {status}: it was not got over"
        if status == 126 and said["hit"].split()[1] != "execve":
            return "status 126, but the command was not to be started"
        if status not in (125, 126):
            return f"status {status}"
        if not re.search(r"^dayfly[a-z ]*: .{8}", words, re.M):
            return f"status {status} without a message"
        return ""

    def left(self, said):
        """What is wrong with what a run left, or nothing."""
        left = self.host.look() - self.clean
        if not left:
            return ""
        self.counts["left"] += 1
        call = said.get("hit", "? ?").split()[1]
        status, words, _ = self.run(0)
        still = self.host.look() - self.clean
        if status != 0 or still:
            self.clean |= still
            return f"left for good: {sorted(still)} (status {status} {words})"
        if self.name != "kill" and call not in REMOVALS:
            return f"left until the next run: {sorted(left)}"
        return ""

    def test(self):
        self.run(0)  # it may make what stays: a lock, a template
        status, words, said = self.run(0)
        if status != 0:
            self.wrong.append(f"without a fault: status {status}: {words}")
            return
        self.clean = self.host.look()
        at = self.args.only or self.args.first
        total = int(said["count"])
        while at <= total:
            status, words, said = self.run(at)
            self.counts["runs"] += 1
            self.counts["hits"] += "hit" in said
            self.counts["failed"] += status != 0
            wrong = [w for w in (self.judge(status, words, said), self.left(said)) if w]
            if wrong or self.args.verbose:
                hit = said.get("hit", "nothing")
                report = f"{self.name} {at} ({hit}): {'; '.join(wrong) or status}"
                report += "".join(f"\n    {line}" for line in words.splitlines())
                if wrong:
                    self.wrong.append(report)
                else:
                    print("# " + report.replace("\n", "\n# "), flush=True)
            at += self.args.step
            if self.args.only:
                break
        if not self.counts["hits"]:
            self.wrong.append("no fault was met")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fault_at")
    parser.add_argument("no_memory")
    parser.add_argument("dayfly")
    parser.add_argument("--engine", default="user", choices=sorted(LIMIT))
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--only", type=int)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("1..0 # skip root alone may trace what changes its user")
        return 0
    kinds = args.kind or KINDS
    print(f"1..{len(kinds)}")
    failed = False
    for number, name in enumerate(kinds, 1):
        with tempfile.TemporaryDirectory(prefix="every-call-") as where:
            os.mkdir(os.path.join(where, "tmp"))
            begin = time.monotonic()
            kind = Kind(Host(os.path.join(where, "tmp")), args, name)
            kind.test()
            counts = ", ".join(f"{count} {word}" for word, count in kind.counts.items())
            print(f"{'not ' if kind.wrong else ''}ok {number} - {args.engine}, {name}: {counts}, "
                  f"{time.monotonic() - begin:.1f} s")
            for wrong in kind.wrong:
                print("# " + wrong.replace("\n", "\n# "))
            sys.stdout.flush()
            failed = failed or bool(kind.wrong)
    return failed


if __name__ == "__main__":
    sys.exit(main())
