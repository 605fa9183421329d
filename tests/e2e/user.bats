#!/usr/bin/env bats
# Engine user: what holds a job that shares the host's kernel, and what is left of it. Root's, unless a test
# says otherwise.

load common

ONLY_ENGINE=user

# dayfly run with engine user on the host's own programs.
on_host() {
    local options=(--net none)
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    timeout -k 10 "$LIMIT" "$DAYFLY" run --engine user "${options[@]}" host "$@"
}

# A job that says "waiting" and then waits for a line on its input, in the background: its output on
# descriptor 7, its input on 8.
start_waiting() { # -- CMD...
    mkfifo "$TEST_DIR/out" "$TEST_DIR/in"
    "$DAYFLY" run --engine user --net none -i host "$@" <"$TEST_DIR/in" >"$TEST_DIR/out" 2>"$TEST_DIR/err" 3>&- &
    RUNNER=$!
    exec 8>"$TEST_DIR/in" 7<"$TEST_DIR/out"
    read -r -t "$LIMIT" line <&7
    [ "$line" = waiting ]
}

# What the kernel keeps by name or number, and a job could leave in it.
kernel_objects() {
    ipcs -a | sed '/^$/d'
    ls /dev/mqueue /dev/shm 2>/dev/null || true
    # How many keys the ids of jobs have; which, the kernel shows to nobody else.
    awk '$1 + 0 >= 1800000000 && $1 + 0 <= 1800065535' /proc/key-users
    find /proc -maxdepth 1 -uid "$1" 2>/dev/null || true
    losetup -a
}

@test "the job has an id of its own, with a name, a group and a home" {
    run job --net none -- sh -c 'id -u; id -un; id -gn; id -G | wc -w; echo "$HOME"; stat -c %U:%a "$HOME"; touch ~/file'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" -ge 1800000000 ]
    [ "${lines[1]}" = job ]
    [ "${lines[2]}" = job ]
    [ "${lines[3]}" -eq 1 ]
    [ "${lines[4]}" = /home/job ]
    [ "${lines[5]}" = job:700 ]
}

@test "two jobs have different ids, in a row and at once" {
    one=$(on_host -- id -u)
    two=$(on_host -- id -u)
    [ "$one" -ne "$two" ]
    start_waiting -- sh -c 'echo waiting; read line; id -u'
    three=$(on_host -- id -u)
    echo >&8
    read -r four <&7
    wait "$RUNNER"
    [ "$three" -ne "$four" ]
}

@test "the range of ids is the person's to say, and to be nobody's" {
    DAYFLY_USER_RANGE=1900000007-1900000007 run on_host -- id -u
    [ "$output" = 1900000007 ]
    DAYFLY_USER_RANGE=0-5 run on_host -- id -u
    [ "$status" -eq 125 ]
    DAYFLY_USER_RANGE=65530-65540 run on_host -- id -u
    [ "$status" -eq 125 ]
}

@test "an id is not given to a second job while the first has it" {
    export DAYFLY_USER_RANGE=1900000007-1900000007
    start_waiting -- sh -c 'echo waiting; read line'
    run on_host -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *"in use"* ]]
    echo >&8
    wait "$RUNNER"
    on_host -- true
}

@test "no capability, no new privileges, a filter" {
    run job --net none -- grep -E '^(CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status
    [ "$status" -eq 0 ]
    [ "$(grep -c 0000000000000000 <<<"$output")" -eq 4 ]
    grep -qE 'NoNewPrivs:\s*1' <<<"$output"
    grep -qE 'Seccomp:\s*2' <<<"$output"
}

@test "setuid programs give nothing" {
    mkdir "$TEST_DIR/tree"
    cp "$(command -v busybox)" "$TEST_DIR/tree/busybox"
    # The host's own are shown nosuid as well.
    run on_host -- sh -c 'find /usr/bin -perm -4000 | head -n 1; cp /usr/bin/id ~/id; chmod u+s ~/id; ~/id -u; su -c id root </dev/null'
    [[ "$output" != *"uid=0"* ]]
}

