# What the tests of attached disks share: load it behind common.

# The kernel takes a process's ring, and the files in it, apart only after its end: detach, do not wait.
umount_small() { umount -l "$TEST_DIR/small"; }

# A test that failed leaves its machine to be ended, and then its file system of the host.
teardown() {
    [ -z "${RUNNER:-}" ] || kill -KILL "$RUNNER" 2>/dev/null || true
    wait
    umount_small 2>/dev/null || true
    rm -rf "$TEST_DIR"
}

# A machine whose init runs $1 with the disks of $2 (YAML, a list in brackets), /dev/vda and so on. It has
# busybox's applets in its PATH, and tests/disk's exerciser.
describe() { # SCRIPT DISKS
    local modules
    modules=$(find "$DAYFLY_HOME/kernels" -name '*-virtio_blk.ko' | head -n 1)
    rm -rf "$TEST_DIR/root"
    mkdir -p "$TEST_DIR/root/bin" "$TEST_DIR/root/sys"
    for applet in $(busybox --list | grep -vx busybox); do ln -s busybox "$TEST_DIR/root/bin/$applet"; done
    cp build/tests/disk/disk-exercise "$TEST_DIR/root/bin/"
    [ -z "$modules" ] || cp "$modules" "$TEST_DIR/root/virtio_blk.ko"
    make_initrd "export PATH=/bin
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
[ ! -e /virtio_blk.ko ] || insmod /virtio_blk.ko
$1
poweroff -f"
    cat >"$TEST_DIR/machine.yaml" <<YAML
cpus: 1
memory: 128MiB
linux:
  kernel: $KERNEL
  initrd: initrd
  command_line: console=ttyS0 quiet panic=-1
disks: $2
serial: {output: stdio}
YAML
}

# Run it in the background: $RUNNER, its output through descriptor 7, its messages in err.
start() {
    rm -f "$TEST_DIR/out"
    mkfifo "$TEST_DIR/out"
    "$DAYFLY" vm run --engine "$ENGINE" -f "$TEST_DIR/machine.yaml" >"$TEST_DIR/out" 2>"$TEST_DIR/err" </dev/null 3>&- &
    RUNNER=$!
    exec 7<"$TEST_DIR/out"
}

# Read the guest's lines up to the first that matches, which is left in $line.
wait_for_line() { # PATTERN
    while read -r -t "$LIMIT" line <&7; do
        line=${line%$'\r'}
        echo "guest: $line"
        [[ ! "$line" =~ $1 ]] || return 0
    done
    echo "the guest ended before it said $1; messages:"
    cat "$TEST_DIR/err"
    return 1
}

# Wait until a message of the monitor matches.
wait_for_message() { # PATTERN
    timeout "$LIMIT" tail -n +1 -f "$TEST_DIR/err" --pid="$RUNNER" | grep -q -m 1 -E "$1" ||
        { echo "no message $1 in:" && cat "$TEST_DIR/err" && return 1; }
}

# Wait for the machine's end; the exit status is left in $status.
# shellcheck disable=SC2034
wait_for_end() {
    cat <&7 >/dev/null
    exec 7<&-
    status=0
    wait "$RUNNER" || status=$?
    RUNNER=
}
