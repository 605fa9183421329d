#!/usr/bin/env bats
# A described machine without the job: `dayfly vm run`.

load common

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

@test "a machine from a file boots, prints to its serial port, and switches itself off" {
    make_initrd
    cat >"$TEST_DIR/machine.yaml" <<YAML
cpus: 2
memory: 256MiB
linux:
  kernel: $KERNEL
  initrd: initrd
  command_line: console=ttyS0 quiet panic=-1
serial: {output: stdio}
YAML
    run timeout -k 10 "$LIMIT" "$DAYFLY" vm run --engine "$ENGINE" -f "$TEST_DIR/machine.yaml"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"up with 2"* ]]
    nothing_left
}

@test "the example on libdayfly boots a machine" {
    make_initrd
    run env TINY_ENGINE="$ENGINE" timeout -k 10 "$LIMIT" build/examples/tiny/tiny "$KERNEL" "$TEST_DIR/initrd" \
        "console=ttyS0 quiet panic=-1"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *"up with 1"* ]]
    [[ "$output" == *"the machine ended"* ]]
    nothing_left
}

@test "two machines in one process are paused, resumed and stopped apart from each other" {
    make_initrd 'while :; do echo tick; /bin/busybox usleep 100000; done'
    run timeout -k 10 "$LIMIT" build/tests/machine/lifecycle "$ENGINE" "$KERNEL" "$TEST_DIR/initrd"
    echo "$output"
    [ "$status" -eq 0 ]
    nothing_left
}