@test "what is refused: mounts, namespaces, bpf, keys of users, tracing init" {
    cat >"$TEST_DIR/calls.py" <<'PY'
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, *args):
    ctypes.set_errno(0)
    r = libc.syscall(*args)
    code = ctypes.get_errno()
    print(name, "refused" if r == -1 and code in (errno.EPERM, errno.ENOSYS) else f"went: {r} {code}")
refused("mount", 165, b"none", b"/tmp", b"tmpfs", 0, 0)
refused("umount", 166, b"/tmp", 0)
refused("chroot", 161, b"/tmp")
refused("unshare user", 272, 0x10000000)
refused("unshare net", 272, 0x40000000)
refused("clone user", 56, 0x10000000 | 17, 0, 0, 0, 0)
refused("clone3", 435, 0, 0)
refused("setns", 308, 0, 0)
refused("bpf", 321, 0, 0, 0)
refused("perf", 298, 0, 0, -1, -1, 0)
refused("userfaultfd", 323, 0)
refused("io_uring", 425, 1, 0)
refused("open_by_handle_at", 304, -100, 0, 0)
refused("kexec", 246, 0, 0, 0, 0)
refused("init_module", 175, 0, 0, b"")
refused("user keyring", 250, 0, ctypes.c_int(-4), 1)
refused("persistent keyring", 250, 22, -1, -3)
refused("key for the user", 248, b"user", b"x", b"y", 1, ctypes.c_int(-4))
refused("request_key", 249, b"user", b"x", b"", 0)
refused("ptrace init", 101, 16, 1, 0, 0)
refused("keyring by name", 250, 1, b"meeting")
refused("keys for others", 250, 5, ctypes.c_int(-3), 0x3f3f3f3f)
refused("a call that is not known yet", 467)
def no_socket(name, family, protocol=0):
    ctypes.set_errno(0)
    r = libc.syscall(41, family, 3, protocol)
    code = ctypes.get_errno()
    print(name, "refused" if code in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT) else f"went: {r} {code}")
no_socket("vsock", 40)
no_socket("algorithms", 38)
no_socket("packets", 17)
no_socket("devices' events", 16, 15)
key = libc.syscall(248, b"user", b"x", b"y", 1, ctypes.c_int(-3))
print("own key", "refused" if key == -1 else "went")
PY
    run on_host -i -- python3 - <"$TEST_DIR/calls.py"
    echo "$output"
    [ "$status" -eq 0 ]
    ! grep -v refused <<<"$output" | grep -v "^own key went$"
    grep -qx "own key went" <<<"$output"
}

@test "the host's system is read-only, and people's files are not there" {
    mkdir -p "$TEST_DIR/private"
    run on_host -- sh -c 'touch /usr/x /etc/x /x; ls '"$TEST_DIR"'; ls -A /home /root; cat /etc/shadow'
    [[ "$output" != *"private"* ]]
    [ "$(grep -c 'Read-only' <<<"$output")" -eq 2 ]
    grep -q "^job$" <<<"$output"
    grep -q "Permission denied" <<<"$output"
}

@test "nothing of the runner's gets in: descriptors, terminal, environment, limits of cores, the agent's program" {
    export LEAKED=leaked
    run on_host -i -- python3 - 9</etc/shadow <<'PY'
import errno, os, resource
print(sorted(int(n) for n in os.listdir("/proc/self/fd"))[:4], "LEAKED" in os.environ)
def tried(path, flags):
    try:
        os.open(path, flags)
        return "opened " + path
    except OSError as e:
        return errno.errorcode[e.errno]
print(tried("/dev/tty", os.O_RDWR), os.getsid(0) == os.getpid())
print(*(tried("/proc/1/" + n, f) for n, f in (("exe", os.O_WRONLY), ("root", os.O_RDONLY), ("cwd", os.O_RDONLY),
    ("fd", os.O_RDONLY), ("mem", os.O_RDWR), ("environ", os.O_RDONLY), ("ns/mnt", os.O_RDONLY))))
# A core of one byte: neither a file, nor a program of the host's that is given it.
print(resource.getrlimit(resource.RLIMIT_CORE)[1] <= 1, os.path.exists("/sys/fs/cgroup/cgroup.procs"))
PY
    echo "$output"
    [ "${lines[0]}" = "[0, 1, 2, 3] False" ]
    [ "${lines[1]}" = "ENXIO True" ]
    [ "${lines[2]}" = "EACCES EACCES EACCES EACCES EACCES EACCES EACCES" ]
    [ "${lines[3]}" = "True False" ]
}

