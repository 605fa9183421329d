# What every end-to-end test starts with: load it by `load common`.

setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    DAYFLY=$PWD/build/cli/dayfly
    ENGINE=${DAYFLY_TEST_ENGINE:?say which engine: kvm, tcg or user}
    # A file may be about one of them.
    [ "${ONLY_ENGINE:-$ENGINE}" = "$ENGINE" ] || skip "about engine $ONLY_ENGINE"
    # Everything that a test starts carries this in its environment, so that what stays behind is found.
    export DAYFLY_TEST_MARK="mark-$$-$BATS_TEST_NUMBER-$RANDOM"
    # Ids of these tests' own: what others run beside them is not taken for something left.
    export DAYFLY_USER_RANGE=1800000000-1800065535
    # Longer than any test needs; a hang then fails with a message instead of stalling the run.
    LIMIT=${DAYFLY_TEST_LIMIT:-120}
    TEST_DIR=$(mktemp -d)
    snapshot_host >"$TEST_DIR/host.before"
}

teardown() {
    rm -rf "$TEST_DIR"
}

# For what takes long and what a shorter test shows most of: make test has fifteen minutes for everything.
long() { [ -n "${DAYFLY_TEST_LONG:-}" ] || skip "with DAYFLY_TEST_LONG=1"; }

# The same but for engine user, whose jobs take no time.
user_or_long() { [ "$ENGINE" = user ] || long; }

# For what a job in a machine of its own has, and one on the host's kernel as an ordinary user has not.
machine_only() {
    if [ "$ENGINE" = user ]; then skip "engine user: $1"; fi
}

# dayfly run with the test's engine in the test's image: job [OPTION ...] -- CMD [ARG ...]
# A small machine, unless an option says otherwise: the last one counts.
job() {
    local options=(--cpus 1 --memory 256MiB)
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    timeout -k 10 "$LIMIT" "$DAYFLY" run --engine "$ENGINE" "${options[@]}" tests "$@"
}

# Processes that this test started and that still run, the test's own shells left out.
marked() {
    local dir comm
    for dir in /proc/[0-9]*; do
        { read -r comm <"$dir/comm"; } 2>/dev/null || continue
        case $comm in
        dayfly | dayfly-* | qemu-* | skopeo)
            if grep -qz "^DAYFLY_TEST_MARK=$DAYFLY_TEST_MARK\$" "$dir/environ" 2>/dev/null; then
                echo "${dir#/proc/}"
            fi
            ;;
        esac
    done
}

# What a run could leave on a host: mounts, named sockets, network devices, loop devices, files.
snapshot_host() {
    cut -d' ' -f5 /proc/self/mountinfo | sort
    # But for those that unit tests have, which may run at the same time.
    awk '$8 ~ /dayfly/ && $8 !~ /\/dayfly-door-[^\/]*\/s$/ {print $8}' /proc/net/unix | sort
    ls /sys/class/net
    # Its file of locks has no content but a number, and stays.
    ls /run/dayfly 2>/dev/null | grep -vx uids || true
    # The suites of two engines may run at the same time.
    if [ "$ENGINE" = user ]; then find /sys/fs/cgroup -type d -path '*/dayfly/job-18000*' 2>/dev/null | sort; fi
    find "${DAYFLY_HOME:?}" | grep -v '/templates' | sort
}

# Fails, with a list, when anything of this test is still there. A killed runner's children may take a
# moment to be reaped: wait for the event that they end, bounded.
nothing_left() {
    local pid
    for pid in $(marked); do
        timeout 10 tail --pid="$pid" -f /dev/null || { echo "process $pid is still there"; return 1; }
    done
    # Other tests of a run come and go on the same host. What is left stays.
    local try left
    for try in {1..20}; do
        snapshot_host >"$TEST_DIR/host.after"
        left=$(diff "$TEST_DIR/host.before" "$TEST_DIR/host.after" | sed -n 's/^> //p')
        [ -n "$left" ] || return 0
        sleep 0.2
    done
    echo "left, at look $try: $left"
    return 1
}

# An initramfs that says how many processors it has, and then runs $1: by default it switches off.
make_initrd() {
    mkdir -p "$TEST_DIR/root/bin" "$TEST_DIR/root/dev" "$TEST_DIR/root/proc"
    cp "$(command -v busybox)" "$TEST_DIR/root/bin/busybox"
    cat >"$TEST_DIR/root/init" <<INIT
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox echo "up with \$(/bin/busybox nproc)"
${1:-/bin/busybox poweroff -f}
INIT
    chmod +x "$TEST_DIR/root/init"
    (cd "$TEST_DIR/root" && find . | cpio -o -H newc --quiet) >"$TEST_DIR/initrd"
    KERNEL=$(find "$DAYFLY_HOME/kernels" -name vmlinux | head -n 1)
}
