#!/usr/bin/env bats
# dayfly fs: our file server for another monitor. QEMU (TCG, q35) with Debian's kernel mounts what the
# daemon shares; the engine under test takes no part.

load common

once_is_enough() {
    [ "$ENGINE" = tcg ] || skip "QEMU brings its own processor"
}

# start_daemon OPTION...: returns when the socket is there.
start_daemon() {
    "$DAYFLY" fs --socket "$TEST_DIR/fs.sock" "$@" 2>"$TEST_DIR/daemon.err" 3>&- &
    daemon=$!
    for ((i = 0; i < 500; i++)); do
        if [ -S "$TEST_DIR/fs.sock" ]; then return 0; fi
        kill -0 "$daemon" 2>/dev/null || break
        read -rt 0.02 <> <(:) || true
    done
    cat "$TEST_DIR/daemon.err"
    return 1
}

stop_daemon() {
    kill -TERM "$daemon"
    wait "$daemon"
    [ ! -e "$TEST_DIR/fs.sock" ]
    # Nothing to say: neither a guest nor QEMU broke a rule.
    [ ! -s "$TEST_DIR/daemon.err" ] || { cat "$TEST_DIR/daemon.err"; return 1; }
}

# Boot QEMU with an initramfs that runs $1; what it prints is the output.
guest() {
    make_initrd "$1"
    run timeout -k 10 "$LIMIT" qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none \
        -serial stdio -M q35,accel=tcg,memory-backend=mem -cpu max -m 256M \
        -object memory-backend-memfd,id=mem,size=256M,share=on \
        -kernel "$KERNEL" -initrd "$TEST_DIR/initrd" -append "console=ttyS0 quiet panic=-1" \
        -chardev socket,id=fs,path="$TEST_DIR/fs.sock" \
        -device vhost-user-fs-pci,chardev=fs,tag=src,queue-size=1024 </dev/null
    echo "$output"
    [ "$status" -eq 0 ]
    # A front end that the back end did not suit says so on stderr.
    [[ "$output" != *"warning"* ]]
}

@test "a guest of QEMU's reads and writes what dayfly fs shares" {
    once_is_enough
    mkdir -p "$TEST_DIR/src/folder"
    echo "from the host" >"$TEST_DIR/src/folder/file"
    dd if=/dev/urandom of="$TEST_DIR/src/random" bs=1M count=8 status=none
    start_daemon --dir "$TEST_DIR/src"
    guest '
export PATH=/bin; busybox --install /bin 2>/dev/null; mkdir /mnt
mount -t virtiofs src /mnt && cd /mnt || echo "no mount"
cat folder/file
md5sum random
cp random copy
echo "from the guest" >new && mv new folder/new
ln -s folder/new link && cat link
mkdir d && echo x >d/x && rm -r d && ls
sync; cd /; umount /mnt; poweroff -f'
    [[ "$output" == *"from the host"* ]]
    [[ "$output" == *"from the guest"* ]]
    [[ "$output" == *"$(md5sum <"$TEST_DIR/src/random" | cut -d' ' -f1)"* ]]
    cmp "$TEST_DIR/src/random" "$TEST_DIR/src/copy"
    [ "$(cat "$TEST_DIR/src/folder/new")" = "from the guest" ]
    [ "$(readlink "$TEST_DIR/src/link")" = folder/new ]
    [ ! -e "$TEST_DIR/src/d" ]
    stop_daemon
    nothing_left
}

@test "one front end after the other, several folders, read-only on the host's side" {
    once_is_enough
    mkdir -p "$TEST_DIR/a" "$TEST_DIR/b"
    echo one >"$TEST_DIR/a/file"
    echo two >"$TEST_DIR/b/file"
    start_daemon --dir first="$TEST_DIR/a" --dir second="$TEST_DIR/b" --mode ro --queues 2
    for round in 1 2; do
        guest '
/bin/busybox mkdir /mnt
/bin/busybox mount -t virtiofs src /mnt || /bin/busybox echo "no mount"
/bin/busybox ls /mnt
/bin/busybox cat /mnt/first/file /mnt/second/file
/bin/busybox rm /mnt/first/file
/bin/busybox sh -c "echo x >/mnt/second/new"
/bin/busybox poweroff -f'
        [[ "$output" == *"one"*"two"* ]]
        [ "$(grep -c "Read-only file system" <<<"$output")" -eq 2 ]
    done
    [ "$(cat "$TEST_DIR/a/file")" = one ]
    [ ! -e "$TEST_DIR/b/new" ]
    stop_daemon
    nothing_left
}

@test "--once ends with its front end, and faults name their remedy" {
    once_is_enough
    mkdir -p "$TEST_DIR/src"
    start_daemon --dir "$TEST_DIR/src" --once
    run "$DAYFLY" fs --socket "$TEST_DIR/fs.sock" --dir "$TEST_DIR/src"
    echo "$output"
    [ "$status" -eq 125 ]
    [[ "$output" == *"in use"*"another path"* ]]
    guest '/bin/busybox poweroff -f'
    wait "$daemon"
    [ ! -e "$TEST_DIR/fs.sock" ]

    # Left by one that was killed: replaced.
    start_daemon --dir "$TEST_DIR/src"
    kill -KILL "$daemon"
    wait "$daemon" || true
    [ -S "$TEST_DIR/fs.sock" ]
    rm "$TEST_DIR/daemon.err"
    "$DAYFLY" fs --socket "$TEST_DIR/fs.sock" --dir "$TEST_DIR/src" --once 3>&- &
    daemon=$!
    guest '/bin/busybox poweroff -f'
    wait "$daemon"
    nothing_left
}