@test "nothing of the kernel is to be written to" {
    run on_host -- sh -c 'grep -c " / /sys ro," /proc/self/mountinfo
        find /proc -path "/proc/[0-9]*" -prune -o -path "*self/*" -prune -o -type f -print 2>/dev/null |
        while read -r f; do if [ -f "$f" ] && (: >>"$f") 2>/dev/null; then echo "$f"; fi; done; echo end'
    echo "$output"
    [ "${lines[0]}" -eq 1 ]
    [ "${lines[1]}" = end ]
}

@test "a job sees its own processes and its own network only" {
    run on_host -- sh -c 'ls -d /proc/[0-9]* | wc -l; ls /sys/class/net; wc -l </proc/net/unix'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" -le 5 ]
    [ "${lines[1]}" = lo ]
    [ "${lines[2]}" -eq 1 ]
}

@test "two jobs at once cannot see, signal, trace or reach each other" {
    start_waiting -- python3 -c '
import os, socket
s = socket.socket(socket.AF_UNIX); s.bind("\0dayfly-test"); s.listen()
open("/tmp/mark", "w").write("one"); open("/dev/shm/mark", "w").write("one")
print("waiting", flush=True); input(); print(os.getpid(), open("/tmp/mark").read(), flush=True)'
    run on_host -i -- python3 - <<'PY'
import os, socket
pids = [int(p) for p in os.listdir("/proc") if p.isdigit()]
print("processes", len([p for p in pids if p > 1 and p != os.getpid()]))
try:
    socket.socket(socket.AF_UNIX).connect("\0dayfly-test")
    print("reached")
except ConnectionRefusedError:
    print("no socket")
print("files", os.path.exists("/tmp/mark"), os.path.exists("/dev/shm/mark"))
try:
    os.kill(-1, 0)
    print("somebody")
except ProcessLookupError:
    print("nobody to signal")
PY
    echo "$output"
    [ "${lines[0]}" = "processes 0" ]
    [ "${lines[1]}" = "no socket" ]
    [ "${lines[2]}" = "files False False" ]
    [ "${lines[3]}" = "nobody to signal" ]
    echo >&8
    read -r answer <&7
    [[ "$answer" == *one ]]
    wait "$RUNNER"
}

@test "nothing is left: daemons, files, shared memory, queues, keys, mounts, groups" {
    uid=$(on_host -- id -u)
    kernel_objects $((uid + 1)) >"$TEST_DIR/before"
    on_host -i -- python3 - <<'PY'
import ctypes, os, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
open(os.path.expanduser("~/file"), "w").write("left")
open("/tmp/file", "w").write("left")
open("/dev/shm/file", "w").write("left")
assert libc.shmget(4711, 4096, 0o1600) >= 0
assert libc.semget(4711, 1, 0o1600) >= 0
assert libc.msgget(4711, 0o1600) >= 0
rt = ctypes.CDLL("librt.so.1", use_errno=True)
assert rt.mq_open(b"/left", os.O_CREAT | os.O_RDWR, 0o600, None) >= 0, ctypes.get_errno()
assert libc.syscall(248, b"user", b"left", b"x", 1, ctypes.c_int(-3)) > 0
# A daemon as they come: its own session, its parent gone, deaf to what can be ignored.
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal
        for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(s, signal.SIG_IGN)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        time.sleep(1000)
    os._exit(0)
print("made")
PY
    nothing_left
    # Keys are collected in the kernel's own time; what is left stays.
    for try in {1..25}; do
        left=$(kernel_objects $((uid + 1)) | sort | comm -13 <(sort "$TEST_DIR/before") -)
        [ -n "$left" ] || break
        sleep 0.2
    done
    echo "left, at look $try: $left"
    [ -z "$left" ]
}

