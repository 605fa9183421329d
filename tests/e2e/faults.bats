#!/usr/bin/env bats
# Bad input: a clear message that names the thing and the remedy, exit status 125, nothing left.

load common

# refused PATTERN COMMAND...: it ends with 125 and says PATTERN.
refused() {
    local pattern=$1
    shift
    run "$@"
    echo "$output"
    [ "$status" -eq 125 ]
    [[ "$output" =~ $pattern ]]
    nothing_left
}

machine_file() { # KERNEL [MORE YAML]
    printf 'cpus: 1\nmemory: 256MiB\nlinux:\n  kernel: %s\n%s\n' "$1" "${2:-}" >"$TEST_DIR/machine.yaml"
}

vm_run() {
    timeout -k 10 "$LIMIT" "$DAYFLY" vm run --engine "$ENGINE" -f "$TEST_DIR/machine.yaml"
}

kernel() {
    find "$DAYFLY_HOME/kernels" -name vmlinux | head -n 1
}

@test "an image that is not there" {
    refused "no image.*nothing-like-it" timeout 60 "$DAYFLY" run --engine "$ENGINE" nothing-like-it -- true
}

@test "an unreadable image" {
    cp -a "$DAYFLY_HOME" "$TEST_DIR/home"
    for root in "$TEST_DIR"/home/roots/sha256/*.erofs; do truncate -s 100 "$root"; done
    DAYFLY_HOME="$TEST_DIR/home" run job -- true
    # Either it says so, or it makes the root anew from the layers, which are whole.
    [ "$status" -eq 0 ] || { [ "$status" -eq 125 ] && [[ "$output" =~ tests ]]; }
    for blob in "$TEST_DIR"/home/images/blobs/sha256/*; do : >"$blob"; done
    refused "tests" env DAYFLY_HOME="$TEST_DIR/home" timeout 60 "$DAYFLY" run --engine "$ENGINE" tests -- true
}

@test "a truncated kernel" {
    head -c 100000 "$(kernel)" >"$TEST_DIR/vmlinux"
    machine_file "$TEST_DIR/vmlinux"
    refused "$TEST_DIR/vmlinux.*(truncated|ends)" vm_run
}

@test "an ELF file without a PVH note" {
    cp /bin/true "$TEST_DIR/vmlinux"
    machine_file "$TEST_DIR/vmlinux"
    refused "$TEST_DIR/vmlinux.*PVH" vm_run
}

@test "a kernel as distributions pack it, a bzImage, boots too" {
    local package
    package=$(scripts/kernel-package)
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$TEST_DIR" --wildcards './boot/vmlinuz-*'
    mv "$TEST_DIR"/boot/vmlinuz-* "$TEST_DIR/vmlinuz"
    machine_file "$TEST_DIR/vmlinuz" "  command_line: console=ttyS0 panic=-1
serial: {output: stdio}"
    # Without a root it gets as far as a panic, and the machine ends.
    run vm_run
    [[ "$output" == *"Linux version"* ]]
    [[ "$output" == *"Unable to mount root fs"* ]]
    nothing_left
}

@test "a file that is no kernel" {
    echo "not a kernel" >"$TEST_DIR/vmlinux"
    machine_file "$TEST_DIR/vmlinux"
    refused "$TEST_DIR/vmlinux" vm_run
}

@test "a disk that is not there" {
    machine_file "$(kernel)" "disks: [{path: $TEST_DIR/gone.img}]"
    refused "$TEST_DIR/gone.img" vm_run
}

@test "a YAML file with faults names each with its line" {
    printf 'cpuz: 2\nmemory: lots\nlinux:\n  kernel: /nowhere\n' >"$TEST_DIR/machine.yaml"
    refused 'machine.yaml:1:1:.*cpuz' "$DAYFLY" validate "$TEST_DIR/machine.yaml"
    [[ "$output" =~ machine.yaml:2:9 ]]
    [[ "$output" =~ machine.yaml:4: ]]
}

@test "an unknown option suggests the nearest" {
    refused "memory" "$DAYFLY" run --memroy 1G tests -- true
}

@test "a missing QEMU" {
    [ "$ENGINE" = tcg ] || skip "only engine tcg needs it"
    mkdir "$TEST_DIR/bin"
    ln -s "$(PATH=$PATH:/usr/sbin:/sbin command -v mke2fs)" "$TEST_DIR/bin/mke2fs"
    refused "qemu-system-x86.*apt-get install" env PATH="$TEST_DIR/bin" "$DAYFLY" run --engine tcg tests -- true
}

@test "more memory than the host has" {
    refused "memory" timeout 60 "$DAYFLY" run --engine "$ENGINE" --memory 100000GiB tests -- true
}