@test "SIGKILL of the runner: all of it dies at once, and the next run takes its groups away" {
    start_waiting -- sh -c 'id -u; echo >/tmp/x; sleep 1000 & echo waiting; read line' || true
    uid=$line
    read -r line <&7
    kernel_objects "$uid" >"$TEST_DIR/running"
    grep -q ^/proc/ "$TEST_DIR/running"
    kill -KILL "$RUNNER"
    wait "$RUNNER" || true
    for pid in $(find /proc -maxdepth 1 -uid "$uid" -printf '%f\n' 2>/dev/null); do
        timeout 10 tail --pid="$pid" -f /dev/null
    done
    on_host -- true
    nothing_left
}

@test "a fork bomb meets its limit; the host, and the answer, do not" {
    run on_host --report "$TEST_DIR/report.json" --memory 512MiB -- sh -c '
        n=0; while [ $n -lt 6000 ]; do sleep 100 & n=$((n + 1)); done 2>/dev/null; echo never'
    [[ "$output" != *never* ]]
    [ "$(pgrep -cx sleep)" -lt 100 ]
    nothing_left
}

@test "a full layer is the job's problem only" {
    run on_host --disk 16MiB -- sh -c 'head -c 32M /dev/zero >~/fill; echo "status $?"; rm ~/fill; echo again >~/fill && cat ~/fill'
    [ "$status" -eq 0 ]
    [[ "$output" == *"No space left"* ]]
    [[ "$output" == *again* ]]
}

@test "what a job writes counts as one, wherever it writes it" {
    mkdir "$TEST_DIR/cow"
    run on_host --disk 16MiB --share "$TEST_DIR/cow:/cow:cow" -- sh -c '
        for d in /cow ~ /dev/shm /tmp; do head -c 6M /dev/zero >$d/fill; done 2>/dev/null
        cat /cow/fill ~/fill /dev/shm/fill /tmp/fill | wc -c'
    [ "$output" -gt $((12 << 20)) ]
    [ "$output" -le $((16 << 20)) ]
}

@test "a file written in one run is not there in the next" {
    run job --net none -- sh -c 'echo new >~/new; echo new >/tmp/new; cat ~/new /tmp/new'
    [ "$status" -eq 0 ]
    run job --net none -- sh -c 'ls -A ~ /tmp'
    [[ "$output" != *new* ]]
}

@test "shares: what the job may, the host's owner, and no setuid files" {
    mkdir "$TEST_DIR/ro" "$TEST_DIR/rw" "$TEST_DIR/cow"
    chown 1234:1235 "$TEST_DIR"/{ro,rw,cow}
    chmod 700 "$TEST_DIR"/{ro,rw,cow}
    for d in ro rw cow; do echo "from the host" >"$TEST_DIR/$d/file"; chown 1234:1235 "$TEST_DIR/$d/file"; done
    run on_host --share "$TEST_DIR/ro:/ro:ro" --share "$TEST_DIR/rw:/rw" --share "$TEST_DIR/cow:/cow:cow" -- sh -c '
        cat /ro/file /rw/file /cow/file
        echo x >/ro/file && echo "ro was written"
        echo "from the job" >/rw/file; echo new >/rw/new
        echo "from the job" >/cow/file; cat /cow/file
        cp /usr/bin/id /rw/id; chmod u+s /rw/id && echo "setuid was made"
        stat -c %U /rw/new'
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$(grep -c 'from the host' <<<"$output")" -eq 3 ]
    [[ "$output" != *was* ]]
    grep -qx job <<<"$output"
    [ "$(cat "$TEST_DIR/ro/file")" = "from the host" ]
    [ "$(cat "$TEST_DIR/rw/file")" = "from the job" ]
    [ "$(cat "$TEST_DIR/cow/file")" = "from the host" ]
    [ "$(stat -c %u:%g "$TEST_DIR/rw/new")" = 1234:1235 ]
    [ -z "$(find "$TEST_DIR" -perm /6000)" ]
}

@test "a network of its own, with the rules of a machine's" {
    run job -- sh -c 'cat /sys/class/net/eth0/address; ip -4 addr show eth0'
    [ "$status" -eq 0 ]
    [[ "$output" == *10.0.2.15* ]]
    nothing_left
}

@test "secrets: files of the job's user, in memory; none where nothing separates" {
    export TOKEN=s3cret-$RANDOM$RANDOM$RANDOM
    local value=$TOKEN
    run job --net none --secret TOKEN -- sh -c '
        stat -c "%a %U" /run/secrets/TOKEN; stat -f -c %T /run/secrets; sha256sum </run/secrets/TOKEN; cat /run/secrets/TOKEN'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "400 job" ]
    [ "${lines[1]}" = tmpfs ]
    [ "${lines[2]}" = "$(printf %s "$value" | sha256sum)" ]
    [ "${lines[3]}" = "***" ]
    run "$DAYFLY" run --engine none --secret TOKEN host -- true
    [ "$status" -eq 125 ]
    [ ! -e /run/secrets/TOKEN ]
    run "$DAYFLY" run --engine none --secret-env TOKEN host -- sh -c 'echo "$TOKEN"'
    [ "$output" = "***" ]
}

@test "artifacts: what the job's user can read, as the caller's" {
    cd "$TEST_DIR"
    run on_host --artifact 'out/*' --artifact /etc/shadow -- sh -c 'mkdir out; echo made >out/file; ln -s /etc/shadow out/link; exit 3'
    echo "$output"
    [ "$(cat file)" = made ]
    [ ! -e shadow ]
    [ ! -e link ]
}

# An image that lays links where the sandbox's own files go, and what is shared where they lead.
hostile_image() { # NAME
    local root=$TEST_DIR/root
    mkdir -p "$root"/{bin,etc,run}
    cp "$(command -v busybox)" "$root/bin/busybox"
    for applet in sh cat ls pwd touch stat; do ln -s busybox "$root/bin/$applet"; done
    ln -s /outside/victim "$root/etc/hosts"
    ln -s /outside/victim "$root/etc/hostname"
    mkfifo "$root/etc/resolv.conf"
    ln -s /run/secrets "$root/out"
    ln -s /outside "$root/link"
    export DAYFLY_HOME=$TEST_DIR/home
    "$DAYFLY" image import "$1" "$root" >/dev/null
}

@test "what a sandbox writes for itself does not get into shares, whatever links an image has" {
    hostile_image evil
    mkdir "$TEST_DIR/out" "$TEST_DIR/outside"
    echo mine >"$TEST_DIR/outside/victim"
    export TOKEN=s3cret-$RANDOM$RANDOM
    run timeout -k 10 "$LIMIT" "$DAYFLY" run --engine user --secret TOKEN --share "$TEST_DIR/out:/out:ids=identity" \
        --share "$TEST_DIR/outside:/outside:ids=identity" evil -- sh -c 'cat /etc/hosts /etc/resolv.conf'
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *localhost*nameserver* ]]
    [ "$(cat "$TEST_DIR/outside/victim")" = mine ]
    [ -z "$(ls -A "$TEST_DIR/out")" ]
}

@test "the directory that an image starts in is made in the sandbox, and in a share as the job's user" {
    hostile_image base
    umoci init --layout "$TEST_DIR/oci"
    umoci new --image "$TEST_DIR/oci:evil"
    umoci unpack --image "$TEST_DIR/oci:evil" "$TEST_DIR/bundle" >/dev/null
    cp -a "$TEST_DIR/root/." "$TEST_DIR/bundle/rootfs/"
    umoci repack --image "$TEST_DIR/oci:evil" "$TEST_DIR/bundle" >/dev/null
    mkdir -m 755 "$TEST_DIR/outside"
    echo mine >"$TEST_DIR/outside/victim"
    local dir
    for dir in /link/made/x /outside/made /new/on/the/way; do
        umoci config --image "$TEST_DIR/oci:evil" --config.workingdir "$dir"
        "$DAYFLY" image pull -q "oci:$TEST_DIR/oci:evil" --name evil
        run timeout -k 10 "$LIMIT" "$DAYFLY" run --engine user --net none \
            --share "$TEST_DIR/outside:/outside:ids=identity" evil -- sh -c 'pwd; touch x && stat -c %U .'
        echo "$output"
    done
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = /new/on/the/way ]
    [ "${lines[1]}" = job ]
    [ "$(ls -A "$TEST_DIR/outside")" = victim ]
    # Where its user may, in a share as well.
    umoci config --image "$TEST_DIR/oci:evil" --config.workingdir /outside/made
    "$DAYFLY" image pull -q "oci:$TEST_DIR/oci:evil" --name evil
    run timeout -k 10 "$LIMIT" "$DAYFLY" run --engine user --net none --share "$TEST_DIR/outside:/outside" evil -- pwd
    [ "$output" = /outside/made ]
    [ "$(stat -c %u "$TEST_DIR/outside/made")" -eq 0 ]
}

@test "no link leads a share to what the kernel says, or to devices" {
    mkdir "$TEST_DIR"/{one,two}
    for place in proc dev; do
        ln -sfn "/$place" "$TEST_DIR/one/below"
        run on_host --share "$TEST_DIR/one:/one" --share "$TEST_DIR/two:/one/below" -- true
        echo "$output"
        [ "$status" -eq 125 ]
        [[ "$output" == *"/$place, which is the system's"* ]]
    done
}

@test "a share in the place of /etc keeps its files" {
    mkdir "$TEST_DIR/etc"
    for f in hosts hostname resolv.conf; do echo mine >"$TEST_DIR/etc/$f"; done
    run job --share "$TEST_DIR/etc:/etc" -- true
    [ "$(cat "$TEST_DIR"/etc/{hosts,hostname,resolv.conf} | sort -u)" = mine ]
}

@test "names are asked of the sandbox's own network, with the host's programs as well" {
    run timeout -k 10 "$LIMIT" "$DAYFLY" run --engine user host -- cat /etc/resolv.conf
    [[ "$output" == *"nameserver 10.0.2.3"* ]]
    # As systemd-resolved has it: a link to what only the host's /run has.
    mkdir "$TEST_DIR/layers"
    run timeout -k 10 "$LIMIT" unshare -m sh -c '
        mount -t tmpfs none "$1" && mkdir "$1/upper" "$1/aside" &&
        ln -s ../run/resolver/stub.conf "$1/upper/resolv.conf" &&
        mount -t overlay -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/aside" none /etc &&
        "$0" run --engine user host -- cat /etc/resolv.conf' "$DAYFLY" "$TEST_DIR/layers"
    echo "$output"
    [[ "$output" == *"nameserver 10.0.2.3"* ]]
}

@test "the host's services are not called by their sockets" {
    [ ! -e /nix ] || skip "there is a /nix here"
    mkdir /nix
    run timeout -k 10 "$LIMIT" unshare -m sh -c '
        mount -t tmpfs none /nix && mkdir -p /nix/store/x /nix/var/nix/daemon-socket && touch /nix/var/nix/daemon-socket/socket &&
        "$0" run --engine user --net none host -- sh -c "ls /nix/store; ls -A /nix/var/nix/daemon-socket; touch /nix/var/nix/daemon-socket/x"' "$DAYFLY"
    rmdir /nix
    echo "$output"
    [ "${lines[0]}" = x ]
    [[ "${lines[1]}" == *"cannot touch"* ]]
}

@test "one job does not take all terminals" {
    run on_host -i -- python3 - <<'PY'
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
n = 0
try:
    while n < 2000:
        os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
        n += 1
except OSError:
    pass
print(n)
PY
    [ "$output" -le 512 ]
    [ "$output" -gt 100 ]
}

@test "what engine user cannot do it says" {
    run job --user builder -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *"--user"* ]]
    run "$DAYFLY" run --engine none tests -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *"host"* ]]
}

@test "standard streams that are closed are nobody else's" {
    for engine in user none; do
        [ "$(timeout "$LIMIT" "$DAYFLY" run --engine $engine host -- sh -c 'echo out; echo err >&2' <&- 2>&-)" = out ]
        timeout "$LIMIT" "$DAYFLY" run --engine $engine host -- true <&- >&- 2>&-
    done
    nothing_left
}

@test "engine none: as the caller, where the caller is, and no child stays" {
    run timeout "$LIMIT" "$DAYFLY" run --engine none host -- sh -c 'id -u; pwd; sleep 1234 & exit 3'
    [ "$status" -eq 3 ]
    [ "${lines[0]}" = "$(id -u)" ]
    [ "${lines[1]}" = "$PWD" ]
    ! pgrep -fx 'sleep 1234'
}

@test "without root: the host's programs, in namespaces, as oneself" {
    id nobody >/dev/null 2>&1 || skip "there is no user nobody"
    setpriv --reuid=65534 --regid=65534 --clear-groups unshare -U true || skip "no user namespaces for users"
    cp "$DAYFLY" "$TEST_DIR/dayfly"
    chmod 755 "$TEST_DIR" "$TEST_DIR/dayfly"
    as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/nonexistent "$TEST_DIR/dayfly" "$@"; }
    run as_nobody run -v --engine user --net none host -- sh -c 'id -un; touch /usr/x ~/x /tmp/x; ls ~; grep CapEff /proc/self/status'
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"not root"* ]]
    grep -qx job <<<"$output"
    grep -qx x <<<"$output"
    [[ "$output" == *0000000000000000* ]]
    # Where no group of processes says whose they are, what the job left running ends all the same before
    # its artifacts are looked at.
    mkdir -m 777 "$TEST_DIR/art"
    # It may take a moment to die: one of the looks finds nobody of that command line.
    local try
    for try in {1..20}; do
        run as_nobody run --engine user --net none --artifact "words:$TEST_DIR/art/" host -- sh -c '
            (setsid sleep 1000 >/dev/null 2>&1 </dev/null & ln -s /proc/$!/cmdline ~/words); cat ~/words | tr "\0" " "'
        [[ "$output" == *sleep* ]] || continue
        [ -s "$TEST_DIR/art/words" ] || break
    done
    [ ! -s "$TEST_DIR/art/words" ]
    # The id is the same outside: keys of that user are out of reach, whatever their numbers.
    run as_nobody run --engine user --net none -i host -- python3 - <<'PY'
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(250, 0, ctypes.c_int(-3), 0), ctypes.get_errno(), libc.syscall(248, b"user", b"x", b"y", 1, ctypes.c_int(-3)))
PY
    [ "$output" = "-1 38 -1" ]
    # And so it is for init.
    run as_nobody run --engine user --net none host -- sh -c 'prlimit --pid 1 --cpu=1:1 || echo refused; sleep 2'
    [ "$status" -eq 0 ]
    [[ "$output" == *refused* ]]
    run as_nobody run --engine user --net none tests -- true
    [ "$status" -eq 125 ]
    [[ "$output" == *"only root"* ]]
}

@test "where cgroups are version 2 alone, and namespaces its borders, as systemd has them" {
    "$DAYFLY" doctor tcg >/dev/null 2>&1 || skip "no machine to try that in"
    # This system again, in a guest that mounts them so.
    run timeout -k 10 "$LIMIT" "$DAYFLY" run --engine tcg --net none --memory 512MiB --share /:/h:ro tests -- sh -c '
        grep -q "cgroup2.*nsdelegate" /proc/mounts && ! grep -q "^cgroup " /proc/mounts || exit 4
        mkdir /cli && mount --bind /h'"${DAYFLY%/*}"' /cli # which may be below /tmp
        for d in proc sys dev; do mount --rbind /$d /h/$d; done
        for d in run tmp; do mount -t tmpfs none /h/$d; done
        mkdir /h/tmp/cli && mount --bind /cli /h/tmp/cli
        chroot /h /tmp/cli/dayfly run --engine user --net none --memory 64MiB --cpus 1 --report /tmp/report.json host -- \
            sh -c "id -u; cat /proc/self/cgroup; sleep 1000 &"
        grep why /h/tmp/report.json; find /sys/fs/cgroup -name "job-*"'
    echo "$output"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" -ge 1800000000 ]
    [ "${lines[1]}" = 0::/run/s1 ]
    [[ "${lines[2]}" == *'"why": "asked for"'* ]] # and nothing that is not limited
    [ "${#lines[@]}" -eq 3 ]
}
